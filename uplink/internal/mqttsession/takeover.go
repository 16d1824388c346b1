package mqttsession

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// takeover notices that two clients of one id throw each other out at one broker,
// and leaves the other one a while before it comes again. Session.mu guards it.
type takeover struct {
	// twin is who uses the client identifier here, as Options.Twin says.
	twin string
	// losses are the last ends of young sessions.
	losses []time.Time
	// since is when it was noticed, zero while it is not.
	since time.Time
	// ends are the last ends of sessions that were shorter than a rest of the other
	// client lets them be, each followed by a session at once; maybe is since when they
	// are so many that there may be another client, zero while they are not.
	ends  []time.Time
	maybe time.Time
	// look is set after a session that had written its status and that the broker
	// ended: the next one looks who has written there since. Nobody looks before
	// lookAfter, unless somebody was sighted; lookWait was the last such wait.
	look      bool
	lookAfter time.Time
	lookWait  time.Duration
	// sighted is who that was, at sightedAt; rival is the same once it is sure.
	sighted   string
	sightedAt time.Time
	rival     string
	// No session is begun before until, because of cause.
	until time.Time
	cause error
}

const (
	// A session that is lost within takeoverYoung of its CONNACK, more than
	// takeoverLosses times within takeoverSpan, is being taken over.
	takeoverYoung  = 2 * time.Second
	takeoverLosses = 3
	takeoverSpan   = 10 * time.Second
	// Ends within takeoverBurst are one: a line that is cut again and again is no
	// other client, which goes on for longer.
	takeoverBurst = 300 * time.Millisecond
	// A session that has lived for takeoverQuiet times Options.Rest has no rival any
	// more: the other client would have come after one.
	takeoverQuiet = 3
	// So many sessions that the broker ends in order within maybeSpan times
	// Options.Rest, none of which lived for takeoverQuiet rests, may have been taken
	// over: by another client that rests in between, so that the sessions here are not
	// young. It is no more than a hint, since a broker or what is between may have its
	// own reasons, and nobody waits because of it.
	maybeEnds = 3
	maybeSpan = 6
	// Who is sighted twice in a row within sightedSpan is the other client. Once is
	// not enough: a broker that was killed may bring back a status from before.
	sightedSpan = time.Minute
	// While nobody is sighted it is looked so often at most, more and more seldom
	// where the broker ends a session for looking.
	leastLook, mostLook = 5 * time.Second, 10 * time.Minute
)

// lost is told of each session that the broker ended, orderly if it closed the
// connection and no line or firewall cut it, and returns the error for those who
// waited for an answer.
func (t *takeover) lost(now time.Time, age, rest time.Duration, orderly bool, id string, err error) error {
	if age > takeoverQuiet*rest {
		t.over()
		return err
	}
	if t.since.IsZero() && age > takeoverYoung {
		t.losses = nil
		return err
	}
	if n := len(t.losses); n == 0 || now.Sub(t.losses[n-1]) >= takeoverBurst {
		t.losses = append(t.losses, now)
	}
	if len(t.losses) > takeoverLosses+1 {
		t.losses = t.losses[1:]
	}
	if t.since.IsZero() && len(t.losses) > takeoverLosses && now.Sub(t.losses[0]) <= takeoverSpan {
		t.since = now
	}
	if t.since.IsZero() {
		return err
	}
	t.cause = fmt.Errorf("the broker ends each session: %s (%w)", t.who(id), err)
	if t.rival != "" || orderly {
		t.until = now.Add(rest)
	}
	return &WaitError{Err: t.cause, For: rest, Taken: true}
}

// hint is told of each session that the broker ended in order.
func (t *takeover) hint(now time.Time, age, rest time.Duration) {
	n := len(t.ends)
	if age > takeoverQuiet*rest || n > 0 && now.Sub(t.ends[n-1]) < takeoverBurst {
		return
	}
	if t.ends = append(t.ends, now); n == maybeEnds {
		t.ends = t.ends[1:]
	}
	if t.maybe.IsZero() && len(t.ends) == maybeEnds && now.Sub(t.ends[0]) <= maybeSpan*rest {
		t.maybe = now
	}
}

// away is told that the broker could not be had: then it was not another client
// that ended the session before.
func (t *takeover) away() { t.ends, t.maybe = nil, time.Time{} }

// noticed is since when there is or may be another client, zero while there is none.
func (t *takeover) noticed() time.Time {
	if t.since.IsZero() {
		return t.maybe
	}
	return t.since
}

// over forgets the other client, but not that somebody was sighted.
func (t *takeover) over() {
	*t = takeover{twin: t.twin, look: t.look, lookAfter: t.lookAfter, lookWait: t.lookWait, sighted: t.sighted, sightedAt: t.sightedAt}
}

// known is who uses the client identifier, empty if that is a guess.
func (t *takeover) known() string { return cmp.Or(t.rival, t.twin) }

