// Package counter is the rule that turns the running totals of a machine into
// pieces: good, scrap by code, rework. It tells pieces from noise, rollovers,
// resets, jumps and gaps, and decides when to report. It is pure: time comes
// with the readings, and all it remembers is in State.
package counter

import (
	"fmt"
	"math"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Reading is what one input said. Input is the index in Rule.Tags.
type Reading struct {
	Input int
	At    rule.Stamp
	Raw   int64
	// Good is false for anything but a whole number of good quality; Raw and At
	// then mean nothing, and the next good reading ends a gap.
	Good bool
}

// Report is one event to be made. Totals, Reported and Codes are valid during
// the call.
type Report struct {
	From, To rule.Stamp
	Flags    Flags
	Gap      time.Duration
	Raw      int64
	// Totals are the counts, Reported those of the report before.
	Totals, Reported *Totals
	// Codes name Totals.Scrap[:len(Codes)].
	Codes []string
}

// Sink takes what the rule has to say.
type Sink interface {
	Count(r Report)
	Alarm(a rule.Alarm)
}

// Observe takes the readings of one scan. snapshot marks the first values after
// a (re)connect: nobody looked in between. It reports what is due; the pieces
// of a gap are reported at once and on their own.
func (r *Rule) Observe(s *State, readings []Reading, snapshot bool, now int64, out Sink) (changed bool) {
	gap := false
	for i := range readings {
		in := &readings[i]
		t := &s.Tracks[in.Input]
		switch {
		case !in.Good:
			changed = changed || !t.Lost
			t.Lost = true
		case !t.Seen.IsZero() && (snapshot || t.Lost) && in.Raw != t.Raw:
			gap = true
		}
	}
	if gap {
		r.Flush(s, now, out)
	}
	var sum delta
	for i := range readings {
		in := &readings[i]
		if !in.Good {
			continue
		}
		t := &s.Tracks[in.Input]
		t.Lost = t.Lost || (snapshot && !t.Seen.IsZero())
		d := r.judge(&r.inputs[in.Input], t, in, out)
		changed = changed || d.changed
		if d.pieces != 0 || d.flags != 0 {
			r.add(s, &sum, in, &d)
		}
	}
	if sum.any {
		r.settle(s, &sum)
	}
	if gap {
		r.Flush(s, now, out)
	} else {
		r.Due(s, now, out)
	}
	return changed || sum.any
}

// delta is what the readings of one scan add up to.
type delta struct {
	any                 bool
	good, total, rework int64
	scrap               int64
}

func (r *Rule) add(s *State, sum *delta, in *Reading, v *verdict) {
	sum.any = true
	switch r.inputs[in.Input].role {
	case good:
		sum.good += v.pieces
	case total:
		sum.total += v.pieces
	case scrap:
		sum.scrap += v.pieces
		s.Now.Totals.Scrap[r.inputs[in.Input].scrap] += v.pieces
	case rework:
		sum.rework += v.pieces
		s.Now.Totals.Rework += v.pieces
	}
	p := &s.Now
	if p.From.IsZero() || v.since.Time().Before(p.From.Time()) {
		p.From = v.since
	}
	if p.To.Time().Before(in.At.Time()) {
		p.To = in.At
	}
	p.Flags |= v.flags
	p.Gap = max(p.Gap, v.gap)
}

// settle books what the scan's total leaves for good pieces. A negative balance
// (the scrap counter was read before the total that holds the same pieces) is
// carried until later pieces cover it.
func (r *Rule) settle(s *State, sum *delta) {
	s.Now.Totals.Good += sum.good
	if r.hasTotal() {
		s.Carry += sum.total - sum.scrap - sum.rework
		if s.Carry > 0 {
			s.Now.Totals.Good += s.Carry
			s.Carry = 0
		}
	}
	// The first input is the good or total counter where there is one.
	s.Now.Raw = s.Tracks[0].Raw
	if s.Now.Totals.equal(r.base(s)) && s.Now.Flags == 0 {
		s.Now.clear()
	}
}

func (r *Rule) hasTotal() bool { return len(r.inputs) > 0 && r.inputs[0].role == total }

// base is what the newest span starts from.
func (r *Rule) base(s *State) *Totals {
	if s.Mark.IsZero() {
		return &s.Reported
	}
	return &s.Before.Totals
}

// Mark splits what is not reported at a time that may turn out to be a
// boundary: a start, a stop, an order change. Until FlushTo or Unmark, pieces
// after it are not reported before those up to it. An earlier mark is reported.
func (r *Rule) Mark(s *State, at rule.Stamp, now int64, out Sink) {
	if s.Mark == at && s.Now.From.IsZero() {
		s.Marks++
		return
	}
	if !s.Mark.IsZero() {
		r.report(s, &s.Before, now, out)
	}
	s.Mark, s.Marks = at, 1
	s.Before.copyFrom(&s.Now)
	s.Now.clear()
}

// Unmark takes back the mark at that time: it was no boundary.
func (r *Rule) Unmark(s *State, at rule.Stamp) {
	if s.Mark != at || !s.unmark() {
		return
	}
	p, b := &s.Now, &s.Before
	if !b.From.IsZero() {
		p.From = b.From
		if p.To.IsZero() {
			p.To = b.To
		}
		p.Flags |= b.Flags
		p.Gap = max(p.Gap, b.Gap)
	}
	b.clear()
}

// unmark takes back one of the marks at the same time and reports whether none
// is left.
func (s *State) unmark() bool {
	if s.Marks--; s.Marks > 0 {
		return false
	}
	s.Mark, s.Marks = rule.Stamp{}, 0
	return true
}

// FlushTo reports the pieces up to the mark at that time, before the event of
// the boundary; where that mark is no longer set they are reported already.
func (r *Rule) FlushTo(s *State, at rule.Stamp, now int64, out Sink) {
	if s.Mark != at || at.IsZero() {
		return
	}
	r.report(s, &s.Before, now, out)
	s.unmark()
}

// Flush reports everything: up to the mark, and then the rest.
func (r *Rule) Flush(s *State, now int64, out Sink) {
	if !s.Mark.IsZero() {
		r.report(s, &s.Before, now, out)
		s.Mark, s.Marks = rule.Stamp{}, 0
	}
	r.report(s, &s.Now, now, out)
}

// Due reports what the settings want reported by now.
func (r *Rule) Due(s *State, now int64, out Sink) {
	r.stand(s, now, out)
	p := &s.Now
	if !s.Mark.IsZero() {
		p = &s.Before
	}
	if p.From.IsZero() {
		return
	}
	if p.Flags&(Suspect|Ambiguous) != 0 ||
		r.pieces > 0 && p.Totals.pieces(&s.Reported) >= r.pieces ||
		r.every > 0 && now >= s.LastReport+int64(r.every) {
		r.report(s, p, now, out)
	}
}

// standTime is how long a reading that is not believed may stand alone until it
// is: a subscription says nothing more of a number that does not change.
const standTime = 30 * time.Second

// stand believes what was held and has stood for standTime.
func (r *Rule) stand(s *State, now int64, out Sink) {
	var sum delta
	for i := range s.Tracks {
		t := &s.Tracks[i]
		if t.Hold.N == 0 || t.Lost || now-t.Hold.At.At < int64(standTime) {
			continue
		}
		in, v := &r.inputs[i], Reading{Input: i, At: t.Hold.At, Raw: t.Hold.Raw, Good: true}
		v.At.At = now
		step, elapsed := v.Raw-t.Raw, v.At.Since(t.Seen)
		var d verdict
		switch {
		case t.Hold.Drop:
			d = r.dropped(in, t, &v, elapsed, out)
		case r.plausible(step, elapsed):
			d = r.accept(in, t, &v, step, 0)
		default:
			d = r.jumped(in, t, &v, step, elapsed, out)
		}
		if d.pieces != 0 || d.flags != 0 {
			r.add(s, &sum, &v, &d)
		}
	}
	if sum.any {
		r.settle(s, &sum)
	}
}

// Wake returns when the rule wants to be asked again, 0 for not at all.
func (r *Rule) Wake(s *State) int64 {
	at := r.reportAt(s)
	for i := range s.Tracks {
		if t := &s.Tracks[i]; t.Hold.N > 0 && !t.Lost {
			if stands := t.Hold.At.At + int64(standTime); at == 0 || stands < at {
				at = stands
			}
		}
	}
	return at
}

// reportAt returns when the next report is due, 0 for not at all.
func (r *Rule) reportAt(s *State) int64 {
	p := &s.Now
	if !s.Mark.IsZero() {
		p = &s.Before
	}
	if r.every <= 0 || p.From.IsZero() {
		return 0
	}
	return s.LastReport + int64(r.every)
}

func (r *Rule) report(s *State, p *span, now int64, out Sink) {
	if p.From.IsZero() {
		return
	}
	out.Count(Report{
		From: p.From, To: p.To, Flags: p.Flags, Gap: p.Gap, Raw: p.Raw,
		Totals: &p.Totals, Reported: &s.Reported, Codes: r.codes,
	})
	s.Reported.copyFrom(&p.Totals)
	s.LastReport = now
	p.clear()
}

// Lost notes that nobody looks at a device any more.
func (r *Rule) Lost(s *State, covers func(rule.Input) bool) {
	for i := range r.inputs {
		if covers(r.inputs[i].Input) && !s.Tracks[i].Seen.IsZero() {
			s.Tracks[i].Lost = true
		}
	}
}

// verdict is what one reading means.
type verdict struct {
	pieces int64
	flags  Flags
	gap    time.Duration
	// since is when the number was read before.
	since   rule.Stamp
	changed bool
}

// judge tells pieces from noise. A drop, and a rise beyond what the machine can
// make, are believed only when the next readings agree.
func (r *Rule) judge(in *input, t *track, v *Reading, out Sink) verdict {
	if in.size != 0 && (v.Raw < in.low || v.Raw-in.low >= in.size) {
		return r.outside(in, t, v, out)
	}
	if t.Seen.IsZero() {
		t.Seen, t.Raw, t.Born = v.At, v.Raw, v.At
		if r.zero && v.Raw > 0 {
			return verdict{pieces: v.Raw, since: v.At, changed: true}
		}
		return verdict{changed: true}
	}
	if t.Lost && t.Gap == 0 && v.At.At >= t.Seen.At {
		t.Gap = max(time.Duration(v.At.At-t.Seen.At), time.Millisecond)
	}
	rise := v.Raw >= t.Raw
	step := v.Raw - t.Raw
	if rise && step < 0 {
		step = math.MaxInt64
	}
	elapsed := v.At.Since(t.Seen)
	switch {
	case step == 0:
		held := t.Hold.N > 0 || t.Lost
		d := r.accept(in, t, v, 0, 0)
		d.changed = d.changed || held
		return d
	case elapsed < 0 && rise:
		return r.accept(in, t, v, step, Suspect)
	case rise && r.plausible(step, elapsed):
		r.clearAlarm(in, t, out)
		if t.resumes(v) && r.returned(t, v) {
			return r.takeBack(in, t, v)
		}
		return r.accept(in, t, v, step, 0)
	}
	if !r.hold(t, v, !rise) {
		return verdict{changed: true}
	}
	if rise {
		return r.jumped(in, t, v, step, elapsed, out)
	}
	return r.dropped(in, t, v, elapsed, out)
}

// plausible reports whether the machine can have made n pieces. One piece more
// than the rate gives is allowed, since readings fall anywhere in a cycle.
func (r *Rule) plausible(n, elapsed int64) bool {
	return !r.limited || n <= r.most(elapsed)
}

func (r *Rule) most(elapsed int64) int64 {
	n := math.Ceil(r.rate*time.Duration(max(elapsed, 0)).Seconds()) + 1
	if n >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n)
}

