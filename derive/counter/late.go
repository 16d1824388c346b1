package counter

import (
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// lateTime is how long the total of a gap waits for the scrap of the same gap, and
// the scrap for the total.
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
		if in.role != scrap && in.role != rework || in.pulse || !t.Lost || t.Seen.IsZero() || s.isEarly(i) {
			continue
		}
		if !slices.ContainsFunc(readings, func(v Reading) bool { return v.Input == i }) {
			return true
		}
	}
	return false
}

// early is scrap or rework of a gap that was read before the total, or good, of the
// same gap: it waits since then, so that they are told together.
type early struct {
	Input int        `json:"i"`
	Raw   int64      `json:"r,omitempty"`
	At    rule.Stamp `json:"t"`
	Since rule.Stamp `json:"s"`
}

func (s *State) isEarly(input int) bool {
	return slices.ContainsFunc(s.Early, func(e early) bool { return e.Input == input })
}

// keepEarly keeps the scrap and the rework that end a gap until the main counter of
// the gap is read, and where it waits itself, until all are. It reports whether there
// were any.
func (r *Rule) keepEarly(s *State, readings []Reading, snapshot bool) (kept bool) {
	if len(r.inputs) == 0 || r.inputs[0].role > total || r.inputs[0].pulse || r.hand > 0 {
		return false
	}
	if t := &s.Tracks[0]; t.Seen.IsZero() || !t.Lost || mainRead(readings) || !s.Late.At.IsZero() && !r.unread(s, readings) {
		return false
	}
	for i := range readings {
		v := &readings[i]
		in, t := &r.inputs[v.Input], &s.Tracks[v.Input]
		if !v.Good || in.role != scrap && in.role != rework || in.pulse || t.Seen.IsZero() || !t.Lost && !snapshot || v.Raw == t.Raw && !s.isEarly(v.Input) {
			continue
		}
		s.putEarly(v)
		v.Good, kept = false, true
	}
	return kept
}

// putEarly keeps a number in the place of that of before; the oldest comes first.
func (s *State) putEarly(v *Reading) {
	s.Early = slices.Clone(s.Early)
	e := early{Input: v.Input, Raw: v.Raw, At: v.At, Since: v.At}
	if i := slices.IndexFunc(s.Early, func(e early) bool { return e.Input == v.Input }); i >= 0 {
		e.Since = s.Early[i].Since
		s.Early[i] = e
		return
	}
	s.Early = append(s.Early, e)
}

// mainRead reports whether readings have the total, or good.
func mainRead(readings []Reading) bool {
	return slices.ContainsFunc(readings, func(v Reading) bool { return v.Input == 0 && v.Good })
}

// without returns what was early of the other inputs, as memory of its own.
func (s *State) without(input int) []early {
	return slices.DeleteFunc(slices.Clone(s.Early), func(e early) bool { return e.Input == input })
}

// takeEarly returns readings with what was early, unless they have it anew.
func (s *State) takeEarly(readings []Reading) []Reading {
	all := slices.Clip(readings)
	for _, e := range s.Early {
		if !slices.ContainsFunc(readings, func(v Reading) bool { return v.Input == e.Input && v.Good }) {
			all = append(all, Reading{Input: e.Input, At: e.At, Raw: e.Raw, Good: true})
		}
	}
	s.Early = nil
	return all
}

// giveUp counts what was early without the main counter, which does not come.
func (r *Rule) giveUp(s *State, now int64, out Sink) {
	readings := s.takeEarly(nil)
	r.Flush(s, now, out)
	r.take(s, readings, false, now, out, true)
}

// waitsUntil returns when what waits for another request is counted at the latest, 0
// for nothing.
func (s *State) waitsUntil() int64 {
	switch {
	case !s.Late.At.IsZero():
		return s.Late.At.At + int64(lateTime)
	case len(s.Early) > 0:
		return s.Early[0].Since.At + int64(lateTime)
	default:
		return 0
	}
}

// catchUp counts the total that was put off, together with the scrap and the rework
// of readings and of before, and returns what is left of them: what the total shows by now.
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
	first = s.takeEarly(first)
	if !l.After {
		r.Flush(s, now, out)
	}
	r.take(s, first, snapshot, now, out, !l.After)
	return rest
}
