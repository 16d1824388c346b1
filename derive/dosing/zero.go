package dosing

import "github.com/sluice-edge/sluice/derive/rule"

// A bit says that the scale has another zero, and the weights beside it may be of
// either: they come in other requests. What went on meanwhile is what the weights
// say but for the largest steps, one for each time that a bit changed.

const (
	// zeroReadings is the number of weights after which one is sure to have the new
	// zero: that of the request with the bit may be from before it.
	zeroReadings = 2
	// slowReadings is how many readings more a scale may take to its new zero.
	slowReadings = 8
	// zeroSteps is how many weights are followed at most.
	zeroSteps = 24
)

// zeroing follows the weights from the last that is sure to have the old zero to
// the first that is sure to have the new.
type zeroing struct {
	// Left is how many weights are still to come since At, the time of the newest
	// bit; none where nothing is followed. More is how many were added.
	Left int `json:"n,omitempty"`
	More int `json:"m,omitempty"`
	// Fresh is set where the bit changed while nobody looked: there is no weight
	// before.
	Fresh bool       `json:"u,omitempty"`
	At    rule.Stamp `json:"t,omitzero"`
	// Bits is how often a bit changed since From, the last weight that is sure to
	// have the old zero. Before is the step to that.
	Bits   int   `json:"k,omitempty"`
	From   int64 `json:"f,omitempty"`
	Before int64 `json:"b,omitempty"`
	// Steps are the Count steps since From, and Last is the newest weight.
	Steps [zeroSteps]int64 `json:"x,omitzero"`
	Count int              `json:"c,omitempty"`
	Last  int64            `json:"l,omitempty"`
}

// step notes a weight.
func (z *zeroing) step(w int64) {
	z.Steps[z.Count] = w - z.Last
	z.Last = w
	z.Count++
}

// large reports whether a step is more than comes or leaves in a reading, by the
// one before the zero changed and by most.
func (z *zeroing) large(step, most int64) bool {
	return magnitude(step) > 2*magnitude(z.Before)+most
}

// goesOn reports whether the step i is of the same zero as the one before it, as
// with a scale that filters.
func (z *zeroing) goesOn(i int, most int64) bool {
	if i < 1 || i >= z.Count {
		return false
	}
	a, b := z.Steps[i-1], z.Steps[i]
	return z.large(a, most) && z.large(b, most) && (a > 0) == (b > 0) && 16*magnitude(b) > magnitude(a)
}

// add takes a weight, and reports whether it is the last that was to come.
func (z *zeroing) add(w, most int64) (done bool) {
	if z.Left == 0 {
		return false
	}
	if z.Fresh {
		z.Left--
		return z.Left == 0
	}
	z.step(w)
	z.Left--
	newest := z.Count - 1
	switch {
	case z.More >= slowReadings:
	case z.goesOn(newest, most), z.Left == 0 && z.large(z.Steps[newest], most) && z.jumps(most) > z.Bits:
		// It is on its way, or the bit of this one is still to come.
		z.Left++
		z.More++
	}
	if z.Count == zeroSteps {
		z.Left = 0
	}
	return z.Left == 0
}

// jumps is how often the weight went faster than it may by itself.
func (z *zeroing) jumps(most int64) (n int) {
	for i := range z.Count {
		if z.large(z.Steps[i], most) && !z.goesOn(i, most) {
			n++
		}
	}
	return n
}

// over reports whether the newest weight is sure to have the new zero at a time: it
// was seen to jump as often as a bit says, and nothing has come since for longer
// than a weight is late, as with a subscription.
func (z *zeroing) over(at rule.Stamp, most int64) bool {
	return z.Left > 0 && (z.Fresh || z.jumps(most) >= z.Bits) && at.At-z.At.At >= 2*sameTime
}

// went is what came (toward 1) or left (toward -1) while the zero changed, and was
// not told by the last weight before. In the step of a zero it is pace, the lesser
// of what it was before and after. Against is what went the other way instead. In
// doubt are steps of which nobody knows whether they were of a zero: they are left
// out.
func (z *zeroing) went(toward, most int64) (flow, pace, against int64, doubt bool) {
	var gone [zeroSteps]bool
	zeros := int64(0)
	for range min(z.Bits, z.Count) {
		jump := -1
		for i := range z.Count {
			if !gone[i] && (jump < 0 || magnitude(z.Steps[i]) > magnitude(z.Steps[jump])) {
				jump = i
			}
		}
		if jump < 0 {
			break
		}
		gone[jump] = true
		zeros++
		for i := jump; z.goesOn(i, most); i-- {
			gone[i-1] = true
		}
		for i := jump + 1; z.goesOn(i, most); i++ {
			gone[i] = true
		}
	}
	steps := int64(0)
	for i := range z.Count {
		switch {
		case gone[i]:
		case z.large(z.Steps[i], most) && !z.alike(i, toward, &gone):
			doubt = true
		default:
			flow += z.Steps[i]
			steps++
		}
	}
	flow *= toward
	against, flow = max(-flow, 0), max(flow, 0)
	pace = min(max(z.Before*toward, 0), flow/max(steps, 1))
	return (flow + pace*zeros) * toward, pace * toward, against * -toward, doubt
}

