package modbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
)

// unansweredKept bounds what a station remembers of requests without an answer.
const unansweredKept = 32

// longestListen bounds how long a new wire is listened to before its first use.
const longestListen = 2 * time.Second

// shape is all that an answer on a wire without transaction ids says of its
// request.
type shape struct {
	function byte
	size     int
}

// station is the place of one unit on a line. open and close are called from the
// goroutine of Connect, Read and Close; acquire and release by whoever asks.
type station struct {
	line           *line
	unit           byte
	timeout, pause time.Duration

	// Under line.mu.
	session uint64
	link    *lineLink // of the session; nil without one
	joined  bool      // it counts in line.sessions
	cause   error     // why there is no session

	// used is its account at the line's turns, busy the time that it has had.
	used time.Duration
	busy atomic.Int64

	// Of who has the turn.
	ctx     context.Context
	current *lineLink
	begun   time.Time
	probing bool
	failed  time.Duration // how long the last request of this turn waited in vain
	// well says that the unit has answered since it last failed.
	well bool
	// unanswered are the shapes of requests whose answers may still come. While
	// there are any, an answer of such a shape proves nothing.
	unanswered []shape
	asked      time.Time // when the last of them was
	// late is how long the unit took for an answer that came too late, since it
	// last answered in time; lateBy is the exception that it was, 0 for none.
	late   time.Duration
	lateBy exception
	// quiet is until when it is not asked, since what comes cannot be told apart.
	quiet time.Time

	// silent says that the last request failed; under line.mu.
	silent bool
	// wary is the time in which the unit is asked with more care, since it gave an
	// answer too many; tardy is when, and slowest how long, it last took too long.
	// Under line.mu.
	wary    spell
	tardy   time.Time
	slowest time.Duration
	// spoilt are when the newest wrong answers came, and whole says that the newest
	// was whole; under line.mu.
	spoilt []time.Time
	whole  bool
}

var _ carrier = (*station)(nil)

// open begins a session; it opens the wire if no other unit has.
func (s *station) open(ctx context.Context, session uint64) error {
	if err := s.line.turns.take(ctx, &s.used, false); err != nil {
		return err
	}
	begun := time.Now()
	link, err := s.line.connect(ctx, s.timeout)
	defer func() { s.give(time.Since(begun)) }()
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("no connection within %v", s.timeout)
		}
		return err
	}
	l := s.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.link != link {
		return l.cause // it was lost in the same moment
	}
	s.session, s.link, s.cause = session, link, nil
	if !s.joined {
		s.joined = true
		l.sessions++
	}
	return nil
}

// close ends the session. A request of the unit that is under way comes to its
// end by itself, within its time-out.
func (s *station) close(cause error) error {
	l := s.line
	l.mu.Lock()
	joined := s.joined
	s.link, s.joined = nil, false
	if joined {
		s.cause = cause
	}
	l.mu.Unlock()
	if !joined {
		return nil
	}
	return l.leave()
}

// acquire waits for the unit's turn.
func (s *station) acquire(ctx context.Context, urgent bool) (session uint64, err error) {
	l := s.line
	if _, _, err := s.here(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	silent := s.silent
	l.mu.Unlock()
	if silent {
		if err := l.probe(ctx); err != nil {
			return 0, err
		}
	}
	for round := 1; ; round++ {
		rest, wary := s.rest()
		if err = pauseFor(ctx, rest); err == nil {
			err = l.turns.take(ctx, &s.used, urgent)
		}
		if err != nil {
			if silent {
				l.probed(0)
			}
			return 0, err
		}
		link, session, err := s.here()
		s.ctx, s.current, s.begun, s.probing, s.failed = ctx, link, time.Now(), silent, 0
		if err != nil {
			s.release()
			return 0, err
		}
		if round == waryRounds || !s.overheard(link, wary) {
			return session, nil
		}
		s.give(time.Since(s.begun))
	}
}

// rest is how long the unit is to be left alone before its next turn: while an
// answer that cannot be told apart is due, and where it answers twice for
// warySilence, in which nothing more comes of it. Others use the line meanwhile.
// wary is until when it is asked so; zero if it does not answer twice.
func (s *station) rest() (rest time.Duration, wary time.Time) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	rest = time.Until(s.quiet)
	if s.line.rtu && time.Now().Before(s.wary.until) {
		rest, wary = max(rest, warySilence), s.wary.until
	}
	return rest, wary
}

// overheard reads what has come for nobody and reports whether one more answer
// too many of this unit came since rest: the next could follow it. The caller
// has the turn.
func (s *station) overheard(link *lineLink, wary time.Time) bool {
	if wary.IsZero() {
		return false
	}
	defer s.endWithContext(link)()
	if link.prepare(s, s.line.silence) != nil {
		return false // the request behind it says what is wrong
	}
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	return s.wary.until.After(wary)
}

