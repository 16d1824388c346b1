package uplink

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// MissedStop is a stop that a system was not told of, since it was over before it
// could be told and the system takes no times, or of which nobody knows whether it
// was told. A person may enter it there.
type MissedStop struct {
	Uplink  string          `json:"uplink"`
	Machine plant.MachineID `json:"machine"`
	// StopID is the number of the stop in the events, Type and Reason are theirs.
	StopID uint64 `json:"stop_id"`
	Type   string `json:"type,omitempty"`
	Reason string `json:"reason,omitempty"`
	// From and To are when the machine stood; To is zero if that is not known.
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"`
	// Doubtful is set if nobody knows whether the system was told: a person looks it
	// up there before entering it.
	Doubtful bool `json:"doubtful,omitempty"`
}

// Misser is optional for a Sender: it lists the stops that its system was not told
// of, a bounded number of the newest of each machine, oldest first. It may be
// called from any goroutine; it reads the memory of a machine that was not sent
// yet, and does not wait for a Send. Uplink is for the caller to fill in.
type Misser interface {
	MissedStops(m plant.MachineID) []MissedStop
}
