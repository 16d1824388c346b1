// Package rule holds what the rules of a machine share: the stamp that says
// when something happened by two clocks, the binding that ties a rule's state
// to the tags it was learned from, and the alarms that rules raise. It does no
// I/O and holds no state.
package rule

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Stamp is the time of a reading by the gateway's clock, with the device's own
// where it has one. Rules measure lengths by the gateway's clock, which is one
// clock for all devices, and events carry the device's.
type Stamp struct {
	// At is the gateway's time in nanoseconds since 1970; 0 is never.
	At int64 `json:"t,omitempty"`
	// Offset is the device's time minus the gateway's.
	Offset int64 `json:"o,omitempty"`
	// Device is set when the device's time may be believed.
	Device bool `json:"d,omitempty"`
	// Early is by how much the reading may be older than At: that long the
	// answer may have been on its way.
	Early int64 `json:"e,omitempty"`
}

// NewStamp returns the stamp of a reading that the device timed source (zero
// for none) and that arrived at received. The device's time is believed if it
// is within maxSkew of the gateway's.
func NewStamp(received, source time.Time, maxSkew time.Duration) Stamp {
	s := Stamp{At: received.UnixNano()}
	if source.IsZero() {
		return s
	}
	s.Offset = source.UnixNano() - s.At
	s.Device = time.Duration(s.Offset).Abs() <= maxSkew
	return s
}

// Asked returns s as of a reading that was asked for at asked, zero if it was
// not: it may be that old.
func (s Stamp) Asked(asked time.Time) Stamp {
	if !asked.IsZero() {
		s.Early = max(s.At-asked.UnixNano(), 0)
	}
	return s
}

// Since is how much time there may have been between before and s, by the
// gateway's clock: an answer that was long on its way may have been read at the
// beginning of it. It is negative if the clock was set back.
func (s Stamp) Since(before Stamp) int64 {
	if s.At < before.At {
		return s.At - before.At
	}
	return s.At - before.At + before.Early
}

// IsZero reports whether s is never.
func (s Stamp) IsZero() bool { return s.At == 0 }

// Time is when it happened: by the device's clock where that may be believed,
// else by the gateway's.
func (s Stamp) Time() time.Time {
	if s.Device {
		return time.Unix(0, s.At+s.Offset).UTC()
	}
	return time.Unix(0, s.At).UTC()
}

// Shift moves s by step when the gateway's clock was set, so that lengths
// measured from s stay true.
func (s *Stamp) Shift(step time.Duration) {
	if s.At != 0 {
		s.At += int64(step)
	}
}

// Input is one tag that a rule uses, as the config and the device describe it.
type Input struct {
	Ref plant.TagRef
	Tag plant.Tag
}

// Binding identifies what in refers to: state learned from one address and
// type says nothing about another. A tag that is only renamed stays bound.
func (in Input) Binding() string {
	where := in.Tag.Address
	if where == "" {
		where = string(in.Ref.Tag)
	}
	return string(in.Ref.Device) + " " + where + " " + in.Tag.Type.String()
}

// Resolver finds the tag that an option names: "tag" on the machine's device or
// "device/tag". The path is the option's, for the error, which is a
// config.FieldError.
type Resolver func(path, name string) (Input, error)

// Alarm is a condition that a person should look at, raised or cleared.
type Alarm struct {
	Name   string
	Raised bool
	Text   string
	Remedy string
}
