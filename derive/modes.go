package derive

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// modeState is what is known of the use of the machine.
type modeState struct {
	// Configured is the mode that the config had when the rest was learned; empty
	// if the machine was never seen.
	Configured plant.Mode `json:"cfg,omitempty"`
	// Standing holds until another is set; By who set it, empty for the config.
	Standing plant.Mode `json:"std,omitempty"`
	By       string     `json:"by,omitempty"`
	// Passing holds until Until, in nanoseconds since 1970; empty for none. It is a
	// time by the clock, so it does not move when the clock is set.
	Passing   plant.Mode `json:"pass,omitempty"`
	Until     int64      `json:"until,omitempty"`
	PassingBy string     `json:"pby,omitempty"`
	// Since is when the mode of now began, never if it was there from the first;
	// Previous is the one before it.
	Since    rule.Stamp `json:"since,omitzero"`
	Previous plant.Mode `json:"prev,omitempty"`
}

// now is the mode of now; empty if the machine was never seen.
func (s *modeState) now() plant.Mode {
	if s.Passing != "" {
		return s.Passing
	}
	return s.Standing
}

// at is the mode at a time; the zero Stamp means now.
func (s *modeState) at(t rule.Stamp) plant.Mode {
	if !t.IsZero() && !s.Since.IsZero() && t.Time().Before(s.Since.Time()) {
		return s.Previous
	}
	return s.now()
}

// by is who set the mode of now.
func (s *modeState) by() string {
	if s.Passing != "" {
		return s.PassingBy
	}
	return s.By
}

// until is when the mode of now ends by itself, zero for not at all.
func (s *modeState) until() time.Time {
	if s.Until == 0 {
		return time.Time{}
	}
	return time.Unix(0, s.Until).UTC()
}

// pass clears the passing mode.
func (s *modeState) pass() { s.Passing, s.Until, s.PassingBy = "", 0, "" }

// fitMode begins with the mode of the config where the machine was never seen.
func (m *Model) fitMode(s *modeState) {
	if s.Configured == "" {
		s.Configured, s.Standing = m.mode, m.mode
	}
}

// acceptsMode refuses what is no mode, and a mode that is over before it begins.
func acceptsMode(in plant.ModeChange) error {
	switch {
	case in.Mode != "" && !slices.Contains(plant.Modes(), in.Mode):
		return fmt.Errorf("the mode is refused: there is no mode %.60q", in.Mode)
	case !in.Until.IsZero() && !in.Until.After(in.At):
		return fmt.Errorf("the mode is refused: it is over at %s, which is past", in.Until.Format(time.RFC3339))
	case len(in.By) > longestOrder:
		return fmt.Errorf("the mode is refused: the name of who sets it is longer than %d bytes", longestOrder)
	default:
		return nil
	}
}

// modeChange takes what somebody said.
func (r *run) modeChange(in plant.ModeChange) {
	next := r.s.mode
	switch {
	case acceptsMode(in) != nil:
		// Whoever submits it is told before; a stream that holds it all the same
		// changes nothing.
	case in.Mode == "":
		next.Standing, next.By = next.Configured, ""
		next.pass()
	case in.Until.IsZero():
		next.Standing, next.By = in.Mode, in.By
		next.pass()
	default:
		next.Passing, next.Until, next.PassingBy = in.Mode, in.Until.UnixNano(), in.By
	}
	r.changeMode(next, rule.Stamp{At: r.now}, plant.ModeSet, in.By)
	r.due()
}

// newConfig follows a config that names another mode than it did: the newer word
// holds, but for a mode that will pass by itself.
func (r *run) newConfig() {
	next := r.s.mode
	next.Configured, next.Standing, next.By = r.m.mode, r.m.mode, ""
	r.changeMode(next, rule.Stamp{At: r.now}, plant.ModeConfig, "")
}

// modeOver goes back from a mode whose time is over.
func (r *run) modeOver(at rule.Stamp) {
	next := r.s.mode
	next.pass()
	r.changeMode(next, at, plant.ModeOver, "")
}

// changeMode reports what belongs to the mode that ends, and begins the next.
// Where only who set it changes there is no event.
func (r *run) changeMode(next modeState, at rule.Stamp, cause plant.ModeCause, by string) {
	was := r.s.mode
	if next == was {
		return
	}
	r.changed = true
	if next.now() == was.now() && next.Until == was.Until {
		r.s.mode = next
		return
	}
	if next.now() != was.now() {
		r.boundary(at, modeEnds)
		next.Previous, next.Since = was.now(), at
	}
	r.s.mode = next
	r.emitJSON(plant.KindMode, at, plant.ModeEvent{
		Head: r.headAt(at), Previous: was.now(), Since: stampTime(was.Since), Cause: cause, By: by,
		Until: next.until().Truncate(time.Millisecond),
	})
}
