package uplink

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

func (q *fakeQueue) fill(full bool) (tries int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.full = full
	return q.tries
}

// TestForwarderWaitsForRoom: a Queue without room ends nothing, loses nothing,
// is asked now and then only, and nothing is sent a second time meanwhile.
func TestForwarderWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		s.answer = func(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
			if m == "refused" {
				return []plant.Result{refuse(&events[0], "no")}
			}
			return s.deliver(events)
		}
		q.fill(true)
		q.add("taken", plant.KindCounter, 3)
		q.add("refused", plant.KindCounter, 1)
		r := start(t, q, s, s, func(o *Options) { o.Concurrent = 1 })
		elapse(time.Minute)
		if n := s.count("taken") + s.count("refused"); n != 2 {
			t.Errorf("%d Sends, want one a machine: another machine's full disk must not keep a worker, nor be sent again", n)
		}
		problems := r.f.Stats().Problems
		if len(problems) != 2 || problems[0].Text != fullText || problems[0].Next.IsZero() || time.Since(problems[0].Since) != time.Minute {
			t.Errorf("the page is told %+v", problems)
		}
		// Two machines, half a second to 20 s apart.
		if tries := q.fill(false); tries < 6 || tries > 80 {
			t.Errorf("%d tries in a minute", tries)
		}
		elapse(21 * time.Second)
		if !q.settled() || len(q.deadLetters()) != 1 || s.count("taken") != 1 {
			t.Errorf("settled %t, %d dead letters, %d Sends", q.settled(), len(q.deadLetters()), s.count("taken"))
		}
		if p := r.f.Stats().Problems; len(p) != 0 {
			t.Errorf("still named: %+v", p)
		}
		r.finish()
	})
}

// TestForwarderStopsWithoutRoom: a stop does not wait for the disk.
func TestForwarderStopsWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		q.fill(true)
		q.add("m", plant.KindCounter, 1)
		r := start(t, q, s, s)
		elapse(time.Second)
		r.stop()
		began := time.Now()
		if err := <-r.ended; err != nil || time.Since(began) > time.Second {
			t.Errorf("Run = %v after %s", err, time.Since(began))
		}
		if q.at("m") != 0 || !s.closed {
			t.Errorf("cursor %d, closed %t", q.at("m"), s.closed)
		}
	})
}

// TestForwarderWakesAfterThereIsRoom: who waits for what a result puts goes on
// only when it is durable.
func TestForwarderWakesAfterThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		s.answer = func(_ context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
			e := &events[0]
			if m == "master" {
				r := s.deliver(events)
				r[0].Put = []plant.KV{{Key: "k", Value: []byte("v")}}
				return r
			}
			if v, _ := q.Memory("k"); v == nil {
				return []plant.Result{{First: e.Sequence, Last: e.Sequence, Status: plant.Held, WaitsFor: "k"}}
			}
			return s.deliver(events)
		}
		q.add("child", plant.KindSerial, 1)
		r := start(t, q, s, s)
		q.fill(true)
		q.add("master", plant.KindSerial, 1)
		elapse(5 * time.Second)
		if q.at("child") != 0 {
			t.Fatal("the child went before its master was noted")
		}
		q.fill(false)
		elapse(21 * time.Second)
		if !q.settled() {
			t.Error("the child waits although its master is noted")
		}
		r.finish()
	})
}
