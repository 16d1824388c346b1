package buffer

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

var backlog = flag.Int("buffer.backlog", 30_000, "how many events the test of a large backlog commits")

// beginAt makes a store whose streams begin behind those numbers, as if all
// before had been delivered and deleted.
func beginAt(t *testing.T, o Options, base map[plant.MachineID]plant.Sequence) {
	t.Helper()
	b, err := Open(context.Background(), o, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, b)
	damage(t, o.Path, func(txn *badger.Txn) error {
		for m, s := range base {
			at, key, low := position{sequence: s}, machineKey(classStream, m), machineKey(classLow, m)
			if err := errors.Join(txn.Set(key, appendStreamRecord(nil, key, &at, b.Epoch(), &b.kinds)), txn.Set(low, appendLowRecord(nil, low, &at, &b.kinds))); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestTheLastNumbersOfAStream: the newest number there is is given, delivered,
// and kept over a reopening; what comes behind it is refused, and no number is
// given again.
func TestTheLastNumbersOfAStream(t *testing.T) {
	o := testOptions(quickDir(t))
	const before = plant.Sequence(math.MaxUint64 - 4)
	beginAt(t, o, map[plant.MachineID]plant.Sequence{"M1": before})
	b := open(t, o)
	queue(t, b, "mes", all)
	if first := commit(t, b, "M1", count(1), count(2)); first != before+1 {
		t.Fatalf("the first is %d, want %d", first, before+1)
	}
	if first, err := b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{count(3), count(4), count(5)}}); err == nil {
		t.Errorf("three more are accepted as number %d and on: the numbers begin anew", first)
	}
	if first := commit(t, b, "M1", count(3), count(4)); first != before+3 {
		t.Fatalf("the third is %d, want %d", first, before+3)
	}
	if _, err := b.Commit(context.Background(), "M1", plant.Batch{State: []byte("rules go on")}); err != nil {
		t.Errorf("a state without events: %v", err)
	}
	mustClose(t, b)
	b = open(t, o)
	q := queue(t, b, "mes", all)
	events := peekAll(t, q, next(t, q), 0, 10)
	if got, want := fmt.Sprint(sequences(events)), fmt.Sprint([]uint64{math.MaxUint64 - 3, math.MaxUint64 - 2, math.MaxUint64 - 1, math.MaxUint64}); got != want {
		t.Errorf("delivered are %s, want %s", got, want)
	}
	if err := q.Settle(context.Background(), "M1", math.MaxUint64, []plant.Result{delivered(before+1, math.MaxUint64)}); err != nil {
		t.Fatal(err)
	}
	if n := queueStats(t, b, "mes").Backlog; n != 0 {
		t.Errorf("a backlog of %d is left", n)
	}
	if err := b.Err(); err != nil {
		t.Error(err)
	}
}

// TestTheLargestBatch: a batch of exactly what a transaction takes is durable as a
// whole, one byte or one event more is ErrTooBig and changes nothing.
func TestTheLargestBatch(t *testing.T) {
	o := testOptions(quickDir(t))
	b := open(t, o)
	limits := b.committer.limits
	many := make([]plant.Event, limits.count)
	for i := range many {
		many[i] = plant.Event{Kind: "k", Version: 1, Time: testTime, TimeSource: plant.GatewayTime}
	}
	large := func(total int) []plant.Event {
		var events []plant.Event
		for ; total > 0; total -= maxEvent {
			e := count(len(events))
			e.Data = bytes.Repeat([]byte{'x'}, min(total, maxEvent))
			events = append(events, e)
		}
		return events
	}
	// What a batch of so many bytes takes besides them is found by trying.
	ctx := context.Background()
	fits := func(m plant.MachineID, events []plant.Event) bool {
		first, err := b.Commit(ctx, m, plant.Batch{Events: events})
		if err != nil && !errors.Is(err, plant.ErrTooBig) {
			t.Fatal(err)
		}
		if err == nil != (first != 0) {
			t.Fatalf("first %d, err %v", first, err)
		}
		return err == nil
	}
	low, high := int(limits.size)-64<<10, int(limits.size)
	n := 0
	for low+1 < high {
		n++
		if middle := (low + high) / 2; fits(plant.MachineID(fmt.Sprintf("L%02d", n)), large(middle)) {
			low = middle
		} else {
			high = middle
		}
	}
	if !fits("L99", large(low)) || fits("L98", large(low+1)) {
		t.Errorf("the limit of %d bytes is not the same twice", low)
	}
	// The end of the stream takes one record of the count.
	if int64(len(many)) > 1<<20 {
		t.Fatalf("a transaction of %d records cannot be tried", len(many))
	}
	if fits("C99", many) || !fits("C98", many[1:]) {
		t.Errorf("a transaction takes %d records: the events and the end of their stream", limits.count)
	}
	mustClose(t, b)
	b = open(t, o)
	stored := func(m plant.MachineID) (events, size int) {
		for e, err := range b.Events(ctx, m, 0, math.MaxInt) {
			if err != nil {
				t.Fatal(err)
			}
			events, size = events+1, size+len(e.Data)
		}
		return events, size
	}
	if n, size := stored("L99"); n != len(large(low)) || size != low {
		t.Errorf("%d events of %d bytes are stored, want %d of %d", n, size, len(large(low)), low)
	}
	if n, _ := stored("C98"); n != len(many)-1 {
		t.Errorf("%d events are stored, want %d", n, len(many)-1)
	}
	for _, m := range []plant.MachineID{"L98", "C99"} {
		if n, _ := stored(m); n != 0 {
			t.Errorf("%d events of a refused batch of %s are stored", n, m)
		}
	}
}

// TestAThousandMachinesAndThirtyTwoUplinks: each uplink gets each machine's events,
// over a kill and a reopening.
func TestAThousandMachinesAndThirtyTwoUplinks(t *testing.T) {
	const machines, uplinks = 1000, 32
	o := testOptions(quickDir(t))
	b := open(t, o)
	name := func(i int) plant.MachineID { return plant.MachineID(fmt.Sprintf("M%d", i)) }
	uplink := func(i int) string { return strings.Repeat("u", maxName-2) + fmt.Sprintf("%02d", i) }
	for i := range machines {
		commit(t, b, name(i), count(i), count(i+1))
	}
	drain := func(b *Buffer, i, most int) (n int) {
		q := queue(t, b, uplink(i), all)
		for ; n < most; n++ {
			m, ok := q.take()
			if !ok {
				return n
			}
			events := peekAll(t, q, m, 0, 10)
			if len(events) != 2 || events[0].Machine != m || events[1].Sequence != 2 {
				t.Fatalf("%s gives %d events", m, len(events))
			}
			if err := q.Settle(context.Background(), m, 2, []plant.Result{delivered(1, 2)}); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	for i := range uplinks {
		if n := drain(b, i, machines/2); n != machines/2 {
			t.Fatalf("uplink %d got %d machines", i, n)
		}
	}
	mustClose(t, b)
	b = open(t, o)
	for i := range uplinks {
		if n := drain(b, i, machines+1); n != machines/2 {
			t.Errorf("uplink %d got %d machines more, want %d", i, n, machines/2)
		}
	}
	for _, q := range b.Stats().Queues {
		if q.Backlog != 0 {
			t.Errorf("uplink %s has a backlog of %d", q.Uplink, q.Backlog)
		}
	}
}

// TestALargeBacklog survives a kill, and is delivered in order, once.
func TestALargeBacklog(t *testing.T) {
	const machines, batch = 5, 500
	o := testOptions(quickDir(t))
	o.Quota = 0
	b := open(t, o)
	began := time.Now()
	events := make([]plant.Event, batch)
	made := map[plant.MachineID]plant.Sequence{}
	for n := 0; n < *backlog; n += batch {
		for i := range events {
			events[i] = count(n + i)
		}
		m := plant.MachineID(fmt.Sprint("M", n/batch%machines))
		commit(t, b, m, events...)
		made[m] += batch
	}
	committed := time.Since(began)
	o.Path = crash(t, b)
	mustClose(t, b)
	began = time.Now()
	b = open(t, o)
	q := queue(t, b, "mes", all)
	opened := time.Since(began)
	began = time.Now()
	if n := queueStats(t, b, "mes").Backlog; n != uint64(*backlog) {
		t.Errorf("a backlog of %d, want %d", n, *backlog)
	}
	got := map[plant.MachineID]plant.Sequence{}
	for {
		m, ok := q.take()
		if !ok {
			break
		}
		page := peekAll(t, q, m, 0, batch)
		for i := range page {
			if got[m]++; page[i].Sequence != got[m] {
				t.Fatalf("%s: number %d comes where %d is next", m, page[i].Sequence, got[m])
			}
		}
		if err := q.Settle(context.Background(), m, got[m], []plant.Result{delivered(page[0].Sequence, got[m])}); err != nil {
			t.Fatal(err)
		}
	}
	for m, n := range made {
		if got[m] != n {
			t.Errorf("%s: %d delivered, %d committed", m, got[m], n)
		}
	}
	t.Logf("%d events: committed in %v, opened after a kill in %v, delivered in %v", *backlog, committed.Round(time.Millisecond), opened.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}
