package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestEveryFileDamaged flips, cuts and removes each file of a killed store, plain
// and encrypted: what follows is no effect, a refusal that names the file and the
// remedy, or gap events for exactly what is missing.
func TestEveryFileDamaged(t *testing.T) {
	for _, key := range []Key{nil, bytes.Repeat([]byte{5}, 16)} {
		t.Run(fmt.Sprintf("key of %d bytes", len(key)), func(t *testing.T) { everyFileDamaged(t, key) })
	}
}

func everyFileDamaged(t *testing.T, key Key) {
	const stored, events = 300, 420
	path := quickDir(t)
	o := keyed(path, key)
	b := open(t, o)
	queue(t, b, "mes", all)
	for n := range events {
		if n == stored {
			// So many are in a table, the others in the log.
			mustClose(t, b)
			b = open(t, o)
			queue(t, b, "mes", all)
		}
		if _, err := b.Commit(context.Background(), "M1", plant.Batch{State: fmt.Append(nil, n), Events: []plant.Event{count(n + 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the mark has all", func() bool {
		found, err := readMark(path)
		return err == nil && len(found.streams) == 1 && found.streams[0].last == events
	})
	killed := crash(t, b)
	mustClose(t, b)
	var files []string
	for _, pattern := range []string{"mark.*", storeFolder + "/*"} {
		names, err := filepath.Glob(filepath.Join(killed, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if name, err = filepath.Rel(killed, name); err != nil {
				t.Fatal(err)
			}
			files = append(files, name)
		}
	}
	kinds := map[string][3]int{}
	damages := map[string]func([]byte) []byte{"removed": nil, "emptied": func([]byte) []byte { return nil }}
	for _, part := range []int{31, 77, 97} {
		at := func(data []byte) int { return used(data) * part / 100 }
		damages[fmt.Sprint("flipped at ", part)] = func(data []byte) []byte {
			if len(data) > 0 {
				data[at(data)] ^= 0x20
			}
			return data
		}
		damages[fmt.Sprint("cut at ", part)] = func(data []byte) []byte { return data[:at(data)] }
	}
	damages["short by 7"] = func(data []byte) []byte { return data[:max(used(data)-7, 0)] }
	for _, file := range files {
		if filepath.Base(file) == lockName {
			continue
		}
		for what, change := range damages {
			got := damagedStore(t, killed, file, key, change, events)
			kind := strings.TrimPrefix(filepath.Ext(file), ".")
			if kind == "" || strings.HasPrefix(file, "mark") {
				kind = strings.SplitN(filepath.Base(file), ".", 2)[0]
			}
			n := kinds[kind]
			switch {
			case got == "no effect":
				n[0]++
			case got == "told":
				n[1]++
			case strings.HasPrefix(got, "refused: "):
				n[2]++
				if !strings.Contains(got, filepath.Base(file)) || !(strings.Contains(got, "copy") || strings.Contains(got, "repair")) {
					t.Errorf("%s %s: %s", file, what, got)
				}
			default:
				t.Errorf("%s %s: %s", file, what, got)
			}
			kinds[kind] = n
		}
	}
	for kind, n := range kinds {
		t.Logf("%s: %d without effect, %d told exactly, %d refused", kind, n[0], n[1], n[2])
	}
	for _, kind := range []string{"mem", "sst", "MANIFEST"} {
		if kinds[kind][1]+kinds[kind][2] == 0 {
			t.Errorf("no damage of %s had an effect: the test proves nothing", kind)
		}
	}
}

// used is how much of a file has content: Badger's logs are mostly zeros.
func used(data []byte) int { return len(strings.TrimRight(string(data), "\x00")) }

// damagedStore opens a copy with one file damaged and says what followed.
func damagedStore(t *testing.T, killed, file string, key Key, change func([]byte) []byte, events int) string {
	t.Helper()
	to := clone(t, killed, true)
	defer os.RemoveAll(to)
	if change == nil {
		remove(t, filepath.Join(to, file))
	} else {
		spoil(t, filepath.Join(to, file), change)
	}
	o := unmergedOptions(to)
	o.Key = key
	b, err := Open(context.Background(), o, zap.NewNop())
	if err != nil {
		return "refused: " + err.Error()
	}
	defer b.Close()
	got := drainGaps(t, queue(t, b, "mes", all))["M1"]
	if got == nil {
		return "nothing is left and nothing is told"
	}
	seen := make([]int, events+1)
	for _, e := range got.events {
		seen[e.Sequence]++
	}
	told := 0
	for _, g := range got.gaps {
		if g.Count != 0 && g.Count != uint64(g.Last-g.First)+1 {
			return fmt.Sprintf("a gap of %d…%d has the count %d", g.First, g.Last, g.Count)
		}
		for s := g.First; s > 0 && s <= g.Last; s++ {
			seen[s]++
			told++
		}
	}
	if i := slices.IndexFunc(seen[1:], func(n int) bool { return n != 1 }); i >= 0 {
		return fmt.Sprintf("event %d is delivered or told %d times; told are %s", i+1, seen[i+1], got.told())
	}
	if told == 0 {
		return "no effect"
	}
	return "told"
}

// TestTheEndOfATableDamaged flips bits all over the last blocks of a table and
// the index behind them: Badger reads those in a goroutine of its own, and what
// it panics of there ends the process.
func TestTheEndOfATableDamaged(t *testing.T) {
	const events = 300
	path := quickDir(t)
	b := open(t, testOptions(path))
	queue(t, b, "mes", all)
	for n := range events {
		commit(t, b, "M1", count(n+1))
	}
	mustClose(t, b)
	table := filesOf(t, path, "*.sst")[0]
	file, err := filepath.Rel(path, table)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(table)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for from, at := info.Size()*93/100, info.Size()-1; at >= from; at -= 41 {
		got := damagedStore(t, path, file, nil, func(data []byte) []byte { data[at] ^= 0x20; return data }, events)
		switch {
		case got == "no effect", got == "told":
		case strings.HasPrefix(got, "refused: ") && strings.Contains(got, filepath.Base(file)):
			refused++
		default:
			t.Errorf("byte %d of %d: %s", at, info.Size(), got)
		}
	}
	if refused == 0 {
		t.Error("nothing is refused: the test proves nothing")
	}
}

// TestTablesTheManifestForgot: a manifest that lost its end makes Badger delete
// a table. Since records are missing, the start is refused and the table is
// where a repair finds it, as often as somebody tries. After a mere kill nothing
// is kept.
func TestTablesTheManifestForgot(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	for n := range 20 {
		commit(t, b, "M1", count(n+1))
	}
	mustClose(t, b)
	kept := func(path string) []string {
		files, err := filepath.Glob(filepath.Join(path, quarantineFolder, "tables-*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	extra := clone(t, path, true)
	if err := os.WriteFile(filepath.Join(extra, storeFolder, "000099.sst"), []byte("half a table"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustClose(t, open(t, testOptions(extra)))
	if left := kept(extra); len(left) != 0 {
		t.Errorf("after a mere kill %v is kept", left)
	}
	cut := clone(t, path, true)
	spoil(t, filepath.Join(cut, storeFolder, "MANIFEST"), func(data []byte) []byte { return data[:len(data)-7] })
	for range 3 {
		b, err := Open(t.Context(), testOptions(cut), zap.NewNop())
		if err == nil {
			mustClose(t, b)
			t.Fatal("the store opened without its table")
		}
		if !strings.Contains(err.Error(), "MANIFEST") || !strings.Contains(err.Error(), "sluice buffer check --repair") {
			t.Errorf("the refusal is %v", err)
		}
	}
	if left := kept(cut); len(left) != 2 || !strings.HasSuffix(left[0], ".sst") || !strings.HasSuffix(left[1], "MANIFEST") {
		t.Errorf("kept are %v", left)
	}
	if check, err := Check(t.Context(), testOptions(cut)); err != nil || check.Problems == 0 || check.Events != 20 {
		t.Errorf("the check finds %+v, %v", check, err)
	}
	if _, err := Repair(t.Context(), testOptions(cut), func() error { return nil }, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	b = open(t, testOptions(cut))
	if got := drainGaps(t, queue(t, b, "mes", all))["M1"]; len(got.events) != 20 || got.told() != "" {
		t.Errorf("after the repair there are %v, told is %q", sequences(got.events), got.told())
	}
}

// TestAManifestCutWithinItsFirstEntry: Badger takes such a manifest for an empty
// one and deletes the tables, whose events stand at the beginning of the streams;
// their ends are right.
func TestAManifestCutWithinItsFirstEntry(t *testing.T) {
	for _, key := range []Key{nil, bytes.Repeat([]byte{5}, 16)} {
		killed := tabled(t, key)
		o := keyed(killed, key)
		whole := clone(t, killed, true)
		// A table that a kill left over is taken away while nothing is missing.
		if err := os.WriteFile(filepath.Join(whole, storeFolder, "000099.sst"), []byte("half a table"), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Path = whole
		mustClose(t, open(t, o))
		for _, size := range []int{8, 12, 20, 28} {
			cut := clone(t, killed, true)
			o.Path = cut
			before := filesOf(t, cut, "*.sst")
			spoil(t, filepath.Join(cut, storeFolder, badger.ManifestFilename), func(data []byte) []byte { return data[:size] })
			for range 2 {
				b, err := Open(t.Context(), o, zap.NewNop())
				if err == nil {
					mustClose(t, b)
					t.Fatalf("cut to %d bytes the store opened without %v", size, before)
				}
				if !strings.Contains(err.Error(), badger.ManifestFilename) || !strings.Contains(err.Error(), "sluice buffer check --repair") {
					t.Errorf("cut to %d bytes: the refusal is %v", size, err)
				}
			}
			if after := filesOf(t, cut, "*.sst"); len(after) < len(before) {
				t.Fatalf("cut to %d bytes: of %v are left %v", size, before, after)
			}
			if _, err := Repair(t.Context(), o, func() error { return nil }, zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			b := open(t, o)
			for m, events := range drainGaps(t, queue(t, b, "reader", all)) {
				if told := events.told(); strings.Contains(told, "missing") {
					t.Errorf("cut to %d bytes: after the repair %s is told %s", size, m, told)
				}
			}
			mustClose(t, b)
		}
	}
}

// TestADamagedIndexNamesItsTable: Badger names the table only within what it
// prints over many lines when it panics.
func TestADamagedIndexNamesItsTable(t *testing.T) {
	err := fmt.Errorf("damaged record: %s", "==== Recovered====\nTable ID: 17\nBlock ID: 12\n")
	if got := damagedTable("store", err); got != filepath.Join("store", "000017.sst") {
		t.Errorf("named is %s", got)
	}
	if got := damagedTable("store", errors.New("something else")); got != "store" {
		t.Errorf("named is %s", got)
	}
}
