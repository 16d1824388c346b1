package uplink

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// A held stream stays held over restarts: none of them makes dead letters of more
// events. Once the receiver accepts it is released, and what is refused later
// counts from the beginning.
func TestAHoldOutlivesTheRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &shelfQueue{fakeQueue: newFakeQueue()}
		run := func(d time.Duration, mended bool) (f *Forwarder) {
			s := &fakeSender{queue: q.fakeQueue}
			s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
				if mended || events[0].Kind != plant.KindCounter {
					return s.deliver(events)
				}
				return []plant.Result{refuse(&events[0], "machine "+string(events[0].Machine)+" is unknown, line 17")}
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			f = NewForwarder("up", q, s, DefaultOptions(), zap.NewNop())
			go func() { ended <- f.Run(ctx) }()
			elapse(d)
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			return f
		}
		q.add("LINE/1", plant.KindCounter, 50)
		dead := DefaultOptions().HoldAfter - 1
		for n := range 4 {
			f := run(10*time.Minute, false)
			if got := len(q.deadLetters()); got != dead {
				t.Errorf("%d dead letters after run %d, want %d", got, n+1, dead)
			}
			if p := f.Stats().Problems; len(p) != 1 || !p[0].Held || p[0].Kind != plant.KindCounter || !strings.Contains(p[0].Text, "is unknown") {
				t.Errorf("run %d: %+v", n+1, p)
			}
		}
		run(10*time.Minute, true)
		if !q.settled() {
			t.Errorf("the stream stands at %d though the receiver accepts", q.at("LINE/1"))
		}
		for key, value := range q.memory {
			if value != nil {
				t.Errorf("%q is kept in the end", key)
			}
		}
		q.add("LINE/1", plant.KindCounter, 50)
		run(10*time.Minute, false)
		if got := len(q.deadLetters()); got != 2*dead {
			t.Errorf("%d dead letters after it was mended and broke again, want %d", got, 2*dead)
		}
		for _, fault := range q.faults {
			t.Error(fault)
		}
	})
}

// lacks is why no request can be made of an event.
type lacks struct{ error }

func (lacks) Remedy() string { return "add the row" }

// A hold for what nothing was sent of blames no receiver: it says what to mend here.
func TestAHoldForWhatWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue()
		s := &fakeSender{queue: q}
		var asked atomic.Bool
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			if asked.Load() {
				return []plant.Result{refuse(&events[0], "unknown")}
			}
			return []plant.Result{{First: events[0].Sequence, Last: events[0].Sequence, Status: plant.Rejected, Cause: lacks{errors.New("no row for it")}}}
		}
		q.add("M", plant.KindDosing, 50)
		r := start(t, q, s, s)
		elapse(10 * time.Minute)
		for _, want := range []string{"no row for it|add the row", "the receiver refuses every dosing event: unknown|"} {
			p := r.f.Stats().Problems
			if len(p) != 1 || !p[0].Held || p[0].Kind != plant.KindDosing || p[0].Text+"|"+p[0].Remedy != want {
				t.Errorf("want %q, got %+v", want, p)
			}
			asked.Store(true)
			elapse(time.Hour)
		}
		r.finish()
	})
}

// A store that cannot say which streams were held stops nothing.
func TestHoldsThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &deafShelf{shelfQueue{fakeQueue: newFakeQueue()}}
		s := &fakeSender{queue: q.fakeQueue}
		q.add("M", plant.KindCounter, 5)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		f := NewForwarder("up", q, s, DefaultOptions(), zap.NewNop())
		go func() { ended <- f.Run(ctx) }()
		elapse(time.Second)
		if !q.settled() {
			t.Errorf("the stream stands at %d", q.at("M"))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// deafShelf cannot list its memory.
type deafShelf struct{ shelfQueue }

func (*deafShelf) Each(context.Context, string, func(plant.KV) bool) error {
	return errors.New("memory \"_held/\": a damaged block")
}