// who says who uses the client identifier.
func (t *takeover) who(id string) string {
	if known := t.known(); known != "" {
		return fmt.Sprintf("%s uses the client_id %q too", known, id)
	}
	if t.since.IsZero() {
		return fmt.Sprintf("another client may use the client_id %q too: %d sessions in a row were ended in order, and the next one could be begun at once", id, maybeEnds)
	}
	return fmt.Sprintf("another client probably uses the client_id %q too, or the broker forbids something that is sent", id)
}

// mayLook reports whether the session that begins is to look, and notes that it
// does.
func (t *takeover) mayLook(now time.Time) bool {
	if !t.look || t.sighted == "" && now.Before(t.lookAfter) {
		return false
	}
	t.look = false
	t.lookWait = min(max(2*t.lookWait, leastLook), mostLook)
	t.lookAfter = now.Add(t.lookWait)
	return true
}

// found is told who had written the status, empty for nobody else.
func (t *takeover) found(now time.Time, who string) {
	t.lookWait = 0
	sure := who != "" && t.sighted != "" && now.Sub(t.sightedAt) <= sightedSpan
	t.sighted, t.sightedAt = who, now
	if !sure {
		return
	}
	t.rival = who
	if t.since.IsZero() {
		t.since = now
	}
}

// resting is why no session may be begun yet, nil if one may.
func (t *takeover) resting(now time.Time) error {
	if left := t.until.Sub(now); left > 0 {
		return &WaitError{Err: t.cause, For: left, Taken: true}
	}
	return nil
}

// taken tells the takeover at c's broker that the broker ended c, and logs what is
// new; mu is held.
func (s *Session) taken(c *connection, err error) error {
	t := &s.takeovers[c.at]
	before := *t
	// Where a message may be what ends sessions nothing is guessed.
	if c.wire.closedInOrder() && (len(s.suspects) == 0 || c.window.idle()) {
		t.hint(time.Now(), c.age(), s.o.Rest)
	}
	err = t.lost(time.Now(), c.age(), s.o.Rest, c.wire.closedInOrder(), s.o.ClientID, err)
	s.tell(c.at, before)
	return err
}

// away tells the takeover at a broker that it could not be had.
func (s *Session) away(at int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.takeovers[at]
	before := *t
	t.away()
	s.tell(at, before)
}

// settleRival forgets the other client once a session has lived; mu is held.
func (s *Session) settleRival() {
	c := s.current
	if t := &s.takeovers[c.at]; !t.noticed().IsZero() && c.age() > takeoverQuiet*s.o.Rest {
		before := *t
		t.over()
		s.tell(c.at, before)
	}
}

// tell logs what is another than before of the other client; mu is held.
func (s *Session) tell(at int, before takeover) {
	t, broker := &s.takeovers[at], zap.String("broker", s.o.Brokers[at].Address)
	switch {
	case t.noticed().IsZero() && !before.noticed().IsZero():
		s.o.Log.Info("no other client takes the sessions over any more", broker)
	case !t.noticed().IsZero() && before.noticed().IsZero(), t.known() != before.known():
		fields := []zap.Field{broker, zap.String("who", t.who(s.o.ClientID))}
		if !t.since.IsZero() {
			fields = append(fields, zap.Duration("rest", s.o.Rest))
		}
		s.o.Log.Warn("the broker ends each session, as for two clients with one client_id", fields...)
	}
}

// Rival says for people who else uses the client identifier, and since when that
// is known; it is empty if nobody does. sure is false for a guess. It lasts until a
// session has lived longer than the other client would wait. It may be called from
// any goroutine.
func (s *Session) Rival() (text string, sure bool, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.settleRival()
	}
	for i := range s.takeovers {
		if t := &s.takeovers[i]; !t.noticed().IsZero() {
			return t.who(s.o.ClientID), t.known() != "", t.noticed()
		}
	}
	return "", false, time.Time{}
}

// openAt opens a session at one broker, unless another client is left there in
// peace for now.
func (s *Session) openAt(at int) (*connection, error) {
	s.mu.Lock()
	err := s.takeovers[at].resting(time.Now())
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.open(at)
}

// lookForRival reads who wrote the status last, before this session overwrites it.
// What cannot be read stays unknown.
func (c *connection) lookForRival() {
	s := c.session
	t := &s.takeovers[c.at]
	s.mu.Lock()
	look := s.o.StatusTopic != "" && s.o.Rival != nil && t.mayLook(time.Now())
	s.mu.Unlock()
	if !look {
		return
	}
	status, err := c.lastStatus()
	var refused *RefusedError
	if err != nil && !errors.As(err, &refused) {
		return
	}
	who := ""
	if status != nil {
		who = s.o.Rival(status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := *t
	t.found(time.Now(), who)
	s.tell(c.at, before)
}
