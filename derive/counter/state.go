package counter

import (
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// Flags mark what happened within an interval.
type Flags uint8

// The flags, as plant.Counter documents them.
const (
	Reset Flags = 1 << iota
	Rollover
	LowerBound
	Ambiguous
	Suspect
	Saturated
	// Unseen is set where pieces were made while nobody looked; no event has it.
	Unseen
)

// Totals are cumulative counts.
type Totals struct {
	Good   int64   `json:"g,omitempty"`
	Rework int64   `json:"w,omitempty"`
	Scrap  []int64 `json:"s,omitempty"`
	// Cycles are counts of the device, where they are no pieces.
	Cycles int64 `json:"y,omitempty"`
}

func (t *Totals) copyFrom(o *Totals) {
	t.Good, t.Rework, t.Cycles = o.Good, o.Rework, o.Cycles
	t.Scrap = append(t.Scrap[:0], o.Scrap...)
}

func (t *Totals) equal(o *Totals) bool {
	return t.Good == o.Good && t.Rework == o.Rework && t.Cycles == o.Cycles && slices.Equal(t.Scrap, o.Scrap)
}

// pieces is how many of all sorts t has more than o.
func (t *Totals) pieces(o *Totals) int64 {
	n := t.Good - o.Good + t.Rework - o.Rework
	for i := range t.Scrap {
		n += t.Scrap[i] - o.Scrap[i]
	}
	return n
}

// hold is a reading that is not believed yet.
type hold struct {
	// N readings agreed so far; 0 holds nothing.
	N    int  `json:"n,omitempty"`
	Drop bool `json:"d,omitempty"`
	// First is the first of them, which was read at FirstAt, Raw and At the last.
	First   int64      `json:"f,omitempty"`
	Raw     int64      `json:"r,omitempty"`
	At      rule.Stamp `json:"a,omitzero"`
	FirstAt rule.Stamp `json:"fa,omitzero"`
	// Cut is set while nobody looks since Raw was read. Before is what was read last
	// before a gap, if anything was held then, After what was read first behind it.
	Cut      bool       `json:"c,omitempty"`
	Before   int64      `json:"b,omitempty"`
	BeforeAt rule.Stamp `json:"ba,omitzero"`
	After    int64      `json:"e,omitempty"`
	AfterAt  rule.Stamp `json:"ea,omitzero"`
}

// track is what the rule knows of one input.
type track struct {
	// Binding says what the track was learned from.
	Binding string `json:"b"`
	// Seen is when Raw was read, which is the last believed number; never until
	// the first.
	Seen rule.Stamp `json:"t,omitzero"`
	Raw  int64      `json:"r,omitempty"`
	// Lost is set when a reading was missed since Seen, and Gap is how long
	// nobody looked, as soon as somebody does.
	Lost  bool          `json:"l,omitempty"`
	Gap   time.Duration `json:"g,omitempty"`
	Hold  hold          `json:"h,omitzero"`
	Alarm bool          `json:"m,omitempty"`
	// Born is when the baseline was read, which may have been a PLC that boots;
	// never once the number has changed, or was read often enough to be believed
	// where it is not 0. Reads says how often.
	Born  rule.Stamp `json:"f,omitzero"`
	Reads int        `json:"bn,omitempty"`
	// Saved is the newest Seen that was to be saved for itself.
	Saved int64 `json:"sv,omitempty"`
	// Prior is what was believed before the last reset, in case the reset turns
	// out to be a PLC that showed 0 while it booted.
	Prior prior `json:"p,omitzero"`
	// Recalled is set while Raw is of the newest event, since the state is gone, and
	// nothing was read since; Doubtful where that event says that it may not hold, or
	// nobody knows what of a rise since is good.
	Recalled bool `json:"rc,omitempty"`
	Doubtful bool `json:"rd,omitempty"`
	// Full is set while the counter stands at its highest number and counts
	// nothing any more.
	Full bool `json:"u,omitempty"`
	// rest is set while a reading is judged that counts more than the end of a gap.
	rest bool
	// End is the reading that ended a gap, where the one that is judged comes later.
	End Reading `json:"en,omitzero"`
}

// prior is a number from before a reset.
type prior struct {
	Raw int64      `json:"r,omitempty"`
	At  rule.Stamp `json:"a,omitzero"`
	// First is the number that the reset was seen by, at Since.
	First int64      `json:"f,omitempty"`
	Since rule.Stamp `json:"s,omitzero"`
}

// span is what is not reported yet: the counts at its end and how they came.
type span struct {
	// From and To are never if nothing happened.
	From   rule.Stamp    `json:"f,omitzero"`
	To     rule.Stamp    `json:"t,omitzero"`
	Flags  Flags         `json:"m,omitempty"`
	Gap    time.Duration `json:"g,omitempty"`
	Raw    int64         `json:"r,omitempty"`
	Totals Totals        `json:"c"`
}

func (p *span) copyFrom(o *span) {
	totals := p.Totals
	*p = *o
	p.Totals = totals
	p.Totals.copyFrom(&o.Totals)
}

func (p *span) clear() { p.From, p.To, p.Flags, p.Gap = rule.Stamp{}, rule.Stamp{}, 0, 0 }

// State is what the rule remembers. Its fields are exported for the encoder;
// only this package changes them.
type State struct {
	Tracks []track `json:"in"`
	// Codes name Now.Totals.Scrap, also codes that the config no longer has.
	Codes []string `json:"codes,omitempty"`
	// Carry is a negative balance of total against scrap and rework.
	Carry int64 `json:"carry,omitempty"`
	// Alone counts requests in a row in which the total could be read and what is
	// taken off it could not.
	Alone int `json:"alone,omitempty"`
	// Late is the total of a gap that waits for the scrap of the same gap.
	Late late `json:"late,omitzero"`
	// Early are scrap and rework of a gap that wait for its total. It is never changed
	// in place.
	Early []early `json:"early,omitempty"`
	// Uncast are cycles of which nobody knows yet how many pieces each was.
	Uncast int64 `json:"uncast,omitempty"`
	// Started is set once the counts have begun, at start_total or at those of an
	// event.
	Started bool `json:"start,omitempty"`
	// Resumed is set where the counts are those of an event: what a counter shows
	// first is then no count from zero, whatever baseline says.
	Resumed bool `json:"resumed,omitempty"`
	// Now is the newest span, Before the part up to Mark, which Marks possible
	// boundaries share, and Reported what events have said.
	Now      span       `json:"now"`
	Before   span       `json:"before,omitzero"`
	Mark     rule.Stamp `json:"mark,omitzero"`
	Marks    int        `json:"marks,omitempty"`
	Reported Totals     `json:"rep"`
	// Base is what was reported when the current order began.
	Base       Totals `json:"base,omitzero"`
	LastReport int64  `json:"last,omitempty"`
	// back is set while a scan is counted in which the main counter is not below its
	// believed number.
	back bool
}

// CopyFrom makes s equal to o without sharing memory with it, reusing its own.
func (s *State) CopyFrom(o *State) {
	s.Tracks = append(s.Tracks[:0], o.Tracks...)
	s.Codes = append(s.Codes[:0], o.Codes...)
	s.Carry, s.Mark, s.Marks, s.LastReport = o.Carry, o.Mark, o.Marks, o.LastReport
	s.Uncast, s.Started, s.Resumed, s.Alone = o.Uncast, o.Started, o.Resumed, o.Alone
	s.Late, s.Early = o.Late, o.Early
	s.Now.copyFrom(&o.Now)
	s.Before.copyFrom(&o.Before)
	s.Reported.copyFrom(&o.Reported)
	s.Base.copyFrom(&o.Base)
}

// Fit prepares a decoded or zero State for the rule: inputs at other addresses
// than before begin with a baseline, counts stay under their codes, and codes
// that the config no longer has are kept for when it has them again.
func (r *Rule) Fit(s *State) {
	r.begin(s)
	tracks := make([]track, len(r.inputs))
	for i := range r.inputs {
		tracks[i].Binding = r.inputs[i].binding
		if old := slices.IndexFunc(s.Tracks, func(t track) bool { return t.Binding == r.inputs[i].binding }); old >= 0 {
			tracks[i] = s.Tracks[old]
		}
	}
	if len(tracks) == 0 || len(s.Tracks) == 0 || tracks[0].Binding != s.Tracks[0].Binding {
		s.Late = late{}
	}
	if !slices.EqualFunc(tracks, s.Tracks, func(a, b track) bool { return a.Binding == b.Binding }) {
		s.Early = nil
	}
	s.Tracks = tracks
	codes := slices.Clone(r.codes)
	for _, c := range s.Codes {
		if !slices.Contains(codes, c) {
			codes = append(codes, c)
		}
	}
	for _, t := range []*Totals{&s.Now.Totals, &s.Before.Totals, &s.Reported, &s.Base} {
		counts := make([]int64, len(codes))
		for i, c := range codes {
			if old := slices.Index(s.Codes, c); old >= 0 && old < len(t.Scrap) {
				counts[i] = t.Scrap[old]
			}
		}
		t.Scrap = counts
	}
	s.Codes = codes
}

// begin lets the counts of a machine that was never seen begin at start_total.
func (r *Rule) begin(s *State) {
	if r.Fresh(s) {
		for _, t := range []*Totals{&s.Now.Totals, &s.Before.Totals, &s.Reported, &s.Base} {
			t.Good = r.start
		}
	}
	s.Started = true
}

// Fresh reports whether the counts of a decoded State have not begun.
func (r *Rule) Fresh(s *State) bool {
	seen := func(t track) bool { return !t.Seen.IsZero() }
	return !s.Started && s.LastReport == 0 && !slices.ContainsFunc(s.Tracks, seen)
}

// Resume lets the counts go on from those of an event, where the state that they
// came from is gone. codes name t.Scrap. It is called after Fit.
func (r *Rule) Resume(s *State, t *Totals, codes []string) {
	s.Resumed = true
	for _, code := range codes {
		if !slices.Contains(s.Codes, code) {
			s.Codes = append(s.Codes, code)
		}
	}
	for _, own := range []*Totals{&s.Now.Totals, &s.Before.Totals, &s.Reported, &s.Base} {
		own.Good, own.Rework, own.Cycles = t.Good, t.Rework, t.Cycles
		own.Scrap = make([]int64, len(s.Codes))
		for i, code := range codes {
			own.Scrap[slices.Index(s.Codes, code)] = t.Scrap[i]
		}
	}
}

// Recall lets the main counter go on from its number in the newest event, read at
// that time, where nothing else is left of the state: pieces made since then are
// those of a gap. doubtful says that the number may not be what the device showed.
// Where scrap or rework is taken off a total, nobody knows what of it was good: all of
// it counts so, and is marked. The next reading of the other counters, whose numbers
// no event has, is a baseline. It is called after Resume.
func (r *Rule) Recall(s *State, raw int64, at rule.Stamp, doubtful bool) {
	if len(r.inputs) == 0 || r.inputs[0].role > total || r.inputs[0].pulse || at.IsZero() {
		return
	}
	in, t := &r.inputs[0], &s.Tracks[0]
	v := Reading{Raw: raw}
	raw = r.turned(&v)
	if !t.Seen.IsZero() || in.size != 0 && (raw < in.low || raw-in.low >= in.size) {
		return
	}
	other := func(in input) bool { return in.role == scrap || in.role == rework }
	t.Raw, t.Recalled = raw, true
	t.Doubtful = doubtful || in.role == total && slices.ContainsFunc(r.inputs, other)
	t.Seen, t.Lost, t.Full = at, true, in.full(raw)
	s.Now.Raw = in.shown(raw)
}

// Rebase begins a new order at what is reported now.
func (s *State) Rebase() { s.Base.copyFrom(&s.Reported) }

// Exclude keeps what a report says out of what was made since Rebase.
func (s *State) Exclude(r *Report) {
	s.Base.Good += r.Totals.Good - r.Reported.Good
	s.Base.Rework += r.Totals.Rework - r.Reported.Rework
	s.Base.Cycles += r.Totals.Cycles - r.Reported.Cycles
	for i := range s.Base.Scrap {
		s.Base.Scrap[i] += r.Totals.Scrap[i] - r.Reported.Scrap[i]
	}
}

// Counted returns all counts so far, also what no event has reported yet.
func (s *State) Counted() *Totals { return &s.Now.Totals }

// Shift follows a step of the gateway's clock, so that lengths stay true.
func (s *State) Shift(step time.Duration) {
	for i := range s.Tracks {
		t := &s.Tracks[i]
		h, p := &t.Hold, &t.Prior
		for _, at := range []*rule.Stamp{&t.Seen, &t.Born, &t.End.At, &p.At, &p.Since, &h.At, &h.FirstAt, &h.BeforeAt, &h.AfterAt} {
			at.Shift(step)
		}
		if t.Saved != 0 {
			t.Saved += int64(step)
		}
	}
	for _, t := range []*rule.Stamp{&s.Now.From, &s.Now.To, &s.Before.From, &s.Before.To, &s.Mark, &s.Late.At} {
		t.Shift(step)
	}
	s.Early = slices.Clone(s.Early)
	for i := range s.Early {
		s.Early[i].At.Shift(step)
		s.Early[i].Since.Shift(step)
	}
	if s.LastReport != 0 {
		s.LastReport += int64(step)
	}
}
