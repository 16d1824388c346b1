package uplink

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// Runner is optional for a Sender: what it does beside Sends, to keep a session
// or to publish the states of machines for example.
type Runner interface {
	// Run works until ctx ends; the Forwarder calls it once, beside the Sends, and
	// waits for it before Close.
	Run(ctx context.Context)
}

// Informer is optional for a Sender: it completes a snapshot by what only the
// Sender knows.
type Informer interface {
	// Inform fills in fields of s. It may be called from any goroutine and does not
	// block.
	Inform(s *Stats)
}

// Notice is what a Sender has to tell people while deliveries go on.
type Notice struct {
	Since time.Time
	// Text says what is not as it should be, Do what helps; both are plain words.
	Text, Do string
}

// State is what a machine is doing now, other than what happened: an uplink may
// keep the newest one where a receiver finds it.
type State struct {
	Machine plant.MachineID
	// Running is nil until it is known; Since is when it began, Reason why the
	// machine stands.
	Running *bool
	Since   time.Time
	Reason  string
	// Good and Scrap are totals, as in a counter event.
	Good, Scrap        int64
	Order, Shift, Mode string
	// Last is the newest recorded event, Time when it happened.
	Last plant.Sequence
	Kind plant.EventKind
	Time time.Time
}

// beside runs what a Sender does beside Sends. A panic of it must not stop the
// gateway; the Sends go on without.
func (f *Forwarder) beside(run context.Context) {
	runner, ok := f.sender.(Runner)
	if !ok {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			f.log.Error("what the sender does beside sending panicked, and rests until the restart", zap.String("panic", fmt.Sprint(p)), zap.ByteString("stack", debug.Stack()))
		}
	}()
	runner.Run(run)
}
