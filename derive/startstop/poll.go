package startstop

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// pollTime is how long a stop waits at most for the further answers of its poll.
const pollTime = time.Second

// poll is what is known of a poll of several requests. A PLC sets a code and stops
// the machine together, but the code may be read behind the state: until the poll is
// over nobody knows which code the stop has.
type poll struct {
	// More is set while further answers of the reason's device follow, Code once the
	// reason was among those that came.
	More bool `json:"m,omitempty"`
	Code bool `json:"c,omitempty"`
	// At is when its first answer was there, in ns since 1970.
	At int64 `json:"t,omitempty"`
	// Stop is set if a stop began in this poll, ahead of its code.
	Stop bool `json:"s,omitempty"`
	// First is the first state ever, of a machine that stands, while it waits.
	First observation `json:"f,omitzero"`
}

func (p *poll) waits() bool { return p.More && !p.Code }

// firstAt returns when the first state ever is told without its code, 0 for never.
func (p *poll) firstAt() int64 {
	switch {
	case !p.First.Known:
		return 0
	case p.waits():
		return p.At + int64(pollTime)
	default:
		return p.First.Read.At
	}
}

// Polls reports whether the rule has to know when a poll of the device is over.
func (r *Rule) Polls(device plant.DeviceID) bool {
	return r.hasReason() && r.reason.Ref.Device == device
}

// Answer notes that a device has answered, before Observe has what it said. more says
// that further answers of the same poll follow.
func (r *Rule) Answer(s *State, device plant.DeviceID, more bool, now int64) {
	if !r.Polls(device) {
		return
	}
	if p := &s.Poll; !p.More {
		p.Code, p.Stop, p.At = false, false, now
	}
	s.Poll.More = more
}

// polled takes the reason of a poll: a stop that began in an answer before has it,
// not what it replaces.
func (r *Rule) polled(s *State, v *Reading) {
	p := &s.Poll
	if p.Stop && !p.Code && !none(v.Code) && s.standing() {
		s.First, s.Last = "", ""
		r.recall(s, s.began())
		r.note(s, v.Code)
	}
	p.Code = true
}

// first keeps the first state ever until the code beside it is read.
func (r *Rule) first(s *State, seen *observation) (changed bool) {
	if s.Known || !seen.Known || seen.Running || !s.Poll.waits() {
		return false
	}
	s.Poll.First, seen.Known = *seen, false
	return true
}
