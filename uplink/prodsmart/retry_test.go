package prodsmart

import (
	"net/http"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestARetryOnCommandAsksAgain: who has mended what was refused or missing, and
// sends it again at once, hears what Prodsmart says now, not what it said before.
func TestARetryOnCommandAsksAgain(t *testing.T) {
	event := func(kind plant.EventKind, data string) func(*rig) plant.Event {
		return func(r *rig) plant.Event { return r.event("M-1", kind, data) }
	}
	for name, test := range map[string]struct {
		event func(*rig) plant.Event
		part  string
		code  int
		first plant.Status
	}{
		"a stop":              {event(plant.KindStartStop, `{"running":0,"stop_id":1,"type":"Jam"}`), "startstop", http.StatusBadRequest, plant.Rejected},
		"a stop, no machine":  {event(plant.KindStartStop, `{"running":0,"stop_id":1,"type":"Jam"}`), "startstop", http.StatusNotFound, plant.Held},
		"a count":             {event(plant.KindCounter, counter(5, 5)), "counter", http.StatusBadRequest, plant.Rejected},
		"a count, no machine": {event(plant.KindCounter, counter(5, 5)), "counter", http.StatusNotFound, plant.Held},
		"process values":      {event(plant.KindParameters, `{"parameters":[{"code":"temp","value":26,"quality":"good","time":"2026-11-22T06:00:01.000Z"}]}`), "parameters", http.StatusBadRequest, plant.Rejected},
		"a dose":              {func(r *rig) plant.Event { return r.dose("SUGAR", "2", "kg") }, "movements", http.StatusBadRequest, plant.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, dosingCompany(), materials())
				l := newLine(0, 0)
				e := test.event(r)
				l.run(t, r.fake, r.options, func(f *uplink.Forwarder) {
					r.fake.Faults.Add(central.Answered(test.code, "no").On(test.part))
					status := func() plant.Status {
						t.Helper()
						for range 60 {
							results, err := f.Resend(t.Context(), e.Machine, []plant.Event{e})
							if err != nil || len(results) != 1 {
								t.Fatalf("%+v, %v", results, err)
							}
							if results[0].Status != plant.Retry {
								return results[0].Status
							}
							elapse(max(results[0].Wait, time.Second))
						}
						t.Fatal("it is never answered")
						return plant.Retry
					}
					if got := status(); got != test.first {
						t.Fatalf("first: %v", got)
					}
					if got := status(); got != plant.Delivered {
						t.Errorf("mended, and sent again: %v", got)
					}
				})
			})
		})
	}
}
