package uplinktest

import (
	"context"
	"runtime"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// ask asks the receiver what it last had of a machine.
func (r *rig) ask(limit time.Duration, m plant.MachineID) (plant.EventID, error) {
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	return r.sender.(uplink.Watermarker).Last(ctx, m)
}

func (r *rig) remember(m plant.MachineID, text string) {
	r.receiver.(Rememberer).Remember(m, text)
}

func saysWhatItHad(r *rig) {
	events := map[plant.MachineID]plant.EventID{}
	for _, m := range []plant.MachineID{"M-1", "FILLER 01", "Abfüllung"} {
		events[m] = Events(m, 41, 1)[0].ID()
		r.remember(m, `{"specversion":"1.0","id":"`+events[m].String()+`","data":{"id":7}}`)
	}
	for m, want := range events {
		if got, err := r.ask(time.Minute, m); got != want || err != nil {
			r.Errorf("%s: the receiver had %v, %v; want %v", m, got, err, want)
		}
	}
	for _, text := range []string{"", `{"id":""}`} {
		r.remember("M-1", text)
		if got, err := r.ask(time.Minute, "M-1"); got != (plant.EventID{}) || err != nil {
			r.Errorf("%q: the receiver had %v, %v; want nothing", text, got, err)
		}
	}
	r.deliver(Events("M-1", 1, 3))
	next := Events("M-1", 42, 1)[0].ID()
	r.remember("M-1", `{"id":"`+next.String()+`"}`)
	if got, err := r.ask(time.Minute, "M-1"); got != next || err != nil {
		r.Errorf("asked again: the receiver had %v, %v; want %v", got, err, next)
	}
}

func namesBadAnswers(r *rig) {
	other := Events("M-2", 9, 1)[0].ID().String()
	for text, want := range map[string]string{
		"41":                      "no JSON object",
		`["` + other + `"]`:       "no JSON object",
		`{"id":"41"}`:             "41",
		`{"id":"` + other + `"}`:  "no event of the machine M-1",
		strings.Repeat("{", 2000): "no JSON object",
		`{"id":"` + strings.Repeat("x", 200_000) + `"}`: "",
	} {
		r.remember("M-1", text)
		if got, err := r.ask(time.Minute, "M-1"); got != (plant.EventID{}) || err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 1000 {
			r.Errorf("%.50q: %v, %.1000v; want an error with %q", text, got, err, want)
		}
	}
	events := Events("M-1", 1, 3)
	r.deliver(events)
	r.inOrder(events)
}

func asksInVain(r *rig) {
	events := Events("M-1", 1, 9)
	vain := func() {
		r.Helper()
		r.within(2*r.timeout+grace, func() {
			if got, err := r.ask(time.Minute, "M-1"); got != (plant.EventID{}) || err == nil {
				r.Errorf("answered %v, %v by nobody", got, err)
			}
		})
	}
	r.proxy.Refuse()
	vain()
	r.proxy.Pass()
	r.deliver(events[:3])
	r.proxy.Stall()
	vain()
	r.proxy.Pass()
	r.deliver(events[3:6])
	r.proxy.Cut()
	r.deliver(events[6:])
	r.inOrder(events)
}

func asksAndLeavesNothing(r *rig) {
	r.deliver(Events("M-1", 1, 1))
	r.close()
	r.eventually("the first session to end", func() bool { return r.proxy.Conns() == 0 })
	before := runtime.NumGoroutine()
	for i := range 8 {
		r.sender = r.subject.Open(r, r.proxy.Addr(), r.timeout)
		switch i % 4 {
		case 1:
			r.proxy.CutAfter(3 * i)
		case 2:
			ctx, cancel := context.WithTimeout(r.Context(), time.Duration(i)*time.Millisecond)
			_, _ = r.sender.(uplink.Watermarker).Last(ctx, "M-1") // whatever it says
			cancel()
		}
		_, _ = r.ask(grace, "M-1") // whatever it says
		if err := r.sender.Close(); err != nil {
			r.Errorf("Close: %v", err)
		}
		r.proxy.Pass()
	}
	r.eventually("8 askers to leave nothing behind", func() bool {
		return r.proxy.Conns() == 0 && runtime.NumGoroutine() <= before
	})
}
