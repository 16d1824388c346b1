package dosing

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// MassRate is a weight per time, which a config writes "5 kg/s" or "300 kg/h".
type MassRate struct {
	Mass plant.Mass
	Per  time.Duration
}

// UnmarshalText reads a weight and the time for it.
func (r *MassRate) UnmarshalText(b []byte) error {
	text, unit, _ := strings.Cut(string(b), "/")
	per := map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[strings.TrimSpace(unit)]
	var m plant.Mass
	if err := m.UnmarshalText([]byte(text)); err != nil || per == 0 || m.Amount.IsZero() {
		return config.Field("", fmt.Sprintf("`%s` is no weight per time", b), "write a weight per s, min, h or d, for example 5 kg/s or 300 kg/h")
	}
	*r = MassRate{m, per}
	return nil
}

// IsZero reports whether no rate is set.
func (r MassRate) IsZero() bool { return r == MassRate{} }

// total is how a totalizer is counted: as a counter of its steps.
type total struct {
	rule *counter.Rule
	// step is one count in ticks, least min_dose in counts.
	step, least int64
	// coarse is the total, in ticks, above which a REAL cannot show min_dose; 0 for
	// no such limit.
	coarse int64
}

// total makes the counter of a totalizer.
func (b *liveBuilder) total(o *Options) {
	r := b.r
	in := &r.inputs[r.first(roleTotal)]
	t := &total{step: b.ticks("division", o.Division)}
	whole := in.Tag.Type.Bits() > 0 && !in.Tag.Scaled
	one := pow10(r.places)
	switch {
	case whole && t.step != 0 && t.step != one:
		b.fault("division", fmt.Sprintf("tag %s counts whole %s", in.Ref, r.unit), "remove it, or write scale: at the device's tag")
		return
	case whole:
		t.step = one
	case t.step == 0:
		t.step = max(one/1000, 1)
	}
	t.least = max((r.least+t.step-1)/t.step, 1)
	seen := *in
	if !whole {
		// Its counts are not the device's numbers: only modulus says where they end.
		seen.Tag.Type, seen.Tag.Scaled = plant.TypeInt64, true
	}
	c := counter.Options{Good: string(in.Ref.Tag), ResetConfirm: o.ResetConfirm, Every: config.Duration(100 * 365 * 24 * time.Hour)}
	if m := b.ticks("modulus", o.Modulus); m != 0 {
		c.Modulus = m / t.step
		if m%t.step != 0 {
			b.fault("modulus", fmt.Sprintf("%s is no whole number of divisions", o.Modulus), "write the weight at which the total begins again from 0")
		}
	}
	if bits := in.Tag.Type.Bits(); in.Tag.Scaled && bits > 0 && bits < 64 && o.Modulus.IsZero() {
		b.warnings = append(b.warnings, config.Warn("total", fmt.Sprintf("tag %s (%s) is scaled, so nobody knows at which weight it begins again: it will be told as a reset", in.Ref, in.Tag.Type),
			"write modulus: with the number of values of its type, times its scale, for example 6553.6 kg for a uint16 in tenths, and max_rate:"))
	}
	if !o.MaxRate.IsZero() {
		c.MaxRate = config.Rate{Count: float64(b.ticks("max_rate", o.MaxRate.Mass)) / float64(t.step), Per: o.MaxRate.Per}
	} else if c.Modulus != 0 || whole && in.Tag.Type.Bits() < 64 {
		b.fault("max_rate", fmt.Sprintf("is missing, but the total in tag %s begins again from 0 some day", in.Ref), "write the most that can flow, for example max_rate: 5 kg/s: only that tells a rollover from a reset")
		return
	}
	b.coarse(o, in, t)
	var err error
	if t.rule, err = counter.New(c, func(string, string) (rule.Input, error) { return seen.Input, nil }); err != nil {
		b.errs = append(b.errs, err)
	}
	r.total = t
}

