// Package drivers holds the contract of a device driver and the Poller that
// runs one: schedule, time-outs, reconnects with back-off, a guard against
// panics, and counters. A driver turns a protocol into readings; it knows
// nothing of events, of the buffer or of uplinks.
package drivers

import (
	"context"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/pki"
	"github.com/sluice-edge/sluice/plant"
)

// Driver speaks to one device.
//
// Connect, Read and Close are called from one goroutine, the Poller's. Write
// may come from any goroutine, also while Read waits.
type Driver interface {
	// Connect opens the one connection of this session; nothing below the
	// driver redials within a session. It blocks until connected or ctx ends.
	Connect(ctx context.Context, session uint64) error
	// Read returns what the device said: a polling driver does one cycle, a
	// subscribing one blocks until a publish or the end of ctx. The result is
	// valid until the next Read. A tag that cannot be read is a Reading of bad
	// quality; an error means that the device did not answer: the Poller then
	// closes, backs off and connects again with the next session.
	// Every Scan has Device, Session, Snapshot (first values of a session),
	// Received and, if it holds good readings, Asked set.
	//
	// For each of Env.Records whose trigger is seen, all fields are read in one
	// request sent after the trigger was seen, and returned by the same Read as
	// a Scan with Record set, after the scan that shows the trigger. It is never
	// a Snapshot. The trigger is looked at once more, in that request or behind
	// it: a record that is not offered any more may be half of the next one and
	// is not returned. A record that cannot be read is returned with its bad
	// readings and their causes, and read again by the next Read, unless it is
	// Optional. One that is not read again while its trigger stays is Final.
	Read(ctx context.Context) ([]plant.Scan, error)
	// Write writes one tag that the config names as writable or a Record as its
	// answer. It fails with
	// ErrSessionOver if w.Session is not the current one.
	Write(ctx context.Context, w plant.Write) error
	// Close ends the session and frees its socket. A closed driver may Connect
	// again.
	io.Closer
}

// DuplicateCounter is a Driver whose protocol can tell a repeated answer from a
// new one.
type DuplicateCounter interface {
	// Duplicates returns how many repeated answers were dropped since the start.
	// It may be called from any goroutine and does not block.
	Duplicates() uint64
}

// Listener is a Driver of a subscription, which hears of a device that has
// nothing to report: keep-alives and the answers to its own questions.
type Listener interface {
	// Heard returns when the device last said anything; zero if it never did. It
	// may be called from any goroutine and does not block.
	Heard() time.Time
}

// Adviser is a Driver that knows what could be better at its device.
type Adviser interface {
	// Advice returns what works, though not as the config asks for, in plain words
	// and with what to do; empty if all is well. It may be called from any
	// goroutine and does not block.
	Advice() []string
}

// Noticer is a Driver that has more to say of its device than whether it is
// there: a channel without security, a certificate that ends soon.
type Noticer interface {
	// Notices returns what is so now, the worst first. It may be called from any
	// goroutine and does not block.
	Notices() []Notice
}

// Notice is something that a person should see while the device works.
type Notice struct {
	// Text says what is not as it should be, Do what helps; both are plain words
	// without secrets.
	Text, Do string
	// Since is when it began; zero if that is not known.
	Since time.Time
	// Urgent says that the device is lost soon if nobody does anything.
	Urgent bool
}

// Inspector is a Driver that can say, without changing anything, what a device
// will let the gateway do.
type Inspector interface {
	// Inspect asks which of some tags cannot be written, and for the device's
	// clock. It is called from the goroutine of Read, within a session.
	Inspect(ctx context.Context, written []plant.TagID) (Inspection, error)
}

// ServerClock is a Driver of a protocol in which a server says, beside when a value
// came from its source, when it got it itself.
type ServerClock interface {
	// ServerTime returns the server's time of the newest value of a tag, zero if it
	// said none. It does not block, and may be called from any goroutine.
	ServerTime(tag plant.TagID) time.Time
}

// Inspection is what an Inspector was told.
type Inspection struct {
	// Refused says of tags that cannot be written why.
	Refused map[plant.TagID]string
	// Clock is the device's clock between Asked and Received by the gateway's;
	// zero if it shows none.
	Clock, Asked, Received time.Time
	// Doubts say what of the config is right as the device is now and may not be
	// after a change there, and what to write instead.
	Doubts []Notice
}

