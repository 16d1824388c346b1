package mqttsession

import (
	"errors"
	"fmt"
	"time"
)

// errLost is returned to a Publish that waited for room when the session ended.
var errLost = errors.New("the session ended")

// WaitError is an error after which trying again soon would only do harm.
type WaitError struct {
	Err error
	For time.Duration
	// refused is set if the broker answered CONNECT so.
	refused bool
	// Taken is set if another client takes the sessions over, which is left alone for
	// a while.
	Taken bool
}

// Error implements error.
func (e *WaitError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *WaitError) Unwrap() error { return e.Err }

// refusedWait is how long a refusal is left alone that only a person can cure.
const refusedWait = time.Minute

func refusal(err error) *WaitError { return &WaitError{Err: err, For: refusedWait, refused: true} }

// connectError gives a failed CONNECT plain words and the remedy. The codes are
// those of MQTT 3.1.1 table 3.1.
func connectError(o Options, code byte, err error) error {
	const refused = "the broker refuses the connection: "
	switch code {
	case 1:
		return refusal(errors.New(refused + "it does not speak MQTT 3.1.1; look for a listener of that version"))
	case 2:
		return refusal(fmt.Errorf(refused+"it does not accept the client_id %q; set another one", o.ClientID))
	case 3:
		return errors.New(refused + "it says that it is not available")
	case 4:
		return refusal(errors.New(refused + "wrong user or password; check user and password"))
	case 5:
		if o.User == "" {
			return refusal(errors.New(refused + "not authorised; it probably wants user and password or a client certificate"))
		}
		return refusal(fmt.Errorf(refused+"user %q is not authorised; check the password and the broker's access rules", o.User))
	default:
		return fmt.Errorf("connect: %w", err)
	}
}