// here returns the session and its wire, or why there is none.
func (s *station) here() (*lineLink, uint64, error) {
	l := s.line
	l.mu.Lock()
	defer l.mu.Unlock()
	cause := s.cause
	switch {
	case s.link != nil && s.link == l.link:
		return s.link, s.session, nil
	case s.link != nil && l.cause != nil:
		cause = l.cause
	}
	if cause == nil || errors.Is(cause, drivers.ErrNotConnected) {
		return nil, 0, drivers.ErrNotConnected
	}
	return nil, 0, fmt.Errorf("%w: %w", drivers.ErrNotConnected, cause)
}

// give ends a turn that took so long.
func (s *station) give(took time.Duration) {
	s.busy.Add(int64(took))
	s.line.turns.give(&s.used, took)
}

// release gives the turn to the next.
func (s *station) release() {
	probing, failed := s.probing, s.failed
	s.ctx, s.current, s.probing = nil, nil, false
	s.give(time.Since(s.begun))
	if probing {
		s.line.probed(failed)
	}
}

// Send implements goburrow's Transporter. Only who has the turn calls it. The
// first lost answer of a unit that answered before is forgiven: a line has
// noise. The next one ends the session.
func (s *station) Send(request []byte) (answer []byte, err error) {
	link, begun := s.current, time.Now()
	answer, err = s.send(link, request)
	link.lastUnit, link.lastDone = s.unit, time.Now()
	switch {
	case err == nil:
		s.well, s.late = true, 0
		away := s.line.exceptionIn(answer).ofWay()
		if away {
			s.failed = time.Since(begun)
		}
		s.mark(away)
		return answer, nil
	case isLost(err):
		s.failed = time.Since(begun)
		s.answeredWrongly(err)
		if s.well {
			s.well = false
			return nil, &forgiven{s.explain(err)}
		}
		s.mark(true)
	case s.ctx.Err() == nil:
		s.line.drop(link, fmt.Errorf("line %s: %w", s.line.name, s.explain(err)))
	}
	err = s.explain(err)
	s.over(err)
	return nil, err
}

// forgiven is a lost answer after which the session goes on: ask again.
type forgiven struct{ cause error }

// Error implements error.
func (e *forgiven) Error() string { return e.cause.Error() }

// Unwrap gives the cause.
func (e *forgiven) Unwrap() error { return e.cause }

func (s *station) mark(silent bool) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.silent = silent
}

// over ends the session of this unit only.
func (s *station) over(cause error) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.link, s.cause = nil, cause
}

// because implements sessions.
func (s *station) because(err, cause error) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	if s.link == nil && s.cause != nil && errors.Is(err, s.cause) {
		s.cause = cause
	}
}

// send does one request with the pauses before it.
func (s *station) send(link *lineLink, request []byte) ([]byte, error) {
	rest := max(s.line.silence, s.pause)
	if link.lastUnit != s.unit {
		rest = max(rest, s.line.turnaround)
	}
	if err := pauseFor(s.ctx, time.Until(link.lastDone.Add(rest))); err != nil {
		return nil, err
	}
	defer s.endWithContext(link)()
	silence := s.line.silence
	if link.restless {
		silence = max(silence, min(s.timeout, longestListen))
	}
	if err := link.prepare(s, silence); err != nil {
		return nil, err
	}
	if link.restless {
		link.restless = false
		s.line.calm()
	}
	now := time.Now()
	deadline := now.Add(s.line.onWire(len(request)) + s.timeout + s.line.onWire(maxRTU))
	if d, ok := s.ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	s.asked = now
	return link.exchange(s, request, deadline)
}

