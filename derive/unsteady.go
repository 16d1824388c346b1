package derive

import (
	"slices"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// unsteady raises an alarm when a device has begun to come and go, and clears it
// when it has calmed, or is none of the machine's any more. The list in the state
// is never changed in place.
func (r *run) unsteady(in plant.DeviceState) {
	if r.m.devices[in.Device] == nil {
		return
	}
	g := &r.s.gateway
	for _, d := range g.Unsteady {
		if r.m.devices[d] == nil || d == in.Device && in.Unsteady == "" {
			g.Unsteady, r.changed = without(g.Unsteady, d), true
			r.Alarm(rule.Alarm{Name: "device_unsteady:" + string(d), Text: "the device " + string(d) + " does not come and go any more"})
		}
	}
	if in.Unsteady == "" || slices.Contains(g.Unsteady, in.Device) {
		return
	}
	g.Unsteady, r.changed = append(slices.Clone(g.Unsteady), in.Device), true
	text := "the device " + string(in.Device) + ": " + in.Unsteady
	if in.Cause != "" {
		text += "; the last time: " + in.Cause
	}
	r.Alarm(rule.Alarm{
		Name: "device_unsteady:" + string(in.Device), Raised: true, Text: text,
		Remedy: "look for a loose plug or cable, a supply that breaks down, an address that two devices have, and a second program that takes its only connection",
	})
}

// without returns a copy of devices that lacks one.
func without(devices []plant.DeviceID, one plant.DeviceID) (left []plant.DeviceID) {
	for _, d := range devices {
		if d != one {
			left = append(left, d)
		}
	}
	return left
}
