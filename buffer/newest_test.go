package buffer

import (
	"context"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// TestNewest finds the newest event of a kind, over pages of others, over holes
// and damage, and as far back as the store has it.
func TestNewest(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	newest := func(want string) {
		t.Helper()
		data, err := b.Newest(context.Background(), "M1", plant.KindCounter)
		if err != nil || string(data) != want {
			t.Errorf("the newest count is %q, %v, want %q", data, err, want)
		}
	}
	newest("")
	commit(t, b, "M1", count(1), count(2))
	newest(string(count(2).Data))
	for range 3 {
		events := make([]plant.Event, pageEntries-50)
		for i := range events {
			events[i] = parameter(i)
		}
		commit(t, b, "M1", events...)
	}
	commit(t, b, "M2", count(77))
	newest(string(count(2).Data))
	mustClose(t, b)
	damage(t, path, flip(eventKey("M1", 2)))
	b = open(t, testOptions(path))
	newest(string(count(1).Data))
	mustClose(t, b)
	damage(t, path, func(txn *badger.Txn) error { return txn.Delete(eventKey("M1", 1)) })
	b = open(t, testOptions(path))
	newest("")
	commit(t, b, "M1", count(9), parameter(1))
	newest(string(count(9).Data))
}
