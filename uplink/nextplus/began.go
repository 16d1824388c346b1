package nextplus

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// began is what is kept of a machine before a request of its stream goes out, with
// on_lost_reply: park: a gateway that is killed before the answer is settled knows
// afterwards that nobody knows.
type began struct {
	// Sequence is the newest event that was noted; Over says that its answer came, or
	// that it certainly did not go out.
	Sequence plant.Sequence `json:"sequence"`
	Over     bool           `json:"over,omitempty"`
	// before is set while the note is that of a process before this one.
	before bool
}

func beganKey(m plant.MachineID) string { return "began/" + string(m) }

// errNoted is why an event waits for the disk, and errKilled in the Cause of one
// whose request was under way when the gateway ended.
var (
	errNoted  = &uplink.NotYet{Why: "nextplus: a request is noted before it is sent"}
	errKilled = errors.New("nextplus: the gateway was ended while the request was under way, so its answer was lost")
)

// begin says what is to be done before the request of e: nothing, or to end the
// Send with the Result that it returns, since e is to be noted first, or parked. A
// dead letter or a set-aside event that is older than the newest note is not noted.
func (s *Sender) begin(v *view, e *plant.Event) (r plant.Result, stop bool) {
	if s.options.OnLostReply != lostPark {
		return r, false
	}
	b, err := s.begun(v)
	if err != nil {
		return result(e, plant.Retry, err), true
	}
	switch {
	case e.Sequence < b.Sequence, e.Sequence == b.Sequence && !b.Over && !b.before:
		return r, false
	case e.Sequence == b.Sequence && b.before && !b.Over:
		s.over(v, e)
		r = result(e, plant.Rejected, &parked{errKilled})
	default:
		s.keepBegun(v, began{Sequence: e.Sequence})
		r = result(e, plant.Retry, errNoted)
	}
	r.Put = v.take()
	return r, true
}

// over notes that nothing of e is under way any more.
func (s *Sender) over(v *view, e *plant.Event) {
	if s.options.OnLostReply != lostPark {
		return
	}
	if b, err := s.begun(v); err == nil && b.Sequence == e.Sequence {
		s.keepBegun(v, began{Sequence: e.Sequence, Over: true})
	}
}

func (s *Sender) keepBegun(v *view, b began) {
	s.mu.Lock()
	s.began[v.machine] = b
	s.mu.Unlock()
	v.setJSON(beganKey(v.machine), &b)
}

// begun returns the machine's note, read from the memory once. One that is damaged
// is none.
func (s *Sender) begun(v *view) (began, error) {
	s.mu.Lock()
	b, known := s.began[v.machine]
	s.mu.Unlock()
	if known {
		return b, nil
	}
	value, err := s.memory(beganKey(v.machine))
	if err != nil && !errors.Is(err, plant.ErrUnreadable) {
		return b, fmt.Errorf("%w: %w", errMemory, err)
	}
	if err != nil || value == nil || json.Unmarshal(value, &b) != nil {
		b = began{}
	}
	b.before = true
	s.mu.Lock()
	s.began[v.machine] = b
	s.mu.Unlock()
	return b, nil
}
