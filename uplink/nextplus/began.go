package nextplus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// began is what is kept of a machine before a request of its goes out, with
// on_lost_reply: park: a gateway that is killed before the answer is settled knows
// afterwards that nobody knows. A machine has one for its stream, and one for what
// had waited among the dead letters, which is older.
type began struct {
	// Sequence is the event that was noted; Over says that its answer came, or
	// that it certainly did not go out.
	Sequence plant.Sequence `json:"sequence"`
	Over     bool           `json:"over,omitempty"`
	// before is set while the note is that of a process before this one.
	before bool
}

func beganKey(m plant.MachineID) string      { return "began/" + string(m) }
func beganAsideKey(m plant.MachineID) string { return "began_aside/" + string(m) }

// errNoted is why an event waits for the disk, and errKilled in the Cause of one
// whose request was under way when the gateway ended.
var (
	errNoted  = &uplink.NotYet{Why: "nextplus: a request is noted before it is sent"}
	errKilled = errors.New("nextplus: the gateway was ended while the request was under way, so its answer was lost")
)

// begin says what is to be done before the request of e: nothing, or to end the
// Send with the Result that it returns, since e is to be noted first, or parked. A
// dead letter that a person sends again is not noted if it is older than the stream.
func (s *Sender) begin(ctx context.Context, v *view, e *plant.Event) (r plant.Result, stop bool) {
	if s.options.OnLostReply != lostPark {
		return r, false
	}
	key, b, err := s.begun(v, e)
	if err != nil {
		return result(e, plant.Retry, err), true
	}
	switch {
	case key != beganKey(v.machine) && uplink.Commanded(ctx), e.Sequence == b.Sequence && !b.Over && !b.before:
		return r, false
	case e.Sequence == b.Sequence && b.before && !b.Over:
		s.over(v, e)
		r = result(e, plant.Rejected, &parked{errKilled})
	default:
		s.keepBegun(v, key, began{Sequence: e.Sequence})
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
	for _, key := range []string{beganKey(v.machine), beganAsideKey(v.machine)} {
		if b, err := s.noted(v, key); err == nil && b.Sequence == e.Sequence && !b.Over {
			s.keepBegun(v, key, began{Sequence: e.Sequence, Over: true})
		}
	}
}

func (s *Sender) keepBegun(v *view, key string, b began) {
	s.mu.Lock()
	s.began[key] = b
	s.mu.Unlock()
	v.setJSON(key, &b)
}

// begun returns the note that e belongs to: the stream's, or, if e is older than
// that, the one of what had waited.
func (s *Sender) begun(v *view, e *plant.Event) (key string, b began, err error) {
	key = beganKey(v.machine)
	if b, err = s.noted(v, key); err == nil && e.Sequence < b.Sequence {
		key = beganAsideKey(v.machine)
		b, err = s.noted(v, key)
	}
	return key, b, err
}

// noted returns what is noted under key, read from the memory once. One that is
// damaged is none.
func (s *Sender) noted(v *view, key string) (began, error) {
	s.mu.Lock()
	b, known := s.began[key]
	s.mu.Unlock()
	if known {
		return b, nil
	}
	value, err := v.read(key)
	if err != nil && !errors.Is(err, plant.ErrUnreadable) {
		return b, fmt.Errorf("%w: %w", errMemory, err)
	}
	if err != nil || value == nil || json.Unmarshal(value, &b) != nil {
		b = began{}
	}
	b.before = true
	s.mu.Lock()
	s.began[key] = b
	s.mu.Unlock()
	return b, nil
}
