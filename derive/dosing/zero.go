package dosing

import (
	"slices"

	"github.com/sluice-edge/sluice/derive/rule"
)

// What a new zero of the scale is to each method: what was under way is told by the last
// weight of the old one, and goes on from the first that is sure to have the new.

// zeroes begins to follow the weights at a new zero, and returns the last weight
// that is sure to have the old. toward is 1 where material may come now, -1 where
// it may leave, 0 for neither.
func (r *Live) zeroes(s *LiveState, toward int64, at rule.Stamp) (last int64) {
	seen := r.heard(s, (*input).weighs)
	z := &s.Zero
	if z.Left > 0 && (seen || z.Unseen > 0) {
		z.Left, z.At = zeroReadings, at // another bit, or the same again
		z.Bits++
		return z.From
	}
	before := s.Was[1] - s.Was[0]
	*z = zeroing{At: at, Bits: 1, Before: before}
	if seen && !s.sure(at) && r.jumped(s, toward) || !seen && r.zeroStep(z, s.Last.W-s.Was[1], toward) {
		z.From, z.Last = s.Was[1], s.Was[1]
		z.step(s.Last.W)
		if seen && s.Unseen {
			z.Unseen = z.Count
		}
	} else {
		z.From, z.Last, z.Before = s.Last.W, s.Last.W, s.Last.W-s.Was[1]
	}
	if toward == 0 && magnitude(z.Before) <= r.noise {
		z.Before = 0
	}
	if z.Left = zeroReadings; !seen {
		z.Unseen, z.Since, z.Lapse = z.Count+1, s.Last.At, s.Lapse
	}
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
	if step*toward <= 0 && toward != 0 {
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
	unseen := s.Zero.Unseen > 0
	r.zeroed(s)
	if unseen && (s.Batch.Unsure || s.Gain.Unsure || s.Feed.Unsure) {
		r.zeroAlarm(s, true, out)
	}
}

// zeroAlarm says that nobody knows what came or left while the scale got another zero.
// It stands until a dose is in no doubt.
func (r *Live) zeroAlarm(s *LiveState, raised bool, out Sink) {
	if s.Unknown == raised {
		return
	}
	s.Unknown = raised
	a := rule.Alarm{Name: "zero_unseen:" + r.name, Text: "the newest dose is in no doubt", Raised: raised}
	if raised {
		a.Text = "the scale got another zero while nobody looked: what came or left meanwhile is not known"
		a.Remedy = "compare with what is in the hopper; use a weight that no tare changes (gross, or net and tare)"
	}
	out.Alarm(a)
}

// weighed tells of a dose by weight; one in no doubt ends the alarm of a new zero.
func (r *Live) weighed(s *LiveState, p *portion, out Sink) {
	r.tell(p, out)
	if !p.drift && !p.zeroed && !p.unheard {
		r.zeroAlarm(s, false, out)
	}
}

// zeroed goes on from the newest weight, which has the new zero.
func (r *Live) zeroed(s *LiveState) {
	z := &s.Zero
	toward := int64(-1)
	switch {
	case z.Idle:
		toward = 0
	case r.method == byGain:
		toward = 1
	}
	flow, pace, against, doubt := z.went(toward, r.fastest(), r.noise)
	switch r.method {
	case byBatchOut:
		r.batchZero(s, flow, doubt)
	case byGain:
		r.gainZero(s, flow, doubt)
	default:
		r.feedZero(s, flow, against, doubt)
	}
	// The steps before are those of the new zero from here on.
	s.Was = [2]int64{s.Last.W - 2*pace, s.Last.W - pace}
	s.Zero = zeroing{}
}

// fastest is more than comes or leaves in a reading, besides what did right before.
func (r *Live) fastest() int64 { return 8 * r.least }

// rebase begins anew with another zero.
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
		case magnitude(fell) > r.noise:
			r.change(s, fell, &p, out)
		}
	}
	r.rest(s, at, out)
	b.Have, b.Refilled, b.Gap, b.Rough, b.Parts, b.Unsure, b.Way = false, 0, false, false, false, false, way{}
	b.Blind = b.Blind || !r.heard(s, (*input).weighs)
	if b.Gated = goesOn; goesOn {
		b.Begun = at
	}
	s.Zero.Idle = !goesOn
	out.Urgent()
}

