// Package counter is the rule that turns the running totals of a machine into
// pieces: good, scrap by code, rework. It tells pieces from noise, rollovers,
// resets, jumps and gaps, and decides when to report. It is pure: time comes
// with the readings, and all it remembers is in State.
package counter

import (
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
	Correct(c Correction)
	Alarm(a rule.Alarm)
}

// Observe takes the readings of one scan. snapshot marks the first values after
// a (re)connect: nobody looked in between. It reports what is due; the pieces
// of a gap are reported at once and on their own.
func (r *Rule) Observe(s *State, readings []Reading, snapshot bool, now int64, out Sink) (changed bool) {
	readings, changed = r.prepare(s, readings, snapshot, false, now, out)
	gap := r.gap(s, readings, snapshot, &changed)
	if gap {
		r.Flush(s, now, out)
	}
	return r.take(s, readings, snapshot, now, out, gap) || changed
}

// ObserveAfter is Observe for a scan of which it is already known that what it
// counts belongs behind the newest Mark, also the pieces of a gap.
func (r *Rule) ObserveAfter(s *State, readings []Reading, snapshot bool, now int64, out Sink) (changed bool) {
	readings, changed = r.prepare(s, readings, snapshot, true, now, out)
	r.gap(s, readings, snapshot, &changed)
	return r.take(s, readings, snapshot, now, out, false) || changed
}

// prepare has the total and what is taken off it counted together, also where they
// come in several requests. It returns the readings that are left to be counted.
func (r *Rule) prepare(s *State, readings []Reading, snapshot, after bool, now int64, out Sink) (rest []Reading, changed bool) {
	changed = r.together(s, readings)
	switch {
	case r.keepEarly(s, readings, snapshot):
		return readings, true
	case !s.Late.At.IsZero():
		return r.catchUp(s, readings, snapshot, now, out), true
	case r.putOff(s, readings, snapshot, after):
		return readings, true
	case len(s.Early) > 0 && mainRead(readings):
		return s.takeEarly(readings), true
	}
	return readings, changed
}

// together takes a total as not read whose scrap or rework could not be read in
// the same request: what is good would be counted too high, and that is put
// right only by the pieces of the next order. It waits for reset_confirm
// requests, so that a tag that is gone costs no pieces.
func (r *Rule) together(s *State, readings []Reading) (changed bool) {
	alone, main := false, -1
	for i := range readings {
		switch in := &readings[i]; {
		case in.Input == 0 && r.inputs[0].role == total && !r.inputs[0].pulse && in.Good:
			main = i
		case r.inputs[in.Input].counts() && !in.Good:
			alone = true
		}
	}
	if main < 0 || !alone {
		if main >= 0 && s.Alone > 0 {
			s.Alone, changed = 0, true
		}
		return changed
	}
	if s.Alone < r.confirm {
		s.Alone++
		readings[main].Good = false
		return true
	}
	return false
}

// EndsGap reports whether the readings count pieces that nobody saw.
func (r *Rule) EndsGap(s *State, readings []Reading, snapshot bool) bool {
	if len(s.Early) > 0 && mainRead(readings) {
		return true
	}
	for i := range readings {
		in := &readings[i]
		t := &s.Tracks[in.Input]
		if in.Good && !t.Seen.IsZero() && (snapshot || t.Lost) && r.turned(in) != t.Raw && r.steps(in.Input) {
			return true
		}
	}
	return false
}

// steps reports whether an input shows afterwards what was made in a gap.
func (r *Rule) steps(input int) bool { return r.inputs[input].counts() && !r.inputs[input].pulse }

// turned is the number of a reading as the rule works with it: one that counts
// down is below 0.
func (r *Rule) turned(v *Reading) int64 {
	if r.inputs[v.Input].down {
		return -v.Raw
	}
	return v.Raw
}

