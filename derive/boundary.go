package derive

import "github.com/sluice-edge/sluice/derive/rule"

// boundary is why what was made up to a time is reported apart from what comes
// after it.
type boundary uint8

const (
	// orderEnds: the machine goes over to another order. Its time may lie before
	// the present and was marked (Mark) when it was read first.
	orderEnds boundary = iota + 1
	// shiftEnds: a shift of the calendar is over. Its time may lie before the
	// present if nobody looked; nothing that was read after it has been stepped
	// through yet.
	shiftEnds
	// modeEnds: the machine is used for something else from now on.
	modeEnds
	// gatewayStops: the gateway is about to stop. The rules report what they hold
	// and go on after the restart where they were.
	gatewayStops
)

// boundary has the rules report what belongs to the time up to at. It is called
// before order, mode and shift change, so that what is reported carries those of
// its own time, and before the event that tells of the change. A rule that
// reports by interval hangs on here, behind the counter.
func (r *run) boundary(at rule.Stamp, why boundary) {
	m, s := r.m, r.s
	r.closeValues(at, why)
	if m.counter != nil {
		if why == shiftEnds || why == modeEnds {
			r.changed = m.counter.Believe(&s.counter, r) || r.changed
		}
		switch {
		case why == orderEnds:
			m.counter.FlushTo(&s.counter, at, r.now, r)
		case why != gatewayStops && s.order.Reads > 0 || r.waitForOrder():
			// What was read since another order showed waits for that to be sure; the
			// pieces of a gap that are the next order's do so over a stop of the gateway.
			m.counter.FlushMarked(&s.counter, s.order.At, r.now, r)
		default:
			m.counter.Flush(&s.counter, r.now, r)
		}
	}
	if why != gatewayStops {
		r.flushOperation(at)
		r.boundaryWeighed(at, why)
	}
}

// passed draws the boundaries whose time has come before the input that is
// stepped through, in the order of their times: each at its time, but not before
// earliest. Where the clock was set past one, that is the moment at which it was
// set, since whatever was read before has moved along with the clock.
func (r *run) passed(earliest int64) {
	s := r.s
	if s.mode.Configured != r.m.mode {
		r.newConfig()
	}
	if s.order.Mismatch && len(s.order.Others) == 0 {
		r.mismatch() // another owner in the config has nobody to differ from yet
	}
	for {
		mode, shift := s.mode.Until, r.shiftOver(earliest)
		switch {
		case mode != 0 && mode <= r.now && (shift == 0 || mode <= shift):
			r.modeOver(rule.Stamp{At: max(mode, earliest)})
		case shift != 0:
			r.nextShift(rule.Stamp{At: max(shift, earliest)})
		default:
			return
		}
	}
}
