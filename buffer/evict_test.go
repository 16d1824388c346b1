package buffer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// ledger is what a receiver has, by machine.
type ledger struct {
	events map[plant.MachineID]map[plant.Sequence]plant.EventKind
	gaps   map[plant.MachineID][]plant.GapData
}

// receive drains an uplink.
func receive(t *testing.T, b *Buffer, uplink string, carries func(plant.EventKind) bool) *ledger {
	t.Helper()
	l := &ledger{events: map[plant.MachineID]map[plant.Sequence]plant.EventKind{}, gaps: map[plant.MachineID][]plant.GapData{}}
	l.drain(t, b, queue(t, b, uplink, carries))
	return l
}

func (l *ledger) drain(t *testing.T, b *Buffer, q *Queue) {
	t.Helper()
	for queueStats(t, b, q.name).Backlog > 0 {
		m := next(t, q)
		before := queueStats(t, b, q.name).Backlog
		events := peekAll(t, q, m, 0, 100)
		if len(events) == 0 {
			t.Fatalf("a backlog of %d, and nothing of %s", before, m)
		}
		l.take(t, events)
		last := events[len(events)-1].Sequence
		settle(t, q, m, last, delivered(events[0].Sequence, last))
		if after := queueStats(t, b, q.name).Backlog; after != before-uint64(len(events)) {
			t.Fatalf("%d of %d events delivered leave a backlog of %d", len(events), before, after)
		}
	}
}

func (l *ledger) take(t *testing.T, events []plant.Event) {
	t.Helper()
	for i := range events {
		e := &events[i]
		if l.events[e.Machine] == nil {
			l.events[e.Machine] = map[plant.Sequence]plant.EventKind{}
		}
		if _, twice := l.events[e.Machine][e.Sequence]; twice {
			t.Fatalf("%s came twice", e.ID())
		}
		l.events[e.Machine][e.Sequence] = e.Kind
		if e.Kind == plant.KindGap {
			var g plant.GapData
			if err := json.Unmarshal(e.Data, &g); err != nil {
				t.Fatal(err)
			}
			l.gaps[e.Machine] = append(l.gaps[e.Machine], g)
		}
	}
}

// missing checks that each of the events 1…last of a machine was delivered or is
// told as missing, exactly, and returns how many of each kind are.
func (l *ledger) missing(t *testing.T, m plant.MachineID, last plant.Sequence, uplink string) map[plant.EventKind]uint64 {
	t.Helper()
	told, gone := map[plant.EventKind]uint64{}, uint64(0)
	inside := map[plant.Sequence]bool{}
	for _, g := range l.gaps[m] {
		if g.Cause != plant.GapEvicted {
			t.Fatalf("a gap of %s by %s: %+v", m, g.Cause, g)
		}
		if len(g.Uplinks) > 0 && fmt.Sprint(g.Uplinks) != fmt.Sprint([]string{uplink}) {
			continue
		}
		sum := uint64(0)
		for kind, n := range g.Kinds {
			told[kind] += n
			sum += n
		}
		if sum != g.Count {
			t.Errorf("a gap of %d events names %v", g.Count, g.Kinds)
		}
		for s := g.First; s <= g.Last; s++ {
			inside[s] = true
		}
	}
	for s := plant.Sequence(1); s <= last; s++ {
		if _, here := l.events[m][s]; here {
			continue
		}
		gone++
		if !inside[s] {
			t.Fatalf("event %d of %s is missing, and no gap tells it", s, m)
		}
	}
	sum := uint64(0)
	for _, n := range told {
		sum += n
	}
	if sum != gone {
		t.Fatalf("%d events of %s are missing, and gaps tell %d: %v", gone, m, sum, told)
	}
	return told
}

