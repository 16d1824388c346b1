package derive

import (
	"cmp"

	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// A machine whose state is known by its own pieces: the counter counts them and
// the start/stop rule is handed the total.

// countedBy is the tag by which a machine counts its pieces, empty if it counts
// none; it is that of the counter's first input.
func countedBy(o *counter.Options) string {
	if o == nil {
		return ""
	}
	name := cmp.Or(o.Good, o.Total)
	if len(o.Scrap.Rows) > 0 {
		name = cmp.Or(name, o.Scrap.Rows[0].Value)
	}
	return cmp.Or(name, o.Rework)
}

// ahead marks, before the pieces of a scan are counted, that a run may begin with
// them: they belong to it and not to the stop before it.
func (r *run) ahead() {
	if r.m.startstop == nil || !r.s.counter.Mark.IsZero() || !r.m.startstop.Starts(&r.s.startstop) {
		return
	}
	moved := false
	for i := range r.counts {
		c := &r.counts[i]
		if c.Good && c.Raw != r.s.counter.Tracks[c.Input].Raw {
			moved = true
		}
	}
	for i := range r.counts {
		if c := &r.counts[i]; moved && c.Input == 0 && c.Good {
			r.m.counter.Mark(&r.s.counter, c.At, r.now, r)
			r.start = c.At
		}
	}
}

// noStart takes back what ahead marked, if no run began.
func (r *run) noStart() {
	if !r.start.IsZero() {
		r.m.counter.Unmark(&r.s.counter, r.start)
		r.start = rule.Stamp{}
	}
}

// handTotal hands the total of the scan to the start/stop rule.
func (r *run) handTotal() {
	if r.m.startstop == nil || !r.m.startstop.Own() {
		return
	}
	for i := range r.counts {
		if c := &r.counts[i]; c.Input == 0 {
			r.states = append(r.states, startstop.Reading{Role: startstop.RoleState, At: c.At, Value: plant.IntValue(r.produced()), Good: c.Good})
		}
	}
}

// latePieces hands over a total that rose without a scan: the counter has
// believed a number that stood.
func (r *run) latePieces() {
	if r.m.startstop == nil {
		return
	}
	before, ok := r.m.startstop.Counted(&r.s.startstop)
	if total := r.produced(); ok && total != before {
		r.states = append(r.states[:0], startstop.Reading{Role: startstop.RoleState, At: rule.Stamp{At: r.now}, Value: plant.IntValue(total), Good: true})
		r.changed = r.m.startstop.Observe(&r.s.startstop, r.states, false, r.now, r) || r.changed
	}
}

// produced is all pieces counted so far, of all sorts.
func (r *run) produced() int64 {
	t := r.s.counter.Counted()
	n := t.Good + t.Rework
	for _, scrap := range t.Scrap {
		n += scrap
	}
	return n
}
