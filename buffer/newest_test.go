package buffer

import (
	"bytes"
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
		data, err := b.Newest(context.Background(), "M1", plant.KindCounter, 1)
		if got := string(bytes.Join(data, nil)); err != nil || got != want {
			t.Errorf("the newest count is %q, %v, want %q", got, err, want)
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
	if data, err := b.Newest(context.Background(), "M1", plant.KindCounter, 3); err != nil || len(data) != 2 || string(data[1]) != string(count(1).Data) {
		t.Errorf("the newest three of two are %q, %v", data, err)
	}
	if data, err := b.Newest(context.Background(), "M1", plant.KindParameters, pageEntries); err != nil || len(data) != pageEntries || string(data[0]) != string(parameter(pageEntries-51).Data) || string(data[pageEntries-50]) != string(data[0]) {
		t.Errorf("%d parameters over two pages, %v", len(data), err)
	}
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