// walked sums what is really stored of events.
func walked(t *testing.T, b *Buffer) (sum int64) {
	t.Helper()
	if err := b.view(func(txn *badger.Txn) error {
		return b.eachItem(context.Background(), txn, appendClass(nil, classEvent), func(key, value []byte) error {
			sum += int64(len(key) + len(value))
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return sum
}

func checkBytes(t *testing.T, b *Buffer) {
	t.Helper()
	// The keeper may be at work: what is on disk is entered a moment later.
	eventually(t, "as many bytes are counted as are stored", func() bool {
		want := walked(t, b)
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.eventBytes == want
	})
}

func evictOptions(t *testing.T) Options {
	o := testOptions(quickDir(t))
	o.Quota, o.Keep, o.housework = MinQuota, 0, 10*time.Millisecond
	return o
}

func heavy(e plant.Event, size int) plant.Event {
	e.Data = fmt.Appendf(nil, `{"machine":"M","pad":"%s"}`, bytes.Repeat([]byte("x"), size))
	return e
}

// mixed commits batches of a count and parameters until n are in, and fails on
// any refusal that stays.
func mixed(t *testing.T, b *Buffer, machines int, n int) (last map[plant.MachineID]plant.Sequence) {
	t.Helper()
	last = map[plant.MachineID]plant.Sequence{}
	batch := plant.Batch{Events: []plant.Event{heavy(parameter(1), 6000), heavy(count(1), 300), heavy(parameter(2), 6000)}}
	for i := range n {
		m := plant.MachineID(fmt.Sprint("M", i%machines))
		eventually(t, "the commit is taken", func() bool {
			first, err := b.Commit(context.Background(), m, batch)
			if err != nil && !errors.Is(err, plant.ErrFull) {
				t.Fatal(err)
			}
			last[m] = first + 2
			return err == nil
		})
	}
	return last
}

func TestParametersAreEvictedFirst(t *testing.T) {
	o := evictOptions(t)
	b := open(t, o)
	queue(t, b, "mes", all)
	queue(t, b, "counts", only(plant.KindCounter, plant.KindGap))
	last := mixed(t, b, 3, 1800)
	turn(t, b) // what is over the quota is gone
	s := b.Stats()
	if s.LiveBytes > o.Quota || s.Lost != 0 {
		t.Fatalf("%d live bytes of %d, %d lost", s.LiveBytes, o.Quota, s.Lost)
	}
	checkBytes(t, b)
	stored := uint64(0)
	for _, st := range s.Streams {
		stored += st.Stored
		// What is listed or sent again from Before on is all that is there.
		n := uint64(0)
		for _, err := range b.Events(t.Context(), st.Machine, st.Before, math.MaxInt) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != st.Stored {
			t.Errorf("behind %d of %s are %d events, %d are stored", st.Before, st.Machine, n, st.Stored)
		}
	}
	if backlog := queueStats(t, b, "mes").Backlog; backlog != stored {
		t.Errorf("a backlog of %d, %d events are stored", backlog, stored)
	}
	mustClose(t, b)
	for range 2 {
		// The next start has it all from its records.
		b = open(t, o)
		checkBytes(t, b)
		mustClose(t, b)
	}
	// Nothing is evicted while it is counted.
	o.Quota = 0
	b = open(t, o)
	l := receive(t, b, "mes", all)
	counts := receive(t, b, "counts", only(plant.KindCounter, plant.KindGap))
	evicted := uint64(0)
	for m, end := range last {
		told := l.missing(t, m, end, "mes")
		if len(told) != 1 || told[plant.KindParameters] == 0 {
			t.Errorf("of %s are missing %v, want parameters and nothing else", m, told)
		}
		evicted += told[plant.KindParameters]
		n := 0
		for s, kind := range counts.events[m] {
			if kind == plant.KindCounter {
				n++
			}
			if kind == plant.KindCounter && l.events[m][s] != kind {
				t.Errorf("event %d of %s is a count for one uplink and %q for the other", s, m, l.events[m][s])
			}
		}
		if n != 600 {
			t.Errorf("%d counts of %s were delivered, want 600", n, m)
		}
	}
	if told := b.Stats().Lost; told != 0 {
		t.Errorf("%d lost", told)
	}
	t.Logf("%d parameters were evicted", evicted)
	checkBytes(t, b)
}

func TestStopKeepsEverything(t *testing.T) {
	o := evictOptions(t)
	o.EvictParameters = false
	b := open(t, o)
	queue(t, b, "mes", all)
	batch := plant.Batch{Events: []plant.Event{heavy(parameter(1), 100_000), count(1)}}
	n := plant.Sequence(0)
	for {
		first, err := b.Commit(context.Background(), "M1", batch)
		if errors.Is(err, plant.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n = first + 1
	}
	turn(t, b)
	if l := receiveAll(t, b); len(l.events["M1"]) != int(n) || len(l.gaps) != 0 {
		t.Errorf("%d events and %d gaps, want all %d", len(l.events["M1"]), len(l.gaps), n)
	}
}

func receiveAll(t *testing.T, b *Buffer) *ledger {
	t.Helper()
	l := &ledger{events: map[plant.MachineID]map[plant.Sequence]plant.EventKind{}, gaps: map[plant.MachineID][]plant.GapData{}}
	l.drain(t, b, b.queueLocked("mes"))
	return l
}

func TestOldestAreEvicted(t *testing.T) {
	o := evictOptions(t)
	o.WhenFull = EvictOldest
	b := open(t, o)
	queue(t, b, "mes", all)
	last := map[plant.MachineID]plant.Sequence{}
	batch := plant.Batch{State: []byte("s"), Events: []plant.Event{heavy(count(1), 5000), heavy(parameter(1), 1000), heavy(count(2), 5000)}}
	for i := range 3000 {
		m := plant.MachineID(fmt.Sprint("M", i%3))
		eventually(t, "the commit is taken", func() bool {
			first, err := b.Commit(context.Background(), m, batch)
			last[m] = first + 2
			return err == nil
		})
	}
	turn(t, b) // what is over the quota is gone
	s := b.Stats()
	if s.LiveBytes > o.Quota || s.Lost != 0 || s.Missing[plant.GapEvicted] == 0 {
		t.Fatalf("%d live bytes of %d, %d lost, told %v", s.LiveBytes, o.Quota, s.Lost, s.Missing)
	}
	checkBytes(t, b)
	mustClose(t, b)
	o.Quota = 0
	b = open(t, o)
	checkBytes(t, b)
	l := receive(t, b, "mes", all)
	for m, end := range last {
		told := l.missing(t, m, end, "mes")
		if told[plant.KindCounter] < 500 {
			t.Errorf("of %s are missing %v, want many counts", m, told)
		}
		if told[plant.KindGap] == 0 {
			t.Errorf("no gap event of %s went itself: too few events to show that its losses are told again", m)
		}
	}
}

// TestEvictionIsTogetherOrNotAtAll looks at the files as they are before and
// after each transaction that evicts: what a kill there would leave.
func TestEvictionIsTogetherOrNotAtAll(t *testing.T) {
	for _, policy := range []WhenFull{Stop, EvictOldest} {
		t.Run(string(policy), func(t *testing.T) {
			o := evictOptions(t)
			o.WhenFull = policy
			var pictures []string
			var b *Buffer
			armed := false
			o.commit = func(txn *badger.Txn) error {
				evicts := false
				if armed && len(pictures) < 8 {
					b.mu.Lock()
					s := b.streams["M0"]
					evicts = s != nil && s.evicting != nil
					b.mu.Unlock()
				}
				if evicts {
					pictures = append(pictures, crash(t, b))
				}
				err := txn.Commit()
				if evicts {
					pictures = append(pictures, crash(t, b))
				}
				return err
			}
			b = open(t, o)
			queue(t, b, "mes", all)
			armed = true
			mixed(t, b, 1, 1900)
			mustClose(t, b)
			if len(pictures) < 8 {
				t.Fatalf("only %d pictures", len(pictures))
			}
			for _, path := range pictures {
				o := evictOptions(t)
				o.Path, o.Quota = path, 0
				b := open(t, o)
				last := b.Stats().Streams[0].Last
				checkBytes(t, b)
				receive(t, b, "mes", all).missing(t, "M0", last, "mes")
				mustClose(t, b)
			}
		})
	}
}

// TestSumsAtTheClassMark: the class mark may lie on an event that is still
// there; sums must be exact from it on.
func TestSumsAtTheClassMark(t *testing.T) {
	o := testOptions(quickDir(t))
	o.Keep = 0
	b := open(t, o)
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", parameter(1), parameter(2), count(1))
	if made, err := b.evictFrom(context.Background(), b.stream("M1"), true, map[*stream]bool{}); !made || err != nil {
		t.Fatalf("evicted: %t, %v", made, err)
	}
	b.mu.Lock()
	at := b.streams["M1"].thin.sequence
	b.mu.Unlock()
	if at != 3 {
		t.Fatalf("the class mark is at %d, want it on the count", at)
	}
	if got := queueStats(t, b, "mes").Backlog; got != 2 {
		t.Fatalf("a backlog of %d, want the count and the gap", got)
	}
	m := next(t, q)
	if got := peekAll(t, q, m, 0, 1); got[0].Sequence != 3 {
		t.Fatalf("peeked %v", sequences(got))
	}
	settle(t, q, m, 3, delivered(3, 3))
	commit(t, b, "M1", parameter(3))
	if got := queueStats(t, b, "mes").Backlog; got != 2 {
		t.Fatalf("a backlog of %d, want the gap and a parameter", got)
	}
	eventually(t, "the count is deleted", func() bool { return b.Stats().Streams[0].Stored == 2 })
	checkBytes(t, b)
	l := receiveAll(t, b)
	l.events["M1"][3] = plant.KindCounter
	l.missing(t, "M1", 5, "mes")
}

// TestEvictionAndDelivery evicts while a receiver takes what it can: what is in
// its hands is not evicted under it, and what is told as missing never comes.
func TestEvictionAndDelivery(t *testing.T) {
	o := evictOptions(t)
	o.WhenFull = EvictOldest
	b := open(t, o)
	q := queue(t, b, "mes", all)
	queue(t, b, "away", all)
	l := &ledger{events: map[plant.MachineID]map[plant.Sequence]plant.EventKind{}, gaps: map[plant.MachineID][]plant.GapData{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := q.Next(ctx)
			if err != nil {
				return
			}
			events, err := q.Peek(context.Background(), m, 0, 5, 1<<20)
			if err != nil {
				t.Error(err)
				return
			}
			upTo := plant.Sequence(0)
			if len(events) > 0 {
				l.take(t, events)
				upTo = events[len(events)-1].Sequence
			}
			if err := q.Settle(context.Background(), m, upTo, nil); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	last := mixed(t, b, 2, 2400)
	cancel()
	<-done
	turn(t, b) // what is over the quota is gone: nothing is evicted during the drain
	l.drain(t, b, q)
	checkBytes(t, b)
	for m, end := range last {
		l.missing(t, m, end, "mes")
	}
	mustClose(t, b)
	o.Quota = 0
	b = open(t, o)
	away := receive(t, b, "away", all)
	for m, end := range last {
		away.missing(t, m, end, "away")
	}
}

// turn waits until the keeper has gone round at least once more: it looks at the
// disk once in each round.
func turn(t *testing.T, b *Buffer) {
	t.Helper()
	rounds := b.keeper.rounds.Load()
	eventually(t, "the keeper goes round", func() bool { return b.keeper.rounds.Load() > rounds+1 })
}
