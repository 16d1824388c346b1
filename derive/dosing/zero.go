package dosing

import "github.com/sluice-edge/sluice/derive/rule"

// A bit says that the scale has another zero, and the weights beside it may be of
// either: they come in other requests. What went on meanwhile is what the weights
// say but for the largest step, which is that of the zero.

// zeroing follows the weights from the last that is sure to have the old zero to
// the first that is sure to have the new.
type zeroing struct {
	// Left is how many weights are still to come since At; none where nothing is
	// followed.
	Left int        `json:"n,omitempty"`
	At   rule.Stamp `json:"t,omitzero"`
	// From is the newest weight when the bit changed, Before the step to it. Doubt is
	// that step where it may have been that of the zero; Before is then the one before.
	From   int64 `json:"f,omitempty"`
	Before int64 `json:"b,omitempty"`
	Doubt  int64 `json:"d,omitempty"`
	// Last is the newest weight, Jump the largest of the Steps since From, with all
	// that are of the zero as well, Slow of them more than one.
	Last  int64 `json:"l,omitempty"`
	Jump  int64 `json:"j,omitempty"`
	Steps int64 `json:"s,omitempty"`
	Slow  int64 `json:"w,omitempty"`
}

const (
	// zeroReadings is the number of weights after which one is sure to have the new
	// zero: that of the request with the bit may be from before it.
	zeroReadings = 2
	// slowReadings is how many readings a scale may take to its new zero.
	slowReadings = 8
)

// add takes a weight, and reports whether it is the last that was to come. most is
// more than comes or leaves in a reading: a step beyond it is of the zero as well
// where it goes on from the one that is, as a scale that filters does.
func (z *zeroing) add(w, most int64) (done bool) {
	if z.Left == 0 {
		return false
	}
	step := w - z.Last
	large := magnitude(step) > 2*magnitude(z.Before)+most
	switch {
	case large && z.Jump != 0 && (step > 0) == (z.Jump > 0) && z.Slow < slowReadings &&
		16*magnitude(step) > magnitude(z.Jump) && magnitude(z.Jump) > 2*magnitude(z.Before)+most:
		z.Jump += step
		z.Slow++
		z.Left++
	case magnitude(step) >= magnitude(z.Jump):
		z.Jump = step
	}
	z.Last, z.Steps, z.Left = w, z.Steps+1, z.Left-1
	return z.Left == 0
}

// over reports whether the newest weight is sure to have the new zero at a time: it
// was seen to jump, and nothing has come since for longer than a weight is late, as
// with a subscription.
func (z *zeroing) over(at rule.Stamp, most int64) bool {
	return z.Left > 0 && magnitude(z.Jump) > 2*magnitude(z.Before)+most && at.At-z.At.At >= 2*sameTime
}

// went is what came (toward 1) or left (toward -1) while the zero changed, and was
// not told by the last weight before. In the step of the zero it is the lesser of
// what it was before and after.
func (z *zeroing) went(toward int64) int64 {
	others, steps := z.Last-z.From-z.Jump, z.Steps-z.Slow-1
	if z.Doubt != 0 {
		if magnitude(z.Doubt) > magnitude(z.Jump) {
			others, steps = z.Last-z.From, z.Steps
		} else {
			others, steps = others+z.Doubt, steps+1
		}
	}
	all := max(others*toward, 0)
	return (all + min(max(z.Before*toward, 0), all/max(steps, 1))) * toward
}

// zeroes begins to follow the weights at a new zero, and returns the last weight
// that is sure to have the old. toward is 1 where material may come now, -1 where
// it may leave, 0 for neither.
func (r *Live) zeroes(s *LiveState, toward int64, at rule.Stamp) (last int64) {
	seen := r.heard(s, (*input).weighs)
	z := &s.Zero
	if z.Left > 0 && seen {
		z.Left, z.At = zeroReadings, at // another bit, or the same again
		return z.From
	}
	*z = zeroing{At: at, From: s.Last.W, Before: s.Last.W - s.Was[1], Last: s.Last.W}
	last = s.Last.W
	if !s.sure(at) && r.jumped(s, toward) {
		last = s.Was[1]
		z.Doubt, z.Before = z.Before, last-s.Was[0]
	}
	if toward == 0 {
		z.Before, z.Doubt = 0, 0
	}
	if seen {
		z.Left = zeroReadings
	}
	return last
}

// sure reports whether the newest weight is of the old zero when a bit says that
// there is a new one: read once, and just now, it may be of that already.
func (s *LiveState) sure(at rule.Stamp) bool {
	return s.Win.N != 1 || at.At-s.Last.At.At >= 2*sameTime
}

// jumped reports whether the newest weight may be of the new zero already: it did
// not come from the one before as material comes or leaves.
func (r *Live) jumped(s *LiveState, toward int64) bool {
	step, before := s.Last.W-s.Was[1], s.Was[1]-s.Was[0]
	if step*toward <= 0 {
		return true
	}
	tared := toward > 0 || 2*magnitude(s.Last.W) < magnitude(s.Was[1])
	return tared && magnitude(step) > 2*magnitude(before)+r.least
}

