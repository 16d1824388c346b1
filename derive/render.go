package derive

import (
	"cmp"
	"fmt"
	"time"

	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// Count implements counter.Sink: a counter event.
func (r *run) Count(c counter.Report) {
	from, to := c.From, c.To
	if to.Time().Before(from.Time()) { // the two are by different clocks
		from = to
	}
	r.scrap = r.scrap[:0]
	for i, code := range c.Codes {
		r.scrap = append(r.scrap, plant.ScrapCount{Code: code, Quantity: c.Totals.Scrap[i], Delta: c.Totals.Scrap[i] - c.Reported.Scrap[i]})
	}
	p := plant.Counter{
		Head: r.head(currentOrder(&r.s.order)),
		Good: c.Totals.Good, GoodDelta: c.Totals.Good - c.Reported.Good, Scrap: r.scrap,
		Rework: c.Totals.Rework, ReworkDelta: c.Totals.Rework - c.Reported.Rework,
		Cycles: c.Totals.Cycles, CyclesDelta: c.Totals.Cycles - c.Reported.Cycles,
		From: stampTime(from), To: stampTime(to), Raw: c.Raw, Gap: plant.Seconds(c.Gap),
		Reset: c.Flags&counter.Reset != 0, Rollover: c.Flags&counter.Rollover != 0,
		LowerBound: c.Flags&counter.LowerBound != 0, Ambiguous: c.Flags&counter.Ambiguous != 0,
		Suspect: c.Flags&counter.Suspect != 0, Saturated: c.Flags&counter.Saturated != 0,
	}
	if c.Flags&counter.Unseen != 0 {
		r.attribute(&c, &p)
	}
	p.Shift, p.AcrossShifts = r.shiftOf(c.From, c.To, c.Gap > 0)
	g := &r.s.gateway
	p.Rebase, g.Rebase = g.Rebase, false
	p.MicroStops, p.MicroSeconds = r.microStops()
	start := len(r.data)
	r.data = p.AppendJSON(r.data)
	r.emit(plant.KindCounter, to, start)
	r.countedOperation(&c, &p, to)
}

// currentOrder is the order of pieces that are reported now: those of the order
// before were reported when it ended.
func currentOrder(s *orderState) *plant.Order { return s.at(rule.Stamp{}) }

// microStops takes the short stops that no event has mentioned.
func (r *run) microStops() (n int64, length plant.Seconds) {
	s := &r.s.startstop
	n, length = s.MicroStops, plant.Seconds(s.MicroLength)
	s.MicroStops, s.MicroLength = 0, 0
	return n, length
}

// StartStop implements startstop.Sink: the machine started or stopped. The
// pieces up to then come first.
func (r *run) StartStop(e startstop.Event) {
	if !e.Repeat {
		r.snapshot(&e)
	}
	if r.m.counter != nil {
		r.m.counter.FlushTo(&r.s.counter, e.At, r.now, r)
	}
	r.s.order.Account.state(e.At, e.Running)
	p := plant.StartStop{
		Head: r.headAt(e.At), StopID: e.StopID,
		Type: e.Type, Reason: e.Reason, ReasonName: e.Name, State: e.Phase, UnitMode: e.Mode, Gap: plant.Seconds(e.Gap),
	}
	if e.Running {
		p.Running = 1
	}
	if !e.Since.IsZero() {
		p.Since = stampTime(e.Since)
		p.Duration = plant.Seconds(max(stampTime(e.At).Sub(p.Since), 0))
	}
	if m := &e.Missed; m.Stops > 0 || m.Stood > 0 {
		p.MissedStops, p.MissedSeconds, p.LowerBound = m.Stops, plant.Seconds(m.Stood), m.AtLeast
	}
	if e.Missed.Cut {
		p.Duration = plant.Seconds(e.Missed.Length)
	}
	p.MicroStops, p.MicroSeconds = r.microStops()
	start := len(r.data)
	r.data = p.AppendJSON(r.data)
	r.emit(plant.KindStartStop, e.At, start)
}

// StopReason implements startstop.Sink: a reason that came after its stop.
func (r *run) StopReason(e startstop.Reason) {
	r.emitJSON(plant.KindReason, e.At, plant.Reason{
		Head: r.headAt(e.At), StopID: e.StopID, Type: e.Type, Reason: e.Reason, ReasonName: e.Name,
	})
}

// Describe fills in what s knows of the machine, for people.
func (m *Model) Describe(s *State, out *Stats) {
	out.Machine, out.Order, out.OrderContext, out.OrderOwner = m.machine, s.order.Current.Number, s.order.Current, m.OrderOwner()
	out.Mode, out.ModeBy, out.ModeUntil = m.mode, s.mode.by(), s.mode.until()
	if !s.mode.Since.IsZero() {
		out.ModeSince = s.mode.Since.Time()
	}
	if now := s.mode.now(); now != "" {
		out.Mode = now
	}
	if s.shifts.Name != "" {
		out.Shift, out.ShiftUntil = s.shifts.Name, time.Unix(0, s.shifts.End)
	}
	if m.counter != nil && s.ready {
		t := s.counter.Counted()
		out.Good = t.Good
		for i := range m.counter.Codes() {
			out.Scrap += t.Scrap[i]
		}
	}
	if p := &s.startstop; m.startstop != nil && p.Known {
		running := p.Running
		out.Running, out.StateSince = &running, p.Since.Time()
		if !running {
			out.Reason = p.Told
			if kind, name, known := m.startstop.Meaning(p.Told); known && p.Told != "" {
				out.Reason = cmp.Or(name, kind) + " (" + p.Told + ")"
			}
		}
	}
	out.Problems = m.problems(s)
}

func (m *Model) problems(s *State) (all []Problem) {
	if l := s.gateway.Large; l != nil {
		all = append(all, Problem{Text: l.text(), Remedy: largeRemedy})
	}
	all = append(all, m.values.problems(&s.values)...)
	if m.counter != nil && s.ready {
		suspects, full, unread := m.counter.Suspects(&s.counter)
		for _, ref := range suspects {
			all = append(all, Problem{
				Text:   "the counter " + ref.String() + " changed implausibly",
				Remedy: "Compare the counts with the machine's own display.",
			})
		}
		for _, ref := range full {
			all = append(all, Problem{
				Text:   "the counter " + ref.String() + " stands at its highest number, so pieces are not counted",
				Remedy: "Reset the counter in the PLC.", Device: ref.Device, Tag: ref.Tag,
			})
		}
		for _, ref := range unread {
			all = append(all, Problem{
				Text:   "the counter " + ref.String() + " was never read",
				Remedy: "Check the tag's address and type against the PLC program.",
				Device: ref.Device, Tag: ref.Tag,
			})
		}
	}
	if m.startstop != nil {
		if ref, doubtful := m.startstop.Doubtful(&s.startstop); doubtful {
			all = append(all, Problem{
				Text:   "the stop counter " + ref.String() + " changed implausibly while nobody looked: what it says was not told",
				Remedy: "Check the tags of stops: against the PLC program.",
			})
		}
	}
	for _, code := range s.startstop.Unmapped {
		all = append(all, Problem{
			Text:   "stop code " + code + " is not in the table of reasons: it is sent with the default type",
			Remedy: "Add the code to the table of reasons in the config.",
		})
	}
	if other, differs := s.order.differing(); differs && m.order != nil {
		all = append(all, Problem{
			Text:   fmt.Sprintf("%s names another order than %s: %q instead of %q", other.By, m.order.speaker(), other.Number, s.order.Current.Number),
			Remedy: "See which order is really made, and correct the other.",
		})
	}
	all = append(all, m.problemsOfRecords(s)...)
	all = append(all, m.problemsOfScales(s)...)
	for i := range s.gateway.Lost {
		if l := &s.gateway.Lost[i]; l.Told {
			all = append(all, Problem{
				Text:   "not observed: " + string(l.Device) + " has not answered since " + l.At.Time().Format(time.RFC3339),
				Remedy: "See what is wrong with the device.", Device: l.Device,
			})
		}
	}
	return all
}
