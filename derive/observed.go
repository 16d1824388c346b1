package derive

import (
	"slices"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// device notes that a device was lost or is back.
func (r *run) device(in plant.DeviceState) {
	if r.m.devices[in.Device] == nil {
		return
	}
	switch {
	case in.Connected:
		r.back(in.Device)
	case !slices.ContainsFunc(r.s.gateway.Lost, func(l lostDevice) bool { return l.Device == in.Device }):
		r.s.gateway.Lost = append(r.s.gateway.Lost, lostDevice{Device: in.Device, At: rule.Stamp{At: r.now}, Cause: in.Cause})
		r.missed(in.Device)
	}
	r.due()
}

// back notes that a device answers: its driver says so, or a scan is there (the
// gateway may have stopped while the device was lost).
func (r *run) back(d plant.DeviceID) {
	g := &r.s.gateway
	i := slices.IndexFunc(g.Lost, func(l lostDevice) bool { return l.Device == d })
	if i < 0 {
		return
	}
	l := g.Lost[i]
	g.Lost = slices.Delete(g.Lost, i, i+1)
	r.changed = true
	if l.Told {
		r.observed(plant.Observed{Observed: true, Since: stampTime(l.At), Device: l.Device})
	}
}

// missed tells the rules that readings of a device are missing.
func (r *run) missed(d plant.DeviceID) {
	r.takeHeld(true)
	r.deaf(d)
	r.m.values.forget(&r.s.values, d)
	r.unseen(r.m.covers(d))
	r.lostRecords(d)
	r.lostWeighed(d)
	r.changed = true
}

// stood tells the rules that the gateway did not run for a while: what waited to
// be confirmed by time was not observed meanwhile, on no device.
func (r *run) stood() {
	r.s.gateway.Stood, r.changed = false, true
	r.takeHeld(false) // sessions begin at 1 again
	all := func(rule.Input) bool { return true }
	r.unseen(all)
	for i, w := range r.m.weighed {
		w.Lost(&r.s.weighed[i], all)
	}
}

// unseen tells the rules of whole numbers, states and values that the inputs of
// these were not observed for a while.
func (r *run) unseen(of func(rule.Input) bool) {
	if r.m.counter != nil {
		r.m.counter.Lost(&r.s.counter, of)
	}
	if r.m.startstop != nil {
		r.m.startstop.Lost(&r.s.startstop, of, r)
	}
	if r.m.parameters != nil {
		r.m.parameters.Lost(&r.s.parameters, of)
	}
	if r.m.order != nil {
		r.m.order.unseen(r, of)
	}
}

// dueObserved says that a device has been silent for too long.
func (r *run) dueObserved() {
	for i := range r.s.gateway.Lost {
		l := &r.s.gateway.Lost[i]
		if l.Told || r.now < l.At.At+int64(r.m.unobserved) {
			continue
		}
		l.Told = true
		r.changed = true
		r.observed(plant.Observed{Since: stampTime(l.At), Device: l.Device, Cause: l.Cause})
	}
}

func (r *run) observed(o plant.Observed) {
	at := rule.Stamp{At: r.now}
	o.Head = r.headAt(at)
	r.emitJSON(plant.KindObserved, at, o)
}
