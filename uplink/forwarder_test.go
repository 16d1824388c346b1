package uplink

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

func TestForwarderDeliversInOrderOverManyMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		for i := range 40 {
			q.add(plant.MachineID(fmt.Sprintf("M%d", i)), plant.KindCounter, 130)
		}
		r := start(t, q, s, s, func(o *Options) { o.BatchEvents = 50 })
		synctest.Wait()
		if !q.settled() {
			t.Fatal("not everything is settled")
		}
		if got := r.f.Stats(); got.Delivered != 40*130 || got.Retried != 0 || got.Breaker != "closed" || got.Concurrent != 0 {
			t.Errorf("Stats = %+v", got)
		}
		r.finish()
	})
}

func TestForwarderSendsMachinesAtOnceAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		s.answer = func(ctx context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			time.Sleep(time.Second)
			return s.deliver(events)
		}
		for i := range 12 {
			q.add(plant.MachineID(fmt.Sprint(i)), plant.KindCounter, 1)
		}
		r := start(t, q, s, s, func(o *Options) { o.Concurrent = 4 })
		begun := time.Now()
		for !q.settled() {
			elapse(100 * time.Millisecond)
		}
		if took := time.Since(begun); took > 3100*time.Millisecond || s.most != 4 {
			t.Errorf("12 machines took %v, at most %d at once; want 3 s and 4", took, s.most)
		}
		r.finish()
	})
}

// TestForwarderGoesOnAfterARefusal: a Sender may end at one, and what is behind it
// is no failure that anybody must wait for.
func TestForwarderGoesOnAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			results := s.deliver(events)
			for i := range events {
				if events[i].Sequence%2 == 0 {
					results[i] = refuse(&events[i], "count must be greater")
					return results[:i+1]
				}
			}
			return results
		}
		q.add("m", plant.KindCounter, 200)
		begin := time.Now()
		r := start(t, q, s, s)
		synctest.Wait()
		if !q.settled() || len(q.deadLetters()) != 100 || time.Since(begin) > 0 {
			t.Errorf("settled %v, %d dead letters after %v; want all, 100, at once", q.settled(), len(q.deadLetters()), time.Since(begin))
		}
		if n := r.logs.FilterMessage("machine's events wait").Len(); n != 0 {
			t.Errorf("the log says %d times that events wait", n)
		}
		elapse(time.Minute)
		r.finish()
	})
}

func TestForwarderHoldsAStreamThatIsRefusedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known atomic.Bool
		q, s := scripted(nil)
		s.answer = func(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
			results := s.deliver(events)
			for i := range events {
				if m == "new" && !known.Load() {
					results[i] = refuse(&events[i], fmt.Sprintf("event %d: machine code is unknown", events[i].Sequence))
				}
			}
			return results
		}
		q.add("new", plant.KindCounter, 1000)
		q.add("old", plant.KindCounter, 10)
		r := start(t, q, s, s)
		elapse(10*time.Minute + time.Second)
		if len(q.deadLetters()) != 4 || q.at("new") != 4 || q.at("old") != 10 {
			t.Errorf("%d dead letters, cursor %d; want 4 and the stream held at 4", len(q.deadLetters()), q.at("new"))
		}
		if n := s.count("new"); n != 11 {
			t.Errorf("the held stream was tried %d times in ten minutes, want 11", n)
		}
		got := r.f.Stats()
		if len(got.Problems) != 1 || !got.Problems[0].Held || got.Problems[0].Kind != plant.KindCounter || !strings.Contains(got.Problems[0].Text, "machine code is unknown") {
			t.Errorf("Problems = %+v", got.Problems)
		}
		if last := s.all()[len(s.all())-1]; len(last.events) != 1 {
			t.Errorf("a held stream is tried with %d events", len(last.events))
		}
		known.Store(true)
		elapse(time.Minute)
		if !q.settled() || len(q.deadLetters()) != 4 || len(r.f.Stats().Problems) != 0 {
			t.Errorf("not released: cursor %d, %d dead, %+v", q.at("new"), len(q.deadLetters()), r.f.Stats().Problems)
		}
		r.finish()
	})
}

func TestForwarderIsCarefulForAWhileAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			results := s.deliver(events)
			if events[0].Sequence == 1 {
				results[0] = refuse(&events[0], "unknown type")
			}
			return results
		}
		q.add("m", plant.KindStartStop, 1)
		r := start(t, q, s, s)
		q.add("m", plant.KindCounter, 20)
		elapse(time.Second)
		if n := s.count("m"); n != 21 {
			t.Errorf("%d Sends for 21 events just after a refusal, want one by one", n)
		}
		elapse(2 * time.Minute)
		q.add("m", plant.KindCounter, 20)
		synctest.Wait()
		if n := s.count("m"); n != 22 {
			t.Errorf("%d Sends, want the later 20 events in one", n)
		}
		r.finish()
	})
}

func TestForwarderWaitsForWhatAHeldEventNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		s.answer = func(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
			if value, _ := q.Memory("parent"); m == "child" && value == nil {
				return []plant.Result{{First: 1, Last: 1, Status: plant.Held, WaitsFor: "parent", Cause: errors.New("the parent's id is not known")}}
			}
			results := s.deliver(events)
			if m == "parent" {
				results[0].Put = []plant.KV{{Key: "parent", Value: []byte("id")}}
			}
			return results
		}
		q.add("child", plant.KindCounter, 1)
		r := start(t, q, s, s)
		elapse(10 * time.Second)
		q.add("parent", plant.KindCounter, 1)
		synctest.Wait()
		if !q.settled() {
			t.Errorf("the child waits on: %+v", r.f.Stats().Problems)
		}
		r.finish()
	})
}

// TestForwarderKeepsWhatARetryPuts, at once and though nothing is settled.
func TestForwarderKeepsWhatARetryPuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			return []plant.Result{{
				First: events[0].Sequence, Last: events[0].Sequence, Wait: time.Hour, Cause: &LinkError{Err: errors.New("slow down")},
				Put: []plant.KV{{Key: "retry_after", Value: []byte("an hour")}},
			}}
		})
		q.add("m", plant.KindCounter, 3)
		r := start(t, q, s, s)
		elapse(time.Second)
		if value, _ := q.Memory("retry_after"); string(value) != "an hour" || q.at("m") != 0 {
			t.Errorf("kept %q, cursor %d", value, q.at("m"))
		}
		r.finish()
	})
}

// A damaged value in its memory does not stop the uplink: who waits for the key
// asks again, since somebody has put it.
func TestForwarderGoesOnOverADamagedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		q.unreadable = map[string]bool{"parent": true}
		asked := 0
		s.answer = func(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
			if asked++; asked < 3 && m == "child" {
				return []plant.Result{{First: 1, Last: 1, Status: plant.Held, WaitsFor: "parent", Cause: errors.New("the parent's id cannot be read")}}
			}
			return s.deliver(events)
		}
		q.add("child", plant.KindCounter, 1)
		r := start(t, q, s, s)
		elapse(time.Hour)
		if !q.settled() {
			t.Errorf("the child waits on: %+v", r.f.Stats().Problems)
		}
		r.finish()
	})
}

func TestForwarderSurvivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		panics := 3
		s.answer = func(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
			if m == "odd" && panics > 0 {
				panics--
				panic("index out of range")
			}
			return s.deliver(events)
		}
		q.add("odd", plant.KindCounter, 1)
		r := start(t, q, s, s)
		synctest.Wait()
		if got := r.f.Stats(); got.Down || len(got.Problems) != 1 || !strings.Contains(got.LastError, "index out of range") {
			t.Errorf("Stats = %+v", got)
		}
		elapse(time.Minute)
		if !q.settled() {
			t.Error("not delivered after the panics")
		}
		r.finish()
	})
}

func TestForwarderTimesOutASilentSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		s.answer = func(ctx context.Context, _ plant.MachineID, _ []plant.Event) []plant.Result {
			<-ctx.Done()
			return nil
		}
		q.add("m", plant.KindCounter, 1)
		r := start(t, q, s, s)
		elapse(31 * time.Second)
		if got := r.f.Stats(); !got.Down || got.LastError != "no answer within 30s" {
			t.Errorf("Stats = %+v", got)
		}
		r.finish()
	})
}

func TestForwarderLetsTheBatchInFlightEnd(t *testing.T) {
	for name, test := range map[string]struct {
		takes   time.Duration
		settled bool
	}{"in time": {2 * time.Second, true}, "too late": {time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, s := scripted(nil)
				s.answer = func(ctx context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
					select {
					case <-time.After(test.takes):
						return s.deliver(events)
					case <-ctx.Done():
						return nil
					}
				}
				q.add("m", plant.KindCounter, 1)
				r := start(t, q, s, s)
				begun := time.Now()
				r.finish()
				if took := time.Since(begun); took > 3*time.Second || q.settled() != test.settled {
					t.Errorf("stopped after %v, settled %v", took, q.settled())
				}
				if n := r.logs.Len(); n != 0 {
					t.Errorf("a stop logged %v", r.logs.All())
				}
			})
		})
	}
}

func TestForwarderReturnsAQueueError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		broken := errors.New("disk gone")
		r := start(t, q, s, s)
		q.mu.Lock()
		q.fail = broken
		q.notify()
		q.mu.Unlock()
		if err := <-r.ended; !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "uplink up: ") {
			t.Errorf("Run = %v", err)
		}
		r.check()
	})
}

func TestForwarderReturnsAnErrorOfTheLastSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		broken := errors.New("disk gone")
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			time.Sleep(time.Second)
			return s.deliver(events)
		}
		q.add("m", plant.KindCounter, 1)
		r := start(t, q, s, s)
		r.stop()
		q.mu.Lock()
		q.fail = broken
		q.mu.Unlock()
		if err := <-r.ended; !errors.Is(err, broken) {
			t.Errorf("Run = %v", err)
		}
	})
}
