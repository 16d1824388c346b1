package startstop

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// pollTime is how long a start or stop waits at most for the further answers of its
// poll.
const pollTime = time.Second

// poll is what is known of a poll of several requests. A PLC sets a code and stops
// the machine together, but the code may be read behind the state, and so may the
// process values that are told with a start or stop: they are those of the moment
// only when the poll is over.
type poll struct {
	// More is set while further answers of the device follow, Code unless the reason
	// may be among them, Values if process values may.
	More   bool `json:"m,omitempty"`
	Code   bool `json:"c,omitempty"`
	Values bool `json:"v,omitempty"`
	// At is when its first answer was there, in ns since 1970.
	At int64 `json:"t,omitempty"`
	// Began is set if a start or stop began in this poll, ahead of its last answer.
	Began bool `json:"b,omitempty"`
	// First is the first state ever while it waits.
	First observation `json:"f,omitzero"`
}

// waits reports whether a start (running) or stop has to wait for further answers.
func (p *poll) waits(running bool) bool { return p.More && (p.Values || !running && !p.Code) }

// firstAt returns when the first state ever is told at the latest, 0 for never.
func (p *poll) firstAt() int64 {
	switch {
	case !p.First.Known:
		return 0
	case p.waits(p.First.Running):
		return p.At + int64(pollTime)
	default:
		return p.First.Read.At
	}
}

// Device returns the device that says whether the machine runs.
func (r *Rule) Device() plant.DeviceID { return r.source.state.Ref.Device }

// explained reports whether the reason is read from the device of the state.
func (r *Rule) explained() bool { return r.hasReason() && r.reason.Ref.Device == r.Device() }

// Polls reports whether the rule has to know when a poll of the device is over; values
// says that Device has process values, too, that are told with a start or stop.
func (r *Rule) Polls(device plant.DeviceID, values bool) bool {
	return device == r.Device() && (values || r.explained())
}

// Answer notes that a device has answered, before Observe has what it said. more says
// that further answers of the same poll follow, values what it says in Polls.
func (r *Rule) Answer(s *State, device plant.DeviceID, more, values bool, now int64) {
	if !r.Polls(device, values) {
		return
	}
	p := &s.Poll
	if !p.More {
		p.Code, p.Began, p.At = !r.explained(), false, now
	}
	p.More, p.Values = more, values
}

// BeganInPoll returns when the start or stop began that waits, if that was in the poll
// whose answer is taken: what the answer says of that moment is the better word.
func (s *State) BeganInPoll() (at int64, ok bool) {
	return s.Change.At.At, s.Poll.Began && !s.Change.At.IsZero()
}

// polled takes the reason of a poll: a stop that began in an answer before has it,
// not what it replaces.
func (r *Rule) polled(s *State, v *Reading) {
	p := &s.Poll
	if p.Began && !p.Code && !none(v.Code) && s.standing() {
		s.First, s.Last = "", ""
		r.recall(s, s.began())
		r.note(s, v.Code)
	}
	p.Code = true
}

// first keeps the first state ever until what is told beside it is read.
func (r *Rule) first(s *State, seen *observation) (changed bool) {
	if s.Known || !seen.Known || !s.Poll.waits(seen.Running) {
		return false
	}
	s.Poll.First, seen.Known = *seen, false
	return true
}
