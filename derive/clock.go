package derive

import "time"

// Clock is the gateway's clock. Each Worker asks it from its own goroutine, and
// the status page from others.
type Clock interface {
	Now() time.Time
	// Offset says how far the wall clock was from a clock that never jumps, at
	// a time that Now or time.Now returned. Only its changes mean something.
	Offset(t time.Time) time.Duration
	// Synchronised reports whether the clock is disciplined by a time source.
	Synchronised() bool
}

const (
	// clockJump is how far the wall clock must move against the monotonic one
	// to be a step; less is the slewing of a time daemon.
	clockJump = time.Second
	// clockCheck is how often the Worker asks whether the clock is synchronised.
	clockCheck = 10 * time.Second
)

// systemClock is the clock of the operating system.
type systemClock struct{ base time.Time }

// NewSystemClock returns the clock of the operating system.
func NewSystemClock() Clock { return systemClock{base: time.Now()} }

func (c systemClock) Now() time.Time { return time.Now() }

func (c systemClock) Offset(t time.Time) time.Duration {
	return t.Round(0).Sub(c.base.Round(0)) - t.Sub(c.base)
}

func (c systemClock) Synchronised() bool { return synchronised() }
