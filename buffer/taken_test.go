package buffer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// thinned is a closed store with a machine of which parameters were evicted from
// between counts, by several evictions.
func thinned(t *testing.T, o Options) {
	t.Helper()
	b := open(t, o)
	queue(t, b, "mes", all)
	mixed(t, b, 1, 1800)
	turn(t, b)
	mustClose(t, b)
	b = open(t, o)
	b.mu.Lock()
	s := b.streams["M1"]
	if s == nil {
		s = b.order[0]
	}
	thin, low := s.thin.sequence, s.low.sequence
	b.mu.Unlock()
	records := 0
	if err := b.pairs(t.Context(), appendClass(nil, classTaken), func(pair) error { records++; return nil }); err != nil {
		t.Fatal(err)
	}
	if thin < low+500 || records < 3 {
		t.Fatalf("parameters are evicted from %d up to %d, by %d evictions: the test shows nothing", uint64(low), uint64(thin), records)
	}
	mustClose(t, b)
}

// TestWhatIsGoneFromBetweenEvictedParametersIsTold: zeros over a block leave nothing to
// stumble over, and a number that is missing there is no evicted one. The numbers that
// are gone are told, exactly, once, whoever finds it: a receiver or the daily reading.
func TestWhatIsGoneFromBetweenEvictedParametersIsTold(t *testing.T) {
	sound := evictOptions(t)
	thinned(t, sound)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 9))
			o := sound
			o.Path, o.Quota = clone(t, sound.Path, true), 0
			if seed%2 == 0 {
				o.scrubEvery = time.Hour
			}
			// Nothing is read before the damage is done.
			b := open(t, o)
			m := b.Machines()[0]
			b.mu.Lock()
			low, thin := b.order[0].low.sequence, b.order[0].thin.sequence
			b.mu.Unlock()
			var there []plant.Sequence
			for e, err := range b.Events(t.Context(), m, low, 100_000) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Sequence <= thin {
					there = append(there, e.Sequence)
				}
			}
			mustClose(t, b)
			gone := map[plant.Sequence]bool{}
			for range 1 + random.IntN(4) { // blocks
				at := random.IntN(len(there))
				for _, n := range there[at:min(at+1+random.IntN(40), len(there))] {
					gone[n] = true
				}
			}
			damage(t, o.Path, func(txn *badger.Txn) error {
				for n := range gone {
					if err := txn.Delete(eventKey(m, n)); err != nil {
						return err
					}
				}
				return nil
			})
			b = open(t, o)
			if seed%2 == 1 { // the daily reading finds it
				eventually(t, "the daily reading", func() bool { return b.Stats().Lost >= uint64(len(gone)) })
			}
			check := func(when string, l *ledger) {
				t.Helper()
				told := map[plant.Sequence]bool{}
				count := uint64(0)
				for _, g := range l.gaps[m] {
					if g.Cause != plant.GapMissing {
						continue
					}
					count += g.Count
					for n := g.First; n <= g.Last; n++ {
						told[n] = true
					}
				}
				for n := range gone {
					if !told[n] {
						t.Errorf("%s: %d is gone and not told", when, uint64(n))
					}
				}
				if count != uint64(len(gone)) || b.Stats().Lost > uint64(len(gone)) {
					t.Errorf("%s: %d events are gone, %d told, %d lost", when, len(gone), count, b.Stats().Lost)
				}
			}
			check("received", receivedWithLosses(t, b, "mes"))
			mustClose(t, b)
			b = open(t, o)
			check("after a restart", receivedWithLosses(t, b, "late"))
			mustClose(t, b)
		})
	}
}

// receivedWithLosses drains an uplink whose backlog is exact only at its end, since
// lost events are among it.
func receivedWithLosses(t *testing.T, b *Buffer, uplink string) *ledger {
	t.Helper()
	l := &ledger{events: map[plant.MachineID]map[plant.Sequence]plant.EventKind{}, gaps: map[plant.MachineID][]plant.GapData{}}
	q := queue(t, b, uplink, all)
	for queueStats(t, b, uplink).Backlog > 0 {
		m := next(t, q)
		events := peekAll(t, q, m, 0, 100)
		if len(events) == 0 {
			settle(t, q, m, 0)
			continue
		}
		l.take(t, events)
		last := events[len(events)-1].Sequence
		settle(t, q, m, last, delivered(events[0].Sequence, last))
	}
	return l
}

// TestAStoreThatSaysNotWhatWasEvicted: in one of an older gateway what is missing
// before the class mark counts as evicted, as it did.
func TestAStoreThatSaysNotWhatWasEvicted(t *testing.T) {
	o := evictOptions(t)
	thinned(t, o)
	b := open(t, o)
	var keys [][]byte
	if err := b.pairs(t.Context(), appendClass(nil, classTaken), func(p pair) error {
		keys = append(keys, append(appendClass(nil, classTaken), p.key...))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, b)
	damage(t, o.Path, func(txn *badger.Txn) error {
		for _, key := range keys {
			if err := txn.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	o.Quota = 0
	b = open(t, o)
	receive(t, b, "mes", all)
	if s := b.Stats(); s.Lost != 0 {
		t.Errorf("%d events count as lost", s.Lost)
	}
	mustClose(t, b)
}

// TestTheRecordsOfEvictionsGoWithTheEvents: nothing of them is left once the stream
// begins behind, and the sums know.
func TestTheRecordsOfEvictionsGoWithTheEvents(t *testing.T) {
	o := evictOptions(t)
	thinned(t, o)
	b := open(t, o)
	exact := func(when string) {
		t.Helper()
		eventually(t, when+": the sums are what is there", func() bool {
			found, err := b.countSide(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			return found.other == b.side.other
		})
	}
	exact("with records")
	receive(t, b, "mes", all)
	eventually(t, "all records of evictions to go", func() bool {
		n := 0
		if err := b.pairs(t.Context(), appendClass(nil, classTaken), func(pair) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
	exact("without")
	mustClose(t, b)
}
