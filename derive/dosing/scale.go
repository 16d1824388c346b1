package dosing

import (
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// LiveState is what a Live rule remembers. Its fields are exported for the
// encoder; only this package changes them.
type LiveState struct {
	// Binding says from which weight the state was learned, Others from which
	// other tags what follows was.
	Binding string `json:"b"`
	Others  string `json:"bo,omitempty"`
	// Known has a bit for each input that was read well last time, On one for
	// each that was on.
	Known uint64 `json:"k,omitempty"`
	On    uint64 `json:"on,omitempty"`
	// Unit is what the terminal says it shows.
	Unit  string `json:"u,omitempty"`
	Words words  `json:"w,omitzero"`
	// Win is the band in which the weight stands, Last the newest weight of use, Was
	// the two before it. Unseen is set where nobody looked between the newest and the
	// one before. Zero is set while the scale may have either of two zeros.
	Win    window   `json:"win,omitzero"`
	Last   point    `json:"last,omitzero"`
	Was    [2]int64 `json:"was,omitzero"`
	Unseen bool     `json:"us,omitempty"`
	// Lapse is how long before the newest weight the one before it was read.
	Lapse int64   `json:"lp,omitempty"`
	Zero  zeroing `json:"zero,omitzero"`
	// Said is when bits or the unit last began to say that the weight stands or is
	// of use. Held is the newest weight that was of no use for them, where Holds.
	Said  rule.Stamp `json:"sd,omitzero"`
	Held  int64      `json:"hw,omitempty"`
	Holds bool       `json:"hs,omitempty"`
	Pair  pairing    `json:"pr,omitzero"`
	// Mismatch is set while an alarm says that the terminal shows another unit,
	// Flagged while one says that a dose is in doubt, Unknown while one says that
	// nobody knows what came or left while the scale got another zero.
	Mismatch bool `json:"mm,omitempty"`
	Flagged  bool `json:"fl,omitempty"`
	Unknown  bool `json:"unk,omitempty"`

	Batch batchState `json:"batch,omitzero"`
	Total totalState `json:"total,omitzero"`
	Gain  gainState  `json:"gain,omitzero"`
	Feed  feedState  `json:"feed,omitzero"`
}

// CopyFrom makes s equal to o without sharing memory with it, reusing its own.
func (s *LiveState) CopyFrom(o *LiveState) {
	count := s.Total.Count
	*s = *o
	s.Total.Count = count
	s.Total.Count.CopyFrom(&o.Total.Count)
}

// point is a weight at a time.
type point struct {
	W  int64      `json:"w,omitempty"`
	At rule.Stamp `json:"t,omitzero"`
}

// Bound reports whether the state is that of the rule.
func (r *Live) Bound(s *LiveState) bool { return s.Binding == r.binding }

// Fit prepares a decoded or zero state for the rule: what was learned from
// another scale is forgotten.
func (r *Live) Fit(s *LiveState) {
	if s.Binding != r.binding {
		*s = LiveState{Binding: r.binding}
	}
	if s.Zero.damaged() {
		s.Zero = zeroing{}
	}
	if s.Others != r.others {
		s.Known, s.On, s.Unit, s.Words, s.Others = 0, 0, "", words{}, r.others
		r.gap(s)
	}
	if r.total != nil {
		r.total.rule.Fit(&s.Total.Count)
	}
}

// Shift follows a step of the gateway's clock, so that lengths stay true.
func (s *LiveState) Shift(step time.Duration) {
	for _, at := range []*rule.Stamp{&s.Win.Since, &s.Last.At, &s.Said, &s.Zero.At, &s.Zero.Since, &s.Total.Begun, &s.Total.Moved} {
		at.Shift(step)
	}
	s.Batch.shift(step)
	s.Gain.shift(step)
	s.Feed.shift(step)
	s.Total.Count.Shift(step)
}

// Observe takes the readings of one scan. snapshot marks the first values after
// a (re)connect: nobody looked in between. It reports whether more than the
// newest weight changed.
func (r *Live) Observe(s *LiveState, readings []Reading, snapshot bool, now int64, out *Out) (changed bool) {
	if len(readings) == 0 {
		return false
	}
	if snapshot {
		r.unheard(s, func(i int) bool { return slices.ContainsFunc(readings, func(v Reading) bool { return v.Input == i }) })
	}
	sighted := r.heard(s, (*input).names)
	var parts [roleTotal + 1]int64
	var weight weighing
	for i := range readings {
		v := &readings[i]
		in := &r.inputs[v.Input]
		if in.switches() {
			continue
		}
		if in.role <= roleTotal {
			weight.asked, weight.at = true, v.At
			n, ok := toTicks(v.Value, in.Tag.Type, r.places)
			if !v.Good || !ok {
				weight.bad = true
				continue
			}
			parts[in.role] = n
			weight.have |= 1 << in.role
			continue
		}
		changed = r.note(s, in, v, out) || changed
	}
	named := r.named(readings)
	if named && r.method == byBatchOut {
		changed = r.answers(s, readings[0].At, out) || changed
	}
	weight.w = parts[roleGross] + parts[roleNet] + parts[roleTare]
	if r.paired && weight.asked {
		r.pair(s, &weight, parts[roleNet], parts[roleTare])
	}
	if r.method == byBatchOut {
		changed = r.stoodBefore(s, readings, &weight, out) || changed
	}
	// What is said of a dose counts before the switch that begins it.
	for i := range readings {
		if in := &r.inputs[readings[i].Input]; in.switches() {
			changed = r.note(s, in, &readings[i], out) || changed
		}
	}
	if named {
		s.Batch.Asked = false // said in the same request
	}
	if r.method == byGain && (sighted || !s.Gain.Away) {
		changed = r.switched(s, readings[0].At, sighted, out) || changed
	}
	if !weight.asked {
		if r.method == byGain {
			changed = r.back(s, readings[0].At, true, out) || changed
		}
		return r.Due(s, now, out) || changed
	}
	if r.total != nil {
		good := !weight.bad && r.usable(s, out)
		changed = r.totalSample(s, parts[roleTotal], good, snapshot, named, weight.at, now, out) || changed
		return r.Due(s, now, out) || changed
	}
	if !weight.whole() || !r.usable(s, out) {
		changed = changed || s.Win.N > 0
		s.Win = window{}
		if s.Held, s.Holds = weight.w, weight.whole(); s.Pair.Waits != 0 {
			s.waiting(weight.w, weight.at)
		}
		return changed
	}
	return r.sample(s, point{weight.w, weight.at}, out) || changed
}

// sample takes a weight of use.
func (r *Live) sample(s *LiveState, p point, out Sink) (changed bool) {
	s.Held, s.Holds, s.Pair.Waits = 0, false, 0
	seen := true
	for i := range r.inputs {
		if bit := uint64(1) << i; r.inputs[i].weighs() {
			seen = seen && s.Known&bit != 0
			s.Known |= bit
		}
	}
	if s.Zero.over(s.Last.At, p.At, r.least) {
		r.newBegin(s, out)
	}
	s.Win.add(p.W, p.At, r.band)
	s.Was[0], s.Was[1] = s.Was[1], s.Last.W
	if s.Last.At.IsZero() {
		s.Was = [2]int64{p.W, p.W}
	}
	s.Lapse = p.At.At - s.Last.At.At
	s.Last, s.Unseen = p, !seen
	if s.Zero.add(p.W, r.fastest(), r.noise) {
		r.newBegin(s, out)
	}
	switch r.method {
	case byGain:
		return r.gainSample(s, seen, out)
	case byContinuous:
		r.feedSample(s, out)
		return s.Feed.Up || magnitude(s.Last.W-s.Feed.Ref) > r.noise
	default:
		return r.batchSample(s, out)
	}
}

// named reports whether readings say the component.
func (r *Live) named(readings []Reading) bool {
	for i := range readings {
		if in := &r.inputs[readings[i].Input]; in.role == roleText && in.slot == slotComponent && readings[i].Good {
			return true
		}
	}
	return false
}

// switches reports whether a change of the input begins or ends something.
func (in *input) switches() bool { return in.role == roleGate || in.role == roleRebase }

// weighing is a weight put together from the readings of a scan.
type weighing struct {
	asked, bad bool
	have       uint8
	w          int64
	at         rule.Stamp
}

// whole reports whether all that makes the weight was read well.
func (w *weighing) whole() bool {
	return !w.bad && (w.have == 1<<roleGross || w.have == 1<<roleNet|1<<roleTare)
}

// note takes a reading of anything but the weight.
func (r *Live) note(s *LiveState, in *input, v *Reading, out Sink) (changed bool) {
	bit := uint64(1) << v.Input
	was := s.Known&bit != 0
	if !v.Good {
		if in.role != roleRebase {
			s.Known &^= bit
		}
		return was
	}
	switch in.role {
	case roleFlow:
		if n, ok := toTicks(v.Value, in.Tag.Type, r.places); ok {
			s.Feed.Flow = max(n, 0)
		}
	case roleUnit:
		unit, _ := in.text(v.Value, s.Unit)
		if changed = unit != s.Unit; changed {
			s.Said = v.At
		}
		s.Unit = unit
	case roleText, roleAmount:
		changed = s.Words.hear(in, v.Value)
	default:
		on, ok := v.Value.Bool()
		if !ok {
			if in.role != roleRebase {
				s.Known &^= bit
			}
			return was
		}
		old := s.On&bit != 0
		if on {
			s.On |= bit
		} else {
			s.On &^= bit
		}
		changed = on != old || !was
		switch {
		case in.role == roleGate && changed && r.method == byBatchOut:
			r.gate(s, on, was, v.At, out)
		case in.role == roleRebase && was && on != old:
			r.newZero(s, v.At, out)
		case changed && on == (in.role == roleStable):
			s.Said = v.At
		}
	}
	s.Known |= bit
	return changed || !was
}

// first returns the place of the input with a role, -1 for none.
func (r *Live) first(of role) int {
	for i := range r.inputs {
		if r.inputs[i].role == of {
			return i
		}
	}
	return -1
}

// gap notes that nobody looked for a while.
func (r *Live) gap(s *LiveState) {
	s.Win, s.Held, s.Holds, s.Pair = window{}, 0, false, pairing{}
	r.zeroUnseen(s)
	if r.method == byGain {
		r.away(s)
		return
	}
	s.Feed.Gap = s.Feed.Have
	s.Batch.Gap, s.Batch.Blind = s.Batch.Have, !s.Batch.Have
	s.Batch.Way.Last = rule.Stamp{}
}

// Due does what waits for a time that has come.
func (r *Live) Due(s *LiveState, now int64, out *Out) (changed bool) {
	if r.total != nil {
		return r.totalDue(s, now, out)
	}
	at := r.Wake(s)
	if at == 0 || now < at || !r.usable(s, out) {
		return false
	}
	stamp := s.Last.At
	stamp.At = now
	if s.Holds {
		return r.sample(s, point{s.Held, stamp}, out)
	}
	switch r.method {
	case byGain:
		return r.gainStand(s, stamp, out)
	case byContinuous:
		return r.feedDue(s, stamp, out)
	default:
		return r.stand(s, stamp, out)
	}
}

// Wake returns when the rule wants to be asked again, 0 for not at all.
func (r *Live) Wake(s *LiveState) int64 {
	if r.total != nil {
		return r.totalAt(s)
	}
	switch {
	case !r.ofUse(s):
		return 0
	case s.Holds:
		return s.Said.At + r.silence
	case r.method == byGain:
		return r.gainAt(s)
	case r.method == byContinuous:
		return r.feedAt(s)
	default:
		return r.batchAt(s)
	}
}

// Mark notes a time that may turn out to be the end of an order, so that what is
// dosed after it is not told as of before.
func (r *Live) Mark(s *LiveState, at rule.Stamp, now int64, out *Out) {
	switch {
	case r.total != nil:
		r.total.rule.Mark(&s.Total.Count, at, now, out.of(r, s))
	case r.method == byContinuous && s.Feed.Have:
		// An interval more does no harm if nothing ends.
		r.interval(s, at, true, out)
	}
}

// Unmark takes back the mark at that time: nothing ended.
func (r *Live) Unmark(s *LiveState, at rule.Stamp) {
	if r.total != nil {
		r.total.rule.Unmark(&s.Total.Count, at)
	}
}

// Boundary has what belongs to the time up to at told before an order, a shift or
// a mode ends. For the end of an order that was marked it is what was dosed up to
// the mark.
func (r *Live) Boundary(s *LiveState, at rule.Stamp, marked bool, now int64, out *Out) {
	switch {
	case r.total != nil && marked:
		r.total.rule.FlushTo(&s.Total.Count, at, now, out.of(r, s))
	case r.total != nil:
		r.total.rule.Flush(&s.Total.Count, now, out.of(r, s))
	case r.method == byContinuous && s.Feed.Have && !marked:
		r.interval(s, at, true, out)
	case r.method == byBatchOut:
		r.batchEnds(s, at, out)
	case r.method == byGain && magnitude(s.Gain.Creep) > r.noise:
		r.gainDrift(s, at, out)
	}
}

// Lost notes that nobody looks at a device any more.
func (r *Live) Lost(s *LiveState, covers func(rule.Input) bool) {
	if r.total != nil {
		r.total.rule.Lost(&s.Total.Count, covers)
	}
	r.unheard(s, func(i int) bool { return covers(r.inputs[i].Input) })
}

// unheard notes that nobody looks at some inputs any more. A bit that says that the
// scale has another zero is compared with what it was, however long ago.
func (r *Live) unheard(s *LiveState, of func(i int) bool) {
	for i := range r.inputs {
		in := &r.inputs[i]
		if !of(i) {
			continue
		}
		if in.role != roleRebase {
			s.Known &^= 1 << i
		}
		switch {
		case in.role < roleTotal, in.role == roleGate && r.method != byGain:
			r.gap(s)
		case r.method == byGain && in.names():
			r.away(s)
		}
	}
}

// stampTime is the time of a stamp as payloads carry it; never is zero.
func stampTime(s rule.Stamp) time.Time {
	if s.IsZero() {
		return time.Time{}
	}
	return s.Time().Truncate(time.Millisecond)
}
