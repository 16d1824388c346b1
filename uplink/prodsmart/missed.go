package prodsmart

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Missed is a downtime that Prodsmart was not told of, since it was over before
// it could be: its endpoint takes no time. Somebody may enter it by hand.
// Doubtful is set if it may have been told: somebody looks first.
type Missed struct {
	StopID uint64 `json:"stop_id"`
	// Sequence is the stop's event, where it is known.
	Sequence plant.Sequence `json:"sequence,omitempty"`
	Type     string         `json:"type,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	// From and To are when the machine really stood; To is zero if that is not
	// known.
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"`

	Doubtful bool `json:"doubtful,omitempty"`
}

// mostMissed bounds the downtimes that are listed of a machine.
const mostMissed = 200

// missed lists a downtime, once.
func (w *work) missed(d Missed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.m
	if slices.ContainsFunc(m.missed, func(o Missed) bool { return o.StopID == d.StopID && o.From.Sub(d.From).Abs() < time.Second }) {
		return
	}
	if len(m.missed) == 0 {
		w.log.Warn("a downtime was over before Prodsmart could be told; it and later ones are listed with their true times", zap.String("machine", string(m.id)), zap.Time("from", d.From), zap.Time("to", d.To))
	}
	m.missed = append(m.missed, d)
	if over := len(m.missed) - mostMissed; over > 0 {
		m.missed = slices.Delete(m.missed, 0, over)
	}
	m.changed = true
}

// explain gives a listed downtime the reason that became known later.
func (w *work) explain(r *plant.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.m.missed {
		if d := &w.m.missed[i]; d.StopID == r.StopID && (d.Type != r.Type || d.Reason != r.Reason) {
			d.Type, d.Reason = r.Type, r.Reason
			w.m.changed = true
		}
	}
}

// MissedStops implements uplink.Misser.
func (s *Sender) MissedStops(id plant.MachineID) []uplink.MissedStop {
	m := s.load(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]uplink.MissedStop, len(m.missed))
	for i, d := range m.missed {
		all[i] = uplink.MissedStop{Machine: id, StopID: d.StopID, Type: d.Type, Reason: d.Reason, From: d.From, To: d.To, Doubtful: d.Doubtful}
	}
	return all
}
