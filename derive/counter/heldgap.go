package counter

import (
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// before is what was read last before the gap that a drop is held over, after what
// was read first behind it; they are not Good where there is none.
func (h *hold) before(input int) Reading {
	return Reading{Input: input, At: h.BeforeAt, Raw: h.Before, Good: !h.BeforeAt.IsZero()}
}

func (h *hold) after(input int) Reading {
	return Reading{Input: input, At: h.AfterAt, Raw: h.After, Good: !h.AfterAt.IsZero()}
}

// parts reports whether the reading that confirms a drop counts more than the one
// that ended the gap: what was made in between was seen. A counter that counts down,
// is corrected by hand or has cycles says that with its later numbers only.
func (r *Rule) parts(in *input, t *track, first, v *Reading) bool {
	return t.Lost && first.Good && first.Raw < v.Raw && !in.down && r.hand == 0 && r.cavity < 0 && r.preset < 0
}

// Confirm books what was read before a gap and held, where the readings of a scan
// confirm it: it is none of the gap's pieces, which the readings themselves count.
// Where a second gap began before that, the pieces of the first one are booked, too.
// It is called before the readings are observed.
func (r *Rule) Confirm(s *State, readings []Reading, snapshot bool, now int64, out Sink) (changed bool) {
	var sum delta
	var ended []int
	ahead := s.Now.From.IsZero() && !s.Mark.IsZero() // nothing is counted behind the mark
	main := slices.IndexFunc(readings, func(v Reading) bool { return v.Input == 0 && v.Good })
	s.back = main >= 0 && r.turned(&readings[main]) >= s.Tracks[0].Raw
	var restart rule.Stamp // when a total that is confirmed now was seen reset
	for _, main := range [...]bool{true, false} {
		for i := range readings {
			v := &readings[i]
			t := &s.Tracks[v.Input]
			if !v.Good || (v.Input == 0) != main || t.Hold.N == 0 || !t.Hold.Drop {
				continue
			}
			was := t.Hold
			if r.confirmed(s, v, snapshot, !main && was.FirstAt == restart, &sum, out) {
				ended = append(ended, v.Input)
			}
			if main && t.Hold.N == 0 {
				restart = was.FirstAt
			}
			changed = changed || t.Hold != was
		}
	}
	r.sumUp(s, &sum)
	if ahead {
		s.ahead()
	}
	if ended != nil {
		r.Flush(s, now, out)
		r.endFirst(s, ended, out)
		r.Flush(s, now, out)
	}
	return changed
}

// ahead takes all that was counted to what was made before the newest Mark.
func (s *State) ahead() {
	if s.Now.From.IsZero() {
		return
	}
	if b := &s.Before; !b.From.IsZero() {
		s.Now.From, s.Now.Flags, s.Now.Gap = b.From, s.Now.Flags|b.Flags, max(s.Now.Gap, b.Gap)
	}
	s.Before.copyFrom(&s.Now)
	s.Now.clear()
}

// confirmed takes to a sum what was held before a gap, if v confirms it, and has the
// reading that ended the gap judged before v. It reports whether v ends a second gap:
// then the first one is to be told by itself. With the total seen reset in the same
// answer, it is no noise that the number is back above the old one.
func (r *Rule) confirmed(s *State, v *Reading, snapshot, withTotal bool, sum *delta, out Sink) (second bool) {
	in, t := &r.inputs[v.Input], &s.Tracks[v.Input]
	h, next := &t.Hold, Reading{Raw: r.turned(v), At: v.At}
	h.Cut = h.Cut || snapshot
	before, end := h.before(v.Input), h.after(v.Input)
	second = h.Cut && end.Good
	if next.Raw >= t.Raw && !withTotal || !r.goesOn(h, &next) || !second && h.N+1 < r.confirm && !withTotal {
		return false
	}
	if h.Cut && !second {
		before = Reading{Input: v.Input, Raw: h.Raw, At: h.At, Good: true}
	}
	if before.Good {
		t.Lost, t.Gap = false, 0
		d := r.dropped(s, in, t, &before, before.At.Since(t.Seen), out)
		t.Lost = true
		r.add(s, sum, &before, &d)
	}
	if end.Good && (before.Good || second) {
		t.End, t.Gap = end, max(time.Duration(end.At.At-t.Seen.At), time.Millisecond)
	}
	return second
}

// restarts reports whether scrap or rework was seen to drop in the same answer as the
// total, before a gap behind which the total is not back: a device that restarted.
func (r *Rule) restarts(s *State, in *input, t *track, v *Reading) bool {
	main := &s.Tracks[0]
	return !s.back && t != main && t.Lost && t.Hold.N > 0 && t.Hold.Drop && (in.role == scrap || in.role == rework) &&
		main.Hold.N > 0 && main.Hold.Drop && main.Hold.FirstAt == t.Hold.FirstAt && r.goesOn(&t.Hold, v)
}

// endFirst books what the readings count that ended the first of two gaps.
func (r *Rule) endFirst(s *State, inputs []int, out Sink) {
	var sum delta
	for _, i := range inputs {
		in, t := &r.inputs[i], &s.Tracks[i]
		end := t.End
		t.End = Reading{}
		var d verdict
		if t.Hold.N > 0 {
			d = r.dropped(s, in, t, &end, end.At.Since(t.Seen), out)
		} else {
			d = r.accept(s, in, t, &end, end.Raw-t.Raw, 0, out)
		}
		t.Lost = true
		r.add(s, &sum, &end, &d)
	}
	r.sumUp(s, &sum)
}