// hold keeps a reading until enough agree; true means that they do. Readings
// agree if they go on from each other as a counter does.
func (r *Rule) hold(t *track, v *Reading, drop bool) bool {
	h := &t.Hold
	if h.N > 0 && h.Drop == drop && v.Raw >= h.Raw && r.plausible(v.Raw-h.Raw, v.At.Since(h.At)) {
		h.N++
	} else {
		*h = hold{N: 1, Drop: drop, First: v.Raw}
	}
	h.Raw, h.At = v.Raw, v.At
	return h.N >= r.confirm
}

// dropped decides what a confirmed drop was: a rollover, a reset, or neither.
func (r *Rule) dropped(in *input, t *track, v *Reading, elapsed int64, out Sink) verdict {
	if through := v.Raw - t.Raw + in.size; in.size != 0 && r.plausible(through, elapsed) {
		return r.accept(in, t, v, through, Rollover)
	}
	if r.limited && v.Raw >= 0 && v.Raw <= r.most(elapsed) && elapsed >= 0 {
		flags := Reset
		if t.Lost {
			flags |= LowerBound
		}
		before := prior{Raw: t.Raw, At: t.Seen, First: v.Raw, Since: v.At}
		d := r.accept(in, t, v, v.Raw, flags)
		t.Prior = before
		return d
	}
	r.raise(in, t, out, fmt.Sprintf("fell from %d to %d, which is neither a rollover nor a reset: nothing was counted", t.Raw, v.Raw),
		"compare the counts with the machine; where pieces are missing, correct them in the central system")
	return r.accept(in, t, v, 0, Reset|Suspect)
}