// Errors of a Driver.
var (
	// ErrNotConnected says that there is no session; it is a plant.ErrNoSession.
	ErrNotConnected error = noSession("not connected")
	// ErrSessionOver says that a Write belongs to a session that has ended; it is a
	// plant.ErrNoSession.
	ErrSessionOver error = noSession("the session of this write is over")
	// ErrBusy says that the device answers but has no place for one more client
	// now. The Poller asks again soon, since that changes by itself.
	ErrBusy = errors.New("the device has no place for one more client now")
	// ErrAway says that nothing answered at the device's address, or that the
	// device said that it is about to be there. The Poller asks again within a
	// second for as long as it takes: that burdens nobody, and the device is read
	// soon after it is back, however long it was away.
	ErrAway = errors.New("the device does not answer now")
	// ErrNotWritable says that the config does not name the tag as writable.
	ErrNotWritable = errors.New("the config does not allow writing this tag")
)

// absent is an error that is ErrAway, too.
type absent struct{ error }

// Is lets errors.Is find ErrAway.
func (absent) Is(target error) bool { return target == ErrAway }

// Unwrap lets errors.Is and errors.As find what there is besides.
func (a absent) Unwrap() error { return a.error }

// Away marks err as ErrAway, in its own words.
func Away(err error) error { return absent{err} }

// noSession is an error that says that nobody was asked.
type noSession string

// Error implements error.
func (e noSession) Error() string { return string(e) }

// Is reports whether target is what rules know of such errors.
func (noSession) Is(target error) bool { return target == plant.ErrNoSession }

// Plan is a checked device: what its tags are, how it is polled, and how it is
// opened. The kinds of drivers/… make it; the gateway uses it.
type Plan struct {
	// Driver is the kind of the driver, as the config names it: who looked the kind
	// up sets it.
	Driver string
	// Tags are the tags in the order of the config.
	Tags []plant.Tag
	// Interval is the time from the start of one poll to the start of the next;
	// 0 for a driver that subscribes.
	Interval time.Duration
	// Timeout bounds one Connect and one Read of a polling driver.
	Timeout time.Duration
	// Endpoint is where the device is, for people; it holds no secret.
	Endpoint string
	// Bind is the network card that Endpoint is reached over, as the config names it:
	// the same Endpoint over another one is another device. Empty leaves it to the
	// routes.
	Bind string
	// Certificates is where the driver keeps certificates, its own and those that
	// it trusts; nil for a driver without any.
	Certificates *Certificates
	// Line is the name of the line that the device is on, Unit its number there;
	// empty and 0 for a device with a connection of its own.
	Line string
	Unit int
	// MaxConnections is how many connections the device takes, 0 if that is not
	// known.
	MaxConnections int
	// CheckRecords reports, as config.FieldErrors or plain errors, which records
	// the device cannot give in one request (over its limit, spread over tables)
	// and which answers it cannot take. The Path of a config.FieldError is the
	// tag that is to blame; the gateway finds the place where a machine names it.
	// Nil for a driver without records.
	CheckRecords func([]plant.Record) error
	// Open makes the driver without any I/O.
	Open func(Env) Driver
	// Registers returns a plan of the same device with a tag and the single
	// registers that hold it, at least so many where the table has them, called +0,
	// +1, …: for people who look for a type and a word order. ok is false for what
	// is no register. Nil for a protocol without registers.
	Registers func(tag plant.TagID, least int) (p Plan, ok bool)
	// Browse lists what the device has; nil for a protocol without a list.
	Browse Browse
	// Reads words what makes the value of each tag of what the device says: address,
	// type, order, scale. They differ where the same answer may give another value. How
	// often it is read, and where the device is, is no part of it.
	Reads func() map[plant.TagID]string
	// Once says that what the device says is said to one reader only, so that a
	// second one would take it from the gateway.
	Once bool
}

// Certificates says where a device's certificates are.
type Certificates struct {
	// Folder is the one that the config names; empty for the gateway's own.
	Folder string
}

// Env is what a driver is lent when it is opened.
type Env struct {
	Name plant.DeviceID
	// Gateway is the gateway's name, for what the driver says of itself.
	Gateway string
	Log     *zap.Logger
	// Certificates is the store that Plan.Certificates asks for; nil without it.
	Certificates *pki.Store
	// Records are what the machines want to be read together, of this device.
	Records []plant.Record
	// Line is what the LinePlan of Plan.Line has opened, for all devices on it;
	// nil for a device that is on none.
	Line Line
	// Notes is the path of a file of this device's own, in which the driver keeps
	// what it must know after a restart of the gateway. Its folder may be missing.
	// Empty for a driver that is opened only to look: it keeps nothing.
	Notes string
}

// Sink takes what a device said. Offer must not block and must copy what it
// keeps: a Scan is valid only during the call. A Poller makes one call at a time,
// from any goroutine of its own.
type Sink interface {
	Offer(in plant.Input)
}
