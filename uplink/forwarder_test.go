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

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

// rig is one Forwarder over fakes, inside a synctest bubble.
type rig struct {
	t      *testing.T
	queue  *fakeQueue
	sender *fakeSender
	f      *Forwarder
	logs   *observer.ObservedLogs
	stop   context.CancelFunc
	ended  chan error
}

func start(t *testing.T, queue *fakeQueue, sender Sender, fake *fakeSender, change ...func(*Options)) *rig {
	t.Helper()
	return startOn(t, queue, queue, sender, fake, change...)
}

// startOn starts a Forwarder on q, which is fake or around it.
func startOn(t *testing.T, q Queue, queue *fakeQueue, sender Sender, fake *fakeSender, change ...func(*Options)) *rig {
	t.Helper()
	o := DefaultOptions()
	for _, c := range change {
		c(&o)
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	ctx, stop := context.WithCancel(t.Context())
	r := &rig{t: t, queue: queue, sender: fake, logs: logs, stop: stop, ended: make(chan error, 1)}
	r.f = NewForwarder("up", q, sender, o, zap.New(core))
	go func() { r.ended <- r.f.Run(ctx) }()
	synctest.Wait()
	return r
}

// elapse lets d go by and everything that it causes come to rest.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// finish stops the Forwarder and checks that it broke no rule.
func (r *rig) finish() {
	r.t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.check()
}

func (r *rig) check() {
	r.t.Helper()
	for _, fault := range append(r.queue.faults, r.sender.faults...) {
		r.t.Error(fault)
	}
	for m, leased := range r.queue.leased {
		if leased {
			r.t.Errorf("the lease of %s was not given back", m)
		}
	}
	if !r.sender.closed {
		r.t.Error("the sender was not closed")
	}
}

func scripted(answer func(context.Context, plant.MachineID, []plant.Event) []plant.Result) (*fakeQueue, *fakeSender) {
	q := newFakeQueue()
	return q, &fakeSender{queue: q, answer: answer}
}

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
