package derive

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/derive/dosing"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// weighedUse says that a tag is an input of a scale.
type weighedUse struct{ rule, input int }

// newWeighed makes the rules of the scales whose doses are found in what tags
// show; name gives a place in the list its name.
func newWeighed(all []dosing.Options, name func(i int) string, resolve rule.Resolver) (rules []*dosing.Live, errs []error) {
	for i := range all {
		if !all[i].Live() {
			continue
		}
		d, err := dosing.NewLive(name(i), all[i], resolve)
		errs = append(errs, below(name(i), err))
		if faulty(err) {
			continue
		}
		rules = append(rules, d)
	}
	return rules, errs
}

// bindWeighed notes the tags of scales.
func (m *Model) bindWeighed() {
	for i, d := range m.weighed {
		for j, ref := range d.Tags() {
			u := m.use(ref)
			u.weighed, u.polled = append(u.weighed, weighedUse{i, j}), true
			m.edges[u.index] = m.edges[u.index] || d.Edge(j)
		}
	}
}

// weigh notes a reading for the scales.
func (r *run) weigh(u *use, v *plant.Reading, at rule.Stamp) {
	for _, w := range u.weighed {
		for len(r.weighed) <= w.rule {
			r.weighed = append(r.weighed, nil)
		}
		r.weighed[w.rule] = append(r.weighed[w.rule], dosing.Reading{Input: w.input, At: at, Value: v.Value, Good: v.Quality == plant.Good})
	}
}

// scales gives the scales what a scan has said.
func (r *run) scales(snapshot bool) {
	for i, d := range r.m.weighed {
		if i < len(r.weighed) && len(r.weighed[i]) > 0 {
			r.changed = d.Observe(&r.s.weighed[i], r.weighed[i], snapshot, r.now, r.scale(i)) || r.changed
			r.weighed[i] = r.weighed[i][:0]
		}
	}
}

func (r *run) dueWeighed() {
	for i, d := range r.m.weighed {
		r.changed = d.Due(&r.s.weighed[i], r.now, r.scale(i)) || r.changed
	}
}

// boundaryWeighed has the scales report what belongs to the time before.
func (r *run) boundaryWeighed(at rule.Stamp, why boundary) {
	for i, d := range r.m.weighed {
		d.Boundary(&r.s.weighed[i], at, why == orderEnds, r.now, r.scale(i))
	}
}

// markWeighed notes a time that may turn out to be the end of an order.
func (r *run) markWeighed(at rule.Stamp) {
	for i, d := range r.m.weighed {
		d.Mark(&r.s.weighed[i], at, r.now, r.scale(i))
	}
}

func (r *run) unmarkWeighed(at rule.Stamp) {
	for i, d := range r.m.weighed {
		d.Unmark(&r.s.weighed[i], at)
	}
}

// copyWeighed makes the states of s equal to those of o.
func (s *State) copyWeighed(o *State) {
	s.weighed = slices.Grow(s.weighed[:0], len(o.weighed))[:len(o.weighed)]
	for i := range o.weighed {
		s.weighed[i].CopyFrom(&o.weighed[i])
	}
}

func (r *run) lostWeighed(d plant.DeviceID) {
	for i, w := range r.m.weighed {
		w.Lost(&r.s.weighed[i], r.m.covers(d))
	}
}

// weighs is the sink of one scale.
type weighs struct {
	*run
	i   int
	out dosing.Out
}

var _ dosing.Sink = (*weighs)(nil)

// scale returns the sink of a scale. It is the same for all, one after the other,
// so that a step without events allocates nothing.
func (r *run) scale(i int) *dosing.Out {
	w := &r.sink
	w.run, w.i, w.out.Sink = r, i, w
	return &w.out
}

// Dose implements dosing.Sink.
func (w *weighs) Dose(d *dosing.Dose) {
	begun := d.Begun
	if begun.IsZero() {
		begun = d.At
	}
	d.Head = w.recordHead(d.OwnOrder, begun)
	w.lots(&d.Dosing)
	w.emitDosing(d.At, &d.Dosing)
	w.dosed(&d.Dosing)
	w.doubt(w.m.weighed[w.i].Name(), d.Flagged, &w.s.weighed[w.i].Flagged)
}

// Move implements dosing.Sink.
func (w *weighs) Move(kind plant.EventKind, at rule.Stamp, m plant.Movement) {
	m.Head = w.head(w.s.order.at(at))
	w.moved(kind, &m)
	w.emitJSON(kind, at, m)
}

// Urgent implements dosing.Sink.
func (w *weighs) Urgent() { w.run.out.Urgent = true }

// doubt raises an alarm with the first dose that is in doubt, and clears it with
// the next that is not; each dose says itself what of it is in doubt. standing says
// whether it is raised.
func (r *run) doubt(name string, flagged []string, standing *bool) {
	name = "dose_flagged:" + name
	switch {
	case len(flagged) > 0 == *standing:
	case !*standing:
		r.Alarm(rule.Alarm{
			Name: name, Raised: true,
			Text:   "a dose was booked, but this in it is in doubt: " + strings.Join(flagged, ", "),
			Remedy: "the material is in the product: correct the dose where it was sent to, and what the PLC says",
		})
	default:
		r.Alarm(rule.Alarm{Name: name, Text: "the newest dose is in no doubt"})
	}
	*standing = len(flagged) > 0
}

// fitWeighed gives each scale the state that was learned from it.
func (m *Model) fitWeighed(s *State) {
	old := s.weighed
	s.weighed = make([]dosing.LiveState, len(m.weighed))
	for i, d := range m.weighed {
		if j := slices.IndexFunc(old, func(o dosing.LiveState) bool { return d.Bound(&o) }); j >= 0 {
			s.weighed[i] = old[j]
		}
		d.Fit(&s.weighed[i])
	}
}

func (s *State) shiftWeighed(step time.Duration) {
	for i := range s.weighed {
		s.weighed[i].Shift(step)
	}
}

// problemsOfScales are what a person should look at.
func (m *Model) problemsOfScales(s *State) (all []Problem) {
	if !s.ready {
		return nil
	}
	for i, d := range m.weighed {
		st := &s.weighed[i]
		if st.Flagged {
			all = append(all, Problem{
				Text:   d.Name() + ": something in the newest dose is in doubt; it was booked all the same",
				Remedy: "Correct the dose where it was sent to, and what the PLC says.",
			})
		}
		if st.Mismatch {
			all = append(all, Problem{
				Text:   fmt.Sprintf("%s: the terminal shows %s: its weights are not used", d.Name(), st.Unit),
				Remedy: "Switch the terminal back, or correct weight_unit in the config.",
			})
		}
	}
	return all
}
