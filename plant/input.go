package plant

import (
	"context"
	"time"
)

// Input is what a machine's rules may see: Scan, Tick, OrderChange, ModeChange,
// Correction, Scanned, DeviceState, Gap, Clock or Stop. Each carries its own time, so a recorded
// stream of inputs can be replayed and gives the same events.
type Input interface {
	// When returns the gateway's time of the input.
	When() time.Time
	input()
}

// Inputs returns a zero value of every type of input, so that a recording can
// hold each of them.
func Inputs() []Input {
	return []Input{Scan{}, Tick{}, DeviceState{}, Gap{}, Clock{}, OrderChange{}, ModeChange{}, Correction{}, Scanned{}, MaterialEntry{}, Stop{}}
}

// Scan is the answer to one request to one device, or one publish of it.
type Scan struct {
	Device DeviceID
	// Session grows with every (re)connect of the device.
	Session uint64
	// Record is set when Readings are the fields of a handshake record.
	Record RecordID
	// Snapshot marks the first values after a (re)connect: a difference to what
	// was before is not an edge that anybody saw.
	Snapshot bool
	// Final says of a Record that its driver does not read it again in this
	// session while its trigger stays: waiting for a better read is of no use.
	Final bool
	// More says that further answers of the same poll follow at once, besides
	// records: what they hold is of the same moment, as far as a device that is asked
	// several times can say so.
	More bool
	// Overflow says that the device has lost values of each tag of Readings that came
	// before this one: its queue was too short.
	Overflow bool
	// Asked is the gateway's time when the request was sent that the answer
	// belongs to, also if the device speaks by itself: the readings are from
	// between Asked and Received. Zero means at Received.
	Asked time.Time
	// Received is the gateway's time when the answer was there.
	Received time.Time
	Readings []Reading
}

// Tick says that a deadline which the rules asked for (Output.Wake) has come.
type Tick struct{ At time.Time }

// DeviceState says that a device was lost or is back.
type DeviceState struct {
	At        time.Time
	Device    DeviceID
	Session   uint64
	Connected bool
	// Cause says in plain words why the device was lost.
	Cause string
	// Unsteady says in plain words that the device comes and goes; empty while it
	// does not.
	Unsteady string `json:",omitempty"`
}

// Gap says that inputs are known to be missing, for example because a mailbox
// overflowed while the disk stalled.
type Gap struct {
	At     time.Time
	Device DeviceID
	// Count is the number of readings that are missing.
	Count uint64
	Cause GapCause
	// Reason is Cause in words.
	Reason string
	// Stored says that the loss is one of the store, which has recorded the gap
	// event itself: the rules only mark what may no longer fit what receivers have.
	Stored bool
}

// Clock says that the gateway's wall clock jumped, or that it became or ceased
// to be synchronised. Rules mark the times of events by it.
type Clock struct {
	At time.Time
	// Step is how far the wall clock moved against the monotonic clock; 0 if it
	// did not.
	Step time.Duration
	// Uncertain is set while the clock is not synchronised.
	Uncertain bool
}

// OrderChange is what a source that is no device says of the order of a machine.
// It changes the order if the source is its configured owner; else it is compared.
type OrderChange struct {
	At    time.Time
	Order Order
	// Planned is how many are to be made, 0 if nobody said.
	Planned Decimal
	// Completed says that Order is done: it ends if it is the current one, and
	// nothing else does.
	Completed bool
	// From is what the config calls the source: "api", "webhook", "uplink mes". By
	// names who or what said so, for people.
	From, By string
}

// Speaker is what the source is called.
func (o *OrderChange) Speaker() string {
	switch {
	case o.By != "":
		return o.By
	case o.From != "":
		return o.From
	default:
		return "another source"
	}
}

// ModeChange sets what a machine is used for.
type ModeChange struct {
	At time.Time
	// Mode is one of Modes; empty goes back to the mode that the config says.
	Mode Mode
	// By names who said so.
	By string
	// Until is when the machine goes back to the mode that it had without an end;
	// zero if the mode holds until another is set. It is a time by the clock, not a
	// length: where the clock is set, it stays.
	Until time.Time
}

// Scanned is a line that a scanner read, as it came.
type Scanned struct {
	At time.Time
	// Scanner names it, as a machine's config does.
	Scanner string
	Text    string
}

// Stop says that the gateway is about to stop: rules report what they hold.
type Stop struct{ At time.Time }

// When implements Input.
func (s Scan) When() time.Time { return s.Received }

// When implements Input.
func (t Tick) When() time.Time { return t.At }

// When implements Input.
func (d DeviceState) When() time.Time { return d.At }

// When implements Input.
func (g Gap) When() time.Time { return g.At }

// When implements Input.
func (c Clock) When() time.Time { return c.At }

// When implements Input.
func (o OrderChange) When() time.Time { return o.At }

// When implements Input.
func (c ModeChange) When() time.Time { return c.At }

// When implements Input.
func (s Scanned) When() time.Time { return s.At }

// When implements Input.
func (s Stop) When() time.Time { return s.At }

func (Scan) input()        {}
func (Tick) input()        {}
func (DeviceState) input() {}
func (Gap) input()         {}
func (Clock) input()       {}
func (OrderChange) input() {}
func (ModeChange) input()  {}
func (Correction) input()  {}
func (Scanned) input()     {}
func (Stop) input()        {}

// Inbox takes inputs that do not come from a device (orders, entries by people
// or by an API). Submit returns when what followed from the input is durable.
type Inbox interface {
	Submit(ctx context.Context, m MachineID, in Input) error
}

// Order is what a machine works on. A zero Order means none.
type Order struct {
	Number              string `json:"number"`
	Source              string `json:"source,omitempty"`
	SKU                 string `json:"sku,omitempty"`
	ExternalID          string `json:"external_id,omitempty"`
	Operation           string `json:"operation,omitempty"`
	OperationExternalID string `json:"operation_external_id,omitempty"`
	WorkCenter          string `json:"work_center,omitempty"`
	Position            string `json:"position,omitempty"`
}

// Mode says for what a machine is used.
type Mode string

// The modes.
const (
	Production    Mode = "production"
	Setup         Mode = "setup"
	Maintenance   Mode = "maintenance"
	Commissioning Mode = "commissioning"
	OutOfService  Mode = "out_of_service"
)

// Modes returns every mode of this version.
func Modes() []Mode { return []Mode{Production, Setup, Maintenance, Commissioning, OutOfService} }

// Write is one value for one tag of a device. It holds only within the Session
// that led to it: an acknowledgement kept over a reconnect would acknowledge
// the PLC's next record.
type Write struct {
	Device  DeviceID
	Session uint64
	Tag     TagID
	Value   Value
}
