package drivers

import (
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Stats is a snapshot of one device, by value.
type Stats struct {
	Device plant.DeviceID
	// Driver is the kind of its driver, such as "modbus"; empty if nobody said.
	Driver    string
	Endpoint  string
	Connected bool
	// Since is when Connected last changed (the start, before the first
	// connect).
	Since time.Time
	// Unsteady says that the device comes and goes.
	Unsteady Unsteady
	// LastError says in plain words why the device is or was away; empty if it
	// never was.
	LastError   string
	LastErrorAt time.Time
	Session     uint64
	// Reads, Errors and Reconnects count since the start.
	Reads, Errors, Reconnects uint64
	// Readings counts tag values; BadReadings those of them not Good.
	Readings, BadReadings uint64
	// Subscribed says that the device reports by itself what changes. It then has
	// no ReadTime, Late or Skipped.
	Subscribed bool
	// LastRead is when the device last answered, also without a value; ReadTime is
	// how long the last poll took.
	LastRead time.Time
	ReadTime time.Duration
	// LastValues is when values last came.
	LastValues time.Time
	// Late is by how much the last poll started after its time.
	Late time.Duration
	// Skipped counts polls left out because the one before took longer than
	// the interval.
	Skipped uint64
	// Writes counts writes asked for, WriteErrors those that failed.
	Writes, WriteErrors uint64
	// Duplicates counts repeated answers that the driver dropped; each was byte
	// for byte what had been answered before.
	Duplicates uint64
	// Panics counts panics of the driver; each ended a session.
	Panics uint64
	// BadTags names the tags that are not Good now, with the cause, and BadSince
	// since when each is not.
	BadTags  map[plant.TagID]string
	BadSince map[plant.TagID]time.Time
	// Advice says what works, though not as the config asks for, and what to do
	// about it.
	Advice []string
	// ClockOffset is how far the device's clock is ahead of the gateway's, behind
	// if negative, once ClockKnown is set: only a device that sends its own times
	// can show it. ClockWrong says that it is too far off to be believed, and
	// ClockSince since when that is known; MaxSkew is the limit.
	ClockOffset            time.Duration
	ClockKnown, ClockWrong bool
	ClockSince             time.Time
	MaxSkew                time.Duration
	// Line is the line that the device is on, Unit its number there. LineUsed is for
	// how long the line was busy with it since the start, LineShare which part of the
	// last minute, 0 to 1.
	Line      string
	Unit      int
	LineUsed  time.Duration
	LineShare float64
	// Notices are what the driver has to say beside all that.
	Notices []Notice
}
