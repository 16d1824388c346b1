package uplink

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// turnsQueue is a fakeQueue that tells machines with a backlog by their names.
type turnsQueue struct{ *fakeQueue }

var _ Turns = turnsQueue{}

func (q turnsQueue) Next(context.Context) (plant.MachineID, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.faults = append(q.faults, "Next beside NextOf")
	return "", fmt.Errorf("Next beside NextOf")
}

func (q turnsQueue) NextOf(ctx context.Context, backlog bool) (plant.MachineID, error) {
	return q.nextOf(ctx, func(m plant.MachineID) bool { return strings.HasPrefix(string(m), "LATE") == backlog })
}

// busy starts a Forwarder whose receiver takes ten seconds for a batch of a
// backlog, of which there are more than workers; answer is called for each Send,
// one at a time.
func busy(t *testing.T, concurrent int, answer func(m plant.MachineID)) (*rig, turnsQueue) {
	q, s := scripted(nil)
	var mu sync.Mutex
	s.answer = func(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
		if strings.HasPrefix(string(m), "LATE") {
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
				return nil
			}
		}
		mu.Lock()
		answer(m)
		mu.Unlock()
		return s.deliver(events)
	}
	for i := range 3 * concurrent {
		q.add(plant.MachineID(fmt.Sprintf("LATE-%02d", i)), plant.KindCounter, 1000)
	}
	queue := turnsQueue{q}
	return startOn(t, queue, q, s, s, func(o *Options) { o.Concurrent = concurrent }), queue
}

// TestFreshEventsDoNotWaitForABacklog, though every worker that may be is busy
// with a batch of one.
func TestFreshEventsDoNotWaitForABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits []time.Duration
		var made time.Time
		r, q := busy(t, 16, func(m plant.MachineID) {
			if m == "LIVE" {
				waits = append(waits, time.Since(made))
			}
		})
		elapse(time.Second)
		if got := r.f.Stats().Concurrent; got != 15 {
			t.Fatalf("%d workers are at a backlog", got)
		}
		for range 20 {
			made = time.Now()
			q.add("LIVE", plant.KindCounter, 1)
			elapse(700 * time.Millisecond)
		}
		if len(waits) != 20 || slices.Max(waits) > 0 {
			t.Errorf("the live machine's events waited %v", waits)
		}
		if r.sender.most > 16 {
			t.Errorf("%d Sends at once", r.sender.most)
		}
		r.finish()
	})
}

// TestFreshEventsAreFirst: with few workers none is kept free, but the next that is
// ready takes what is fresh.
func TestFreshEventsAreFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []plant.MachineID
		r, q := busy(t, 2, func(m plant.MachineID) { order = append(order, m) })
		elapse(time.Second)
		if got := r.f.Stats().Concurrent; got != 2 {
			t.Fatalf("%d workers are at a backlog", got)
		}
		q.add("LIVE", plant.KindCounter, 1)
		elapse(10 * time.Second)
		if at := slices.Index(order, "LIVE"); at < 0 || at > 2 {
			t.Errorf("the order was %v", order)
		}
		r.finish()
	})
}

// TestABacklogGoesOnBesideBusyMachines: machines that always have something leave
// a backlog its turns.
func TestABacklogGoesOnBesideBusyMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		queue := turnsQueue{q}
		s.answer = func(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
			time.Sleep(100 * time.Millisecond)
			if strings.HasPrefix(string(m), "LIVE") {
				q.add(m, plant.KindCounter, 1)
			}
			return s.deliver(events)
		}
		for i := range 8 {
			q.add(plant.MachineID(fmt.Sprintf("LIVE-%d", i)), plant.KindCounter, 1)
			q.add(plant.MachineID(fmt.Sprintf("LATE-%d", i)), plant.KindCounter, 100)
		}
		r := startOn(t, queue, q, s, s, func(o *Options) { o.Concurrent, o.BatchEvents = 2, 1 })
		elapse(20 * time.Second)
		late := 0
		for _, one := range s.all() {
			if strings.HasPrefix(string(one.machine), "LATE") {
				late++
			}
		}
		if all := len(s.all()); late < all/(freshTurns+1)-2 || late > all/2 {
			t.Errorf("of %d Sends %d were of a backlog", all, late)
		}
		r.finish()
	})
}
