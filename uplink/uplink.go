// Package uplink delivers recorded events to central systems: the contract of
// a Sender, and the Forwarder that runs one over a Queue with order per
// machine, concurrency over machines, circuit breaking, jittered back-off and
// dead letters. It does not know the buffer; the buffer's cursor is a Queue.
package uplink

import (
	"context"
	"io"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// Sender delivers one machine's events to one remote system. The Forwarder
// calls Send concurrently for different machines, never twice at once for one.
type Sender interface {
	// Send blocks until every event has a Result or ctx ends. Events that no
	// Result covers count as Retry. The Results are in the order of the events;
	// the first that is not Delivered, Skipped or Rejected ends what may be settled. Only
	// one that is Held and says what it WaitsFor may have Results of later events
	// behind it: it is set aside if there is room, and sent by itself once that key
	// is there. What is Held for a key in a Send stays so until its end.
	Send(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result
	// Close ends a Send that waits, without a Result for what is uncertain. A
	// second Close does nothing.
	io.Closer
}

// Merger is optional for a Sender: what a later event contains need not be
// sent. The Forwarder folds with it in O(1) memory; (later, true) drops earlier.
// What is folded moves behind the events of other kinds in between: order then
// holds among the events of one kind.
type Merger interface {
	Merge(earlier, later plant.Event) (plant.Event, bool)
}

// Watermarker is optional for a Sender: what the receiver last had, asked before
// the first Send of a machine to notice that the gateway's store was rolled back.
// The zero EventID says that it has had nothing, or cannot say.
type Watermarker interface {
	Last(ctx context.Context, m plant.MachineID) (plant.EventID, error)
}

// Tester is optional for a Sender: Test tries whether the system can be reached
// and takes the gateway for what it is, by its own test action or by a request
// that changes nothing there. It is called from any goroutine, also while Sends
// are under way, and when the Sender was opened for the test alone; it blocks
// until ctx ends at most. Each request is noted in the Journal with
// OutcomeTest and the receiver's words (a token that it needs with OutcomeAsked). An error says in plain words what the
// receiver said and what to do.
type Tester interface {
	Test(ctx context.Context) error
}

// Queue is one uplink's view of the streams of all machines. The buffer's
// cursor implements it.
type Queue interface {
	// Next blocks until a machine has an event for this uplink and leases that
	// machine, fairly, until its Settle. It returns ctx's error once ctx has
	// ended, also where a machine has an event.
	Next(ctx context.Context) (plant.MachineID, error)
	// Peek returns the leased machine's events after that sequence (0: after
	// the cursor), at most maxEvents and about maxBytes, at least one if there
	// is one. It blocks on disk reads only.
	Peek(ctx context.Context, m plant.MachineID, after plant.Sequence, maxEvents, maxBytes int) ([]plant.Event, error)
	// Settle moves the cursor to upTo (at or below the old cursor, also 0:
	// nothing was settled, the cursor stays),
	// keeps dead letters and Put of the results in the same transaction, and
	// ends the lease. Of a result beyond upTo only Put is kept. It is durable on return if a result carries Put, Rejected
	// or Held, else within 200 ms. plant.ErrFull says that there is no room now: the
	// lease goes on, and the caller settles again later; any other error is fatal.
	Settle(ctx context.Context, m plant.MachineID, upTo plant.Sequence, r []plant.Result) error
	// Memory returns a value that a Result put, nil for none. plant.ErrUnreadable
	// says that there is one that is damaged; any other error is fatal.
	Memory(key string) ([]byte, error)
}

// LinkError is the Cause of a Retry that concerns the system as a whole: it
// could not be reached, did not answer, or asked everybody to wait. The
// Forwarder then backs off the whole uplink. Any other Cause of a Retry
// concerns one machine, and the link is healthy.
type LinkError struct {
	Err error
	// Suspect is set if it also comes again and again with one and the same event
	// of one machine: that machine then waits longer than the link, by the Wait of
	// the Result too, and is shown among the Problems.
	Suspect bool
}

// Error returns the words of the cause.
func (e *LinkError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LinkError) Unwrap() error { return e.Err }

// Sorter is optional for the Cause of a Rejected result: refusals of one Sort
// are of the same sort, whatever their words. Without it two refusals are of
// the same sort if their words differ in digits only. The Cause of a Skipped
// result may be one, where its words name the event: see PassedOver.
type Sorter interface{ Sort() string }

// Final is optional for the Cause of a Rejected result. If it is true the event is
// put to the dead letters however many there were before it, and counts as no
// refusal: it must not be sent again by itself, since nobody knows whether the
// receiver has it. A Sender whose receiver does not answer must keep the next
// events back itself, by a Retry.
type Final interface{ Final() bool }

// Unsent is optional for the Cause of a Rejected result: nothing was sent, since no
// request can be made of the event. Remedy says what a person mends in the config,
// in a sentence without its capital and its full stop.
type Unsent interface{ Remedy() string }

// Plan is a checked uplink: what it carries and how it is opened. The kinds of
// uplink/… make it; the gateway uses it.
type Plan struct {
	// Endpoint is where the system is, for people; it holds no secret.
	Endpoint string
	// Target is where an event ends in full, for comparing only, since it may hold
	// a secret: two uplinks of one Target tell it each event twice. Empty says
	// that nobody can tell.
	Target string
	// Bind is the network card that the system is reached over, as the config names
	// it: the same Target over another one is another system. Empty leaves it to the
	// routes.
	Bind string
	// Carries reports whether events of that kind go to this system.
	Carries func(plant.EventKind) bool
	// Orders lets only events of orders of one source through.
	Orders OrderSource
	// Codes are the system's names of our codes; the zero value if it has none of
	// its own.
	Codes CodeTables
	// Translates says what becomes of our codes of a kind in what is sent; nil says
	// that all are Translated.
	Translates func(plant.CodeKind) Translation
	// Expires are the ends that the config or its files tell: of a client's
	// certificate, of a token.
	Expires []Expiry
	// Owns is what no second uplink may have.
	Owns []Own
	// Names are the machines that keys of the options name, by key: one that the
	// config does not have is a misspelt one.
	Names map[string]plant.MachineID
	// Options says how the Forwarder drives the Sender.
	Options Options
	// Open makes the sender without any I/O.
	Open func(Env) Sender
}

// Own is something of a system that only one uplink may have, a client identifier for
// example.
type Own struct {
	// Key is the key of the options that names it, Thing what it is, for comparing.
	Key, Thing string
	// Harm is what becomes of it if two have it, and Remedy what to do, for people.
	Harm, Remedy string
}

// Translation is what becomes of the codes of a kind in what an uplink sends.
type Translation uint8

// The translations.
const (
	// Translated codes are sent as the tables say, and as they are where a table has
	// no row.
	Translated Translation = iota
	// Demanded codes are too, but an event with one that a table does not have is
	// refused here.
	Demanded
	// Untranslated codes are sent as they are, or not at all, whatever the tables say.
	Untranslated
)

// Translation returns what becomes of codes of a kind.
func (p *Plan) Translation(kind plant.CodeKind) Translation {
	if p.Translates == nil {
		return Translated
	}
	return p.Translates(kind)
}

// Env is what a sender is lent when it is opened.
type Env struct {
	Name string
	// Gateway is the gateway's name as it stands in event ids.
	Gateway string
	// Path is the ISA-95 path of the gateway's machines,
	// "/enterprise/site/area".
	Path string
	Log  *zap.Logger
	// Journal takes each request that the sender makes: Note it once, when its
	// answer is there. It may be nil, and then takes nothing.
	Journal *Journal
	// Codes translates our codes; nil leaves them as they are.
	Codes *Codes
	// Expiries is told of what ends that is only known once the other side has
	// answered: its certificate, a token that it gave. It may be nil.
	Expiries *Expiries
	// Shared are the Keys of Plan.Owns that another uplink of this gateway has with
	// the same thing, each with the name of that uplink.
	Shared map[string]string
	// Memory reads this uplink's own durable keys. After plant.ErrUnreadable a
	// sender goes on with what is safe: it asks the receiver again, sends again
	// under the same id, or holds the events with that as the cause.
	Memory func(key string) ([]byte, error)
	// States returns what the machines are doing now; nil if nobody knows. It may be
	// called from any goroutine.
	States func() []State
	// Stock returns what the gateway's books say must be left of a component,
	// wherever it is, for a machine that has moved it. A NotYet says that the books
	// are being written; any other error that nobody can say, and why. It blocks on
	// disk reads and may be called from any goroutine. It may be nil, and then
	// nobody can say.
	Stock func(ctx context.Context, component string, m plant.MachineID) (Stock, error)
	// Shelved reports whether older events of a machine wait for a key: what needs
	// the key is Held then, too, also if the key is there. It may be nil, and then
	// nothing is set aside.
	Shelved func(m plant.MachineID, key string) bool
}
