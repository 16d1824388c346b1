package buffer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/plant"
)

// tabled returns the folder of a store as a kill leaves it: several tables and a
// log, 400 events of M1 and 40 of M2, a state each, dead letters.
func tabled(t *testing.T, key Key) string {
	t.Helper()
	b := open(t, keyed(quickDir(t), key))
	queue(t, b, "mes", only(plant.KindAlarm))
	for i := range 400 {
		e := count(i)
		e.Data = fmt.Appendf(nil, `{"n":%d,"pad":%q}`, i, strings.Repeat("x", 24_000))
		for _, m := range []plant.MachineID{"M1", "M2"} {
			if m == "M2" && i%10 > 0 {
				continue
			}
			if _, err := b.Commit(t.Context(), m, plant.Batch{State: fmt.Appendf(nil, "state %d", i), Events: []plant.Event{e}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return killedAtRest(t, b)
}

// keyed are the options of a store with a key.
func keyed(path string, key Key) Options {
	o := testOptions(path)
	o.Key = key
	return o
}

func filesOf(t *testing.T, path, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, storeFolder, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, path, err)
	}
	slices.Sort(names)
	return names
}

func change(t *testing.T, name string, do func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, do(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// readable counts what the events of a machine are now: those that were
// recorded, and what the gap events say is missing.
func readable(t *testing.T, b *Buffer, m plant.MachineID) (events int, numbers map[uint64]bool) {
	t.Helper()
	numbers = map[uint64]bool{}
	for e, err := range b.Events(t.Context(), m, 0, 10_000) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == plant.KindCounter {
			events++
		}
		if numbers[uint64(e.Sequence)] {
			t.Errorf("%s %d is there twice", m, uint64(e.Sequence))
		}
		numbers[uint64(e.Sequence)] = true
	}
	return events, numbers
}

// Each sort of damage, of a plain store and of an encrypted one: the check names
// the file, the repair keeps every event that can be read and moves the rest aside
// untouched, the next opening has a new epoch, gives no number twice and says what
// is missing.
func TestCheckAndRepair(t *testing.T) {
	for _, key := range []Key{nil, bytes.Repeat([]byte{3}, 32)} {
		killed := tabled(t, key)
		for _, c := range damages {
			if c.plain && len(key) > 0 {
				continue
			}
			t.Run(fmt.Sprintf("key of %d bytes, %s", len(key), c.name), func(t *testing.T) {
				repairs(t, clone(t, killed, true), key, &c)
			})
		}
	}
}

// sortOfDamage is one.
type sortOfDamage struct {
	name string
	do   func(t *testing.T, path string)
	// file is what the check must name; least is how many of the 440 events must
	// be there afterwards.
	file  string
	least int
	// plain is set where an encrypted store cannot be repaired.
	plain bool
}

var damages = []sortOfDamage{
	{"nothing", func(*testing.T, string) {}, "", 440, false},
	{"a table is missing", func(t *testing.T, path string) {
		if err := os.Remove(filesOf(t, path, "*.sst")[0]); err != nil {
			t.Fatal(err)
		}
	}, ".sst", 200, false},
	{"a table is cut short", func(t *testing.T, path string) {
		change(t, filesOf(t, path, "*.sst")[0], func(b []byte) []byte { return b[:len(b)/2] })
	}, ".sst", 300, false},
	{"a table is empty", func(t *testing.T, path string) {
		change(t, filesOf(t, path, "*.sst")[0], func([]byte) []byte { return nil })
	}, ".sst", 200, false},
	{"a flipped bit in a table", func(t *testing.T, path string) {
		change(t, filesOf(t, path, "*.sst")[0], func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
	}, ".sst", 438, false},
	{"the index of a table is damaged", func(t *testing.T, path string) {
		change(t, filesOf(t, path, "*.sst")[0], func(b []byte) []byte { b[len(b)-40] ^= 4; return b })
	}, ".sst", 440, false},
	{"the manifest is empty", func(t *testing.T, path string) {
		change(t, filesOf(t, path, badger.ManifestFilename)[0], func([]byte) []byte { return nil })
	}, badger.ManifestFilename, 440, false},
	{"the manifest is garbage", func(t *testing.T, path string) {
		change(t, filesOf(t, path, badger.ManifestFilename)[0], func(b []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(b)) })
	}, badger.ManifestFilename, 440, false},
	{"the manifest is missing", func(t *testing.T, path string) {
		if err := os.Remove(filesOf(t, path, badger.ManifestFilename)[0]); err != nil {
			t.Fatal(err)
		}
	}, badger.ManifestFilename, 440, false},
	{"the log has a flipped bit", func(t *testing.T, path string) {
		change(t, filesOf(t, path, "*.mem")[0], func(b []byte) []byte { b[len(trimZeros(b))/2] ^= 4; return b })
	}, ".mem", 437, false},
	{"the log is missing", func(t *testing.T, path string) {
		for _, name := range filesOf(t, path, "*.mem") {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}, "-", 200, false},
	{"the head of a log names a key", func(t *testing.T, path string) {
		change(t, filesOf(t, path, "*.mem")[0], func(b []byte) []byte { b[2] ^= 4; return b })
	}, ".mem", 440, false},
	{"the head of a value log names a key", func(t *testing.T, path string) {
		change(t, filesOf(t, path, "*.vlog")[0], func(b []byte) []byte { b[2] ^= 4; return b })
	}, ".vlog", 440, false},
	{"the key registry is cut short", func(t *testing.T, path string) {
		change(t, filesOf(t, path, badger.KeyRegistryFileName)[0], func(b []byte) []byte { return b[:5] })
	}, badger.KeyRegistryFileName, 440, true},
	{"a flipped bit in the key registry", func(t *testing.T, path string) {
		change(t, filesOf(t, path, badger.KeyRegistryFileName)[0], func(b []byte) []byte { b[20] ^= 4; return b })
	}, badger.KeyRegistryFileName, 440, false},
}

func repairs(t *testing.T, path string, key Key, c *sortOfDamage) {
	t.Helper()
	c.do(t, path)
	before := contentsOf(t, filepath.Join(path, storeFolder))
	check, err := Check(t.Context(), keyed(path, key))
	if err != nil {
		t.Fatal(err)
	}
	if (check.Problems > 0) != (c.file != "" && c.file != "-") {
		t.Errorf("%d problems: %+v", check.Problems, check.Files)
	}
	for _, f := range check.Files {
		if (f.Problem != "" || f.Damaged > 0) && !strings.HasSuffix(f.Name, c.file) {
			t.Errorf("%+v", f)
		}
	}
	if after := contentsOf(t, filepath.Join(path, storeFolder)); after != before {
		t.Error("the check has changed something")
	}
	r, err := Repair(t.Context(), keyed(path, key), func() error { return nil }, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if aside := contentsOf(t, r.Broken); aside != before {
		t.Error("the broken store is not as it was")
	}
	if found := holds(t, filepath.Join(path, storeFolder), "xxxxxxxx"); len(key) > 0 && len(found) > 0 {
		t.Errorf("the repaired store is in clear text: %v", found)
	}
	b, err := Open(t.Context(), keyed(path, key), zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)))
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, b)
	one, first := readable(t, b, "M1")
	two, _ := readable(t, b, "M2")
	if one+two < c.least || c.least == 440 && one+two != 440 {
		t.Errorf("%d and %d of 440 events are left, want %d: %+v", one, two, c.least, check.Files)
	}
	given := commit(t, b, "M1", count(1))
	// Of a log that is gone as a whole the mark knows all but the last second.
	if first[uint64(given)] || given <= 400 && c.file != "-" {
		t.Errorf("number %d is given again", given)
	}
	// Whatever is missing between the first and the last is named.
	missing := 0
	for n := uint64(1); n < uint64(given); n++ {
		if !first[n] {
			missing++
		}
	}
	if told := b.Stats().Lost; missing > 0 && told == 0 {
		t.Errorf("%d events are missing, and nobody says so", missing)
	}
	state, err := b.Load(t.Context(), "M2", func(plant.KV) error { return nil })
	if c.least == 440 && (err != nil || string(state) != "state 390") {
		t.Errorf("the state is %q, %v", state, err)
	}
}

// contentsOf is every file of a folder with its content.
func contentsOf(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf("%s %d %08x\n", e.Name(), len(data), checksum(nil, append(make([]byte, envelopeSize), data...)))
	}
	return all
}

// A kill between the two renames of a repair: the next opening does the second.
func TestARepairThatWasKilledIsFinished(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	commit(t, b, "M1", count(1))
	path := b.opts.Path
	mustClose(t, b)
	r, err := Repair(t.Context(), testOptions(path), func() error { return nil }, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(path, storeFolder), filepath.Join(path, repairFolder)); err != nil {
		t.Fatal(err)
	}
	b = open(t, testOptions(path))
	if events, _ := readable(t, b, "M1"); events != 1 {
		t.Errorf("%d events", events)
	}
	mustClose(t, b)
	// Without a broken store beside it the folder is none of ours to take.
	if err := os.RemoveAll(r.Broken); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(path, storeFolder), filepath.Join(path, repairFolder)); err != nil {
		t.Fatal(err)
	}
	b = open(t, testOptions(path))
	if events, _ := readable(t, b, "M1"); events != 0 {
		t.Errorf("%d events of a folder that nobody moved aside", events)
	}
}

