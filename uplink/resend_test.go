package uplink

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// A resend shares the Sender with the live stream: never two calls at once for
// one machine, the live order as it was, the cursor untouched.
func TestResendBesideTheLiveStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue()
		s := &fakeSender{queue: q}
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			time.Sleep(300 * time.Millisecond)
			return s.deliver(events)
		}
		q.add("A", plant.KindCounter, 50)
		old := q.streams["A"][:10]
		r := start(t, q, s, s, func(o *Options) { o.BatchEvents = 5 })
		for i := 0; i < 10; i += 2 {
			results, err := r.f.Resend(t.Context(), "A", old[i:i+2])
			if err != nil || len(results) != 2 || results[1].Status != plant.Delivered || results[1].Last != old[i+1].Sequence {
				t.Fatalf("%+v, %v", results, err)
			}
		}
		elapse(time.Minute)
		if !q.settled() || q.at("A") != 50 {
			t.Errorf("the live stream stands at %d", q.at("A"))
		}
		live := plant.Sequence(0)
		for _, send := range s.all() {
			if len(send.events) == 5 {
				if send.events[0].Sequence != live+1 {
					t.Errorf("live: %d after %d", send.events[0].Sequence, live)
				}
				live = send.events[4].Sequence
			}
		}
		if live != 50 {
			t.Errorf("live up to %d", live)
		}
		r.finish()
	})
}

// What the receiver says of a resend is handed over as it is: refusals neither
// become dead letters nor hold the live stream, a dead link is waited for.
func TestResendAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeQueue()
		s := &fakeSender{queue: q}
		down := true
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			if down {
				return []plant.Result{{First: events[0].Sequence, Last: events[0].Sequence, Cause: &LinkError{Err: errors.New("no route")}}}
			}
			return []plant.Result{refuse(&events[0], "no"), refuse(&events[1], "no")}
		}
		q.add("A", plant.KindCounter, 2)
		events := q.streams["A"]
		q.streams["A"] = nil
		r := start(t, q, s, s, func(o *Options) { o.HoldAfter = 1 })
		results, err := r.f.Resend(t.Context(), "A", events)
		if err != nil || len(results) != 1 || results[0].Status != plant.Retry || !r.f.Stats().Down {
			t.Errorf("%+v, %v", results, err)
		}
		down = false
		began := time.Now()
		results, err = r.f.Resend(t.Context(), "A", events)
		if err != nil || len(results) != 2 || results[1].Status != plant.Rejected || results[1].Cause.Error() != "no" {
			t.Errorf("%+v, %v", results, err)
		}
		if time.Since(began) == 0 {
			t.Error("it did not wait for the link's back-off")
		}
		if len(q.deadLetters()) != 0 || len(r.f.Stats().Problems) != 0 {
			t.Errorf("dead letters %v, problems %v", q.deadLetters(), r.f.Stats().Problems)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := r.f.Resend(ended, "A", events); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		r.finish()
	})
}
