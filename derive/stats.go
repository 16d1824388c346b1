package derive

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Stats is a snapshot of one machine, by value.
type Stats struct {
	Machine plant.MachineID
	// Counting and State say what the rules know, for people.
	Good, Scrap int64
	// Running is nil until a state was seen.
	Running    *bool
	StateSince time.Time
	Reason     string
	Order      string
	// OrderContext is all that is known of Order, and OrderOwner who says it.
	OrderContext plant.Order
	OrderOwner   string
	// Mode is what the machine is used for, since ModeSince (zero: from the first);
	// ModeBy who said so (empty: the config) and ModeUntil when it ends by itself.
	Mode                 plant.Mode
	ModeBy               string
	ModeSince, ModeUntil time.Time
	// Shift is the shift that is on until ShiftUntil; empty for none.
	Shift      string
	ShiftUntil time.Time
	// LastEvent is the newest recorded event.
	LastEvent     plant.EventKind
	LastEventTime time.Time
	LastSequence  plant.Sequence
	// Inputs, Commits and Events count since the start; Events per kind.
	Inputs, Commits uint64
	Events          map[plant.EventKind]uint64
	// Overflows counts readings that a full mailbox dropped or merged away
	// with loss.
	Overflows uint64
	// LeftOut counts inputs that led to more than the buffer accepts, even without
	// their texts.
	LeftOut uint64
	// WritesFailed counts writes to devices that failed.
	WritesFailed uint64
	// FailedWrites are the tags that cannot be written, or only now and then, by
	// device and tag.
	FailedWrites []FailedWrite
	// Waiting is set while commits are refused because the buffer is full.
	Waiting      bool
	WaitingSince time.Time
	// Problems are what a person should look at: a suspect counter, a tag never
	// seen.
	Problems []Problem
}

// Problem is one thing that is wrong with a machine, for people.
type Problem struct {
	// Text says what is wrong, Remedy what to do about it.
	Text, Remedy string
	// Device is set where it is only the consequence of that device being away,
	// and Tag where it is one of that tag being bad; whoever shows the cause
	// leaves it out.
	Device plant.DeviceID
	Tag    plant.TagID
}
