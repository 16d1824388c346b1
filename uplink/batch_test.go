package uplink

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// mergingSender merges counters, as a dialect with cumulative counts does.
type mergingSender struct{ *fakeSender }

func (mergingSender) Merge(earlier, later plant.Event) (plant.Event, bool) {
	return later, later.Kind == plant.KindCounter && !strings.Contains(string(later.Data), "no merge")
}

func (s mergingSender) Send(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
	s.queue.mu.Lock()
	// The newest count contains the older ones of its kind.
	for _, e := range events {
		if e.Kind == plant.KindCounter {
			for _, old := range s.queue.streams[m][:e.Sequence] {
				if old.Kind == plant.KindCounter {
					s.queue.accepted[old.ID()] = true
				}
			}
		}
	}
	s.queue.mu.Unlock()
	return s.fakeSender.Send(ctx, m, events)
}

func TestForwarderMergesABacklogIntoOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		q.add("m", plant.KindCounter, 30_000)
		q.add("m", plant.KindStartStop, 1)
		q.add("m", plant.KindCounter, 10)
		r := start(t, q, mergingSender{s}, s)
		synctest.Wait()
		if !q.settled() || len(s.all()) != 1 {
			t.Fatalf("%d Sends, settled %v", len(s.all()), q.settled())
		}
		got := s.all()[0].events
		if len(got) != 2 || got[0].Sequence != 30_001 || got[0].Previous != 0 || got[1].Sequence != 30_011 || got[1].Previous != 30_001 {
			t.Errorf("sent %+v", got)
		}
		if stats := r.f.Stats(); stats.Delivered != 30_011 {
			t.Errorf("Delivered = %d", stats.Delivered)
		}
		r.finish()
	})
}

func TestForwarderSettlesNothingThatAnOpenMergeContains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		tries := 0
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			tries++
			if tries == 1 {
				return s.deliver(events[:1])
			}
			return s.deliver(events)
		}
		q.add("m", plant.KindCounter, 5)
		q.add("m", plant.KindStartStop, 1)
		q.add("m", plant.KindCounter, 5)
		r := start(t, q, mergingSender{s}, s)
		synctest.Wait()
		if q.at("m") != 0 {
			t.Errorf("cursor %d after only the stop was accepted", q.at("m"))
		}
		elapse(time.Minute)
		if !q.settled() {
			t.Error("not settled")
		}
		r.finish()
	})
}
