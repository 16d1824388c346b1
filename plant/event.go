package plant

import "time"

// EventKind names what an event says, for example "counter".
type EventKind string

// The kinds that the rules of this version make.
const (
	KindCounter    EventKind = "counter"
	KindStartStop  EventKind = "startstop"
	KindReason     EventKind = "reason"
	KindParameters EventKind = "parameters"
	KindOrder      EventKind = "order"
	KindMode       EventKind = "mode"
	KindCorrection EventKind = "correction"
	KindGap        EventKind = "gap"
	KindAlarm      EventKind = "alarm"
	KindObserved   EventKind = "observed"
	KindDosing     EventKind = "dosing"
	KindSerial     EventKind = "serial"
	KindItemAttach EventKind = "item_attach"
	KindOperation  EventKind = "operation"
	KindMaterial   EventKind = "material"
	KindRefill     EventKind = "refill"
	KindRemoval    EventKind = "removal"
	KindReceipt    EventKind = "receipt"
)

// EventKinds returns every kind that this version makes.
func EventKinds() []EventKind {
	return []EventKind{KindCounter, KindStartStop, KindReason, KindParameters, KindOrder, KindMode, KindCorrection, KindGap, KindAlarm, KindObserved, KindDosing, KindSerial, KindItemAttach, KindOperation, KindMaterial, KindRefill, KindRemoval, KindReceipt}
}

// TimeSource says whose clock Event.Time is from.
type TimeSource string

// The time sources.
const (
	DeviceTime  TimeSource = "device"
	GatewayTime TimeSource = "gateway"
)

// Event is a fact about production. Rules make it without a number; the buffer
// gives Epoch and Sequence when it commits, and fills Gateway, Source and
// Previous when it hands the event to an uplink. Stored events are neutral: the
// dialect of a receiver is rendered when they are sent.
type Event struct {
	// Gateway is the name of the gateway that recorded the event.
	Gateway string
	// Source is the machine's path in ISA-95 terms,
	// "/enterprise/site/area/machine".
	Source   string
	Machine  MachineID
	Epoch    Epoch
	Sequence Sequence
	// Previous is the event of this machine that the same uplink was sent
	// before this one; 0 for the first.
	Previous Sequence

	Kind    EventKind
	Version uint8
	// Time is when it happened at the machine.
	Time time.Time
	// TimeSource says whose clock Time is from.
	TimeSource TimeSource
	// ClockOffset is the device's clock minus the gateway's, where the device
	// has a clock.
	ClockOffset time.Duration
	// ClockStep is how far the gateway's clock jumped just before; 0 if not.
	ClockStep time.Duration
	// TimeUncertain is set while the gateway's clock is not synchronised.
	TimeUncertain bool
	// Data is the kind's JSON object. It is never changed after the commit.
	Data []byte
}

// ID returns the identity of e.
func (e *Event) ID() EventID {
	return EventID{Gateway: e.Gateway, Machine: e.Machine, Epoch: e.Epoch, Sequence: e.Sequence}
}

// KV is a key and its value, kept together with a machine's state or an
// uplink's cursor.
type KV struct {
	Key   string
	Value []byte
}

// Batch is what a machine commits together or not at all.
type Batch struct {
	// State is the machine's encoded state; nil leaves the stored one.
	State  []byte
	Events []Event
	Put    []KV
	Delete []string
	// Urgent asks for a commit now even without events.
	Urgent bool
}

// Status says what became of an event at a receiver.
type Status uint8

// The statuses of a Result.
const (
	// Retry: not delivered, the same call may work later. It is the zero Status,
	// so a forgotten field loses nothing.
	Retry Status = iota
	// Delivered: the receiver has acknowledged it.
	Delivered
	// Rejected: the receiver has refused it for good; it becomes a dead letter.
	Rejected
	// Held: it waits until WaitsFor, a key of the uplink's memory, is Put.
	Held
	// Skipped: it is no business of this receiver, by its config, and nothing was
	// sent.
	Skipped
)

// String returns the status in lower case.
func (s Status) String() string {
	switch s {
	case Delivered:
		return "delivered"
	case Rejected:
		return "rejected"
	case Held:
		return "held"
	case Skipped:
		return "skipped"
	default:
		return "retry"
	}
}

// Result answers for the stored events First…Last: one event, or what was
// merged into one call.
type Result struct {
	First, Last Sequence
	Status      Status
	// Wait asks not to try again earlier, for example by Retry-After.
	Wait time.Duration
	// Cause holds the receiver's words for anything but Delivered.
	Cause error
	// WaitsFor names the key that a Held event waits for.
	WaitsFor string
	// Put is kept in the uplink's memory in the same transaction, whatever Status
	// says; a nil Value deletes the key.
	Put []KV
}
