package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

func TestForwarderDoesNotWaitForALongFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		s.answer = func(ctx context.Context, _ plant.MachineID, _ []plant.Event) []plant.Result {
			<-ctx.Done() // a receiver that does not read
			return nil
		}
		s.farewell = 10 * time.Second
		q.add("m", plant.KindCounter, 1)
		r := start(t, q, s, s)
		begun := time.Now()
		r.stop()
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		if took, limit := time.Since(begun), DefaultOptions().StopTimeout.Std()+500*time.Millisecond; took > limit {
			t.Errorf("Run returned after %v, want %v", took, limit)
		}
		if q.leased["m"] {
			t.Error("the lease was not given back")
		}
		elapse(s.farewell)
	})
}

// TestForwarderNamesASuspectAndKeepsIt: an event at which sessions end is tried
// for ever, named, and leaves the others their turn.
func TestForwarderNamesASuspectAndKeepsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var well atomic.Bool
		q, s := scripted(nil)
		s.answer = func(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
			if m == "good" || well.Load() {
				return s.deliver(events)
			}
			e := &events[0]
			return []plant.Result{{First: e.Sequence, Last: e.Sequence, Status: plant.Retry, Wait: 2 * time.Second,
				Cause: &LinkError{Err: errors.New("sessions end at this event"), Suspect: true}}}
		}
		q.add("bad", plant.KindCounter, 3)
		r := start(t, q, s, s)
		for range 100 {
			q.add("good", plant.KindCounter, 1)
			elapse(6 * time.Second)
		}
		got := r.f.Stats()
		if q.at("bad") != 0 || len(q.deadLetters()) != 0 || q.at("good") < 99 {
			t.Errorf("cursors %d and %d, %d dead letters", q.at("bad"), q.at("good"), len(q.deadLetters()))
		}
		if len(got.Problems) != 1 || got.Problems[0].Machine != "bad" || got.Problems[0].Text != "sessions end at this event" {
			t.Errorf("Problems = %+v", got.Problems)
		}
		if n := s.count("bad"); n < 20 || n > 120 {
			t.Errorf("tried %d times in ten minutes", n)
		}
		well.Store(true)
		elapse(time.Minute)
		if got := r.f.Stats(); !q.settled() || len(got.Problems) != 0 || got.Down {
			t.Errorf("not released: %+v", got)
		}
		r.finish()
	})
}

// TestForwarderConnectsSeldomToASickBroker: many machines whose sessions all end
// add up to no more attempts than one.
func TestForwarderConnectsSeldomToASickBroker(t *testing.T) {
	for _, suspect := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			q, s := scripted(nil)
			s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
				e := &events[0]
				return []plant.Result{{First: e.Sequence, Last: e.Sequence, Status: plant.Retry,
					Cause: &LinkError{Err: errors.New("the session ended"), Suspect: suspect}}}
			}
			for i := range 8 {
				q.add(plant.MachineID(fmt.Sprint("M", i)), plant.KindCounter, 3)
			}
			r := start(t, q, s, s)
			elapse(time.Second)
			first := len(s.all())
			elapse(5 * time.Minute)
			if n := len(s.all()) - first; n > 100 {
				t.Errorf("suspect %v: %d attempts in five minutes", suspect, n)
			}
			r.finish()
		})
	}
}