// endWithContext ends what the wire does when the context ends. What it returns
// is called before the turn is over: the next one has a deadline of its own.
func (s *station) endWithContext(link *lineLink) (stop func()) {
	ended := make(chan struct{})
	stopped := context.AfterFunc(s.ctx, func() {
		defer close(ended)
		_ = link.wire.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stopped() {
			<-ended
		}
	}
}

// missing notes that a request has no answer yet.
func (s *station) missing(of shape) {
	if len(s.unanswered) == unansweredKept {
		s.unanswered = slices.Delete(s.unanswered, 0, 1)
	}
	s.unanswered = append(s.unanswered, of)
}

// unsure reports whether an answer to an earlier request may still come.
func (s *station) unsure() bool { return len(s.unanswered) > 0 }

// distinct reports whether an answer of that shape can be to no earlier request.
func (s *station) distinct(of shape) bool { return !slices.Contains(s.unanswered, of) }

// unlike returns a count for a read of b whose answer nobody else has asked for:
// less than all of it if that will do, since the unit may have nothing behind it.
func (s *station) unlike(b *block) int {
	most, function := maxReadRegisters, b.table.function()
	if b.table.bits() {
		most = maxReadBits
	}
	for count := b.count - 1; count >= 1; count-- {
		if s.distinct(shapeOf(function, count)) {
			return count
		}
	}
	for count := b.count + 1; count <= min(most, tableSize-b.start); count++ {
		if s.distinct(shapeOf(function, count)) {
			return count
		}
	}
	return b.count
}

// sure is called when the unit has answered something that only the newest
// request can have meant. An exception is less of a proof: an earlier request
// may have earned it, so the unit is left alone until nothing can be due.
func (s *station) sure(byException bool) {
	s.unanswered = s.unanswered[:0]
	if byException {
		s.line.mu.Lock()
		s.quiet = time.Now().Add(s.timeout)
		s.line.mu.Unlock()
	}
}

// beWary notes that the unit gave an answer too many; first says that it gave
// none for a while.
func (s *station) beWary() (first bool) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	return s.wary.again(time.Now(), waryFor)
}

// answersTwice notes and logs that the unit gave an answer too many.
func (s *station) answersTwice() {
	if s.beWary() {
		s.line.log.Warn("a unit answers twice: maybe two devices have its unit id, or its timeout is too short; on a line without transaction ids it alone is asked more slowly for a minute", zap.Uint8("unit", s.unit))
	}
}

// warySince returns since when the unit gives answers too many, zero if it gave
// none for a while, and how long it took for one that came too late meanwhile, 0
// for none. It may be called from any goroutine.
func (s *station) warySince() (since time.Time, late time.Duration) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	now := time.Now()
	if now.Sub(s.tardy) < waryFor {
		late = s.slowest
	}
	return s.wary.since(now), late
}

const (
	// spoiltMost in spoiltWithin are more wrong answers than the noise of a line.
	spoiltMost   = 5
	spoiltWithin = time.Minute
)

// answeredWrongly notes a request to which something else came than its answer.
func (s *station) answeredWrongly(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errBabble) || s.ctx.Err() != nil {
		return
	}
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.whole = !errors.Is(err, errGarble)
	if len(s.spoilt) == spoiltMost {
		s.spoilt = s.spoilt[:copy(s.spoilt, s.spoilt[1:])]
	}
	s.spoilt = append(s.spoilt, time.Now())
}

// wrongSince returns since when the unit answers wrongly now and then, as far as
// that is remembered, and whether what comes is whole; zero if it does not. It may
// be called from any goroutine.
func (s *station) wrongSince() (since time.Time, whole bool) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	if len(s.spoilt) < spoiltMost || time.Since(s.spoilt[0]) > spoiltWithin {
		return time.Time{}, false
	}
	return s.spoilt[0], s.whole
}

// hasty reports whether the next request is not waited for to the end of its time
// once something else came, since the unit answers wrongly now and then. Its second
// try is: what is slow and good comes all the same.
func (s *station) hasty() bool {
	since, _ := s.wrongSince()
	return s.well && !since.IsZero()
}

// cameLate notes an answer that was not waited for any more, so long after its
// request at most, and the exception that it was, 0 for none.
func (s *station) cameLate(took time.Duration, by exception) {
	s.late, s.lateBy = took, by
	if took > s.timeout {
		s.line.mu.Lock()
		defer s.line.mu.Unlock()
		s.tardy, s.slowest = time.Now(), took
	}
}

// explain puts an error into the words of the trade.
func (s *station) explain(err error) error {
	switch {
	case s.ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("no turn or no answer on line %s in the time for one poll: %w", s.line.name, s.ctx.Err())
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s.silentFor()
	case errors.Is(err, io.EOF):
		return errors.New("the other end hung up")
	default:
		return bare(err)
	}
}

// silentFor is a request without an answer in its time.
func (s *station) silentFor() error {
	took := s.late.Round(time.Millisecond)
	switch {
	case s.late > s.timeout && s.lateBy.ofWay():
		box := byte(s.lateBy)
		return fmt.Errorf("no answer of unit %d within %v, but exception %d of the gateway box came after %v: the device behind it is silent", s.unit, s.timeout, box, took)
	case s.late > s.timeout:
		return fmt.Errorf("no answer of unit %d within %v, but one came after %v: raise timeout above that", s.unit, s.timeout, took)
	case s.line.rtu:
		return fmt.Errorf("no answer of unit %d within %v: check its power, its unit id, and baud and parity of line %s", s.unit, s.timeout, s.line.name)
	default:
		return fmt.Errorf("no answer of unit %d within %v: check its power, its unit id, and its wiring behind the gateway box of line %s", s.unit, s.timeout, s.line.name)
	}
}