// alike reports whether the large step i is that of a flow: another is not much
// less.
func (z *zeroing) alike(i int, toward int64, gone *[zeroSteps]bool) bool {
	step := z.Steps[i] * toward
	for j := range z.Count {
		if j != i && !gone[j] && step > 0 && 2*z.Steps[j]*toward >= step {
			return true
		}
	}
	return false
}

// zeroes begins to follow the weights at a new zero, and returns the last weight
// that is sure to have the old. toward is 1 where material may come now, -1 where
// it may leave, 0 for neither.
func (r *Live) zeroes(s *LiveState, toward int64, at rule.Stamp) (last int64) {
	seen := r.heard(s, (*input).weighs)
	z := &s.Zero
	if z.Left > 0 && seen || z.Left > 0 && z.Fresh {
		z.Left, z.At = zeroReadings, at // another bit, or the same again
		z.Bits++
		return z.From
	}
	*z = zeroing{At: at, Bits: 1, From: s.Last.W, Before: s.Last.W - s.Was[1], Last: s.Last.W}
	if !s.sure(at) && r.jumped(s, toward) {
		z.From, z.Before, z.Last = s.Was[1], s.Was[1]-s.Was[0], s.Was[1]
		z.step(s.Last.W)
	}
	if toward == 0 {
		z.Before = 0
	}
	z.Left, z.Fresh = zeroReadings, !seen
	return z.From
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
	most := 2*magnitude(before) + r.least
	if toward < 0 && 2*magnitude(s.Last.W) >= magnitude(s.Was[1]) {
		most = 2*magnitude(before) + r.fastest() // it does not look as if it were tared
	}
	return magnitude(step) > most
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
func (r *Live) newBegin(s *LiveState, out Sink) {
	// Before it is kept, a crash loses what flows.
	out.Urgent()
	if s.Zero.Fresh {
		s.Was = [2]int64{s.Last.W, s.Last.W}
		s.Zero = zeroing{}
		return
	}
	toward := int64(-1)
	if r.method == byGain {
		toward = 1
	}
	flow, pace, against, doubt := s.Zero.went(toward, r.fastest())
	switch r.method {
	case byGain:
		r.gainZero(s, flow, doubt)
	case byContinuous:
		r.feedZero(s, flow, against, doubt)
	default:
		r.batchZero(s, flow, doubt)
	}
	// The steps before are those of the new zero from here on.
	s.Was = [2]int64{s.Last.W - 2*pace, s.Last.W - pace}
	s.Zero = zeroing{}
}

// fastest is more than comes or leaves in a reading, besides what did right before.
func (r *Live) fastest() int64 { return 8 * r.least }

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
		p := portion{at: at, begun: b.Begun, ended: at, before: b.Ref, after: last, estimated: true, unheard: b.Gap, zeroed: b.Unsure, words: &b.Words}
		if last != s.Last.W && b.Way.Chunk.At == s.Last.At {
			b.Fall, b.Time = 0, 0 // measured by the step of the zero
		}
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
	b.Have, b.Refilled, b.Gap, b.Rough, b.Parts, b.Unsure, b.Way = false, 0, false, false, false, false, way{}
	b.Blind, b.Zeroed = b.Blind || s.Zero.Fresh, true
	if b.Gated = goesOn; goesOn {
		b.Begun = at
	}
}

// batchZero has a dose that is on go on from the newest weight.
func (r *Live) batchZero(s *LiveState, flow int64, doubt bool) {
	b := &s.Batch
	if b.Have || !b.Gated {
		return
	}
	b.roughly(s.Last.W-flow, s.Last)
	b.Cut, b.Unsure = true, doubt
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
	if g.Over.At == s.Last.At && last != s.Last.W {
		g.rough(g.Over.W) // it was not emptied
	}
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
func (r *Live) gainZero(s *LiveState, flow int64, doubt bool) {
	if g := &s.Gain; !g.Have && (g.Active || g.Waits) {
		g.roughly(s.Last.W-flow, s.Last.W)
		g.At, g.Cut, g.Unsure = g.Ref, true, doubt
	}
}

// feedRebase begins anew with another zero.
func (r *Live) feedRebase(s *LiveState, at rule.Stamp, out Sink) {
	last := r.zeroes(s, -1, at)
	f := &s.Feed
	if !f.Have {
		return
	}
	if last != s.Last.W {
		f.Out, f.Estimated = 0, true // it was the new zero that left so fast
		s.Last.W = last
		f.High.W = min(f.High.W, last)
	}
	if f.Up && f.High.W-f.Low.W > r.least {
		r.filled(s, s.Last, out)
	}
	f.Up = false
	r.interval(s, s.Last.At, true, out)
	f.Have = false
}

// feedZero has a feeder go on from the newest weight, that has been refilled by so
// much meanwhile.
func (r *Live) feedZero(s *LiveState, flow, refilled int64, doubt bool) {
	f := &s.Feed
	if f.Have {
		return
	}
	since := f.Since
	r.feedBegins(s)
	f.Ref, f.Estimated, f.Unsure = s.Last.W-flow, true, doubt
	if !since.IsZero() {
		f.Since = since
	}
	if refilled > r.noise {
		f.Low.W -= refilled
		f.Ref, f.High, f.Up = f.Low.W, s.Last, true
	}
}
