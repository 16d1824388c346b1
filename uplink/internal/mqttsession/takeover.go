package mqttsession

import (
	"fmt"
	"time"
)

// takeover notices that two clients of one id throw each other out, and slows
// the loop down. Session.mu guards it.
type takeover struct {
	losses []time.Time
	// since is when it was noticed first, zero while it is not.
	since time.Time
	// look is set after a session that the broker ended: the next one looks who
	// wrote the status in between.
	look bool
	// rival is who that was, empty if nobody knows.
	rival string
	// No session is begun before until; wait was the last such wait, err its cause.
	wait  time.Duration
	until time.Time
	err   error
}

const (
	// A session that is lost within takeoverYoung of its CONNACK, more than
	// takeoverLosses times within takeoverSpan, is being taken over.
	takeoverYoung  = 2 * time.Second
	takeoverLosses = 3
	takeoverSpan   = 10 * time.Second
	// takeoverWait slows the loop down, which hurts the other client as well. It
	// doubles up to takeoverMostWait.
	takeoverWait     = 10 * time.Second
	takeoverMostWait = 2 * time.Minute
	// takeoverQuiet is how long a session must live until the other client is
	// taken to be gone: longer than it would wait itself.
	takeoverQuiet = takeoverMostWait + time.Minute
)

// lost is told of each session that the broker ended and returns the error with
// a name, if it has one.
func (t *takeover) lost(now time.Time, age time.Duration, id string, err error) error {
	if age > takeoverQuiet || age > takeoverYoung && t.rival == "" {
		*t = takeover{look: t.look}
		return err
	}
	t.losses = append(t.losses, now)
	if len(t.losses) > takeoverLosses+1 {
		t.losses = t.losses[1:]
	}
	if t.since.IsZero() && len(t.losses) > takeoverLosses && now.Sub(t.losses[0]) <= takeoverSpan {
		t.since = now
	}
	if t.since.IsZero() {
		return err
	}
	t.err = fmt.Errorf("the broker ends each session: %s; give each gateway its own: %w", t.who(id), err)
	if t.rival == "" {
		return &WaitError{Err: t.err, For: takeoverWait} // a guess holds up nobody else, and no other broker
	}
	t.wait = min(max(takeoverWait, 2*t.wait), takeoverMostWait)
	t.until = now.Add(t.wait)
	return &WaitError{Err: t.err, For: t.wait}
}

// who says who uses the client identifier.
func (t *takeover) who(id string) string {
	if t.rival != "" {
		return fmt.Sprintf("%s uses the client_id %q too", t.rival, id)
	}
	return fmt.Sprintf("another client probably uses the client_id %q too", id)
}

// found names the other client.
func (t *takeover) found(now time.Time, rival string) {
	t.rival = rival
	if t.since.IsZero() {
		t.since = now
	}
}

// resting is why no session may be begun yet, nil if one may.
func (t *takeover) resting(now time.Time) error {
	if left := t.until.Sub(now); left > 0 {
		return &WaitError{Err: t.err, For: left}
	}
	return nil
}

// Rival says for people who else uses the client identifier, and since when that
// is known; it is empty if nobody does. It lasts until a session has lived longer
// than the other client would wait. It may be called from any goroutine.
func (s *Session) Rival() (text string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takeover.since.IsZero() || s.current != nil && s.current.age() > takeoverQuiet {
		return "", time.Time{}
	}
	return s.takeover.who(s.o.ClientID), s.takeover.since
}