// unsure reports whether the newest weight may be of the zero before: one that is
// said once is believed when it has stood for long enough.
func (s *LiveState) unsure(at rule.Stamp) bool {
	return s.Zero.Left > 0 && at.At-s.Last.At.At < int64(standTime)
}

// newZero begins anew: from now on the scale has another zero. What was under way
// is told by the last weight before.
func (r *Live) newZero(s *LiveState, at rule.Stamp, out Sink) {
	switch r.method {
	case byGain:
		r.gainRebase(s, at, out)
	case byContinuous:
		r.feedRebase(s, at, out)
	default:
		r.rebase(s, at, out)
	}
	s.Win = window{}
}

// newBegin takes the first weight that is sure to have the new zero.
func (r *Live) newBegin(s *LiveState) {
	switch r.method {
	case byGain:
		r.gainZero(s)
	case byContinuous:
		r.feedZero(s)
	default:
		r.batchZero(s)
	}
	s.Zero = zeroing{}
}

// rebase begins anew with another zero. While dosing is off, a weight that was read
// once does not count: it may be that of the new zero already.
func (r *Live) rebase(s *LiveState, at rule.Stamp, out Sink) {
	b := &s.Batch
	toward := int64(0)
	goesOn := b.Gated && (b.Ended.IsZero() || at.At-b.Ended.At < r.settle)
	if b.Gated {
		toward = -1
	}
	last := r.zeroes(s, toward, at)
	if b.Have {
		p := portion{at: at, begun: b.Begun, ended: at, before: b.Ref, after: last, estimated: true, unheard: b.Gap, words: &b.Words}
		b.rise(r, last)
		fell := b.Ref - last
		switch {
		case b.Gated && b.Refilled > 0:
			r.refilled(s, &p, fell, out)
		case b.Gated && fell > r.noise:
			r.dose(s, fell, &p, out)
		case magnitude(fell) > r.noise && (b.Gated || s.sure(at)):
			r.change(s, fell, &p, out)
		}
	}
	r.rest(s, at, out)
	b.Have, b.Refilled, b.Gap, b.Rough, b.Parts, b.Way = false, 0, false, false, false, way{}
	b.Blind = b.Blind || s.Zero.Left == 0
	if b.Gated = goesOn; goesOn {
		b.Begun = at
	}
}

// batchZero has a dose that is on go on from the newest weight.
func (r *Live) batchZero(s *LiveState) {
	b := &s.Batch
	if b.Have || !b.Gated {
		return
	}
	b.roughly(s.Last.W-s.Zero.went(-1), s.Last)
	b.Cut = true
	if _, known := r.gateState(s); !known {
		b.Gap = true
	}
}

// gainRebase begins anew with another zero.
func (r *Live) gainRebase(s *LiveState, at rule.Stamp, out Sink) {
	g := &s.Gain
	waits := g.Waits && !g.Active && at.At-g.Ended.At < r.settle
	if g.Falling && g.Low.At == s.Last.At && s.Win.N == 1 {
		// It is the new zero that looked as if the vessel had been emptied.
		g.Falling = false
		waits = !g.Active && at.At-g.Ended.At < r.settle
		g.Waits = waits
	}
	toward := int64(0)
	if g.Active || g.Waits {
		toward = 1
	}
	last := r.zeroes(s, toward, at)
	if g.Have && !g.Falling {
		if g.Waits && g.Active {
			r.after(s, g.At, at, true, out)
		}
		switch {
		case g.Waits:
			r.after(s, last, at, true, out)
		case g.Active:
			r.gained(s, last, &portion{at: at, begun: g.Begun, ended: at, estimated: true, unheard: g.Gap, words: &g.Words}, out)
		case last-g.Ref >= r.least && s.sure(at):
			r.nobodys(s, last, true, at, at, out)
		}
	}
	if g.Creep != 0 {
		r.gainDrift(s, at, out)
	}
	g.book(g.Ref)
	// What is still in the air comes with the new zero.
	g.Have, g.Falling, g.Waits, g.PriorGap, g.Gap = false, false, waits, waits && g.Away, g.Away
	g.Begun = at
	if waits {
		g.Before = at
	}
}

// gainZero has what goes in, or is still in the air, go on from the newest weight.
func (r *Live) gainZero(s *LiveState) {
	if g := &s.Gain; !g.Have && (g.Active || g.Waits) {
		g.roughly(s.Last.W-s.Zero.went(1), s.Last.W)
		g.At, g.Cut = g.Ref, true
	}
}

// feedRebase begins anew with another zero.
func (r *Live) feedRebase(s *LiveState, at rule.Stamp, out Sink) {
	last := r.zeroes(s, -1, at)
	if f := &s.Feed; f.Have {
		s.Last.W = last
		r.interval(s, at, true, out)
		f.Have = false
	}
}

// feedZero has a feeder go on from the newest weight.
func (r *Live) feedZero(s *LiveState) {
	f := &s.Feed
	if f.Have {
		return
	}
	since, w := f.Since, s.Last.W-s.Zero.went(-1)
	r.feedBegins(s)
	f.Ref, f.Estimated = w, true
	if !since.IsZero() {
		f.Since = since
	}
}
