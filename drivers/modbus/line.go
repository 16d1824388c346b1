package modbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
)

// wire is a socket or a serial port. SetDeadline may be called while Read or
// Write waits, and ends it with os.ErrDeadlineExceeded; a Read of no bytes
// without an error is the end of it.
type wire interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
}

// framing is how requests and answers lie on a wire.
type framing interface {
	// prepare makes the wire ready for a request: what is left of earlier answers
	// is read over. silence is how long nothing may come before the request.
	prepare(s *station, silence time.Duration) error
	// exchange writes a request and returns the answer to it, checked; it is valid
	// until the next call. An error that leaves the wire usable is a *lostAnswer.
	exchange(s *station, request []byte, deadline time.Time) ([]byte, error)
}

// lostAnswer is a request without a usable answer on a wire that is still good:
// of the unit's business, not of the line's.
type lostAnswer struct{ cause error }

// Error implements error.
func (e *lostAnswer) Error() string { return e.cause.Error() }

// Unwrap gives the cause.
func (e *lostAnswer) Unwrap() error { return e.cause }

const (
	// redialAfter is how long a line whose wire could not be opened is left alone:
	// each of its units would try it for itself otherwise.
	redialAfter = 500 * time.Millisecond
	// probeShare: units that do not answer are asked again so seldom that they
	// take one part in probeShare of the line's time, all together.
	probeShare = 5
)

// line is one wire with several units, and the one request under way on it. Its
// methods are called by its stations, from any goroutine.
type line struct {
	name, endpoint string
	dial           func(context.Context) (wire, error)
	frames         func(wire, *line) framing
	rtu            bool
	// char is how long one character takes on the wire, 0 where that is not known.
	char time.Duration
	// silence comes before each request, turnaround before one to another unit
	// than the last.
	silence, turnaround time.Duration
	log                 *zap.Logger

	turns turns
	// probing is held by the one unit that is tried again after a failure.
	probing chan struct{}

	mu       sync.Mutex
	link     *lineLink // nil while the wire is closed
	cause    error     // why it is
	failed   time.Time // when it last could not be opened
	sessions int
	stations []*station
	// restless says that a new wire is to be listened to before it is used: answers
	// to the process before, or to the wire before, may still come.
	restless bool
	// nextProbe is when the next unit that did not answer may be tried.
	nextProbe time.Time
}

var _ drivers.Line = (*line)(nil)

// lineLink is one opening of the wire. Its fields belong to who has the turn.
type lineLink struct {
	framing
	wire     wire
	lastUnit byte
	lastDone time.Time
	restless bool
}

// Endpoint implements drivers.Line.
func (l *line) Endpoint() string { return l.endpoint }

// station returns a place on the line for one unit.
func (l *line) station(unit byte, timeout, pause time.Duration) *station {
	s := &station{line: l, unit: unit, timeout: timeout, pause: pause, cause: drivers.ErrNotConnected}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stations = append(l.stations, s)
	return s
}

// of returns the place of a unit id, nil if it has none.
func (l *line) of(unit byte) *station {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.stations {
		if s.unit == unit {
			return s
		}
	}
	return nil
}

// connect returns the open wire, or opens it. The caller has the turn.
func (l *line) connect(ctx context.Context, timeout time.Duration) (*lineLink, error) {
	l.mu.Lock()
	link, cause, since := l.link, l.cause, time.Since(l.failed)
	l.mu.Unlock()
	if link != nil {
		return link, nil
	}
	if cause != nil && since < redialAfter {
		return nil, cause
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	w, err := l.dial(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if l.failed.IsZero() {
			l.log.Warn("the line cannot be opened", zap.String("endpoint", l.endpoint), zap.Error(err))
		}
		l.cause, l.failed = drivers.Away(fmt.Errorf("line %s: %w", l.name, err)), time.Now()
		return nil, l.cause
	}
	l.failed = time.Time{}
	l.log.Info("the line is open", zap.String("endpoint", l.endpoint))
	l.link, l.cause = &lineLink{wire: w, framing: l.frames(w, l), restless: l.restless}, nil
	return l.link, nil
}

// drop closes a wire that is of no use any more; every unit's session ends.
func (l *line) drop(link *lineLink, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = link.wire.Close()
	l.restless = true
	if l.link == link {
		l.link, l.cause = nil, cause
		l.log.Warn("the line is lost", zap.Error(cause))
	}
}

// calm is called when the wire was listened to.
func (l *line) calm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restless = false
}

// exceptionIn returns the exception that an answer is, 0 for none.
func (l *line) exceptionIn(answer []byte) exception {
	if l.rtu {
		return exceptionOf(answer[1:]) // behind the unit id
	}
	return exceptionOf(answer[headerSize:])
}

// leave is called when a unit's session ends; the last one closes the wire.
func (l *line) leave() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions--
	if l.sessions > 0 || l.link == nil {
		return nil
	}
	err := l.link.wire.Close()
	l.link, l.cause = nil, nil
	return err
}

// probe waits until a unit that did not answer may be tried again. Whoever
// returns without an error calls probed.
func (l *line) probe(ctx context.Context) error {
	select {
	case l.probing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	wait := time.Until(l.nextProbe)
	l.mu.Unlock()
	if err := pauseFor(ctx, wait); err != nil {
		<-l.probing
		return err
	}
	return nil
}

// probed ends a probe that took so long in vain, 0 if there was an answer.
func (l *line) probed(vain time.Duration) {
	l.mu.Lock()
	l.nextProbe = time.Now().Add((probeShare - 1) * vain)
	l.mu.Unlock()
	<-l.probing
}

// onWire is how long so many characters take.
func (l *line) onWire(characters int) time.Duration { return time.Duration(characters) * l.char }

func pauseFor(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// isLost reports whether err cost one request and left the wire usable.
func isLost(err error) bool {
	var lost *lostAnswer
	return errors.As(err, &lost)
}
