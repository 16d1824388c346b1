package opcua

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopcua/opcua/ua"
)

// lostBy is why a connection is lost, for people.
func lostBy(cause error) error {
	if errors.Is(cause, io.EOF) {
		return errors.New("the connection is lost")
	}
	return fmt.Errorf("the connection is lost: %w", cause)
}

// fail ends the session, unless its connection is gone while a write waits for its
// answer: the write says why then, and connect's watcher in its place.
func (s *session) fail(err error) {
	if s.writing.Load() > 0 && s.cut() {
		return
	}
	s.end(err)
}

// cut reports whether the connection is gone.
func (s *session) cut() bool {
	select {
	case <-s.client.channel.done:
		return true
	default:
		return false
	}
}

// end ends the session once; Read says why.
func (s *session) end(err error) {
	s.once.Do(func() {
		s.cause = err
		close(s.lost)
	})
}

// ended returns why the session is over, nil while it is not.
func (s *session) ended() error {
	if s.over {
		return s.cause
	}
	return nil
}

// guard runs a goroutine of the session; a panic ends the session only.
func (s *session) guard(run func() error) {
	defer func() {
		if r := recover(); r != nil {
			s.fail(fmt.Errorf("the driver panicked: %v", r))
		}
	}()
	if err := run(); err != nil && s.ctx.Err() == nil {
		s.fail(err)
	}
}

// close ends the goroutines, the subscription and the session at the server, in
// the time that a farewell may take: then the connection goes, whatever waits.
func (s *session) close() {
	s.stop()
	limit := farewell
	select {
	case <-s.lost:
		limit /= 10 // nobody may be listening
	default:
	}
	defer time.AfterFunc(limit, s.socket.sever).Stop()
	s.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// CloseSession deletes the subscriptions, too, but not at every server.
	if s.subscription != 0 && limit == farewell {
		_ = s.client.Send(ctx, &ua.DeleteSubscriptionsRequest{SubscriptionIDs: []uint32{s.subscription}}, func(ua.Response) error { return nil })
	}
	if s.client.close(ctx) {
		s.d.leave(s.client.made)
	}
}

// leave remembers a session that the server may still have, for the next one to
// bury. One that was not made to the end cannot be taken up on another channel.
func (d *driver) leave(m made) {
	if m.answer == nil {
		return
	}
	d.orphans = append(d.orphans, m)
	d.orphans = d.orphans[max(0, len(d.orphans)-mostOrphans):]
}

// bury ends the sessions that were lost before, so that a server with few of them
// has room. It is tried once: after burial the rest is left to time out.
func (s *session) bury(ctx context.Context, l *link) {
	ctx, cancel := context.WithTimeout(ctx, burial)
	defer cancel()
	for _, orphan := range s.d.orphans {
		_ = l.bury(ctx, orphan) // the server may have forgotten it, as it should
	}
	s.d.orphans = nil
}
