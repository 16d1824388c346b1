package counter

import (
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// Correction is what somebody changed by hand at the machine's panel: so many
// good pieces became scrap of a code, or rework.
type Correction struct {
	From, To rule.Stamp
	Good     int64
	Scrap    int64
	Rework   int64
	Code     string
}

// keepBack reports whether the good counter shows in this scan, or showed in
// the one before, a small drop that somebody may have made by hand: what scrap
// and rework rise meanwhile may be the other side of it.
func (r *Rule) keepBack(s *State, readings []Reading) bool {
	t := &s.Tracks[0]
	falls := t.Hold.N > 0 && t.Hold.Drop && t.Raw-t.Hold.First <= r.hand
	for i := range readings {
		if v := &readings[i]; v.Input == 0 && v.Good {
			falls = !t.Seen.IsZero() && v.Raw < t.Raw && t.Raw-v.Raw <= r.hand
		}
	}
	return falls
}

// kept keeps a rise of scrap or rework back and reports whether it did.
func (r *Rule) kept(s *State, v *Reading) bool {
	t := &s.Tracks[v.Input]
	if r.inputs[v.Input].pulse || t.Seen.IsZero() || v.Raw <= t.Raw || v.Raw-t.Raw > r.hand {
		return false
	}
	if t.Hold.N == 0 || t.Hold.Drop {
		t.Hold = hold{N: 1, First: v.Raw}
	}
	t.Hold.Raw, t.Hold.At = v.Raw, v.At
	return true
}

// corrected tells a correction by hand: good fell by what scrap and rework have
// risen, or by less, if pieces came in between.
func (r *Rule) corrected(s *State, in *input, t *track, v *Reading, elapsed int64, out Sink) (d verdict, ok bool) {
	fell := t.Raw - t.Hold.First
	if r.hand == 0 || in.role != good || fell > r.hand || !r.plausible(v.Raw-t.Hold.First, elapsed) {
		return verdict{}, false
	}
	rose := int64(0)
	for i := range s.Tracks {
		rose += r.rise(s, i)
	}
	if rose < fell {
		return verdict{}, false
	}
	for i := range s.Tracks {
		if n := min(r.rise(s, i), fell); n > 0 {
			c := Correction{From: t.Seen, To: v.At, Good: -n}
			if other := &r.inputs[i]; other.role == rework {
				c.Rework = n
			} else {
				c.Scrap, c.Code = n, r.codes[other.scrap]
			}
			out.Correct(c)
			fell -= n
			s.Tracks[i].move(n)
		}
	}
	made := v.Raw - t.Hold.First
	d = r.accept(s, in, t, v, made, 0, out)
	d.changed = true
	return d, true
}

// rise is by how much a counter of scrap or rework that was kept back has risen.
func (r *Rule) rise(s *State, i int) int64 {
	t := &s.Tracks[i]
	if i == 0 || !r.inputs[i].counts() || r.inputs[i].pulse || t.Hold.N == 0 || t.Hold.Drop {
		return 0
	}
	return t.Hold.Raw - t.Raw
}

// move takes n of what a counter has risen as told.
func (t *track) move(n int64) {
	t.Raw += n
	if t.Raw == t.Hold.Raw {
		t.Seen, t.Lost, t.Gap, t.Hold = t.Hold.At, false, time.Duration(0), hold{}
	}
}
