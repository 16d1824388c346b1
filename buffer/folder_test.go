package buffer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

func TestFolderTakenAwayLatches(t *testing.T) {
	for name, tt := range map[string]struct {
		take func(path string) error
		want string
	}{
		"deleted": {os.RemoveAll, "is gone"},
		"moved":   {func(path string) error { return os.Rename(path, path+".old") }, "is gone"},
		"replaced": {func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.MkdirAll(filepath.Join(path, storeFolder), 0o700))
		}, "is not the folder that was opened"},
		"emptied": {func(path string) error {
			return os.Remove(filepath.Join(path, storeFolder, "MANIFEST"))
		}, "has no file MANIFEST any more"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, by := range []string{"a commit", "the keeper", "close"} {
				o := testOptions(filepath.Join(t.TempDir(), "buffer"))
				o.housework = time.Hour
				if by == "the keeper" {
					o.housework = time.Millisecond
				}
				b, err := Open(context.Background(), o, zap.NewNop())
				if err != nil {
					t.Fatal(err)
				}
				commit(t, b, "M1", count(1))
				if err := tt.take(o.Path); err != nil {
					t.Fatal(err)
				}
				want := tt.want
				switch by {
				case "a commit":
					if _, err := b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{count(2)}}); err == nil {
						t.Error("a commit into a folder that is not there was acknowledged")
					}
				case "the keeper":
					// It may look before all of it is taken.
					want = "while the gateway ran"
					select {
					case <-b.Fault():
					case <-time.After(patience):
						t.Fatal("the keeper does not see it")
					}
				}
				if err := b.Close(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), o.Path) {
					t.Errorf("%s: close returned %v, want %q and the folder in it", by, err, want)
				}
				if b.Stats().Fault == "" {
					t.Errorf("%s: the stats show no fault", by)
				}
				// Badger's own Close would try for ever to write into what is gone.
			}
		})
	}
}

func TestUnknownFreeSpaceIsFull(t *testing.T) {
	o := testOptions(t.TempDir())
	var broken atomic.Bool
	var clock atomic.Int64
	clock.Store(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	o.now = func() time.Time { return time.Unix(0, clock.Load()) }
	o.freeSpace = func(string) (int64, error) {
		if broken.Load() {
			return 0, errors.New("stale file handle")
		}
		return 1 << 40, nil
	}
	b := open(t, o)
	broken.Store(true)
	commit(t, b, "M1", count(1))
	clock.Add(int64(blindAfter))
	if _, err := b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{count(2)}}); !errors.Is(err, plant.ErrFull) {
		t.Fatalf("a commit on a disk that is not seen: %v", err)
	}
	if s := b.Stats(); !s.Full || s.FullSince.IsZero() || !strings.Contains(s.FullReason, "cannot be read") {
		t.Fatalf("the stats do not show it: %+v", s)
	}
	broken.Store(false)
	if first := commit(t, b, "M1", count(2)); first != 2 {
		t.Fatalf("the sequence goes on at %d, want 2", uint64(first))
	}
	if s := b.Stats(); s.Full {
		t.Fatalf("still full: %s", s.FullReason)
	}
}

func TestOpenWaitsForSpace(t *testing.T) {
	o := testOptions(t.TempDir())
	o.housework = time.Millisecond
	var free, asked atomic.Int64
	o.freeSpace = func(string) (int64, error) { asked.Add(1); return free.Load(), nil }
	core, logged := observer.New(zap.InfoLevel)
	opened := make(chan error, 1)
	go func() {
		b, err := Open(context.Background(), o, zap.New(core))
		if err == nil {
			err = b.Close()
		}
		opened <- err
	}()
	eventually(t, "it looks again and again", func() bool { return asked.Load() > 5 })
	select {
	case err := <-opened:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	free.Store(openLeast)
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	if n := logged.FilterMessageSnippet("too full to open").Len(); n != 1 {
		t.Errorf("the wait is in the log %d times", n)
	}
	if n := logged.FilterMessageSnippet("has room again: the store is opened").Len(); n != 1 {
		t.Errorf("the end of the wait is in the log %d times", n)
	}

	free.Store(0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, o, zap.NewNop()); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "free space on this disk") {
		t.Errorf("a wait that was ended: %v", err)
	}
}

