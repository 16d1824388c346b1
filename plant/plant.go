// Package plant is the vocabulary that every other package speaks: machines,
// devices, tags, values with their quality, readings, the inputs and events of
// a machine, and exact quantities. It imports the standard library only, does
// no I/O, holds no state, and starts no goroutine.
package plant

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MachineID is the code of a machine as the plant writes it, for example
// "FILLER-01". It is the ISA-95 work unit that events speak of.
type MachineID string

// GatewayStream is the stream of facts that belong to no machine.
const GatewayStream MachineID = "_gateway"

// DeviceID is the config's name of a PLC, scale or other device.
type DeviceID string

// TagID is the config's name of one value of a device, for example "made".
type TagID string

// RecordID names a handshake record of a device: several tags that are read in
// one request after their trigger.
type RecordID string

// TagRef is a tag of a device, written "device/tag".
type TagRef struct {
	Device DeviceID
	Tag    TagID
}

// ParseTagRef reads "device/tag"; a bare "tag" belongs to fallback.
func ParseTagRef(s string, fallback DeviceID) TagRef {
	if d, t, ok := strings.Cut(s, "/"); ok {
		return TagRef{Device: DeviceID(d), Tag: TagID(t)}
	}
	return TagRef{Device: fallback, Tag: TagID(s)}
}

// OwnValues stands where a tag names its device, for the values that a machine
// works out itself from tags.
const OwnValues DeviceID = "="

// String returns "device/tag", of a machine's own value its name.
func (r TagRef) String() string {
	if r.Device == OwnValues {
		return string(r.Tag)
	}
	return string(r.Device) + "/" + string(r.Tag)
}

// Sequence numbers the events of one machine, from 1, without gaps. Zero means
// "none".
type Sequence uint64

// MostSequence is more events than a machine makes in 8000 years at a thousand a
// second. Whoever names a higher number of one has it from nowhere, and numbers
// must not go on behind it: there would soon be none left.
const MostSequence Sequence = 1 << 48

// String returns the number as the CloudEvents sequence extension orders it: a
// string of fixed width, so that the order of strings is the order of numbers.
func (s Sequence) String() string { return fmt.Sprintf("%020d", uint64(s)) }

// Epoch is drawn at random at each open of the store. A sequence number is
// given once within an epoch, so a restored copy can never repeat an id.
type Epoch uint64

// String returns the epoch as 16 hexadecimal digits.
func (e Epoch) String() string { return fmt.Sprintf("%016x", uint64(e)) }

// EventID is the identity of an event: the same on every retry, never given
// twice. Receivers de-duplicate by the CloudEvents pair source and id.
type EventID struct {
	Gateway  string
	Machine  MachineID
	Epoch    Epoch
	Sequence Sequence
}

// String returns "gateway/machine/epoch-sequence".
func (id EventID) String() string {
	return id.Gateway + "/" + string(id.Machine) + "/" + id.Epoch.String() + "-" + strconv.FormatUint(uint64(id.Sequence), 10)
}

// ParseEventID reads what String writes.
func ParseEventID(text string) (EventID, error) {
	gateway, rest, _ := strings.Cut(text, "/")
	machine, rest, _ := strings.Cut(rest, "/")
	epoch, sequence, ok := strings.Cut(rest, "-")
	e, err := strconv.ParseUint(epoch, 16, 64)
	n, err2 := strconv.ParseUint(sequence, 10, 64)
	if !ok || gateway == "" || machine == "" || len(epoch) != 16 || err != nil || err2 != nil || n == 0 {
		return EventID{}, fmt.Errorf("%.100q is no id of an event: it is gateway/machine/epoch-sequence", text)
	}
	return EventID{Gateway: gateway, Machine: MachineID(machine), Epoch: Epoch(e), Sequence: Sequence(n)}, nil
}

// ErrUnreadable says that a value is kept and cannot be read: what it said is not
// known, but that it was there. A newer value takes its place.
var ErrUnreadable = errors.New("the value is there and cannot be read")

// ErrNoSession says of a Write that the session which it belongs to has ended, so
// that it reached nobody: it is no fault of its tag, and its rule decides anew.
var ErrNoSession = errors.New("there is no such session")

// Refusals of a Commit. They mean that nothing was changed: the caller keeps
// its old state and may try again. Any other error of a Commit is fatal.
var (
	// ErrFull says that the store may not grow now: the disk's free space is
	// under the reserve, or the quota is used up.
	ErrFull = errors.New("the buffer is full: free disk space or raise the quota")
	// ErrTooBig says that one batch is larger than a transaction may be.
	ErrTooBig = errors.New("the batch is larger than the buffer accepts")
	// ErrGap says that the store has told a loss of counts since the state of the
	// batch was made: a Gap that is Stored comes before what led to the batch.
	ErrGap = errors.New("the store has lost counts that the batch does not know of")
)
