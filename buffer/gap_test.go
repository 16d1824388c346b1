package buffer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// drained is what a queue gave of one machine.
type drained struct {
	// events are all but gap events, gaps those.
	events []plant.Event
	gaps   []plant.GapData
}

// told is the gaps in short: "1…3 damaged".
func (d *drained) told() string {
	all := make([]string, 0, len(d.gaps))
	for _, g := range d.gaps {
		all = append(all, fmt.Sprintf("%d…%d %d %s", g.First, g.Last, g.Count, g.Cause))
	}
	return strings.Join(all, ", ")
}

// drainGaps takes and settles all that waits for an uplink.
func drainGaps(t testing.TB, q *Queue) map[plant.MachineID]*drained {
	t.Helper()
	got := map[plant.MachineID]*drained{}
	for {
		m, ok := q.take()
		if !ok {
			return got
		}
		if got[m] == nil {
			got[m] = &drained{}
		}
		upTo := plant.Sequence(0)
		for _, e := range peekAll(t, q, m, 0, 1000) {
			upTo = e.Sequence
			if e.Kind != plant.KindGap {
				got[m].events = append(got[m].events, e)
				continue
			}
			var g plant.GapData
			if err := json.Unmarshal(e.Data, &g); err != nil {
				t.Fatalf("gap event %s: %v", e.Data, err)
			}
			got[m].gaps = append(got[m].gaps, g)
		}
		settle(t, q, m, upTo)
	}
}

// TestALossIsToldOnce: a gap event for each damaged event, once over restarts,
// on disk before the cursor passes the loss.
func TestALossIsToldOnce(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	queue(t, b, "mes", all)
	for n := range 9 {
		commit(t, b, "M1", count(n+1))
	}
	mustClose(t, b)
	damage(t, path, flip(eventKey("M1", 2)))
	damage(t, path, flip(eventKey("M1", 3)))
	damage(t, path, func(txn *badger.Txn) error { return txn.Delete(eventKey("M1", 7)) })

	o := testOptions(path)
	o.Modes = map[plant.MachineID]plant.Mode{"M1": plant.Commissioning}
	b = open(t, o)
	got := drainGaps(t, queue(t, b, "mes", all))["M1"]
	if told := got.told(); told != "2…3 2 damaged, 7…7 1 missing" {
		t.Fatalf("told %s", told)
	}
	if g := got.gaps[0]; g.Mode != plant.Commissioning || g.Machine != "M1" || g.Delivered || g.Reason == "" {
		t.Errorf("the gap event has %+v", g)
	}
	if s := b.Stats(); s.Missing[plant.GapDamaged] != 2 || s.Missing[plant.GapMissing] != 1 || len(s.Gaps) != 2 {
		t.Errorf("the stats show %v and %+v", s.Missing, s.Gaps)
	}
	keys := ""
	if _, err := b.Load(context.Background(), "M1", func(kv plant.KV) error { keys += kv.Key; return nil }); err != nil || keys != plant.StoreGapKey {
		t.Errorf("the rules find the keys %q, %v", keys, err)
	}
	// A kill, and a new uplink that reads all of it again.
	o.Path = crash(t, b)
	b = open(t, o)
	// Its cursor may have been written or not: the same ones, if any.
	if rest := drainGaps(t, queue(t, b, "mes", all))["M1"]; rest != nil && rest.told() != got.told() {
		t.Errorf("after the kill the old uplink is given %s", rest.told())
	}
	again := drainGaps(t, queue(t, b, "erp", all))["M1"]
	if again.told() != got.told() || len(again.events) != 6 {
		t.Errorf("another uplink is given %s and %v", again.told(), sequences(again.events))
	}
	if n := b.Stats().Streams[0].Last; n != 11 {
		t.Errorf("the stream ends at %d: a loss was told twice", n)
	}
}

// TestNoCursorPassesAnUntoldLoss: while the disk has no room for the gap event
// no cursor moves, so that a kill loses no loss.
func TestNoCursorPassesAnUntoldLoss(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2), count(3))
	mustClose(t, b)
	damage(t, path, flip(eventKey("M1", 2)))

	o := testOptions(path)
	var free atomic.Int64
	free.Store(1 << 30)
	o.freeSpace = func(string) (int64, error) { return free.Load(), nil }
	b = open(t, o)
	q := queue(t, b, "mes", all)
	free.Store(1)
	m := next(t, q)
	peekAll(t, q, m, 0, 10)
	if err := q.Settle(context.Background(), m, 3, []plant.Result{delivered(1, 3)}); !errors.Is(err, plant.ErrFull) {
		t.Fatalf("without room for the gap event the cursor moved: %v", err)
	}
	free.Store(1 << 30)
	settle(t, q, m, 0)
	if got := drainGaps(t, q)["M1"]; got.told() != "2…2 1 damaged" || len(got.events) != 2 {
		t.Errorf("given %v and %s", sequences(got.events), got.told())
	}
}