func TestQueueOpensOnAFullDisk(t *testing.T) {
	o := testOptions(t.TempDir())
	o.housework = time.Millisecond
	var free atomic.Int64
	free.Store(1 << 40)
	o.freeSpace = func(string) (int64, error) { return free.Load(), nil }
	b := open(t, o)
	// Without an uplink the event would count as delivered, and go.
	queue(t, b, "first", all)
	commit(t, b, "M1", count(1))
	free.Store(o.floor())
	queue(t, b, "under the reserve", all)
	free.Store(0)
	eventually(t, "the guard shuts", b.underFloor)
	q := queue(t, b, "under the floor", all)
	if m := next(t, q); m != "M1" {
		t.Fatalf("leased %q", m)
	}
	free.Store(1 << 40)
	eventually(t, "the claim is made durable", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return !q.late
	})
	mustClose(t, b)
	b = open(t, testOptions(o.Path))
	if n := len(b.Stats().Queues); n != 3 {
		t.Errorf("%d queues were kept, want 3", n)
	}
}

func TestRefusalsNameTheFile(t *testing.T) {
	sound := t.TempDir()
	b := open(t, testOptions(sound))
	commit(t, b, "M1", count(1))
	mustClose(t, b)
	for name, spoil := range map[string]func(data []byte) []byte{
		"MANIFEST": func(data []byte) []byte { data[2] ^= 1; return data },
		filepath.Base(filesOf(t, sound, "*.sst")[0]): func(data []byte) []byte { return data[:len(data)-1] },
	} {
		path := t.TempDir()
		to, from := filepath.Join(path, storeFolder), filepath.Join(sound, storeFolder)
		if err := os.Mkdir(to, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := copyStore(to, from, listing(t, from)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(to, name)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, spoil(data), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Open(context.Background(), testOptions(path), zap.NewNop())
		if err == nil {
			_ = b.Close()
			t.Errorf("%s: it opened", name)
			continue
		}
		words := err.Error()
		if !strings.Contains(words, file) || !strings.Contains(words, "keep a copy of the whole folder") || strings.Contains(words, "\n") {
			t.Errorf("%s: the refusal is %q", name, words)
		}
		if !strings.Contains(words, "sluice buffer check --repair") {
			t.Errorf("%s: the refusal does not name the repair: %q", name, words)
		}
		if _, err := Repair(t.Context(), testOptions(path), func() error { return nil }, zap.NewNop()); err != nil {
			t.Errorf("%s: what the refusal advises fails: %v", name, err)
		}
		b, err = Open(t.Context(), testOptions(path), zap.NewNop())
		if err != nil {
			t.Errorf("%s: after the repair: %v", name, err)
			continue
		}
		mustClose(t, b)
	}
	full := explainOpen("/x", fmt.Errorf("Cannot write pid file: %w", errDiskFull)).Error()
	if !strings.Contains(full, "free space on this disk") || strings.Contains(full, "empty") {
		t.Errorf("on a full disk: %q", full)
	}
	// Badger keeps only the words of some errors (y/error.go, Wrap).
	for _, err := range []error{fmt.Errorf("sync /x/store: %w", diskErrors[0]), errors.New("While syncing directory: /x. err: " + diskErrors[0].Error())} {
		if sick := explainOpen("/x", err).Error(); !strings.Contains(sick, "the disk does not do what it is asked") || strings.Contains(sick, "--repair") {
			t.Errorf("on a disk that fails: %q", sick)
		}
	}
}

// TestDamagedLogIsCounted damages the log of a store that was killed. Badger
// reads up to the damage and says nothing of what is behind.
func TestDamagedLogIsCounted(t *testing.T) {
	const events = 300
	b := open(t, testOptions(quickDir(t)))
	queue(t, b, "mes", all)
	for n := range events {
		if _, err := b.Commit(context.Background(), "M1", plant.Batch{State: fmt.Append(nil, n), Events: []plant.Event{count(n + 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	for name, part := range map[string]int{"early": 10, "middle": 50, "late": 95} {
		t.Run(name, func(t *testing.T) {
			path := crash(t, b)
			logs, err := filepath.Glob(filepath.Join(path, storeFolder, "*"+logExt))
			if err != nil || len(logs) != 1 {
				t.Fatalf("logs %v, %v", logs, err)
			}
			data, err := os.ReadFile(logs[0])
			if err != nil {
				t.Fatal(err)
			}
			end := len(strings.TrimRight(string(data), "\x00"))
			data[end*part/100] ^= 4
			if err := os.WriteFile(logs[0], data, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := Open(context.Background(), testOptions(path), zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			s := b.Stats()
			last := s.Damage[len(s.Damage)-1]
			if last.Machine != "M1" || last.Last != events || s.Lost != uint64(last.Last-last.First)+2 {
				t.Fatalf("%d lost: %+v", s.Lost, s.Damage)
			}
			q := queue(t, b, "mes", all)
			if got := peekAll(t, q, next(t, q), 0, 2*events); len(got) != int(last.First) || got[len(got)-1].Kind != plant.KindGap {
				t.Errorf("%d events are left, gap included; %d…%d are said to be lost", len(got), uint64(last.First), uint64(last.Last))
			}
			// Also where nothing was committed in between.
			mustClose(t, b)
			b = open(t, testOptions(path))
			q = queue(t, b, "mes", all)
			if first := commit(t, b, "M1", count(1)); first != events+2 {
				t.Errorf("the sequence goes on at %d", uint64(first))
			}
			m := next(t, q)
			got := peekAll(t, q, m, 0, 2*events)
			if len(got) == 0 || got[len(got)-1].Sequence != events+2 {
				t.Fatalf("the event behind the hole is not delivered: %v", sequences(got))
			}
			settle(t, q, m, events+2, delivered(got[0].Sequence, events+2))
			idle(t, q)
		})
	}
}

// TestHalfWrittenLogIsNoLoss cuts the log at each place of its last
// transaction, as a kill does.
func TestHalfWrittenLogIsNoLoss(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	commit(t, b, "M1", count(1))
	whole := func(path string) []byte {
		logs, err := filepath.Glob(filepath.Join(path, storeFolder, "*"+logExt))
		if err != nil || len(logs) != 1 {
			t.Fatalf("logs %v, %v", logs, err)
		}
		data, err := os.ReadFile(logs[0])
		if err != nil {
			t.Fatal(err)
		}
		return []byte(strings.TrimRight(string(data), "\x00"))
	}
	before := whole(b.opts.Path)
	commit(t, b, "M1", count(2))
	after := whole(b.opts.Path)
	if at := checkLog(after, true); at.at != len(after) || at.commits != 0 {
		t.Fatalf("a sound log: %+v of %d", at, len(after))
	}
	for cut := len(before); cut < len(after); cut++ {
		if torn := checkLog(after[:cut], true); torn.certain || torn.at != len(before) {
			t.Fatalf("cut at %d of %d…%d: %+v", cut, len(before), len(after), torn)
		}
	}
	if torn := checkLog(after[:len(after)-9], false); !torn.certain {
		t.Error("an older log that is not whole is damage for certain")
	}
	mustClose(t, b)
	b, err := Open(context.Background(), b.opts, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if s := b.Stats(); s.Lost != 0 {
		t.Errorf("%d lost after a clean stop: %+v", s.Lost, s.Damage)
	}
}
