package buffer

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// A damaged value of an uplink's memory is told as one that was there, counted and
// set aside once, and a newer one takes its place; delivery goes on meanwhile.
func TestADamagedValueOfAnUplinkIsOneThatWasThere(t *testing.T) {
	o := testOptions(quickDir(t))
	b := open(t, o)
	q := queue(t, b, "mes", all)
	if err := q.Put(t.Context(), []plant.KV{{Key: "parent", Value: []byte("88")}, {Key: "other", Value: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, b)
	damage(t, o.Path, flip(append(uplinkKey(classMemory, "mes"), "parent"...)))
	b = open(t, o)
	q = queue(t, b, "mes", all)
	for range 3 {
		if v, err := q.Memory("parent"); v != nil || !errors.Is(err, plant.ErrUnreadable) {
			t.Errorf("%q, %v", v, err)
		}
	}
	if v, err := q.Memory("other"); string(v) != "1" || err != nil {
		t.Errorf("its neighbour: %q, %v", v, err)
	}
	if files, err := filepath.Glob(filepath.Join(o.Path, quarantineFolder, "*.json")); err != nil || len(files) != 1 || b.Stats().Lost != 1 {
		t.Errorf("in quarantine are %v, %d counted, %v", files, b.Stats().Lost, err)
	}
	commit(t, b, "M1", count(1))
	m := next(t, q)
	peekAll(t, q, m, 0, 1)
	settle(t, q, m, 1, plant.Result{First: 1, Last: 1, Status: plant.Delivered, Put: []plant.KV{{Key: "parent", Value: []byte("89")}}})
	if v, err := q.Memory("parent"); string(v) != "89" || err != nil {
		t.Errorf("the newer value: %q, %v", v, err)
	}
}

// What a receiver has had is told again where the note of it is damaged, and the
// uplink goes on.
func TestADamagedNoteOfARollbackIsToldAgain(t *testing.T) {
	o := testOptions(quickDir(t))
	b := open(t, o)
	queue(t, b, "mes", all)
	commit(t, b, "M1", count(1))
	had := plant.EventID{Gateway: o.Gateway, Machine: "M1", Epoch: b.Epoch() + 1, Sequence: 3}
	if err := b.queues[0].Reconcile(t.Context(), "M1", had); err != nil {
		t.Fatal(err)
	}
	mustClose(t, b)
	damage(t, o.Path, func(txn *badger.Txn) error { return flip(rollbackKey("mes", "M1"))(txn) })
	b = open(t, o)
	q := queue(t, b, "mes", all)
	if err := q.Reconcile(t.Context(), "M1", had); err != nil {
		t.Errorf("the uplink stops: %v", err)
	}
	if err := q.Reconcile(t.Context(), "M1", had); err != nil || b.Err() != nil {
		t.Errorf("%v, %v", err, b.Err())
	}
}

// TestADamagedValueHidesNoOther: the keys can be listed past it, the reading of all
// says which it is.
func TestADamagedValueHidesNoOther(t *testing.T) {
	o := testOptions(quickDir(t))
	b := open(t, o)
	q := queue(t, b, "mes", all)
	if err := q.Put(t.Context(), []plant.KV{{Key: "a1", Value: []byte("x")}, {Key: "a2", Value: []byte("y")}, {Key: "a3", Value: []byte("z")}, {Key: "b", Value: []byte("z")}}); err != nil {
		t.Fatal(err)
	}
	commit(t, b, "M1", count(1), count(2))
	if got := q.Settled("M1"); got != 0 {
		t.Errorf("nothing is settled, and: %d", uint64(got))
	}
	m := next(t, q)
	peekAll(t, q, m, 0, 10)
	settle(t, q, m, 2, delivered(1, 2))
	if one, none := q.Settled("M1"), q.Settled("M9"); one != 2 || none != 0 {
		t.Errorf("settled are %d and %d", uint64(one), uint64(none))
	}
	mustClose(t, b)
	damage(t, o.Path, flip(append(uplinkKey(classMemory, "mes"), "a2"...)))
	b = open(t, o)
	q = queue(t, b, "mes", all)
	if err := q.Each(t.Context(), "a", func(plant.KV) bool { return true }); !errors.Is(err, plant.ErrUnreadable) || !strings.Contains(err.Error(), "a2") {
		t.Errorf("reading all says %v", err)
	}
	keys := ""
	if err := q.Keys(t.Context(), "a", func(key string) bool { keys += key; return key != "a3" }); err != nil || keys != "a1a2a3" {
		t.Errorf("the keys are %s, %v", keys, err)
	}
	mustClose(t, b)
}
