package parameters

import (
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// Keeps reports whether values of a device, or such as are worked out, are told with a
// start or stop.
func (r *Rule) Keeps(device plant.DeviceID) bool {
	return slices.ContainsFunc(r.inputs, func(in input) bool {
		return in.snapshot && in.over == 0 && (in.Ref.Device == device || in.Ref.Device == plant.OwnValues)
	})
}

// Keep notes what the values are now, since a start or stop at that time waits to
// be confirmed.
func (r *Rule) Keep(s *State, at int64) {
	s.SnapAt = at
	for i := range r.inputs {
		if r.inputs[i].snapshot {
			s.Tracks[i].Snap = assign(s.Tracks[i].Snap, &s.Tracks[i].Now)
		}
	}
}

// Forget drops what Keep noted: there was no start or stop.
func (r *Rule) Forget(s *State) {
	if s.SnapAt == 0 {
		return
	}
	s.SnapAt = 0
	for i := range s.Tracks {
		s.Tracks[i].Snap = nil
	}
}

// Snapshot returns the values at a start or stop: those that Keep noted for its
// time, else those of now, which are then told.
func (r *Rule) Snapshot(s *State, at, now int64) (values []plant.Parameter) {
	kept := s.SnapAt == at
	s.Wake = 0
	for i := range r.inputs {
		in, t := &r.inputs[i], &s.Tracks[i]
		v := &t.Now
		if kept {
			v = t.Snap
		}
		if in.snapshot && v != nil && !v.Value.IsZero() {
			values = append(values, in.parameter(v))
			if !kept {
				t.Told, t.ToldAt = t.Now, now
			}
		}
		r.plan(s, i)
	}
	r.Forget(s)
	return values
}
