package counter

import (
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// lateTime is how long the total of a gap waits for the scrap of the same gap.
const lateTime = 5 * time.Second

// late is the number of the total that ended a gap, while scrap or rework of the
// same gap are still to be read by another request: together they are what was made
// in it, and for whichever order. Without it, At is never.
type late struct {
	Raw int64      `json:"r,omitempty"`
	At  rule.Stamp `json:"t,omitzero"`
	// After is set where what it counts belongs behind the newest Mark.
	After bool `json:"a,omitempty"`
}

// putOff keeps the number of a total that ends a gap until what is taken off it has
// been read, too.
func (r *Rule) putOff(s *State, readings []Reading, snapshot, after bool) bool {
	main := slices.IndexFunc(readings, func(v Reading) bool { return v.Input == 0 && v.Good })
	if main < 0 || !r.hasTotal() || r.inputs[0].pulse || r.hand > 0 || !s.Late.At.IsZero() {
		return false
	}
	v, t := &readings[main], &s.Tracks[0]
	if t.Seen.IsZero() || !t.Lost && !snapshot || r.turned(v) == t.Raw || !r.unread(s, readings) {
		return false
	}
	s.Late = late{Raw: v.Raw, At: v.At, After: after}
	v.Good = false
	return true
}

// unread reports whether scrap or rework of a gap is still to be read by another
// request.
func (r *Rule) unread(s *State, readings []Reading) bool {
	for i := range r.inputs {
		in, t := &r.inputs[i], &s.Tracks[i]
		if in.role != scrap && in.role != rework || in.pulse || !t.Lost || t.Seen.IsZero() {
			continue
		}
		if !slices.ContainsFunc(readings, func(v Reading) bool { return v.Input == i }) {
			return true
		}
	}
	return false
}

// catchUp counts the total that was put off, together with the scrap and the rework
// of readings, and returns what is left of them: what the total shows by now.
func (r *Rule) catchUp(s *State, readings []Reading, snapshot bool, now int64, out Sink) []Reading {
	of := func(v Reading) bool { return r.inputs[v.Input].counts() }
	if s.Late.At.IsZero() || readings != nil && !slices.ContainsFunc(readings, of) {
		return readings
	}
	l := s.Late
	s.Late = late{}
	first, rest := []Reading{{Input: 0, At: l.At, Raw: l.Raw, Good: true}}, []Reading(nil)
	for _, v := range readings {
		if v.Input == 0 {
			rest = append(rest, v)
		} else {
			first = append(first, v)
		}
	}
	if !l.After {
		r.Flush(s, now, out)
	}
	r.take(s, first, snapshot, now, out, !l.After)
	return rest
}
