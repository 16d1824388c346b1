package uplink

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// TestForwarderReadsAgainWhatIsNotYet: a Sender without room now gets the
// machine again, at once or after the Wait, with what has come meanwhile; nobody
// is told of a failure, and what it wants to remember is kept.
func TestForwarderReadsAgainWhatIsNotYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		seen := func() (all []int) {
			for _, one := range s.all() {
				all = append(all, len(one.events))
			}
			return all
		}
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			r := plant.Result{First: events[0].Sequence, Last: events[0].Sequence, Cause: &NotYet{Why: "no room"}}
			switch s.count("M") {
			case 1:
				r.Wait, r.Put = 3*time.Second, []plant.KV{{Key: "note", Value: []byte("kept")}}
			case 2:
				time.Sleep(time.Second) // as a Sender does that waits for room itself
			default:
				return s.deliver(events)
			}
			return []plant.Result{r}
		}
		q.add("M", plant.KindCounter, 1)
		r := start(t, q, s, s)
		q.add("M", plant.KindCounter, 2)
		elapse(2900 * time.Millisecond)
		if note, _ := q.Memory("note"); len(seen()) != 1 || string(note) != "kept" {
			t.Fatalf("Sends of %v before the Wait is over, memory %q", seen(), note)
		}
		elapse(1200 * time.Millisecond)
		if got := seen(); len(got) != 3 || got[1] != 3 || got[2] != 3 || !q.settled() {
			t.Fatalf("Sends of %v, want 1, 3 and 3", got)
		}
		if got := r.f.Stats(); got.Retried != 0 || got.LastError != "" || len(got.Problems) != 0 || got.Down {
			t.Errorf("Stats = %+v", got)
		}
		if n := r.logs.Len(); n != 0 {
			t.Errorf("%d lines in the log: %v", n, r.logs.All())
		}
		r.finish()
	})
}
