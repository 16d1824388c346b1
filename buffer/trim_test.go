package buffer

import (
	"context"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// TestTrimPassesAHole: more missing events at the beginning than one batch
// deletes must not keep the keeper there for ever, who also evicts and hands
// machines out again.
func TestTrimPassesAHole(t *testing.T) {
	const events, missing = 900, 700
	o := testOptions(quickDir(t))
	o.housework = time.Hour
	b := open(t, o)
	q := queue(t, b, "mes", all)
	for range events / 100 {
		batch := make([]plant.Event, 100)
		for i := range batch {
			batch[i] = count(i)
		}
		commit(t, b, "M1", batch...)
	}
	if err := b.db.Update(func(txn *badger.Txn) error {
		prefix := machineKey(classEvent, "M1")
		for n := plant.Sequence(1); n <= missing; n++ {
			if err := txn.Delete(appendSequence(prefix[:len(prefix):len(prefix)], n)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		m, ok := q.take()
		if !ok {
			break
		}
		page := peekAll(t, q, m, 0, 100)
		last := page[len(page)-1].Sequence
		if err := q.Settle(context.Background(), m, last, []plant.Result{delivered(1, last)}); err != nil {
			t.Fatal(err)
		}
	}
	s := b.stream("M1")
	for range 10 {
		before := s.low.sequence
		if _, err := b.trim(context.Background(), s, noTime); err != nil {
			t.Fatal(err)
		}
		if s.low.sequence == before {
			break
		}
	}
	if s.low.sequence < events {
		t.Errorf("deleted up to %d of %d, %d of which were missing", s.low.sequence, s.head.sequence, missing)
	}
	mustClose(t, b)
}
