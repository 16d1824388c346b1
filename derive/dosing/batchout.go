package dosing

import (
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// batchState is what is known of a hopper that doses by losing weight. Of the
// weight that the hopper had at first, Ref + Small + Creep is what the doses,
// refills, removals and drifts that were told do not explain: nothing is lost
// between two weights.
type batchState struct {
	// Ref is the weight up to which everything is booked, once Have.
	Have bool  `json:"have,omitempty"`
	Ref  int64 `json:"ref,omitempty"`
	// Small are doses below min_dose of SmallOf since SmallAt, SmallMarks what is to
	// be said of them; Creep changes below it while dosing was off: neither is told
	// yet.
	Small      int64      `json:"small,omitempty"`
	SmallAt    rule.Stamp `json:"sat,omitzero"`
	SmallOf    string     `json:"sof,omitempty"`
	SmallMarks marks      `json:"smk,omitzero"`
	Creep      int64      `json:"creep,omitempty"`
	// Held is set while Ref holds a dose that was not told from noise: it is part
	// of the next.
	Held bool `json:"held,omitempty"`
	// Gated is set once dosing was on since Ref, from Begun until Ended; the gate
	// was switched last at Switched.
	Gated    bool       `json:"on,omitempty"`
	Begun    rule.Stamp `json:"t0,omitzero"`
	Ended    rule.Stamp `json:"t1,omitzero"`
	Switched rule.Stamp `json:"ts,omitzero"`
	// Words are what was said when it began. Asked is set until the component has
	// been read once since. Until then Again is where dosing went on again before the
	// dose was told.
	Words words   `json:"w,omitzero"`
	Asked bool    `json:"ask,omitempty"`
	Again resumed `json:"again,omitzero"`
	// Gap is set while something between Ref and now was not seen. Parts is set
	// where another dose was on when dosing was looked at again: it begins at the
	// next weight, or at Left, the last before, where the one before had ended.
	Gap   bool `json:"gap,omitempty"`
	Parts bool `json:"part,omitempty"`
	// Rough is set while a dose is on of which nobody knows from which weight on: the
	// weight had not stood when it began.
	Rough bool `json:"rough,omitempty"`
	// Cut is set while a dose is on of which a part was told at a new zero, Unsure
	// where some of it may be missing.
	Cut    bool `json:"cut,omitempty"`
	Unsure bool `json:"uns,omitempty"`
	// Calm is where the weight rested without having stood since dosing went off, Over
	// the first weight that is settle or more after that.
	Calm point `json:"calm,omitzero"`
	Over point `json:"over,omitzero"`
	// Blind is set until the first look at both weight and gate.
	Blind bool  `json:"blind,omitempty"`
	Left  int64 `json:"left,omitempty"`
	// Way is how the weight went since Ref, Refilled what came meanwhile.
	Way      way   `json:"way,omitzero"`
	Refilled int64 `json:"in,omitempty"`
	// Fall in Time is how fast the hopper emptied last.
	Fall int64 `json:"rf,omitempty"`
	Time int64 `json:"rt,omitempty"`
}

// resumed is where dosing went on again: the weight, whether it stood, and when the
// dose before had ended.
type resumed struct {
	W     int64      `json:"w,omitempty"`
	Stood bool       `json:"s,omitempty"`
	At    rule.Stamp `json:"t,omitzero"`
	Ended rule.Stamp `json:"e,omitzero"`
}

// way is a stretch of falling or rising weight.
type way struct {
	Up bool `json:"up,omitempty"`
	// From is where it began, Ext how far it went. Slope to Chunk is the part
	// that fell fast.
	From  point `json:"f,omitzero"`
	Slope point `json:"s,omitzero"`
	Chunk point `json:"c,omitzero"`
	Ext   point `json:"e,omitzero"`
	// On is for how long dosing was on since From (rising) or Ext (falling), OnExt
	// until Ext.
	On    int64 `json:"on,omitempty"`
	OnExt int64 `json:"one,omitempty"`
	// Idle is set while dosing is on and the weight stood: nothing flows.
	Idle bool `json:"idle,omitempty"`
	// Last is when the weight was seen last.
	Last rule.Stamp `json:"l,omitzero"`
}

func (b *batchState) shift(step time.Duration) {
	for _, at := range []*rule.Stamp{&b.SmallAt, &b.Begun, &b.Ended, &b.Switched, &b.Way.From.At, &b.Way.Slope.At, &b.Way.Chunk.At, &b.Way.Ext.At, &b.Way.Last, &b.Again.At, &b.Again.Ended, &b.Calm.At, &b.Over.At} {
		at.Shift(step)
	}
}

// gate notes that dosing was switched on or off, or is known again: sighted is
// false where nobody could tell until now.
func (r *Live) gate(s *LiveState, on, sighted bool, at rule.Stamp, out Sink) {
	b := &s.Batch
	b.Switched = at
	if !on {
		if b.Gated && (sighted || b.Ended.IsZero()) {
			b.Ended = at
		}
		b.Calm, b.Over = point{}, point{}
		return
	}
	b.Way.Idle = false
	switch {
	case !b.Gated || !b.Have:
		r.starts(s, sighted, at, out)
		r.begun(s, at)
		out.Urgent() // a crash makes no removal of it
	case b.Parts:
	case sighted:
		r.again(s, at, out)
	case !b.Ended.IsZero() || r.another(s):
		b.Parts, b.Left = true, s.Last.W
	}
}

// starts settles from which weight on a dose is that begins now. Where none has
// stood, or as much as a dose fell since and has not stood, it is estimated.
func (r *Live) starts(s *LiveState, sighted bool, at rule.Stamp, out Sink) {
	b := &s.Batch
	if b.Have {
		r.crept(s, at, out)
		w, stands := r.steadyAt(s, at.At)
		if s.Win.N > 0 && (!stands || b.Ref-w > r.noise) {
			if sighted && !b.Gap && b.Refilled == 0 && !b.Way.Up {
				r.removed(s, at, out)
			}
			b.Rough = b.Rough || b.Ref-s.Last.W >= r.least
		}
		return
	}
	b.Blind = b.Blind || s.Zero.Left == 0 // no weight to begin with
}

// removed tells what left in full view before the dose that begins now: the weight
// has not stood since, or stands just now.
func (r *Live) removed(s *LiveState, at rule.Stamp, out Sink) {
	b := &s.Batch
	w, ok := r.apart(s, b.Ref, b.Way.Slope.At, at)
	stood, stands := r.steadyAt(s, at.At)
	if stands && ok {
		w = stood
	}
	if fell := b.Ref - w; ok && fell > r.noise {
		r.change(s, fell, &portion{at: at, before: b.Ref, after: w, weighed: stands, estimated: !stands, words: &s.Words}, out)
		b.roughly(w, s.Last)
		b.Rough = !stands
	}
}

// apart reports whether what the weight has changed by from ref since began is none
// of what begins at at, and up to which weight. It is over, or it went on for longer
// than a bit is late; of that, the newest reading may show what begins already.
func (r *Live) apart(s *LiveState, ref int64, began, at rule.Stamp) (w int64, ok bool) {
	if s.Win.N > 1 && s.Win.Max-s.Win.Min <= max(r.noise/2, r.grain) && at.At-s.Win.Since.At >= sameTime/5 {
		return s.Last.W, true
	}
	w = s.Was[1]
	if magnitude(s.Last.W-w) <= r.noise/2 {
		w = s.Last.W
	}
	return w, at.At-began.At >= sameTime && magnitude(w-ref) > r.noise
}

// roughly takes a weight that never stood for the reference of a dose that is on;
// p is the newest.
func (b *batchState) roughly(w int64, p point) {
	b.Have, b.Rough, b.Ref = true, true, w
	b.Way.restart(p.W, p.At)
}

// begun notes that a dose began.
func (r *Live) begun(s *LiveState, at rule.Stamp) {
	b := &s.Batch
	b.Gated, b.Begun, b.Ended, b.Words, b.Asked, b.Again = true, at, rule.Stamp{}, s.Words, true, resumed{}
}

// sameTime is how long after dosing went on the first reading of the component is
// taken for that at its start: a PLC sets both together, and another request, or
// the next poll, says it later.
const sameTime = int64(time.Second)

// answers takes the first reading of the component since dosing went on: of one that
// went on again, it says whether it is another dose.
func (r *Live) answers(s *LiveState, at rule.Stamp, out Sink) (changed bool) {
	b := &s.Batch
	if !b.Asked {
		return false
	}
	out.Urgent()
	again := b.Again
	b.Asked, b.Again = false, resumed{}
	since := b.Begun
	if !b.Have || again.At.At <= b.Begun.At {
		again = resumed{} // another zero since: what was before is told
	}
	if !again.At.IsZero() {
		since = again.At
	}
	switch {
	case !b.Gated || !b.Ended.IsZero() || at.At-since.At > sameTime || !r.another(s):
	case again.At.IsZero():
		b.Words.take(&s.Words, slotComponent)
	default:
		b.Ended = again.Ended
		r.close(s, again.W, again.At, false, !again.Stood, out)
		r.begun(s, again.At)
		b.Asked, b.Rough, b.Way.Idle = false, !again.Stood, false
	}
	return true
}

// another reports whether another component is dosed now than when it began.
func (r *Live) another(s *LiveState) bool {
	was, _ := r.text(&s.Batch.Words, slotComponent)
	now, ok := r.text(&s.Words, slotComponent)
	return ok && was != "" && now != was
}

// again decides what it is where dosing goes on again before the dose was told:
// another dose if it is of another component, or if it was found off after a time in
// which nobody looked. Else the gate flickers.
func (r *Live) again(s *LiveState, at rule.Stamp, out Sink) {
	b := &s.Batch
	w, stands := r.steadyAt(s, at.At)
	gap := b.Gap && !stands
	if !stands {
		w = s.Last.W
	}
	if !b.Gap && !r.another(s) || !r.heard(s, (*input).weighs) {
		// The component may come in another request.
		b.Again, b.Asked = resumed{W: w, Stood: stands, At: at, Ended: b.Ended}, !b.Gap
		b.Ended = rule.Stamp{}
		return
	}
	r.close(s, w, at, false, !stands, out)
	r.begun(s, at)
	b.Gap, b.Rough, b.Way.Idle = gap, !stands, false
}

// parts ends the dose from before a time in which nobody looked, since another is on
// now: at the first weight that is read again, or where it had ended and too much
// came since to have been in the air, at the last before. Nobody saw the other begin.
func (r *Live) parts(s *LiveState, out Sink) {
	b := &s.Batch
	on, w := b.Switched, s.Last.W
	if !b.Ended.IsZero() && b.Left-w >= r.least {
		w = b.Left
	}
	r.close(s, w, s.Last.At, false, true, out)
	r.begun(s, on)
	b.Gap, b.Rough, b.Parts, b.Left, b.Way.Idle = true, true, false, 0, false
}

// crept books what the weight changed within the noise while dosing was off: it is
// none of the dose that begins now.
func (r *Live) crept(s *LiveState, at rule.Stamp, out Sink) {
	b := &s.Batch
	w, ok := r.steadyAt(s, at.At)
	if fell := b.Ref - w; ok && b.Have && !b.Gap && !b.Held && fell != 0 && magnitude(fell) <= r.noise {
		b.Creep += fell
		b.Ref = w
		b.Way.restart(w, s.Last.At)
		r.creeps(s, at, out)
	}
}

// creeps tells what crept once it is as much as a dose.
func (r *Live) creeps(s *LiveState, at rule.Stamp, out Sink) {
	b := &s.Batch
	if magnitude(b.Creep) >= r.least {
		r.drift(s, b.Creep, at, out)
		b.Creep = 0
	}
}

// gateState says whether dosing is on; known is false while nobody can tell.
func (r *Live) gateState(s *LiveState) (on, known bool) {
	bit := uint64(1) << r.first(roleGate)
	return s.On&bit != 0, s.Known&bit != 0
}

// batchSample takes the newest weight.
func (r *Live) batchSample(s *LiveState, out Sink) (changed bool) {
	b := &s.Batch
	on, known := r.gateState(s)
	if !b.Have && s.Zero.Left == 0 {
		b.roughly(s.Last.W, s.Last)
		changed = true
	}
	if b.Blind && known && b.Have {
		// It was on before: what goes from now on is seen.
		b.Blind, b.Gap, changed = false, b.Gap || on, true
	}
	if b.Have {
		changed = r.follow(s, on && known) || changed
	}
	if b.Have && b.Parts {
		changed = true
		r.parts(s, out)
	}
	if b.Have && known && !on {
		r.rests(s)
	}
	return r.stand(s, s.Last.At, out) || changed
}

// stand closes what the weight says once it stands: at at, which is later than
// the newest weight where a subscription is silent.
func (r *Live) stand(s *LiveState, at rule.Stamp, out Sink) (changed bool) {
	b := &s.Batch
	on, known := r.gateState(s)
	w, ok := r.steadyAt(s, at.At)
	if !ok || !known || s.unsure(at) {
		return false
	}
	if s.Zero.Left > 0 {
		r.newBegin(s, out)
	}
	if !b.Have {
		return false
	}
	switch {
	case on:
		// Between two doses of a gate that stays on, the weight stands for longer.
		long := at.At - max(s.Win.Since.At, b.Switched.At)
		if b.Rough && magnitude(w-b.Ref) <= r.noise {
			// It stands before anything goes.
			b.Rough, changed = false, true
		}
		if long < r.steady+r.settle {
			return changed
		}
		if !b.Way.Up && magnitude(w-b.Way.Ext.W) <= r.noise {
			b.Way.Idle = true
		}
		if long < r.pause {
			return changed
		}
		return r.close(s, w, at, true, false, out)
	case b.Gated && at.At-b.Switched.At < r.settle:
		return false
	default:
		return r.close(s, w, at, false, false, out)
	}
}

// close books what happened between Ref and the weight w, which stands unless it is
// estimated; on says that the same goes on.
func (r *Live) close(s *LiveState, w int64, at rule.Stamp, on, estimated bool, out Sink) (changed bool) {
	b := &s.Batch
	b.rise(r, w)
	b.Words.fill(&s.Words)
	p := portion{at: at, begun: b.Begun, ended: b.Ended, before: b.Ref, after: w, weighed: true, estimated: estimated || b.Rough, unheard: b.Gap, zeroed: b.Unsure, early: b.Gated && !on && !b.Cut, words: &b.Words}
	if on || p.ended.IsZero() {
		p.ended = s.Win.Since
	}
	fell := b.Ref - w
	switch {
	case b.Gated && b.Refilled > 0:
		changed, p.estimated = true, true
		r.refilled(s, &p, fell, out)
		b.Ref = w
	case magnitude(fell) <= r.noise:
		// Not to be told from noise: Ref stays, so that small falls add up.
		changed = b.Gated && !on || b.Gap || b.Rough
		if b.Rough && !b.Gated && !estimated {
			b.Ref = w
		}
		b.Held = b.Held || b.Gated && fell != 0
	case b.Gated && fell > 0:
		changed = true
		q := p
		dosed, sure := r.rested(b, w)
		p.estimated, p.after = p.estimated || !sure, dosed
		r.dose(s, b.Ref-dosed, &p, out)
		if dosed != w {
			q.estimated, q.weighed = true, false
			r.move(plant.KindRemoval, dosed-w, &q, out)
		}
		b.Ref = w
	default:
		changed = true
		r.change(s, fell, &p, out)
		b.Ref = w
	}
	if b.Ref == w {
		b.Held = false
	}
	b.Refilled, b.Gap, b.Rough, b.Cut, b.Unsure, b.Calm, b.Over = 0, false, false, false, false, point{}, point{}
	idle := on && b.Gated
	b.Gated = idle
	if idle {
		b.Begun, b.Ended, b.Words = s.Win.Since, rule.Stamp{}, s.Words
	}
	b.Way.restart(w, s.Last.At)
	b.Way.Idle = idle
	return changed
}

// refilled tells of a hopper that was refilled while it was emptied: what came
// is the rise, and what left meanwhile by the rate before it.
func (r *Live) refilled(s *LiveState, p *portion, fell int64, out Sink) {
	b := &s.Batch
	in := b.Refilled
	dosed := fell + in
	if dosed < 0 {
		dosed, in = 0, -fell
	}
	q := *p
	q.weighed = false
	r.move(plant.KindRefill, in, &q, out)
	if dosed > 0 {
		r.dose(s, dosed, p, out)
	}
}

// change tells of a weight that changed while dosing was off: a removal or a
// refill, or a creeping that is told as drift once it is large enough.
func (r *Live) change(s *LiveState, fell int64, p *portion, out Sink) {
	b := &s.Batch
	if !b.Gated {
		p.words = &s.Words
	}
	switch {
	case !b.Gated && fell >= r.least:
		r.move(plant.KindRemoval, fell, p, out)
	case -fell >= r.least:
		r.move(plant.KindRefill, -fell, p, out)
	default:
		b.Creep += fell
		r.creeps(s, p.at, out)
	}
}

// drift tells of what belongs to no dose.
func (r *Live) drift(s *LiveState, ticks int64, at rule.Stamp, out Sink) {
	r.tell(&portion{ticks: ticks, at: at, drift: true, words: &s.Words}, out)
}

// batchEnds has the rest that is too small for a dose told.
func (r *Live) batchEnds(s *LiveState, at rule.Stamp, out Sink) {
	b := &s.Batch
	if !b.Gated {
		r.rest(s, at, out)
	}
}

// batchAt returns when a silent subscription is as good as a weight that stands.
func (r *Live) batchAt(s *LiveState) int64 {
	b := &s.Batch
	if s.Win.N == 0 || b.Have && !b.Gated && !b.Rough && magnitude(s.Last.W-b.Ref) <= r.noise {
		return 0
	}
	at := r.silentAt(s)
	if on, known := r.gateState(s); !known {
		return 0
	} else if on {
		if b.Have && magnitude(s.Last.W-b.Ref) <= r.noise {
			return 0
		}
		at = max(at, b.Switched.At+r.pause, s.Win.Since.At+r.pause)
	} else if b.Gated {
		at = max(at, b.Switched.At+r.settle)
	}
	if _, ok := r.steadyAt(s, at); !ok {
		return 0
	}
	return at
}
