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

func TestForwarderBacksOffOneMachineWhileOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		var sick atomic.Bool
		sick.Store(true)
		s.answer = func(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
			if m == "sick" && sick.Load() {
				return []plant.Result{{First: events[0].Sequence, Last: events[0].Sequence, Cause: errors.New("machine is locked")}}
			}
			return s.deliver(events)
		}
		q.add("sick", plant.KindCounter, 3)
		r := start(t, q, s, s, func(o *Options) { o.Concurrent = 1 })
		for range 600 {
			q.add("well", plant.KindCounter, 1)
			elapse(100 * time.Millisecond)
		}
		if got := r.f.Stats(); got.Delivered != 600 || got.Down || got.Breaker != "closed" || len(got.Problems) != 1 || got.Problems[0].Machine != "sick" || got.Waiting != 1 {
			t.Errorf("Stats = %+v", got)
		}
		// 0.5 s to 20 s in a minute: some tries, no loop; and one lease for each.
		if n := s.count("sick"); n < 4 || n > 20 || q.leases["sick"] > n+1 {
			t.Errorf("the sick machine was sent %d times with %d leases in a minute", n, q.leases["sick"])
		}
		sick.Store(false)
		elapse(21 * time.Second)
		if !q.settled() || len(r.f.Stats().Problems) != 0 {
			t.Errorf("not recovered: %+v", r.f.Stats())
		}
		if n := r.logs.FilterMessage("machine's events wait").Len(); n != 1 {
			t.Errorf("%d log lines for one edge", n)
		}
		r.finish()
	})
}

func TestForwarderHonoursTheReceiversWait(t *testing.T) {
	for _, link := range []bool{false, true} {
		t.Run(fmt.Sprint("link=", link), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries []time.Time
				q, s := scripted(nil)
				s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
					tries = append(tries, time.Now())
					if len(tries) > 1 {
						return s.deliver(events)
					}
					cause := errors.New("slow down")
					if link {
						cause = &LinkError{Err: cause}
					}
					return []plant.Result{{First: 1, Last: 1, Wait: 90 * time.Second, Cause: cause}}
				}
				q.add("m", plant.KindCounter, 1)
				r := start(t, q, s, s)
				elapse(2 * time.Minute)
				if len(tries) != 2 || tries[1].Sub(tries[0]) < 90*time.Second || tries[1].Sub(tries[0]) > 91*time.Second {
					t.Errorf("tried at %v", tries)
				}
				r.finish()
			})
		})
	}
}

func TestForwarderBacksOffTheWholeUplink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		q, s := scripted(nil)
		s.answer = func(ctx context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			if down.Load() {
				return []plant.Result{{First: events[0].Sequence, Last: events[0].Sequence, Cause: &LinkError{Err: errors.New("connection refused")}}}
			}
			return s.deliver(events)
		}
		for i := range 30 {
			q.add(plant.MachineID(fmt.Sprint(i)), plant.KindCounter, 2)
		}
		r := start(t, q, s, s)
		elapse(10 * time.Minute)
		tries := len(s.all())
		// 16 workers run into the outage together; afterwards one probe at a time.
		if limit := 16 + 4*60; tries < 40 || tries > limit {
			t.Errorf("%d Sends in ten minutes of outage, want at most %d", tries, limit)
		}
		got := r.f.Stats()
		if !got.Down || got.Breaker == "closed" || got.LastError != "connection refused" || len(got.Problems) != 0 {
			t.Errorf("Stats = %+v", got)
		}
		down.Store(false)
		back := time.Now()
		for !q.settled() {
			elapse(10 * time.Millisecond)
		}
		if took := time.Since(back); took > 20*time.Second {
			t.Errorf("recovery took %v, want at most the cap of the back-off", took)
		}
		if got := r.f.Stats(); got.Down || got.Breaker != "closed" {
			t.Errorf("Stats = %+v", got)
		}
		for message, want := range map[string]int{"uplink is away": 1, "uplink is back": 1} {
			entries := r.logs.FilterMessage(message)
			if n := entries.Len(); n != want {
				t.Errorf("%d × %q, want %d", n, message, want)
			}
			for _, e := range entries.All() {
				for key, value := range e.ContextMap() {
					if d, ok := value.(time.Duration); ok && d != d.Round(time.Millisecond) {
						t.Errorf("%q says %s %v, which nobody reads", message, key, d)
					}
				}
			}
		}

		// The next outage begins with short waits again.
		down.Store(true)
		q.add("0", plant.KindCounter, 1)
		elapse(100 * time.Millisecond)
		tries = len(s.all())
		elapse(5 * time.Second)
		if n := len(s.all()) - tries; n < 3 {
			t.Errorf("%d Sends in the first 5 s of the second outage, want at least 3", n)
		}
		down.Store(false)
		elapse(time.Minute)
		r.finish()
	})
}

func TestForwarderTakesARefusalForAHealthyLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			results := s.deliver(events)
			for i := range events {
				if events[i].Sequence%3 == 0 {
					results[i] = refuse(&events[i], "count must be greater")
				}
			}
			return results
		}
		q.add("m", plant.KindCounter, 30)
		r := start(t, q, s, s)
		synctest.Wait()
		if !q.settled() || len(q.deadLetters()) != 10 {
			t.Fatalf("settled %v, %d dead letters; want all and 10", q.settled(), len(q.deadLetters()))
		}
		if q.deadLetters()[0].First != 3 || q.deadLetters()[0].Last != 3 || q.deadLetters()[0].Cause.Error() != "count must be greater" {
			t.Errorf("dead letter %+v", q.deadLetters()[0])
		}
		if got := r.f.Stats(); got.Rejected != 10 || got.Delivered != 20 || got.Down || got.Breaker != "closed" {
			t.Errorf("Stats = %+v", got)
		}
		r.finish()
	})
}
