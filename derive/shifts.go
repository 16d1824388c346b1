package derive

import (
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// shiftState is the shift, or the time between two, that the machine is in. It is
// worked out from the calendar of the config, so that a recorded stream of inputs
// needs no word of it; it is kept so that a shift that ended while the gateway was
// down is known.
type shiftState struct {
	// Binding says which calendar it is from; empty if there is none.
	Binding string `json:"b,omitempty"`
	// Name is empty between two shifts. End is 0 if it has to be worked out anew.
	Name  string `json:"n,omitempty"`
	Begin int64  `json:"from,omitempty"`
	End   int64  `json:"to,omitempty"`
	// Before, from BeforeBegin to BeforeEnd, is the one that ended last.
	Before      string `json:"b0,omitempty"`
	BeforeBegin int64  `json:"b1,omitempty"`
	BeforeEnd   int64  `json:"b2,omitempty"`
}

// stragglers is how much older than the present an input may be that is stepped
// through behind others: it does not bring back a shift that has ended.
const stragglers = time.Minute

// fitShift forgets the end of a shift of another calendar. Its name stays for
// what was made in it.
func (m *Model) fitShift(s *shiftState) {
	if binding := m.calendar.Binding(); s.Binding != binding {
		s.End = 0
	}
}

// shiftOver returns when the shift of now ended, 0 if it is not over. With the
// clock set back (then earliest is the present) the machine may be in an earlier
// one again.
func (r *run) shiftOver(earliest int64) int64 {
	s := &r.s.shifts
	back := s.Begin
	if earliest == 0 {
		back -= int64(stragglers)
	}
	switch {
	case r.m.calendar == nil && s.Binding == "":
		return 0
	case s.End == 0 || r.now < back:
		return r.now
	case s.End <= r.now:
		return s.End
	}
	return 0
}

// nextShift reports what belongs to the shift that ended at that time, and goes
// over to the one of now: shifts in which nobody looked have nothing to report.
func (r *run) nextShift(at rule.Stamp) {
	s := &r.s.shifts
	if s.Binding != "" {
		r.boundary(at, shiftEnds)
	}
	next := shiftState{Binding: r.m.calendar.Binding(), Before: s.Name, BeforeBegin: s.Begin, BeforeEnd: s.End}
	if r.m.calendar != nil {
		span := r.m.calendar.At(r.now)
		next.Name, next.Begin, next.End = span.Name, span.Begin, span.End
	}
	*s = next
	r.changed = true
}

// shiftOf is the shift of pieces that are reported now and were made between two
// times; across is set if they are those of a gap over the end of a shift. The
// pieces of a gap may have waited for an order while the shift ended.
func (r *run) shiftOf(from, to rule.Stamp, gap bool) (name string, across bool) {
	s := &r.s.shifts
	switch {
	case !gap || s.Binding == "" || from.At >= s.Begin:
		return s.Name, false
	case from.At >= s.BeforeBegin && to.At < s.BeforeEnd:
		return s.Before, false
	default:
		return "", true
	}
}
