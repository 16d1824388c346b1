package buffer

import (
	"context"
	"errors"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

func TestForgetAnUplink(t *testing.T) {
	o := testOptions(quickDir(t))
	b := open(t, o)
	q := queue(t, b, "mes", all)
	old := queue(t, b, "old", all)
	commit(t, b, "M1", count(1), count(2), count(3))
	m := next(t, old)
	peekAll(t, old, m, 0, 1)
	settle(t, old, m, 1, plant.Result{First: 1, Last: 1, Status: plant.Rejected, Cause: errors.New("no"), Put: []plant.KV{{Key: "k", Value: []byte("v")}}})
	m = next(t, q)
	peekAll(t, q, m, 0, 10)
	settle(t, q, m, 3, delivered(1, 3))
	if _, err := b.Forget(context.Background(), "old"); !errors.Is(err, ErrUplinkInUse) {
		t.Fatalf("forgetting an uplink in use: %v", err)
	}
	if _, err := b.Forget(context.Background(), "nobody"); !errors.Is(err, ErrNoUplink) {
		t.Fatalf("forgetting nobody: %v", err)
	}
	mustClose(t, b)

	o.Keep = 0
	b = open(t, o)
	queue(t, b, "mes", all)
	turn(t, b)
	s := queueStats(t, b, "old")
	if s.Backlog != 2 || s.Bytes == 0 || s.DeadLetters != 1 || b.Stats().Streams[0].Stored != 2 {
		t.Fatalf("kept for the old one: %+v, stored %d, want events 2 and 3", s, b.Stats().Streams[0].Stored)
	}
	kept, err := b.Forget(context.Background(), "old")
	if err != nil || kept.Backlog != 2 || kept.DeadLetters != 1 {
		t.Fatalf("forgot %+v, %v", kept, err)
	}
	eventually(t, "its events go as delivered ones do", func() bool { return b.Stats().Streams[0].Stored == 0 })
	if n := len(b.Stats().Queues); n != 1 {
		t.Errorf("%d queues are left", n)
	}
	mustClose(t, b)
	b = open(t, o)
	for _, c := range []class{classUplink, classCursor, classMemory, classDead} {
		if err := b.view(func(txn *badger.Txn) error {
			return b.eachItem(context.Background(), txn, uplinkKey(c, "old"), func(key, _ []byte) error {
				t.Errorf("%q is still there", key)
				return nil
			})
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestANewUplinkBegins(t *testing.T) {
	o := testOptions(quickDir(t))
	b := open(t, o)
	commit(t, b, "M1", count(1), count(2))
	for _, name := range []Start{FromNow, FromOldest} {
		if _, err := b.QueueFrom(string(name), all, name); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, b, "M1", count(3))
	check := func() {
		t.Helper()
		for name, want := range map[Start]uint64{FromNow: 1, FromOldest: 3} {
			if got := queueStats(t, b, string(name)).Backlog; got != want {
				t.Errorf("a new uplink from %s has a backlog of %d, want %d", name, got, want)
			}
		}
	}
	check()
	o.Path = crash(t, b)
	mustClose(t, b)
	b = open(t, o)
	for _, name := range []Start{FromNow, FromOldest} {
		// The other way round: what the store knows goes on where it was.
		if _, err := b.QueueFrom(string(name), all, map[Start]Start{FromNow: FromOldest, FromOldest: FromNow}[name]); err != nil {
			t.Fatal(err)
		}
	}
	check()
}
