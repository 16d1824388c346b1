package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

func TestMarkReadsBack(t *testing.T) {
	m := highMark{
		generation: 7, store: storeID{1, 2, 3}, opening: 4, epoch: 0xfeed, closed: true, uplinks: []string{"mes", "broker"},
		streams: []markStream{{machine: "M1", last: 12, settled: []plant.Sequence{10, 12}}, {machine: "Ü-2", last: 1 << 40, settled: []plant.Sequence{0, 1}}},
	}
	back, err := decodeMark(pad(m.append(nil)))
	if err != nil || !reflect.DeepEqual(back, m) {
		t.Fatalf("%+v, %v", back, err)
	}
	if first := m.streams[0].needed(); first != 11 {
		t.Errorf("needed from %d on", first)
	}
}

func FuzzDecodeMark(f *testing.F) {
	m := highMark{generation: 1, uplinks: []string{"mes"}, streams: []markStream{{machine: "M1", last: 2, settled: []plant.Sequence{1}}}}
	f.Add(m.append(nil))
	f.Add(pad(m.append(nil)))
	f.Add([]byte(markMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeMark(data)
		if err != nil {
			if !errors.Is(err, errDamaged) && !errors.Is(err, errNewer) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if again, err := decodeMark(got.append(nil)); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v becomes %+v, %v", got, again, err)
		}
	})
}