// jumped books a rise that the next readings have confirmed.
func (r *Rule) jumped(in *input, t *track, v *Reading, step, elapsed int64, out Sink) verdict {
	switch {
	case !t.Prior.At.IsZero() && r.returned(t, v):
		return r.takeBack(in, t, v)
	case !t.Born.IsZero() && v.At.At-t.Born.At <= int64(bootTime) && !r.zero:
		r.raise(in, t, out, fmt.Sprintf("showed %d at first and %d after it: the first reading was noise, and counting begins with the second", t.Raw, t.Hold.First),
			"compare the counts with the machine, and max_rate with what it can make")
		return r.accept(in, t, v, v.Raw-t.Hold.First, Suspect)
	}
	what := "it was counted"
	if !r.keep {
		what = "it was not counted"
	}
	r.raise(in, t, out, fmt.Sprintf("rose by %d within %s, more than max_rate allows: %s", step, time.Duration(elapsed).Round(time.Millisecond), what),
		"compare the counts with the machine, and max_rate with what it can make")
	if !r.keep {
		step = 0
	}
	return r.accept(in, t, v, step, Suspect)
}

// bootTime is how long a PLC may show 0 while it boots for its old number to be
// known again where a rise to it is plausible for pieces, too.
const bootTime = time.Minute

