package uplink

import (
	"errors"

	"github.com/sluice-edge/sluice/plant"
)

// NotYet is the Cause of a Retry that is no failure: the receiver's share of
// requests is used up for the moment, or the event waits for a newer one that
// contains it. The Forwarder reads the machine's events again after the Wait of
// the Result, at once if it is 0, so that what has come meanwhile is merged into
// them or goes before them. It backs nothing off, and neither logs, counts nor
// shows it. A Sender that asks for no Wait must have waited itself.
type NotYet struct{ Why string }

// Error returns why.
func (n *NotYet) Error() string { return n.Why }

// notYet reports whether the Sender stopped for no fault.
func (v *verdict) notYet() bool {
	var later *NotYet
	return v.stop.Status == plant.Retry && errors.As(v.stop.Cause, &later)
}
