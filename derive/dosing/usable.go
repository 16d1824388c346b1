package dosing

import (
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// usable reports whether the scale itself says that its weight is of use. What
// was never read, or not well, does not.
func (r *Live) usable(s *LiveState, out Sink) bool {
	if i := r.first(roleUnit); i >= 0 && s.Known&(1<<i) != 0 {
		r.unitAlarm(s, r.matches(s), out)
	}
	return r.ofUse(s)
}

// ofUse is usable without the alarm.
func (r *Live) ofUse(s *LiveState) bool {
	for i := range r.inputs {
		bit := uint64(1) << i
		switch r.inputs[i].role {
		case roleUnusable:
			if s.Known&bit == 0 || s.On&bit != 0 {
				return false
			}
		case roleUnit:
			if s.Known&bit == 0 || !r.matches(s) {
				return false
			}
		}
	}
	return true
}

// matches reports whether the terminal shows the unit of the config.
func (r *Live) matches(s *LiveState) bool {
	unit, known := plant.ParseMassUnit(s.Unit)
	return known && unit == r.unit
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
