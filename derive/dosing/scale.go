package dosing

import (
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
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
	// the two before it. Zero is set while the scale may have either of two zeros.
	Win  window   `json:"win,omitzero"`
	Last point    `json:"last,omitzero"`
	Was  [2]int64 `json:"was,omitzero"`
	Zero zeroing  `json:"zero,omitzero"`
	// Mismatch is set while an alarm says that the terminal shows another unit,
	// Flagged while one says that a dose is in doubt.
	Mismatch bool `json:"mm,omitempty"`
	Flagged  bool `json:"fl,omitempty"`

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

// window is a run of weights within the band.
type window struct {
	// N is how many. Its mean is that of the newer half at least: the weight was
	// still settling when the window began. Old and New add up, as their distance
	// from First, what it is made of: the weights up to the last power of two, and
	// those since.
	N     int        `json:"n,omitempty"`
	First int64      `json:"f,omitempty"`
	OldN  int        `json:"on,omitempty"`
	Old   int64      `json:"o,omitempty"`
	NewN  int        `json:"nn,omitempty"`
	New   int64      `json:"ns,omitempty"`
	Min   int64      `json:"lo,omitempty"`
	Max   int64      `json:"hi,omitempty"`
	Since rule.Stamp `json:"t,omitzero"`
	// Grain is the power of ten that divides all of them: finer than that the
	// terminal shows nothing.
	Grain int64 `json:"g,omitempty"`
}

// add takes a weight; one outside of the band begins anew.
func (w *window) add(v int64, at rule.Stamp, band int64) {
	if w.N == 0 || max(w.Max, v)-min(w.Min, v) > band {
		*w = window{First: v, Min: v, Max: v, Since: at, Grain: 1e9}
	}
	w.Min, w.Max = min(w.Min, v), max(w.Max, v)
	for w.Grain > 1 && v%w.Grain != 0 {
		w.Grain /= 10
	}
	w.N++
	w.NewN++
	w.New += v - w.First
	if w.N&(w.N-1) == 0 {
		w.OldN, w.Old, w.NewN, w.New = w.NewN, w.New, 0, 0
	}
}

// mean is the weight of the window, to the last digit of the terminal.
func (w *window) mean() int64 {
	n := int64(w.OldN+w.NewN) * max(w.Grain, 1)
	if n == 0 {
		return w.First
	}
	sum, half := w.Old+w.New, n/2
	if sum < 0 {
		half = -half
	}
	return w.First + (sum+half)/n*max(w.Grain, 1)
}

// Bound reports whether the state is that of the rule.
func (r *Live) Bound(s *LiveState) bool { return s.Binding == r.binding }

// Fit prepares a decoded or zero state for the rule: what was learned from
// another scale is forgotten.
func (r *Live) Fit(s *LiveState) {
	if s.Binding != r.binding {
		*s = LiveState{Binding: r.binding}
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
	for _, at := range []*rule.Stamp{&s.Win.Since, &s.Last.At, &s.Zero.At, &s.Total.Begun, &s.Total.Moved} {
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
	weighed, sighted := r.heard(s, (*input).weighs), r.heard(s, (*input).names)
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
			weight.bits |= 1 << v.Input
			continue
		}
		changed = r.note(s, in, v, out) || changed
	}
	named := r.method == byBatchOut && r.named(readings)
	if named {
		changed = r.answers(s, readings[0].At, out) || changed
	}
	weight.w = parts[roleGross] + parts[roleNet] + parts[roleTare]
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
		changed = r.totalSample(s, parts[roleTotal], good, snapshot, weight.at, now, out) || changed
		return r.Due(s, now, out) || changed
	}
	if !weight.whole() || !r.usable(s, out) {
		changed = changed || s.Win.N > 0
		s.Win = window{}
		return changed
	}
	if s.Zero.over(weight.at, r.least) {
		r.newBegin(s, out)
	}
	s.Win.add(weight.w, weight.at, r.band)
	s.Was[0], s.Was[1] = s.Was[1], s.Last.W
	if s.Last.At.IsZero() {
		s.Was = [2]int64{weight.w, weight.w}
	}
	s.Last = point{weight.w, weight.at}
	s.Known |= weight.bits
	if s.Zero.add(weight.w, r.fastest()) {
		r.newBegin(s, out)
	}
	switch r.method {
	case byGain:
		return r.gainSample(s, weighed, out) || changed
	case byContinuous:
		r.feedSample(s, out)
		return changed || s.Feed.Up || magnitude(s.Last.W-s.Feed.Ref) > r.noise
	default:
		return r.batchSample(s, out) || changed
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
	// bits are the inputs of it that were read well.
	bits uint64
	w    int64
	at   rule.Stamp
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
		changed = unit != s.Unit
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
		}
	}
	s.Known |= bit
	return changed || !was
}

// usable reports whether the scale itself says that its weight is of use. What
// was never read, or not well, does not.
func (r *Live) usable(s *LiveState, out Sink) bool {
	ok := true
	for i := range r.inputs {
		bit := uint64(1) << i
		switch r.inputs[i].role {
		case roleUnusable:
			ok = ok && s.Known&bit != 0 && s.On&bit == 0
		case roleUnit:
			if s.Known&bit == 0 {
				ok = false
				continue
			}
			unit, known := plant.ParseMassUnit(s.Unit)
			match := known && unit == r.unit
			r.unitAlarm(s, match, out)
			ok = ok && match
		}
	}
	return ok
}

// unitAlarm says that the terminal shows another unit, and when it no longer does.
func (r *Live) unitAlarm(s *LiveState, match bool, out Sink) {
	if s.Mismatch != match {
		return
	}
	s.Mismatch = !match
	a := rule.Alarm{Name: "scale_unit:" + r.name, Text: "the scale shows " + string(r.unit) + " again"}
	if !match {
		a.Raised = true
		a.Text = "the scale shows " + s.Unit + " instead of " + string(r.unit) + ": its weights are not used"
		a.Remedy = "switch the terminal back to " + string(r.unit) + ", or correct weight_unit"
	}
	out.Alarm(a)
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

// steadyAt reports whether the weight stands at a time, by the terminal's bit or
// by the band, and at what.
func (r *Live) steadyAt(s *LiveState, now int64) (w int64, ok bool) {
	if s.Win.N == 0 {
		return 0, false
	}
	for i := range r.inputs {
		bit := uint64(1) << i
		switch r.inputs[i].role {
		case roleStable:
			return s.Last.W, s.Known&bit != 0 && s.On&bit != 0
		case roleMoving:
			return s.Last.W, s.Known&bit != 0 && s.On&bit == 0
		}
	}
	long := now - s.Win.Since.At
	return s.Win.mean(), s.Win.N > 1 && long >= r.steady || long >= max(r.steady, int64(standTime))
}

// gap notes that nobody looked for a while.
func (r *Live) gap(s *LiveState) {
	s.Win = window{}
	if !s.Zero.Fresh {
		s.Zero = zeroing{}
	}
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
	if r.method == byGain {
		return r.gainStand(s, stamp, out)
	}
	return r.stand(s, stamp, out)
}

// Wake returns when the rule wants to be asked again, 0 for not at all.
func (r *Live) Wake(s *LiveState) int64 {
	if r.total != nil {
		return r.totalAt(s)
	}
	switch r.method {
	case byGain:
		return r.gainAt(s)
	case byContinuous:
		return 0 // each weight counts as it comes
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
