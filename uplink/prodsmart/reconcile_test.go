package prodsmart

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/plant"
)

// TestTheLogSaysWhatARefusedCountCameTo: a refusal that is settled is no refusal for
// whoever reads the integration log, which calls only dead letters so.
func TestTheLogSaysWhatARefusedCountCameTo(t *testing.T) {
	five := func(r *rig) plant.Event { return r.event("M-1", plant.KindCounter, counter(5, 5)) }
	for _, test := range []struct {
		name   string
		silent bool // the refusal names no number
		change func(*Options)
		before float64 // what Prodsmart has
		fault  []central.Fault
		newer  bool // a newer count has come meanwhile
		want   string
		words  string
	}{
		{"its answer was lost", false, nil, 0, []central.Fault{central.LostReply()}, false, "[retry delivered]", "answer was lost; Prodsmart said: "},
		{"nothing named", true, nil, 0, []central.Fault{central.LostReply()}, false, "[retry delivered]", "answer was lost; Prodsmart said: "},
		{"a newer one came", true, nil, 0, []central.Fault{central.LostReply()}, true, "[retry delivered]", "answer was lost; Prodsmart said: "},
		{"in another language", false, nil, 0, []central.Fault{central.LostReply(), central.Answered(400, "x")}, true, "[retry retry]", "the newer count, which holds this one"},
		{"it is there already", false, nil, 5, nil, false, "[delivered]", "has that number already"},
		{"Prodsmart has more", false, nil, 100, nil, false, "[retry delivered]", "counted on from 100"},
		{"Prodsmart has more, and may not say so", false, func(o *Options) { o.LearnOffset = false }, 100, nil, false, "[held]", "the machine's counts wait"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := company()
				c.SilentRefusal, c.Machines[0].Count = test.silent, test.before
				r := newRig(t, c, func(o *Options) {
					if test.change != nil {
						test.change(o)
					}
				})
				r.fake.Faults.Add(test.fault...)
				events := []plant.Event{five(r)}
				r.send(events...)
				elapse(5 * time.Second)
				if test.newer {
					events = append(events, r.event("M-1", plant.KindCounter, counter(9, 4)))
				}
				for range 5 {
					if len(r.told(events[len(events)-1].Sequence)) > 0 && r.sent["M-1"] == events[len(events)-1].Sequence {
						break
					}
					r.send(events...)
					elapse(5 * time.Second)
				}
				if got := fmt.Sprint(r.told(1)); got != test.want {
					t.Errorf("the log says %s, want %s: %+v", got, test.want, r.journal)
				}
				said := false
				for _, x := range r.journal {
					said = said || x.First == 1 && strings.Contains(x.Words, test.words)
				}
				if !said {
					t.Errorf("no word of %q: %+v", test.words, r.journal)
				}
			})
		})
	}
}

// TestTheLogNamesAMovementThatIsFound as delivered: it is not sent again.
func TestTheLogNamesAMovementThatIsFound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		e := r.dose("SUGAR", "2", "kg")
		r.send(e)
		r.fake.Faults.Add(central.LostReply().On("movements"))
		r.lose(e)
		r.deliver(e)
		if got := fmt.Sprint(r.told(e.Sequence)); got != "[retry delivered]" {
			t.Errorf("the log says %s: %+v", got, r.journal)
		}
		r.strict()
	})
}
