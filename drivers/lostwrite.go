package drivers

import (
	"fmt"

	"github.com/sluice-edge/sluice/plant"
)

// LostWrite is the error of a Write that was sent and has no answer, and of the
// session that it has ended: the write is to be looked at, and not what was to be
// read next.
type LostWrite struct {
	Tag plant.TagID
	// At is the tag's place at the device, as the config names it.
	At string
	// Cause is what came instead of the answer.
	Cause error
}

// Error implements error.
func (e *LostWrite) Error() string {
	return fmt.Sprintf("no answer to the write of %s (%s): %v", e.Tag, e.At, e.Cause)
}

// Unwrap gives the cause.
func (e *LostWrite) Unwrap() error { return e.Cause }
