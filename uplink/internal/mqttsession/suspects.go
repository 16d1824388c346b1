package mqttsession

import (
	"fmt"
	"time"
)

// PoisonError says that the first message of a Publish cannot be delivered, and
// that this is proved: the broker closed a session at it again and again while
// it was alone in flight, and each of those sessions had served others well
// before.
type PoisonError struct {
	Sessions int
	Err      error
}

// Error implements error.
func (e *PoisonError) Error() string {
	return fmt.Sprintf("the broker closed %d sessions at this message, each of which took others before, the last time: %v; look for its size and topic in the broker's limits and log", e.Sessions, e.Err)
}

// Unwrap returns how the last session ended.
func (e *PoisonError) Unwrap() error { return e.Err }

// SuspectError says that the first message of a Publish has ended several
// sessions, and that nothing proves whether it is the message, the broker or
// the link. Others should go first for as long as For.
type SuspectError struct {
	Sessions int
	Size     int
	Topic    string
	For      time.Duration
	Err      error
}

// Error implements error.
func (e *SuspectError) Error() string {
	return fmt.Sprintf("%d sessions ended while this message was sent (%d bytes to %q); it is kept and tried again: look for its size and topic in the broker's limits and log, and whether the broker takes any other message: %v", e.Sessions, e.Size, e.Topic, e.Err)
}

// Unwrap returns how the last session ended.
func (e *SuspectError) Unwrap() error { return e.Err }

// suspect is the first message of a stream that was in flight when sessions
// ended.
type suspect struct {
	id uint64
	// sessions counts the ends of all sorts; proofs those that speak against the
	// message.
	sessions, proofs int
	// quiet is how long a session must have lived before its end at this message
	// speaks against the message.
	quiet time.Duration
}

const (
	// After aloneAfter sessions the message is sent alone, so that an innocent
	// one beside it is cleared; after poisonAfter proofs it is given up.
	aloneAfter  = 2
	poisonAfter = 5
	// A session is a control, in which a message can be told from a sick broker,
	// once it has acknowledged controlEvents others, and has lived for
	// controlAge and controlFactor times as long as the message took to end the
	// last one. Where sessions end at random with some probability, five ends
	// out of five here against none in fifty there are below one in ten million,
	// whatever that probability.
	controlEvents = 10
	controlAge    = time.Second
	controlFactor = 10
	// longestRest bounds the wait that a SuspectError asks for.
	longestRest = 5 * time.Second
)

// trial is one attempt to publish a suspect alone.
type trial struct {
	stream  string
	message *Message
	begun   time.Time
	// control is set if the session had served others long enough before.
	control bool
}

// try begins a trial if the message is a suspect, else it returns nil.
func (s *Session) try(stream string, m *Message) *trial {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.suspects[stream]
	if !ok || x.id != m.ID || x.sessions < aloneAfter {
		return nil
	}
	return &trial{stream: stream, message: m}
}

// begin notes that the trial's message is about to be sent, alone.
func (c *connection) begin(t *trial) {
	s := c.session
	t.begun = time.Now()
	s.mu.Lock()
	quiet := max(s.controlAge, s.suspects[t.stream].quiet)
	s.mu.Unlock()
	t.control = c.served.Load() >= controlEvents && c.age() >= quiet
	c.trial.Store(t)
}

// suspect notes that a session ended while the message was the oldest of its
// stream without an answer, and returns the error to be told. t is the trial, nil
// if others were in flight as well.
func (s *Session) suspect(c *connection, stream string, m *Message, t *trial, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.suspects[stream]
	if x.id != m.ID {
		x = suspect{id: m.ID}
	}
	x.sessions++
	took := s.controlAge / controlFactor
	if t != nil && c.tried {
		took = max(took, c.ended.Sub(t.begun))
		x.quiet = controlFactor * took
		if t.control {
			x.proofs++
		}
	}
	s.suspects[stream] = x
	if x.proofs >= poisonAfter {
		delete(s.suspects, stream)
		return &PoisonError{Sessions: x.proofs, Err: err}
	}
	if t == nil {
		return err // it may as well be one of the others
	}
	return &SuspectError{
		Sessions: x.sessions, Size: len(m.Payload), Topic: m.Topic,
		For: min(2*controlFactor*took, longestRest), Err: err,
	}
}

// cleared notes that the stream's first message was acknowledged. If sessions
// had ended at it, they end at innocent messages: no proof holds.
func (s *Session) cleared(stream string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.suspects[stream]
	if !ok {
		return
	}
	delete(s.suspects, stream)
	if x.sessions >= aloneAfter {
		s.doubt()
	}
}

// doubt forgets all proofs, since the broker or the link has failed without
// regard to a suspect. It is called with mu held.
func (s *Session) doubt() {
	for stream, x := range s.suspects {
		x.proofs = 0
		s.suspects[stream] = x
	}
}
