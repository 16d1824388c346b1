package buffer

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

// damage changes a record on disk behind the buffer's back.
func damage(t *testing.T, path string, change func(txn *badger.Txn) error) {
	t.Helper()
	db, err := badger.Open(badgerOptions(filepath.Join(path, storeFolder), zap.NewNop()))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(change); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func flip(key []byte) func(txn *badger.Txn) error {
	return func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		v, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		v[len(v)-1] ^= 0x10
		return txn.Set(key, v)
	}
}

func TestDamagedEventsAreCountedAndPassedOver(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	queue(t, b, "mes", all)
	queue(t, b, "erp", all)
	commit(t, b, "M1", count(1), count(2), count(3), count(4), count(5), count(6), count(7), count(8))
	commit(t, b, "M2", count(1))
	mustClose(t, b)
	damage(t, path, flip(eventKey("M1", 2)))
	damage(t, path, func(txn *badger.Txn) error { return txn.Delete(eventKey("M1", 4)) })
	damage(t, path, func(txn *badger.Txn) error { return txn.Set(eventKey("M1", 5), []byte{1, 2, 3}) })
	damage(t, path, func(txn *badger.Txn) error {
		item, err := txn.Get(eventKey("M1", 1))
		if err != nil {
			return err
		}
		v, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		// A good record under another's key is damage too.
		return txn.Set(eventKey("M1", 6), v)
	})
	damage(t, path, func(txn *badger.Txn) error { return txn.Delete(eventKey("M1", 8)) })
	damage(t, path, flip(eventKey("M2", 1)))

	core, logged := observer.New(zap.ErrorLevel)
	b, err := Open(context.Background(), testOptions(path), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, name := range []string{"mes", "erp"} {
		q := queue(t, b, name, all)
		got := drainGaps(t, q)
		for m, want := range map[plant.MachineID]string{"M1": "[1 3 7]", "M2": "[]"} {
			if seen := fmt.Sprint(sequences(got[m].events)); seen != want {
				t.Errorf("queue %s gave %s of %s, want %s", name, seen, m, want)
			}
		}
		if told := got["M1"].told() + ", " + got["M2"].told(); told != "2…2 1 damaged, 4…4 1 missing, 5…5 1 damaged, 6…6 1 damaged, 8…8 1 missing, 1…1 1 damaged" {
			t.Errorf("queue %s is told %s", name, told)
		}
		idle(t, q)
		if got := queueStats(t, b, name); got.Backlog != 0 {
			t.Fatalf("queue %s has a backlog of %d of events that are gone", name, got.Backlog)
		}
	}
	s := b.Stats()
	if s.Lost != 6 {
		t.Errorf("%d lost, want each of the 6 counted once", s.Lost)
	}
	if len(s.Damage) != 6 || logged.Len() != 6 {
		t.Errorf("%d findings in the stats and %d in the log, want 6: %+v", len(s.Damage), logged.Len(), s.Damage)
	}
	// Behind the 8 events there are the 5 gaps.
	if first := commit(t, b, "M1", count(9)); first != 14 {
		t.Errorf("the sequence goes on at %d, want 14", first)
	}
}

func TestDamagedIndexIsRebuilt(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	q := queue(t, b, "mes", only(plant.KindCounter))
	commit(t, b, "M1", count(1), parameter(2), count(3))
	if _, err := b.Commit(context.Background(), "M2", plant.Batch{State: []byte("x"), Events: []plant.Event{count(1)}}); err != nil {
		t.Fatal(err)
	}
	m := next(t, q)
	peekAll(t, q, m, 0, 1)
	settle(t, q, m, 1, delivered(1, 1))
	mustClose(t, b)
	damage(t, path, flip(machineKey(classStream, "M1")))
	damage(t, path, func(txn *badger.Txn) error { return txn.Delete(machineKey(classStream, "M2")) })
	damage(t, path, flip(machineKey(classState, "M2")))

	b = open(t, testOptions(path))
	queue(t, b, "mes", only(plant.KindCounter))
	if got := queueStats(t, b, "mes"); got.Backlog != 2 {
		t.Fatalf("a backlog of %d, want event 3 of M1 and 1 of M2", got.Backlog)
	}
	if first := commit(t, b, "M1", count(4)); first != 4 {
		t.Errorf("M1 goes on at %d, want 4", first)
	}
	if first := commit(t, b, "M2", count(2)); first != 2 {
		t.Errorf("M2 goes on at %d, want 2", first)
	}
	if state, err := b.Load(context.Background(), "M2", func(plant.KV) error { return nil }); state != nil || err != nil {
		t.Errorf("a damaged state came back as %q, %v", state, err)
	}
	mustClose(t, b)

	// A cursor that is damaged starts again; one that is ahead of a stream which
	// lost its end keeps the numbers from being given twice.
	damage(t, path, func(txn *badger.Txn) error {
		for _, key := range [][]byte{eventKey("M1", 3), eventKey("M1", 4), machineKey(classStream, "M1")} {
			if err := txn.Delete(key); err != nil {
				return err
			}
		}
		var k kinds
		c := cursor{at: position{sequence: 4, counts: []uint64{4}}}
		k.of(plant.KindCounter)
		key := cursorKey("mes", "M1")
		return txn.Set(key, appendCursorRecord(nil, key, &c, &k))
	})
	damage(t, path, func(txn *badger.Txn) error { return txn.Set(cursorKey("mes", "M2"), []byte("rubbish")) })
	b = open(t, testOptions(path))
	q = queue(t, b, "mes", only(plant.KindCounter, plant.KindGap))
	if first := commit(t, b, "M1", count(5)); first != 6 {
		t.Errorf("M1 goes on at %d, want 6, behind the lost ones and their gap", first)
	}
	if s := b.Stats(); s.Lost != 3 {
		t.Errorf("%d lost, want events 3 and 4 and the cursor: %+v", s.Lost, s.Damage)
	}
	got := drainGaps(t, q)
	if g := got["M1"]; fmt.Sprint(sequences(g.events)) != "[6]" || g.told() != "3…4 2 lost_tail" {
		t.Errorf("of M1 %v is delivered and %s told, want event 6 and the loss of 3 and 4", sequences(g.events), g.told())
	}
	if g := got["M2"]; fmt.Sprint(sequences(g.events)) != "[1 2]" {
		t.Errorf("of M2 %v is delivered, want 1 and 2", sequences(g.events))
	}
}
