package buffer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestDeadLettersThatAreGoneAreToldByTheDailyReading: what a merge has dropped leaves
// nothing to stumble over, so they are counted each day, and not first at their bound.
func TestDeadLettersThatAreGoneAreToldByTheDailyReading(t *testing.T) {
	o := unmergedOptions(quickDir(t))
	b := open(t, o)
	mes, erp := queue(t, b, "mes", only(plant.KindCounter)), queue(t, b, "erp", only(plant.KindCounter))
	for i := range 50 {
		commit(t, b, "M1", count(i))
		commit(t, b, "M2", count(i))
	}
	for range 2 {
		refusedWith(t, b, mes, "mes", 30)
		refusedWith(t, b, erp, "erp", 30)
	}
	mustClose(t, b)
	damage(t, o.Path, func(txn *badger.Txn) error {
		for n := plant.Sequence(5); n < 15; n++ {
			if err := txn.Delete(deadKey("mes", "M1", n)); err != nil {
				return err
			}
		}
		return txn.Delete(deadKey("erp", "M2", 30))
	})
	o.housework = time.Millisecond
	b = open(t, o)
	eventually(t, "the daily reading to tell it", func() bool { return b.Stats().DeadLetters == 120-11 })
	told := func() (count map[plant.MachineID]uint64) {
		count = map[plant.MachineID]uint64{}
		for _, m := range b.Machines() {
			for e, err := range b.Events(t.Context(), m, 0, 1000) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Kind != plant.KindGap {
					continue
				}
				g := gapOf(t, e)
				if g.Cause != plant.GapRefused || len(g.Uplinks) != 1 {
					t.Errorf("%s is told %+v", m, g)
				}
				count[m] += g.Count
			}
		}
		return count
	}
	if n := told(); n["M1"] != 10 || n["M2"] != 1 || len(n) != 2 {
		t.Errorf("told are %v, want 10 of M1 and 1 of M2", n)
	}
	mustClose(t, b)
	b = open(t, o)
	eventually(t, "the daily reading after a restart", func() bool { return b.keeper.rounds.Load() > 20 })
	if n := told(); n["M1"] != 10 || n["M2"] != 1 {
		t.Errorf("after a restart told are %v", n)
	}
	mustClose(t, b)
}

// TestTablesWithoutEventsAreNotForgotten: a manifest that has lost a table which holds
// no event, but dead letters or what uplinks remember, is seen too.
func TestTablesWithoutEventsAreNotForgotten(t *testing.T) {
	for name, keep := range map[string]func(t *testing.T, b *Buffer, q *Queue){
		"dead letters": func(t *testing.T, b *Buffer, q *Queue) { refusedWith(t, b, q, "mes", 20) },
		"memory": func(t *testing.T, _ *Buffer, q *Queue) {
			if err := q.Put(t.Context(), []plant.KV{{Key: "remembered", Value: []byte("x")}}); err != nil {
				t.Fatal(err)
			}
		},
		"a kept value": func(t *testing.T, b *Buffer, _ *Queue) {
			if _, err := b.Commit(t.Context(), "M1", plant.Batch{Put: []plant.KV{{Key: "k", Value: []byte("x")}}}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := unmergedOptions(quickDir(t))
			b := open(t, o)
			queue(t, b, "mes", only(plant.KindCounter))
			for i := range 30 {
				commit(t, b, "M1", count(i))
			}
			mustClose(t, b)
			manifest, err := os.ReadFile(filepath.Join(o.Path, storeFolder, badger.ManifestFilename))
			if err != nil {
				t.Fatal(err)
			}
			b = open(t, o)
			keep(t, b, queue(t, b, "mes", only(plant.KindCounter)))
			mustClose(t, b) // in a table of its own
			b = open(t, o)
			commit(t, b, "M1", count(30))
			o.Path = crash(t, b)
			if err := os.WriteFile(filepath.Join(o.Path, storeFolder, badger.ManifestFilename), manifest, 0o600); err != nil {
				t.Fatal(err)
			}
			b, err = Open(t.Context(), o, zap.NewNop())
			if err == nil {
				mustClose(t, b)
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), badger.ManifestFilename) || !strings.Contains(err.Error(), "--repair") {
				t.Error(err)
			}
			if _, err := Repair(t.Context(), o, func() error { return nil }, zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			b = open(t, o)
			q := queue(t, b, "mes", only(plant.KindCounter))
			value, err := q.Memory("remembered")
			if err != nil {
				t.Fatal(err)
			}
			kept := ""
			if _, err := b.Load(t.Context(), "M1", func(kv plant.KV) error { kept += kv.Key; return nil }); err != nil {
				t.Fatal(err)
			}
			if name == "dead letters" && b.Stats().DeadLetters != 20 || name == "memory" && string(value) != "x" || name == "a kept value" && kept != "k" {
				t.Errorf("after the repair: %d dead letters, memory %q, kept %q", b.Stats().DeadLetters, value, kept)
			}
			mustClose(t, b)
		})
	}
}

// TestDeadLettersThatARepairCannotReadAreTold: the repair keeps those that it can read;
// how many there were before is known.
func TestDeadLettersThatARepairCannotReadAreTold(t *testing.T) {
	o := unmergedOptions(quickDir(t))
	unreadableHead(t, o, 8000)
	if _, err := Repair(t.Context(), o, func() error { return nil }, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	o.housework = time.Millisecond
	b := open(t, o)
	rounds := b.keeper.rounds.Load()
	eventually(t, "the daily reading", func() bool { return b.keeper.rounds.Load() > rounds+20 })
	kept := 0
	for _, uplink := range []string{"mes", "erp"} {
		for _, err := range b.DeadLetters(t.Context(), uplink) {
			if err != nil {
				t.Error(err)
			}
			kept++
		}
	}
	told := uint64(0)
	for e, err := range b.Events(t.Context(), "M1", 0, 1000) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == plant.KindGap && gapOf(t, e).Cause == plant.GapRefused {
			told += gapOf(t, e).Count
		}
	}
	if kept+int(told) != 90 || told == 0 {
		t.Errorf("of 90 refused events %d are kept and %d told", kept, told)
	}
	mustClose(t, b)
}