// coarse warns of a REAL: from 2^24 of its last places on it cannot show a step.
func (b *liveBuilder) coarse(o *Options, in *input, t *total) {
	r := b.r
	if in.Tag.Type != plant.TypeFloat32 {
		return
	}
	t.coarse = r.least << 22
	if t.coarse>>22 != r.least {
		t.coarse = 0
		return
	}
	if m := b.ticks("modulus", o.Modulus); m > t.coarse || m == 0 {
		most := plant.Decimal{Unscaled: t.coarse, Scale: r.places}.Float()
		b.warnings = append(b.warnings, config.Warn("total", fmt.Sprintf("tag %s is a REAL (float32): above %s %s it cannot show min_dose (%s) any more", in.Ref, strconv.FormatFloat(most, 'f', -1, 64), r.unit, o.MinDose),
			"let the PLC total in a DINT or LREAL, or reset the total before that and write modulus:"))
	}
}

func pow10(n uint8) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

// totalState is what is known of a totalizer.
type totalState struct {
	Count counter.State `json:"c,omitzero"`
	// Begun is when the first of what is not told was dosed, Moved when the last.
	Begun rule.Stamp `json:"t0,omitzero"`
	Moved rule.Stamp `json:"t1,omitzero"`
	Words words      `json:"w,omitzero"`
	// Asked is set where the component was not read together with the first of it.
	Asked bool `json:"ask,omitempty"`
	// Coarse is set while an alarm says that the total is too large for a REAL,
	// Unseen while one says that nobody knows what was dosed.
	Coarse bool `json:"co,omitempty"`
	Unseen bool `json:"un,omitempty"`
}

// untold is how much was counted and not told, in counts.
func (t *totalState) untold() int64 { return t.Count.Counted().Good - t.Count.Reported.Good }

// totalSample takes the newest total. named says that the component was read
// together with it.
func (r *Live) totalSample(s *LiveState, ticks int64, good, snapshot, named bool, at rule.Stamp, now int64, out *Out) (changed bool) {
	t := &s.Total
	step := r.total.step
	count := ticks / step
	if rest := ticks % step; rest >= step-step/2 {
		count++
	} else if -rest >= step-step/2 {
		count--
	}
	sink := out.of(r, s)
	another := good && t.untold() > 0 && r.passes(t, &s.Words, at)
	if another {
		r.total.rule.Flush(&t.Count, now, sink)
	}
	before := t.untold()
	reading := [1]counter.Reading{{At: at, Raw: count, Good: good}}
	changed = r.total.rule.Confirm(&t.Count, reading[:], snapshot, now, sink) || another
	changed = r.total.rule.Observe(&t.Count, reading[:], snapshot, now, sink) || changed
	if after := t.untold(); after != before {
		if before == 0 {
			t.Begun, t.Words, t.Asked = at, s.Words, !named
		}
		t.Moved = at
		changed = true
	}
	r.coarseAlarm(s, ticks, good, out)
	return changed
}

// passes reports whether another component is named than what is untold is of. Where
// that had only just begun, and the component is read for the first time since, it is
// of this one: a PLC sets both together.
func (r *Live) passes(t *totalState, now *words, at rule.Stamp) (another bool) {
	first := t.Asked && t.Begun == t.Moved && at.At-t.Begun.At <= sameTime
	t.Asked = false
	if another = r.becomes(&t.Words, now); another && first {
		t.Words.take(now, slotComponent)
		return false
	}
	return another
}

func (r *Live) coarseAlarm(s *LiveState, ticks int64, good bool, out Sink) {
	coarse := r.total.coarse > 0 && ticks > r.total.coarse
	if !good || coarse == s.Total.Coarse {
		return
	}
	s.Total.Coarse = coarse
	a := rule.Alarm{Name: "total_coarse:" + r.name, Text: "the total can show min_dose again"}
	if coarse {
		a.Raised = true
		a.Text = "the total is so large that a REAL cannot show min_dose any more: doses come out too large or too small"
		a.Remedy = "let the PLC total in a DINT or LREAL, or reset the total"
	}
	out.Alarm(a)
}

