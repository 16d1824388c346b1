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

// takeover notices that two clients of one id throw each other out.
type takeover struct {
	losses []time.Time
	seen   bool
	// looked is when it was looked who that is, zero for never.
	looked time.Time
	// rival is who wrote the status in between, empty if nobody knows.
	rival string
}

const (
	// A session that is lost within takeoverYoung of its CONNACK, more than
	// takeoverLosses times within takeoverSpan, is being taken over.
	takeoverYoung  = 2 * time.Second
	takeoverLosses = 3
	takeoverSpan   = 10 * time.Second
	// takeoverWait slows the loop down, which hurts the other client as well.
	takeoverWait = 10 * time.Second
)

// lost is told of each session that the broker ended and returns the error with
// a name, if it has one.
func (t *takeover) lost(now time.Time, age time.Duration, id string, err error) error {
	if age > takeoverYoung {
		*t = takeover{}
		return err
	}
	t.losses = append(t.losses, now)
	if len(t.losses) > takeoverLosses+1 {
		t.losses = t.losses[1:]
	}
	if len(t.losses) > takeoverLosses && now.Sub(t.losses[0]) <= takeoverSpan {
		t.seen = true
	}
	if !t.seen {
		return err
	}
	who := "another client probably uses"
	if t.rival != "" {
		who = t.rival + " uses"
	}
	return &WaitError{Err: fmt.Errorf("the broker ends each session right after accepting it: %s the client_id %q too; give each gateway its own: %w", who, id, err), For: takeoverWait}
}