// priorTime is how long a number from before a reset is remembered at all.
const priorTime = time.Hour

// resumes reports whether nothing was counted between a reset, a moment ago,
// and v.
func (t *track) resumes(v *Reading) bool {
	p := &t.Prior
	return !p.At.IsZero() && !t.Lost && t.Raw == p.First && v.At.At-p.Since.At <= int64(bootTime)
}

// returned reports whether v goes on from the number before the last reset as
// if there had been none.
func (r *Rule) returned(t *track, v *Reading) bool {
	return v.Raw >= t.Prior.Raw && r.plausible(v.Raw-t.Prior.Raw, v.At.Since(t.Prior.At))
}

// takeBack undoes a reset that was none: a PLC that showed 0 while it booted has
// its number again. What was counted since is part of it.
func (r *Rule) takeBack(in *input, t *track, v *Reading) verdict {
	d := r.accept(in, t, v, max(v.Raw-t.Prior.Raw-t.Raw, 0), 0)
	d.changed = true
	return d
}

// outside refuses a number that the counter cannot show.
func (r *Rule) outside(in *input, t *track, v *Reading, out Sink) verdict {
	changed := !t.Alarm
	r.raise(in, t, out, fmt.Sprintf("shows %d, outside of its range %d to %d", v.Raw, in.low, in.low+in.size-1),
		"correct modulus: it is the number of values that the counter has")
	return verdict{changed: changed}
}

// accept believes a reading.
func (r *Rule) accept(in *input, t *track, v *Reading, pieces int64, flags Flags) verdict {
	d := verdict{pieces: pieces, flags: flags, since: t.Seen, changed: pieces != 0 || flags != 0}
	if t.Lost {
		if in.size != 0 && r.rate*t.Gap.Seconds() >= float64(in.size) {
			d.flags |= Ambiguous
		}
		if pieces != 0 || d.flags != 0 {
			d.gap = t.Gap
		}
		d.changed = true
	}
	if v.Raw >= t.Prior.Raw || v.At.At-t.Prior.Since.At > int64(priorTime) {
		t.Prior = prior{}
	}
	if v.Raw != t.Raw {
		t.Born = rule.Stamp{}
	}
	t.Seen, t.Raw, t.Lost, t.Gap, t.Hold = v.At, v.Raw, false, 0, hold{}
	return d
}

func (r *Rule) raise(in *input, t *track, out Sink, text, remedy string) {
	if t.Alarm {
		return
	}
	t.Alarm = true
	out.Alarm(rule.Alarm{Name: "counter_suspect:" + in.name, Raised: true, Text: "the counter " + in.Ref.String() + " " + text, Remedy: remedy})
}

func (r *Rule) clearAlarm(in *input, t *track, out Sink) {
	if !t.Alarm {
		return
	}
	t.Alarm = false
	out.Alarm(rule.Alarm{Name: "counter_suspect:" + in.name, Text: "the counter " + in.Ref.String() + " counts plausibly again"})
}

// Suspects returns the tags that changed implausibly, and those of which no good
// value was ever read.
func (r *Rule) Suspects(s *State) (suspects, unread []plant.TagRef) {
	for i := range s.Tracks {
		switch t := &s.Tracks[i]; {
		case t.Alarm:
			suspects = append(suspects, r.inputs[i].Ref)
		case t.Seen.IsZero():
			unread = append(unread, r.inputs[i].Ref)
		}
	}
	return suspects, unread
}
