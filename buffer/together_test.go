package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// TestEverythingAtOnce runs machines, uplinks, the keeper and readers together:
// each uplink has every event of its kinds once and in order, and nothing that
// was deleted meanwhile is taken for lost.
func TestEverythingAtOnce(t *testing.T) {
	o := testOptions(quickDir(t))
	o.Keep, o.housework = 0, time.Millisecond
	b := open(t, o)
	const machines, commits, perCommit = 8, 120, 4
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	uplinks := map[string]func(plant.EventKind) bool{"mes": only(plant.KindCounter), "broker": all}
	var drains, machinesDone, readers sync.WaitGroup
	for name, carries := range uplinks {
		d := &drain{t: t, q: queue(t, b, name, carries), last: map[plant.MachineID]plant.Sequence{}}
		for range 3 {
			drains.Go(func() { d.run(ctx) })
		}
		want := uint64(machines * commits * perCommit)
		if name == "mes" {
			want /= 2
		}
		t.Cleanup(func() {
			if d.got != want {
				t.Errorf("%s has %d events, want %d", name, d.got, want)
			}
		})
	}
	for i := range machines {
		machinesDone.Go(func() {
			m := plant.MachineID(fmt.Sprint("M", i))
			for n := range commits {
				batch := plant.Batch{State: fmt.Append(nil, n)}
				for k := range perCommit {
					e := count(n*perCommit + k)
					if k%2 == 1 {
						e.Kind = plant.KindParameters
					}
					batch.Events = append(batch.Events, e)
				}
				if first, err := b.Commit(ctx, m, batch); err != nil || first != plant.Sequence(n*perCommit+1) {
					t.Errorf("%s commit %d: first %d, %v", m, n, uint64(first), err)
					return
				}
			}
		})
	}
	readers.Go(func() {
		for ctx.Err() == nil {
			_ = b.Stats()
			last := plant.Sequence(0)
			for e, err := range b.Events(ctx, "M1", 0, 1000) {
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				// A walk takes a page at a time: what lies between was deleted meanwhile.
				if last != 0 && e.Sequence != last+1 && stillThere(ctx, b, "M1", last+1, e.Sequence) {
					t.Errorf("a reader sees %d after %d", uint64(e.Sequence), uint64(last))
				}
				last = e.Sequence
			}
		}
	})
	machinesDone.Wait()
	eventually(t, "all is delivered and deleted", func() bool {
		s := b.Stats()
		stored := uint64(0)
		for _, m := range s.Streams {
			stored += m.Stored
		}
		return stored == 0 && s.Queues[0].Backlog == 0 && s.Queues[1].Backlog == 0
	})
	cancel()
	drains.Wait()
	readers.Wait()
	if s := b.Stats(); s.Lost != 0 || s.Fault != "" {
		t.Errorf("lost %d: %+v %s", s.Lost, s.Damage, s.Fault)
	}
}

// drain delivers what a queue has, sometimes giving it back first.
type drain struct {
	t    *testing.T
	q    *Queue
	mu   sync.Mutex
	last map[plant.MachineID]plant.Sequence
	got  uint64
}

func (d *drain) run(ctx context.Context) {
	for turn := 0; ; turn++ {
		m, err := d.q.Next(ctx)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				d.t.Error(err)
			}
			return
		}
		events, err := d.q.Peek(context.Background(), m, 0, 7, 1<<20)
		if err != nil {
			d.t.Error(err)
			return
		}
		if turn%5 == 0 || len(events) == 0 {
			if err := d.q.Settle(ctx, m, 0, nil); err != nil {
				d.t.Error(err)
			}
			continue
		}
		d.mu.Lock()
		for _, e := range events {
			if e.Sequence <= d.last[m] || e.Previous != d.last[m] {
				d.t.Errorf("%s of %s: %d with previous %d after %d", d.q.name, m, uint64(e.Sequence), uint64(e.Previous), uint64(d.last[m]))
			}
			d.last[m] = e.Sequence
			d.got++
		}
		d.mu.Unlock()
		last := events[len(events)-1].Sequence
		if err := d.q.Settle(ctx, m, last, []plant.Result{delivered(events[0].Sequence, last)}); err != nil {
			d.t.Error(err)
			return
		}
	}
}

// TestLargeCommitsAreSplitBetweenMachines: what does not fit into one
// transaction goes into several, none of them cut within a machine.
func TestLargeCommitsAreSplitBetweenMachines(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			m := plant.MachineID(fmt.Sprint("M", i))
			e := count(1)
			e.Data = bytes.Repeat([]byte("x"), 100<<10)
			for n := range 5 {
				if first, err := b.Commit(context.Background(), m, plant.Batch{State: []byte("s"), Events: []plant.Event{e, e, e}}); err != nil || first != plant.Sequence(3*n+1) {
					t.Errorf("%s: first %d, %v", m, uint64(first), err)
				}
			}
		})
	}
	wg.Wait()
	if s := b.Stats(); s.Commits != 80 || s.Groups < 40 {
		t.Errorf("%d commits in %d groups: a transaction takes two of them", s.Commits, s.Groups)
	}
}

// stillThere reports whether an event from first to before end can be read.
func stillThere(ctx context.Context, b *Buffer, m plant.MachineID, first, end plant.Sequence) bool {
	for e, err := range b.Events(ctx, m, first-1, 1) {
		return err == nil && e.Sequence < end
	}
	return false
}