// gap notes the readings that are missing, and reports whether the others end a
// gap with pieces.
func (r *Rule) gap(s *State, readings []Reading, snapshot bool, changed *bool) bool {
	for i := range readings {
		if t := &s.Tracks[readings[i].Input]; !readings[i].Good && t.lose() {
			*changed = true
		}
	}
	return r.EndsGap(s, readings, snapshot)
}

// take counts what the readings of one scan say: first what a gap left, then what
// was made since it ended.
func (r *Rule) take(s *State, readings []Reading, snapshot bool, now int64, out Sink, gap bool) (changed bool) {
	changed, rest := r.count(s, readings, snapshot, now, out, gap, false)
	if rest {
		r.count(s, readings, false, now, out, false, true)
	}
	return changed
}

// count counts the readings of one scan; rest says that some of them count more,
// and behind them only those are counted.
func (r *Rule) count(s *State, readings []Reading, snapshot bool, now int64, out Sink, gap, behind bool) (changed, rest bool) {
	var sum delta
	if r.preset >= 0 {
		changed = r.batchSize(s, readings)
	}
	hand := r.hand > 0 && r.keepBack(s, readings)
	for _, main := range [...]bool{false, true} {
		for i := range readings {
			in := readings[i]
			if !in.Good || (in.Input == 0) != main || !r.inputs[in.Input].counts() || hand && !main && r.kept(s, &in) {
				continue
			}
			in.Raw = r.turned(&in)
			t := &s.Tracks[in.Input]
			if behind && !t.rest {
				continue
			}
			t.Lost = t.Lost || (snapshot && !t.Seen.IsZero())
			d := r.judge(s, &r.inputs[in.Input], t, &in, out)
			changed = r.saves(s, &r.inputs[in.Input], t) || changed || d.changed
			t.rest, rest = d.rest, rest || d.rest
			if d.rest {
				in.At = d.at
			}
			r.add(s, &sum, &in, &d)
		}
	}
	if r.cavity >= 0 {
		changed = r.settings(s, readings, &sum) || changed
	}
	if sum.any {
		r.settle(s, &sum)
	}
	if gap {
		r.Flush(s, now, out)
	} else {
		r.Due(s, now, out)
	}
	return changed || sum.any, rest
}

// delta is what the readings of one scan add up to.
type delta struct {
	any                 bool
	good, total, rework int64
	scrap               int64
	// counts are those of the main counter, unseen where nobody looked while they
	// were made.
	counts int64
	unseen bool
}

// add takes what one reading means to a sum.
func (r *Rule) add(s *State, sum *delta, in *Reading, v *verdict) {
	if v.pieces == 0 && v.flags == 0 {
		return
	}
	sum.any = true
	sum.unseen = sum.unseen || in.Input == 0 && v.flags&Unseen != 0
	switch r.inputs[in.Input].role {
	case good:
		sum.good += r.cast(s, v.pieces)
		sum.counts += v.pieces
	case total:
		sum.total += r.cast(s, v.pieces)
		sum.counts += v.pieces
	case scrap:
		sum.scrap += v.pieces
		s.Now.Totals.Scrap[r.inputs[in.Input].scrap] += v.pieces
	case rework:
		sum.rework += v.pieces
		s.Now.Totals.Rework += v.pieces
	}
	r.span(s, v, in.At)
}

// span makes the newest span hold what a verdict says.
func (r *Rule) span(s *State, v *verdict, at rule.Stamp) {
	p := &s.Now
	if p.From.IsZero() || v.since.Time().Before(p.From.Time()) {
		p.From = v.since
	}
	if p.To.Time().Before(at.Time()) {
		p.To = at
	}
	p.Flags |= v.flags
	p.Gap = max(p.Gap, v.gap)
}

