package derive

import (
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// collect reports the process values that are due, as one event.
func (r *run) collect() {
	values, at := r.m.parameters.Collect(&r.s.parameters, r.now)
	r.changed = true
	if len(values) == 0 {
		return
	}
	r.emitJSON(plant.KindParameters, at, plant.Parameters{Head: r.headAt(at), Parameters: values})
}

// keepPolled keeps the process values anew of which an answer has more: it is of the
// poll in which the start or stop began.
func (r *run) keepPolled() {
	if at, ok := r.s.startstop.BeganInPoll(); ok && r.m.valuesKept {
		r.m.parameters.Keep(&r.s.parameters, at)
	}
}

// keepValues keeps the process values of the moment in which a start or stop
// began that is not old enough to be believed.
func (r *run) keepValues() {
	if r.m.parameters == nil {
		return
	}
	p := &r.s.parameters
	switch at := r.s.startstop.Change.At.At; at {
	case p.SnapAt:
	case 0:
		r.m.parameters.Forget(p)
	default:
		r.m.parameters.Keep(p, at)
	}
}

// snapshot reports the process values at a start or stop.
func (r *run) snapshot(e *startstop.Event) {
	if r.m.parameters == nil {
		return
	}
	values := r.m.parameters.Snapshot(&r.s.parameters, e.At.At, r.now)
	if len(values) == 0 {
		return
	}
	p := plant.Parameters{Head: r.headAt(e.At), Parameters: values, At: "stop", StopID: e.StopID}
	if e.Running {
		p.At = "start"
	}
	r.emitJSON(plant.KindParameters, e.At, p)
}

// closeValues ends the intervals of process values at a boundary, so that their
// figures belong to one order, shift and mode. An order that was read twice to be
// believed began a reading ago: what was read since counts for the one before.
func (r *run) closeValues(at rule.Stamp, why boundary) {
	p := r.m.parameters
	if p == nil {
		return
	}
	end := at.At
	switch why {
	case gatewayStops:
		p.Pause(&r.s.parameters, r.now)
		return
	case orderEnds:
		end = r.now
	}
	if p.Close(&r.s.parameters, end, r.now) {
		r.collect()
	}
}
