package prodsmart

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestAStopThatMayHaveArrivedIsEnded: nobody knows whether Prodsmart has had a
// stop, and the machine runs again before it can be sent anew. Its start is sent,
// and the stop is listed as one to look up.
func TestAStopThatMayHaveArrivedIsEnded(t *testing.T) {
	const killed = "the gateway was killed before the answer was kept"
	start := func(r *rig) []plant.Event { return []plant.Event{r.start(1)} }
	for _, test := range []struct {
		name    string
		fault   central.Fault
		restart bool
		later   func(*rig) []plant.Event
		want    []string
		missed  string
		open    int // downtimes that last
		allowed []string
	}{
		{"its answer was lost", central.LostReply(), false, start, []string{jamOff}, "1 Jam 1?", 0, nil},
		{"its answer was lost, and the gateway was started anew", central.LostReply(), true, start, []string{jamOff}, "1 Jam 1?", 0, nil},
		{killed, central.Fault{}, true, start, []string{jamOff}, "1 Jam 1?", 0, nil},
		{"a proxy lost Prodsmart", central.BookedBut(504, "upstream timed out"), false, start, []string{jamOff}, "1 Jam 1?", 0, nil},
		{"it failed, having booked", central.BookedBut(500, "oops"), false, start, []string{jamOff}, "1 Jam 1?", 0, nil},
		{"it never arrived", central.Dropped(), false, start, []string{jamOff}, "1 Jam 1?", 0, []string{fake.RuleStart}},
		{"another stop follows", central.LostReply(), false, func(r *rig) []plant.Event {
			return []plant.Event{r.start(1), r.stop(2, "Waiting")}
		}, []string{jamOff, waitingOn}, "1 Jam 1?", 1, nil},
		{"another stop follows and is over", central.LostReply(), true, func(r *rig) []plant.Event {
			return []plant.Event{r.start(1), r.stop(2, "Waiting"), r.start(2)}
		}, []string{jamOff}, "1 Jam 1?, 2 Waiting 1", 0, nil},
		{"it is refused, so that it has not arrived", central.Answered(400, "no"), false, start, nil, "1 Jam 1", 0, nil},
		{"the machine is not known, so that it has not arrived", central.Answered(404, "no machine"), false, start, nil, "1 Jam 1", 0, nil},
		{"it still stands", central.LostReply(), true, func(*rig) []plant.Event { return nil }, []string{jamOn}, "", 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, company())
				stop := r.stop(1, "Jam")
				r.once(stop) // it is noted
				r.want()
				kept := maps.Clone(r.memory)
				if test.name != killed {
					r.fake.Faults.Add(test.fault)
				}
				r.once(stop)
				r.want(jamOn)
				if test.restart {
					if test.name == killed {
						r.memory, r.sent = kept, map[plant.MachineID]plant.Sequence{}
					}
					r.open()
				}
				elapse(2 * time.Minute)
				r.deliver(append([]plant.Event{stop}, test.later(r)...)...)
				r.want(test.want...)
				if got := r.missedOf("M-1"); got != test.missed {
					t.Errorf("listed %q, want %q", got, test.missed)
				}
				last := 0
				for _, d := range r.fake.Machine("M-1").Downtimes {
					if d.End.IsZero() {
						last++
					}
				}
				if last != test.open {
					t.Errorf("%d downtimes last, want %d: %+v", last, test.open, r.fake.Machine("M-1").Downtimes)
				}
				r.strict(test.allowed...)
			})
		})
	}
}

// TestAStopThatIsOnlyNotedIsNone: it had no turn before the machine ran again.
func TestAStopThatIsOnlyNotedIsNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		stop := r.stop(1, "Jam")
		r.once(stop)
		r.fake.OperatorStops("M-1", "Waiting")
		r.deliver(stop, r.start(1))
		r.want()
		if got := r.missedOf("M-1"); got != "1 Jam 1" {
			t.Errorf("listed %q", got)
		}
		r.deliver(r.stop(2, "Jam"))
		r.want(jamOn)
		r.strict()
	})
}

// TestAToldStopIsNotListedWhenTheNextWaits: its start is sent, and the next stop,
// into which both were merged, finds no room before the machine runs again.
func TestAToldStopIsNotListedWhenTheNextWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		r.deliver(r.stop(1, "Jam"))
		r.wire.asked()
		waiting := []plant.Event{r.start(1), r.stop(2, "Waiting")}
		r.fake.Faults.Add(central.TooMany(90).After(1))
		for range 3 {
			r.once(waiting...)
		}
		r.want(jamOff, waitingOn)
		elapse(2 * time.Minute)
		r.deliver(append(waiting, r.start(2))...)
		r.want()
		if got := r.missedOf("M-1"); got != "2 Waiting 1" {
			t.Errorf("listed %q", got)
		}
		r.strict()
	})
}

// TestWhatMakesWayIsNotDelivered: the start that ends an older stop is not the stop
// behind it, which Prodsmart is told of only by its own request.
func TestWhatMakesWayIsNotDelivered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, company())
		first := r.stop(1, "Jam")
		r.once(first)
		r.fake.Faults.Add(central.LostReply())
		r.once(first)
		elapse(2 * time.Minute)
		second := []plant.Event{first, r.start(1), r.stop(2, "Waiting")}
		r.wire.asked()
		r.journal = nil
		r.deliver(second...)
		r.want(jamOff, waitingOn)
		var told []uplink.Outcome
		for _, x := range r.journal {
			if x.First <= 3 && 3 <= x.Last && x.Method == http.MethodPost {
				told = append(told, x.Outcome)
			}
		}
		if !slices.Equal(told, []uplink.Outcome{uplink.OutcomeAsked, uplink.OutcomeDelivered}) {
			t.Errorf("the log says of the second stop %v: %+v", told, r.journal)
		}
	})
}