// settle books what the scan's total leaves for good pieces. A negative balance
// (the scrap counter was read before the total that holds the same pieces) is
// carried until later pieces cover it; not against a total that counts no
// further.
func (r *Rule) settle(s *State, sum *delta) {
	s.Now.Totals.Good += sum.good
	if r.cycles() {
		s.Now.Totals.Cycles += sum.counts
	}
	if r.hasTotal() {
		s.Carry += sum.total - sum.scrap - sum.rework
		if s.Carry > 0 {
			s.Now.Totals.Good += s.Carry
			s.Carry = 0
		}
		if s.Tracks[0].Full {
			s.Carry = 0
		}
		r.takeOff(s)
	}
	// The first input is the good or total counter where there is one.
	s.Now.Raw = r.inputs[0].shown(s.Tracks[0].Raw)
	if s.Now.Totals.equal(r.base(s)) && s.Now.Flags == 0 {
		s.Now.clear()
	}
}

// takeOff takes a negative balance off the good pieces that no event has told: scrap
// that is read behind its total was one of them.
func (r *Rule) takeOff(s *State) {
	if n := min(-s.Carry, s.Now.Totals.Good-r.base(s).Good); n > 0 {
		s.Now.Totals.Good -= n
		s.Carry += n
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
	r.Believe(s, out)
	if !s.Mark.IsZero() {
		r.report(s, &s.Before, now, out)
	}
	s.Mark, s.Marks = at, 1
	s.Before.copyFrom(&s.Now)
	s.Now.clear()
}

// Share notes that another boundary may be at the newest mark, though pieces are
// counted behind it already. At any other time it is no mark.
func (r *Rule) Share(s *State, at rule.Stamp) {
	if s.Mark == at && !at.IsZero() {
		s.Marks++
	}
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
	r.takeOff(s) // what was in the way of it is no boundary
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

// FlushMarked reports the pieces up to the mark at that time and leaves the mark:
// those after it go on waiting.
func (r *Rule) FlushMarked(s *State, at rule.Stamp, now int64, out Sink) {
	if s.Mark == at && !at.IsZero() {
		r.report(s, &s.Before, now, out)
	}
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
	if at := s.waitsUntil(); at != 0 && now >= at {
		if s.Late.At.IsZero() {
			r.giveUp(s, now, out)
		} else {
			r.catchUp(s, nil, false, now, out)
		}
	}
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

// Wake returns when the rule wants to be asked again, 0 for not at all.
func (r *Rule) Wake(s *State) int64 {
	at := r.reportAt(s)
	if comes := s.waitsUntil(); comes != 0 && (at == 0 || comes < at) {
		at = comes
	}
	for i := range s.Tracks {
		if t := &s.Tracks[i]; t.Hold.N > 0 && !t.Lost && r.inputs[i].counts() {
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
		From: p.From, To: p.To, Flags: p.Flags | r.saturated(s), Gap: p.Gap, Raw: p.Raw,
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
			t := &s.Tracks[i]
			if t.lose(); t.End.Good {
				t.End, t.Gap = Reading{}, 0 // the gap goes on, as if it had not been read
			}
			s.Early = s.without(i)
			if i == 0 {
				s.Late = late{}
			}
		}
	}
}

// lose notes that nobody looks any more, and reports whether somebody did.
func (t *track) lose() bool {
	was := *t
	t.Lost, t.Hold.Cut = true, t.Hold.N > 0
	return t.Lost != was.Lost || t.Hold.Cut != was.Hold.Cut
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

// Suspects returns the tags that changed implausibly, those that can count no
// further, and those of which no good value was ever read.
func (r *Rule) Suspects(s *State) (suspects, full, unread []plant.TagRef) {
	for i := range s.Tracks {
		switch t := &s.Tracks[i]; {
		case t.Full:
			full = append(full, r.inputs[i].Ref)
		case t.Alarm:
			suspects = append(suspects, r.inputs[i].Ref)
		case t.Seen.IsZero():
			unread = append(unread, r.inputs[i].Ref)
		}
	}
	return suspects, full, unread
}