// totalAt returns when what is not told is to be told, 0 for not at all: the total
// has come to rest, or it has been untold for long enough.
func (r *Live) totalAt(s *LiveState) int64 {
	t := &s.Total
	at := r.total.rule.Wake(&t.Count)
	if n := t.untold(); n >= r.total.least {
		rest := t.Moved.At + r.pause
		if r.every > 0 {
			rest = min(rest, t.Begun.At+r.every)
		}
		if at == 0 || rest < at {
			at = rest
		}
	}
	return at
}

func (r *Live) totalDue(s *LiveState, now int64, out *Out) (changed bool) {
	at := r.totalAt(s)
	if at == 0 || now < at {
		return false
	}
	sink := out.of(r, s)
	r.total.rule.Due(&s.Total.Count, now, sink)
	t := &s.Total
	if t.untold() >= r.total.least && (now >= t.Moved.At+r.pause || r.every > 0 && now >= t.Begun.At+r.every) {
		r.total.rule.Flush(&t.Count, now, sink)
	}
	return true
}

// unseenAlarm says that nobody knows whether something was dosed: the total shows
// nothing of a time in which it was not seen and may have gone round, or began
// again. It stands until a dose is in no doubt.
func (r *Live) unseenAlarm(s *LiveState, c *counter.Report, raised bool, out Sink) {
	if raised == s.Total.Unseen {
		return
	}
	s.Total.Unseen = raised
	a := rule.Alarm{Name: "total_unseen:" + r.name, Text: "the newest dose is in no doubt", Raised: raised}
	if raised {
		what := "may have gone round"
		if c.Flags&counter.LowerBound != 0 {
			what = "began again"
		}
		a.Text = fmt.Sprintf("nobody saw the total for %s, in which it %s: whether something was dosed is not known", c.Gap.Round(time.Millisecond), what)
		a.Remedy = "compare with what the dosing controller says; keep the gaps shorter, or let the total go round later"
	}
	out.Alarm(a)
}

// totals makes doses of what the counter of a totalizer reports.
type totals struct {
	r   *Live
	s   *LiveState
	out Sink
}

// Out is a Sink with memory that is used again from one call to the next, so
// that a call which says nothing costs none.
type Out struct {
	Sink
	totals totals
}

// of returns the sink of the counter of a totalizer.
func (o *Out) of(r *Live, s *LiveState) *totals {
	o.totals = totals{r, s, o.Sink}
	return &o.totals
}

// Alarm implements counter.Sink.
func (t *totals) Alarm(a rule.Alarm) {
	a.Name = "total_suspect:" + t.r.name
	t.out.Alarm(a)
}

// Correct implements counter.Sink; nobody corrects a totalizer by hand.
func (t *totals) Correct(counter.Correction) {}

// Count implements counter.Sink.
func (t *totals) Count(c counter.Report) {
	n := c.Totals.Good - c.Reported.Good
	st := &t.s.Total
	unseen := c.Flags&(counter.Ambiguous|counter.LowerBound) != 0
	if n <= 0 {
		// It is no dose: an alarm says what happened.
		if unseen {
			t.r.unseenAlarm(t.s, &c, true, t.out)
		}
		return
	}
	if !unseen {
		t.r.unseenAlarm(t.s, &c, false, t.out)
	}
	if st.Words.IsZero() {
		st.Words = t.s.Words
	}
	st.Words.fill(&t.s.Words)
	p := portion{
		ticks: n * t.r.total.step, at: c.To, begun: c.From, ended: c.To, words: &st.Words, gap: c.Gap,
		flags: c.Flags,
	}
	t.r.tell(&p, t.out)
	st.Begun, st.Words = rule.Stamp{}, words{}
}
