// Package derive turns readings into production events. A Model is the rules
// of one machine as one pure step function, (state, input) → (state, output),
// without a clock, I/O or a goroutine, so that a recorded stream of inputs
// replayed gives the same events. A Worker runs a Model: it takes inputs from a
// bounded mailbox and commits the new state together with the events.
package derive

import (
	"context"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Output is what one step leads to, besides the new state.
type Output struct {
	// Events are unnumbered; the buffer gives epoch and sequence.
	Events []plant.Event
	// Writes are done once, after the commit, only in their Session, and never
	// queued. A rule emits a write again while it sees its trigger unanswered.
	Writes []plant.Write
	// Put is state too large to rewrite at each step; Delete drops its keys.
	Put    []plant.KV
	Delete []string
	// Wake is when the rules want a Tick; zero means not at all.
	Wake time.Time
	// Urgent asks for a commit now even without events.
	Urgent bool
}

// Log keeps a machine's state and events. The buffer implements it.
type Log interface {
	// Load returns the machine's last committed state (nil for none) and calls
	// each for every KV that was put and not deleted. It blocks on disk reads.
	Load(ctx context.Context, m plant.MachineID, each func(plant.KV) error) (state []byte, err error)
	// Newest returns the data of the newest events of a kind, at most so many and
	// the newest first, among those that are still stored, as far back as the store
	// cares to look. It is called where the state of a machine is gone or older than
	// its events, and blocks on disk reads.
	Newest(ctx context.Context, m plant.MachineID, kind plant.EventKind, most int) (data [][]byte, err error)
	// Commit makes b durable, all of it or nothing, and returns the sequence of
	// its first event (0 without events). It blocks until fsync. plant.ErrFull,
	// plant.ErrTooBig and plant.ErrGap mean that nothing was changed, the last one
	// that the rules must hear of a loss before they count on; any other error has
	// an unknown outcome and is fatal to the process. b may be reused on return.
	Commit(ctx context.Context, m plant.MachineID, b plant.Batch) (first plant.Sequence, err error)
}

// Writer writes to devices, for acknowledgements; the gateway routes to the
// drivers. It blocks for one request at most. An error that is
// plant.ErrNoSession says nothing of the tag.
type Writer interface {
	Write(ctx context.Context, w plant.Write) error
}
