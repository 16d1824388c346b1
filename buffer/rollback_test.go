package buffer

import (
	"context"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// TestRollbackOfAll: store and mark are both an older copy, which only the
// receiver can tell. It is told once, and no number is given twice.
func TestRollbackOfAll(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2))
	drainGaps(t, q)
	mustClose(t, b)
	old := clone(t, path, true)
	b = open(t, testOptions(path))
	q = queue(t, b, "mes", all)
	commit(t, b, "M1", count(3), count(4), count(5))
	delivered := drainGaps(t, q)["M1"].events
	had := delivered[len(delivered)-1].ID()
	first := delivered[0].ID()
	mustClose(t, b)

	ctx := context.Background()
	o := testOptions(old)
	b = open(t, o)
	q = queue(t, b, "mes", all)
	commit(t, b, "M1", count(33))
	stays := func(last plant.EventID) {
		t.Helper()
		before := len(b.Stats().Gaps)
		if err := q.Reconcile(ctx, "M1", last); err != nil {
			t.Fatal(err)
		}
		if n := len(b.Stats().Gaps); n != before {
			t.Errorf("%s is told as a rollback", last)
		}
	}
	stays(plant.EventID{})
	stays(plant.EventID{Gateway: "another", Machine: "M1", Epoch: 7, Sequence: 99})
	stays(plant.EventID{Gateway: o.Gateway, Machine: "M1", Epoch: b.Epoch(), Sequence: 3})
	// Behind the largest numbers the machine's own would begin again from 0.
	stays(plant.EventID{Gateway: o.Gateway, Machine: "M1", Epoch: 7, Sequence: 1<<64 - 1})
	stays(plant.EventID{Gateway: o.Gateway, Machine: "M1", Epoch: 7, Sequence: 1 << 60})
	if err := q.Reconcile(ctx, "M1", had); err != nil {
		t.Fatal(err)
	}
	got := drainGaps(t, q)["M1"]
	if got.told() != "4…5 2 restored_copy" {
		t.Errorf("told %s", got.told())
	}
	if next := commit(t, b, "M1", count(34)); next != 7 {
		t.Errorf("the sequence goes on at %d, want 7", next)
	}
	stays(had)
	// An event that came before under the same number, in another life.
	if err := q.Reconcile(ctx, "M1", first); err != nil {
		t.Fatal(err)
	}
	if got := drainGaps(t, q)["M1"]; got.told() != "0…0 0 restored_copy" || len(got.events) != 1 {
		t.Errorf("told %s", got.told())
	}
	// Over a kill it stays told, and a reader finds nothing new in the hole.
	o.Path = crash(t, b)
	b = open(t, o)
	q = queue(t, b, "mes", all)
	stays(first)
	if got := drainGaps(t, queue(t, b, "erp", all))["M1"]; got.told() != "4…5 2 restored_copy, 0…0 0 restored_copy" || b.Stats().Lost != 0 {
		t.Errorf("another uplink is told %s, %d lost", got.told(), b.Stats().Lost)
	}
}