func TestCheckRefusesAStoreInUse(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	if _, err := Check(t.Context(), b.opts); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("%v", err)
	}
	if _, err := Repair(t.Context(), b.opts, func() error { t.Error("begun"); return nil }, zap.NewNop()); err == nil {
		t.Error("repaired while it is open")
	}
}

// Every byte that a bit flips in is survived by the check itself.
func TestCheckSurvivesAnyFlip(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	for i := range 30 {
		commit(t, b, "M1", count(i))
	}
	path := b.opts.Path
	mustClose(t, b)
	for _, name := range filesOf(t, path, "*.sst") {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := range data {
			flipped := bytes.Clone(data)
			flipped[at] ^= 1 << (at % 8)
			s := &salvage{machines: map[plant.MachineID]bool{}, file: &FileCheck{}}
			events := map[string]bool{}
			s.each = func(f found) error {
				if _, _, ok := eventOf(f.key); ok && !f.removed {
					events[string(f.key)] = true
				}
				return nil
			}
			s.machines["M1"] = true
			_ = s.table(flipped) // its error is the finding
			if err := s.searchIn(flipped); err != nil {
				t.Fatal(err)
			}
			if len(events) < 29 {
				t.Fatalf("byte %d of %d: only %d of 30 events", at, len(data), len(events))
			}
		}
	}
}
