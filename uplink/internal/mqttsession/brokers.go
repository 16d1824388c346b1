package mqttsession

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Broker is one of the brokers that a Session may use.
type Broker struct {
	// Address is its host:port.
	Address string
	// TLS is asked at each connect, since certificates are renewed; nil is plain
	// TCP. What it returns beside an error is used, and who made it tells the error.
	TLS func() (*tls.Config, error)
}

// Place says which broker the Session has, or had last.
type Place struct {
	// Broker counts from 0; Address is its host:port.
	Broker  int
	Address string
	// Connected is set while there is a session, Since when it began or ended.
	Connected bool
	Since     time.Time
	// Passed says why the brokers before it were passed over, nil if it is the
	// first.
	Passed error
	// Session counts the sessions so far.
	Session uint64
}

// Place returns where the Session is. It may be called from any goroutine.
func (s *Session) Place() Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.place
}

// settled notes that c is the session now; mu is held.
func (s *Session) settled(c *connection, passed error) {
	before := s.place
	s.current = c
	s.place = Place{
		Broker: c.at, Address: s.o.Brokers[c.at].Address, Connected: true, Since: time.Now(), Passed: passed, Session: before.Session + 1,
	}
	switch {
	case c.at == before.Broker:
	case c.at > 0:
		s.o.Log.Warn("another broker is used", zap.String("broker", s.place.Address), zap.Error(passed))
	default:
		s.o.Log.Info("the first broker is used again", zap.String("broker", s.place.Address))
	}
	if c.at > 0 {
		s.returning.Go(func() { s.goBack(c) })
	}
}

// openAny connects to the first broker that can be had, in their order. The
// caller makes one attempt at a time.
func (s *Session) openAny() (c *connection, passed error, err error) {
	var failures []error
	for i := range s.o.Brokers {
		c, err := s.openAt(i)
		if err == nil {
			return c, errors.Join(failures...), nil
		}
		if s.life.Err() != nil {
			return nil, nil, err
		}
		if len(s.o.Brokers) > 1 {
			err = fmt.Errorf("%s: %w", s.o.Brokers[i].Address, err)
		}
		failures = append(failures, err)
	}
	return nil, nil, together(failures)
}

// together is the error of several brokers. To wait long helps only if no broker
// may be back earlier.
func together(failures []error) error {
	if len(failures) == 1 {
		return failures[0]
	}
	wait, refused := time.Duration(0), true
	for i, err := range failures {
		var w *WaitError
		if !errors.As(err, &w) {
			wait = 0
			break
		}
		refused = refused && w.refused
		if i == 0 || w.For < wait {
			wait = w.For
		}
	}
	text := "no broker can be had"
	for _, err := range failures {
		text += "; " + err.Error()
	}
	if wait > 0 {
		return &WaitError{Err: errors.New(text), For: wait, refused: refused}
	}
	return errors.New(text)
}

// goBack tries the brokers before that of c from time to time, more and more
// seldom, and moves the session there. What is in flight on c ends there first.
func (s *Session) goBack(c *connection) {
	wait := s.o.FailBack
	for {
		timer := time.NewTimer(wait)
		select {
		case <-c.lost:
		case <-s.life.Done():
		case <-timer.C:
		}
		timer.Stop()
		if c.over() || s.life.Err() != nil {
			return
		}
		for i := range c.at {
			better, err := s.openAt(i)
			if err != nil {
				s.o.Log.Debug("an earlier broker cannot be had yet", zap.String("broker", s.o.Brokers[i].Address), zap.Error(err))
				continue
			}
			if s.moveTo(c, better) {
				c.retire()
			}
			return
		}
		wait = min(2*wait, mostFailBack)
	}
}

// mostFailBack bounds the wait between two attempts to go back.
const mostFailBack = 10 * time.Minute

// moveTo makes better the session in the place of c. It returns false, and ends
// better, if c is not the session any more.
func (s *Session) moveTo(c, better *connection) bool {
	s.mu.Lock()
	if s.current != c || s.closed || better.over() {
		s.mu.Unlock()
		better.close()
		return false
	}
	c.leaving.Store(true)
	var passed error
	if better.at > 0 {
		passed = s.place.Passed
	}
	s.settled(better, passed)
	s.mu.Unlock()
	return true
}

// errMoved is returned to a Publish whose session goes to another broker.
var errMoved = errors.New("the session goes to another broker")

// retire ends a session that has been left, once nothing is in flight.
func (c *connection) retire() {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	end := time.Now().Add(2 * c.session.o.AckTimeout)
	for !c.window.idle() && time.Now().Before(end) && !c.over() {
		<-ticker.C
	}
	c.close()
}

// Connect makes sure that there is a session, so that the status is online though
// nothing is published. It does nothing where the last attempt failed: whoever
// publishes, or calls Connect with retry set, finds out when the broker is back.
// With retry it tries also while a refusal makes all others wait. It blocks as
// Publish does.
func (s *Session) Connect(ctx context.Context, retry bool) error {
	s.mu.Lock()
	leave := s.unreachable && !retry && s.current == nil
	s.mu.Unlock()
	if leave {
		return errNoSession
	}
	_, err := s.connect(ctx, retry)
	return err
}