// zeroStep reports whether a step is sure to be of a zero: it is faster than what flows
// toward it, or against that.
func (r *Live) zeroStep(z *zeroing, step, toward int64) bool {
	return z.large(step, r.fastest()) || step*toward < 0 && z.large(step, r.least)
}

// zeroUnseen has nobody look while the scale goes to a new zero.
func (r *Live) zeroUnseen(s *LiveState) {
	z := &s.Zero
	switch {
	case z.Left == 0:
	case z.jumps(r.fastest()) >= z.Bits,
		z.Bits == 1 && !z.Idle && r.method == byBatchOut && r.zeroStep(z, slices.Max(z.Steps[:]), -1),
		z.Bits == 1 && r.method == byGain && r.zeroStep(z, slices.Min(z.Steps[:]), 1):
		r.zeroed(s)
	default:
		z.Left, z.Unseen, z.Since, z.Lapse = zeroReadings, z.Count+1, s.Last.At, s.Lapse
	}
}

// batchZero begins with a weight that is sure to have the new zero. What came or left
// since the last that had the old, and was not told by that, is still to be told.
func (r *Live) batchZero(s *LiveState, flow int64, doubt bool) {
	b := &s.Batch
	if b.Have {
		return
	}
	b.roughly(s.Last.W-flow, s.Last)
	b.Cut, b.Unsure = b.Gated, doubt
	_, known := r.gateState(s)
	b.Gap, b.Blind = b.Gated && (b.Blind || !known || s.Zero.Unseen > 0), b.Blind && !known
	switch {
	case !b.Gated:
		b.Way.restart(b.Ref, s.Last.At)
	case flow > 0:
		b.Refilled = flow
	}
}

// gainRebase begins anew with another zero.
func (r *Live) gainRebase(s *LiveState, at rule.Stamp, out Sink) {
	g := &s.Gain
	waits := g.Waits && !g.Active && at.At-g.Ended.At < r.settle
	if g.Falling && g.Low.At == s.Last.At && s.Win.N <= 1 {
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
	g.Have, g.Falling, g.Waits, g.PriorGap, g.Gap = false, false, waits, waits && g.Gap, g.Away || g.Active && g.Gap
	g.Begun = at
	if waits {
		g.Before = at
	}
}

// gainZero has what goes in, or is still in the air, go on from the newest weight.
func (r *Live) gainZero(s *LiveState, flow int64, doubt bool) {
	g, z := &s.Gain, &s.Zero
	if g.Have || !g.Active && !g.Waits {
		return
	}
	ref := s.Last.W - flow
	if first, ok := z.fresh(r.fastest(), r.noise); ok && z.Bits == 1 {
		// The scale showed 0 as it got the zero, if no more can have come since.
		since := s.Last.At.At - z.Since.At
		if since <= int64(standTime) && first > 0 && first <= 2*share(z.Before, since, z.Lapse)+r.least {
			ref = min(ref, 0)
		}
	}
	g.roughly(ref, s.Last.W)
	g.At, g.Cut, g.Unsure = g.Ref, true, doubt
	g.Gap = g.Gap || z.Unseen > 0
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
	since, gap, unsure := f.Since, f.Gap, f.Unsure
	r.feedBegins(s)
	f.Ref, f.Estimated = s.Last.W-flow, true
	f.Gap, f.Unsure = gap || s.Zero.Unseen > 0, unsure || doubt
	if !since.IsZero() {
		f.Since = since
	}
	if refilled > r.noise {
		f.Low.W -= refilled
		f.Ref, f.High, f.Up = f.Low.W, s.Last, true
	}
}