// clone copies a store that is closed, with its mark or without.
func clone(t *testing.T, from string, withMark bool) string {
	t.Helper()
	to := quickDir(t)
	if err := os.Mkdir(filepath.Join(to, storeFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(from, storeFolder)
	if err := copyStore(filepath.Join(to, storeFolder), folder, listing(t, folder)); err != nil {
		t.Fatal(err)
	}
	if withMark {
		copyMark(t, to, from)
	}
	return to
}

func spoil(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, change(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMarkAgainstTheStore: what is missing of what the mark has seen is told
// exactly, once, and no number is given twice; what cannot be judged is refused
// with the files and the remedy.
func TestMarkAgainstTheStore(t *testing.T) {
	// Half: 5 events of M1 delivered, and 2 of M2. Full: 9 of M1, 4 of M2, 1 of M3.
	path := quickDir(t)
	o := testOptions(path)
	// No compaction moves records out of the log.
	o.housework = time.Hour
	b := open(t, o)
	q := queue(t, b, "mes", all)
	for n := range 5 {
		commit(t, b, "M1", count(n+1))
	}
	commit(t, b, "M2", count(1), count(2))
	drainGaps(t, q)
	mustClose(t, b)
	half := clone(t, path, true)
	b = open(t, o)
	queue(t, b, "mes", all)
	commit(t, b, "M1", count(6), count(7), count(8), count(9))
	commit(t, b, "M2", count(3), count(4))
	commit(t, b, "M3", count(1))
	eventually(t, "the mark has all", func() bool {
		found, err := readMark(path)
		return err == nil && len(found.streams) == 3 && found.streams[2].last == 1
	})
	killed := crash(t, b)
	mustClose(t, b)
	flipLast := func(data []byte) []byte { data[40] ^= 1; return data }
	marks := func(path string) []string {
		return []string{filepath.Join(path, markFiles[0]), filepath.Join(path, markFiles[1])}
	}
	for name, tt := range map[string]struct {
		make func(t *testing.T) string
		// want is what is told, by machine; refused what a refusal says.
		want    map[plant.MachineID]string
		refused string
		// next is the number that M1 goes on at, events what is delivered of it.
		next   plant.Sequence
		events string
	}{
		"nothing amiss": {func(t *testing.T) string { return clone(t, path, true) }, map[plant.MachineID]string{}, "", 10, "[6 7 8 9]"},
		"killed":        {func(t *testing.T) string { return clone(t, killed, true) }, map[plant.MachineID]string{}, "", 10, "[6 7 8 9]"},
		"an older copy of the store": {func(t *testing.T) string {
			to := clone(t, half, false)
			copyMark(t, to, path)
			return to
		}, map[plant.MachineID]string{"M1": "6…9 4 restored_copy", "M2": "3…4 2 restored_copy", "M3": "1…1 1 restored_copy"}, "", 11, "[]"},
		"an older copy of all": {func(t *testing.T) string { return clone(t, half, true) }, map[plant.MachineID]string{}, "", 6, "[]"},
		"an emptied store": {func(t *testing.T) string {
			to := quickDir(t)
			copyMark(t, to, path)
			return to
		}, map[plant.MachineID]string{"M1": "6…9 4 restored_copy", "M2": "3…4 2 restored_copy", "M3": "1…1 1 restored_copy"}, "", 11, "[]"},
		"an emptied store of which all was delivered": {func(t *testing.T) string {
			to := quickDir(t)
			copyMark(t, to, half)
			return to
		}, map[plant.MachineID]string{"M1": "0…0 0 restored_copy", "M2": "0…0 0 restored_copy"}, "", 7, "[]"},
		"the log is gone": {func(t *testing.T) string {
			to := clone(t, killed, true)
			logs, _ := filepath.Glob(filepath.Join(to, storeFolder, "*"+logExt))
			remove(t, logs...)
			return to
		}, map[plant.MachineID]string{"M1": "6…9 4 restored_copy", "M2": "3…4 2 restored_copy", "M3": "1…1 1 restored_copy"}, "", 11, "[]"},
		"one file is gone": {func(t *testing.T) string {
			to := clone(t, path, true)
			remove(t, marks(to)[0])
			return to
		}, map[plant.MachineID]string{}, "", 10, "[6 7 8 9]"},
		"one file is damaged": {func(t *testing.T) string {
			to := clone(t, path, true)
			spoil(t, marks(to)[1], flipLast)
			return to
		}, map[plant.MachineID]string{}, "", 10, "[6 7 8 9]"},
		"both are gone": {func(t *testing.T) string { return clone(t, path, false) },
			map[plant.MachineID]string{"M1": "0…0 0 mark_lost", "M2": "0…0 0 mark_lost", "M3": "0…0 0 mark_lost"}, "", 11, "[6 7 8 9]"},
		"both are damaged": {func(t *testing.T) string {
			to := clone(t, path, true)
			spoil(t, marks(to)[0], flipLast)
			spoil(t, marks(to)[1], func(data []byte) []byte { return data[:20] })
			return to
		}, map[plant.MachineID]string{"M1": "0…0 0 mark_lost", "M2": "0…0 0 mark_lost", "M3": "0…0 0 mark_lost"}, "", 11, "[6 7 8 9]"},
		"a newer format": {func(t *testing.T) string {
			to := clone(t, path, true)
			spoil(t, marks(to)[0], func(data []byte) []byte {
				m, err := decodeMark(data)
				if err != nil {
					t.Fatal(err)
				}
				data = m.append(nil)
				data[8]++
				sum := markSum(data[:24], data[markHeaderSize:])
				copy(data[24:], []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
				return data
			})
			return to
		}, nil, "install the newer gateway again", 0, ""},
		"of another store": {func(t *testing.T) string {
			other := quickDir(t)
			mustClose(t, open(t, testOptions(other)))
			to := clone(t, path, false)
			copyMark(t, to, other)
			return to
		}, nil, "is that of another store: put the store back", 0, ""},
		"not readable": {func(t *testing.T) string {
			to := clone(t, path, false)
			for _, f := range marks(to) {
				if err := os.Mkdir(f, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			return to
		}, nil, "mark.0", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(tt.make(t))
			b, err := Open(context.Background(), o, zap.NewNop())
			if tt.refused != "" {
				if err == nil {
					_ = b.Close()
					t.Fatal("it opened")
				}
				if !strings.Contains(err.Error(), tt.refused) || !strings.Contains(err.Error(), o.Path) {
					t.Fatalf("the refusal is %q", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// A kill right after the opening, and another one, tell nothing twice.
			for range 2 {
				o.Path = crash(t, b)
				_ = b.Close()
				if b, err = Open(context.Background(), o, zap.NewNop()); err != nil {
					t.Fatal(err)
				}
			}
			defer b.Close()
			got := drainGaps(t, queue(t, b, "mes", all))
			for _, m := range []plant.MachineID{"M1", "M2", "M3"} {
				told := ""
				if got[m] != nil {
					told = got[m].told()
				}
				if told != tt.want[m] {
					t.Errorf("of %s is told %q, want %q", m, told, tt.want[m])
				}
			}
			events := "[]"
			if got["M1"] != nil {
				events = fmt.Sprint(sequences(got["M1"].events))
			}
			if events != tt.events {
				t.Errorf("of M1 %s is delivered, want %s", events, tt.events)
			}
			if first := commit(t, b, "M1", count(1)); first != tt.next {
				t.Errorf("M1 goes on at %d, want %d", first, tt.next)
			}
		})
	}
}

// TestShortenedLogIsTold cuts the log of a killed store at many places: between
// two commits Badger and the check of the log see nothing amiss, the mark does.
func TestShortenedLogIsTold(t *testing.T) {
	const events = 60
	b := open(t, testOptions(quickDir(t)))
	queue(t, b, "mes", all)
	for n := range events {
		if _, err := b.Commit(context.Background(), "M1", plant.Batch{State: fmt.Append(nil, n), Events: []plant.Event{count(n + 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the mark has all", func() bool {
		found, err := readMark(b.opts.Path)
		return err == nil && found.known && len(found.streams) == 1 && found.streams[0].last == events
	})
	killed := crash(t, b)
	mustClose(t, b)
	lost := 0
	for _, zeros := range []bool{false, true} {
		for part := 1; part <= 20; part++ {
			to := clone(t, killed, true)
			logs, err := filepath.Glob(filepath.Join(to, storeFolder, "*"+logExt))
			if err != nil || len(logs) != 1 {
				t.Fatalf("logs %v, %v", logs, err)
			}
			spoil(t, logs[0], func(data []byte) []byte {
				end := len(bytes.TrimRight(data, "\x00")) * part / 20
				if !zeros {
					return data[:end]
				}
				clear(data[end:])
				return data
			})
			b, err := Open(context.Background(), testOptions(to), zap.NewNop())
			if err != nil {
				t.Logf("at %d of 20, zeros %t: refused: %v", part, zeros, err)
				continue
			}
			got := drainGaps(t, queue(t, b, "mes", all))["M1"]
			missing := uint64(0)
			for _, g := range got.gaps {
				missing += g.Count
			}
			if uint64(len(got.events))+missing != events {
				t.Errorf("at %d of 20, zeros %t: %d events are delivered and %d told as missing, of %d", part, zeros, len(got.events), missing, events)
			}
			if missing > 0 {
				lost++
			}
			mustClose(t, b)
		}
	}
	if lost < 20 {
		t.Errorf("only %d of 40 cuts lost something: the test proves little", lost)
	}
}

// TestMarkIsWrittenInTime: an event is in the mark within a second, on a disk that
// takes half of that, and a mark that somebody deletes is made again.
func TestMarkIsWrittenInTime(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	commit(t, b, "M1", count(1))
	if markEvery > time.Second/2 {
		t.Errorf("a mark is written every %v only", markEvery)
	}
	eventually(t, "the event is in the mark", func() bool {
		found, err := readMark(path)
		if err != nil {
			t.Fatal(err)
		}
		return found.known && len(found.streams) == 1 && found.streams[0].last == 1
	})
	remove(t, filepath.Join(path, markFiles[0]), filepath.Join(path, markFiles[1]))
	commit(t, b, "M1", count(2))
	eventually(t, "the mark is made again", func() bool {
		found, err := readMark(path)
		return err == nil && found.known && len(found.streams) == 1 && found.streams[0].last == 2
	})
	commit(t, b, "M1", count(3))
	mustClose(t, b)
	if found, err := readMark(path); err != nil || !found.closed || found.streams[0].last != 3 {
		t.Errorf("the mark of the stop is %+v, %v", found.highMark, err)
	}
}

// TestAFailedMarkLatches: an error of the disk is one, wherever it shows.
func TestAFailedMarkLatches(t *testing.T) {
	for _, at := range []string{"while it runs", "at the stop", "at the start"} {
		t.Run(at, func(t *testing.T) {
			o := testOptions(quickDir(t))
			var failing atomic.Bool
			o.writeMark = func(path string, generation uint64, data []byte) error {
				if failing.Load() {
					return syscall.EIO
				}
				return writeMark(path, generation, data)
			}
			failing.Store(at == "at the start")
			b, err := Open(context.Background(), o, zap.NewNop())
			if at == "at the start" {
				if !errors.Is(err, syscall.EIO) {
					t.Fatalf("open returned %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			failing.Store(true)
			if at == "while it runs" {
				commit(t, b, "M1", count(1))
				select {
				case <-b.Fault():
				case <-time.After(patience):
					t.Fatal("the failed mark does not latch")
				}
				if _, err := b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{count(2)}}); !errors.Is(err, syscall.EIO) {
					t.Errorf("a commit after the fault returned %v", err)
				}
			}
			if err := b.Close(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "high-water mark") {
				t.Errorf("close returned %v", err)
			}
			if err := b.db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestNoRoomForTheMarkIsAState: it is said once, and written when there is room.
func TestNoRoomForTheMarkIsAState(t *testing.T) {
	o := testOptions(quickDir(t))
	var full atomic.Bool
	o.writeMark = func(path string, generation uint64, data []byte) error {
		if full.Load() {
			return fmt.Errorf("write: %w", errDiskFull)
		}
		return writeMark(path, generation, data)
	}
	core, logged := observer.New(zap.InfoLevel)
	b, err := Open(context.Background(), o, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	full.Store(true)
	commit(t, b, "M1", count(1))
	said := func(words string) int {
		return logged.Filter(func(e observer.LoggedEntry) bool { return strings.Contains(e.Message, words) }).Len()
	}
	eventually(t, "the full disk is said", func() bool { return said("no room for the high-water mark") == 1 })
	commit(t, b, "M1", count(2))
	full.Store(false)
	eventually(t, "the mark is written", func() bool {
		found, err := readMark(o.Path)
		return err == nil && len(found.streams) == 1 && found.streams[0].last == 2
	})
	eventually(t, "and that is said", func() bool { return said("mark is written again") == 1 })
	if said("no room for the high-water mark") != 1 || b.Err() != nil {
		t.Errorf("said %d times, fault %v", said("no room for the high-water mark"), b.Err())
	}
}