// TestADeliveredLossSaysSo: nothing is missing at a receiver that had the event.
func TestADeliveredLossSaysSo(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2))
	drainGaps(t, q)
	mustClose(t, b)
	damage(t, path, flip(eventKey("M1", 1)))
	b = open(t, testOptions(path))
	q = queue(t, b, "mes", all)
	for _, err := range b.Events(context.Background(), "M1", 0, 10) {
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the keeper tells what a listing has found", func() bool { return len(b.Stats().Gaps) == 1 })
	if got := drainGaps(t, q)["M1"]; len(got.gaps) != 1 || !got.gaps[0].Delivered {
		t.Errorf("told %+v", got.gaps)
	}
}

func TestToldRecordReadsBack(t *testing.T) {
	key := machineKey(classGap, "M1")
	for _, told := range []ranges{nil, {{1, 1}}, {{1, 3}, {5, 5}, {1 << 40, 1<<40 + 9}}} {
		back, err := decodeToldRecord(key, appendToldRecord(nil, key, told))
		if err != nil || !slices.Equal(back, told) {
			t.Errorf("%v reads back as %v, %v", told, back, err)
		}
	}
}

// TestALossOnItsWayIsWaitedFor: while somebody else's gap event is being
// written, a settlement waits for it.
func TestALossOnItsWayIsWaitedFor(t *testing.T) {
	o := testOptions(quickDir(t))
	o.housework = time.Hour
	var holding atomic.Bool
	entered, release := make(chan struct{}), make(chan struct{})
	o.commit = func(txn *badger.Txn) error {
		if holding.CompareAndSwap(true, false) {
			close(entered)
			<-release
		}
		return txn.Commit()
	}
	b := open(t, o)
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2))
	m := next(t, q)
	peekAll(t, q, m, 0, 2)
	s := b.stream("M1")
	b.lose(s, 1, 1, plant.GapDamaged, "rot")
	holding.Store(true)
	told, settled := make(chan error, 1), make(chan error, 1)
	go func() { told <- b.tell(context.Background(), s) }()
	<-entered
	go func() { settled <- q.Settle(context.Background(), m, 2, []plant.Result{delivered(1, 2)}) }()
	select {
	case <-settled:
		close(release)
		t.Fatal("the cursor passed a loss whose gap event was not on the disk")
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	if err := <-settled; err != nil {
		t.Fatal(err)
	}
	if got := drainGaps(t, q)["M1"]; got == nil || got.told() != "1…1 1 damaged" {
		t.Errorf("given %+v", got)
	}
}

// TestARulesStateOlderThanItsEventsRebases: a table that rots, or a repair, may
// leave an older copy of a machine's state beside its newest events. The rules
// go on from it, so their next deltas hold pieces that were delivered already.
func TestARulesStateOlderThanItsEventsRebases(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	queue(t, b, "mes", all)
	state := func(n int) {
		t.Helper()
		if _, err := b.Commit(t.Context(), "M1", plant.Batch{State: fmt.Appendf(nil, "state %d", n), Events: []plant.Event{count(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	key := machineKey(classState, "M1")
	var old []byte
	state(1)
	if err := b.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		old, err = item.ValueCopy(nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	state(2)
	state(3)
	mustClose(t, b)
	damage(t, path, func(txn *badger.Txn) error { return txn.Set(key, old) })

	b = open(t, testOptions(path))
	got := drainGaps(t, queue(t, b, "mes", all))["M1"]
	if len(got.events) != 3 || got.told() != "0…0 0 damaged" {
		t.Fatalf("events %v, told %q", sequences(got.events), got.told())
	}
	keys := ""
	if was, err := b.Load(t.Context(), "M1", func(kv plant.KV) error { keys += kv.Key; return nil }); err != nil || keys != plant.StoreGapKey || string(was) != "state 1" {
		t.Errorf("the rules find %q and the keys %q, %v", was, keys, err)
	}
	mustClose(t, b)
	b = open(t, testOptions(path))
	if again := drainGaps(t, queue(t, b, "mes", all))["M1"]; again != nil {
		t.Errorf("told again: %s", again.told())
	}
}
