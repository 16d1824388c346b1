package modbus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	pdu "github.com/goburrow/modbus"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
)

// The frame of Modbus TCP: transaction id, protocol id 0, length, unit id, then
// function code and data (MODBUS Messaging on TCP/IP Implementation Guide
// V1.0b, 3.1.3). The length counts the unit id and what follows.
const (
	headerSize = 7
	minLength  = 2
	maxLength  = 254
	maxFrame   = headerSize - 1 + maxLength
	// maxDuplicates bounds the repeated answers that are read over in one
	// request, so that a babbling peer costs no time.
	maxDuplicates = 8
	// answersKept is how many answers a session remembers, to tell a repeated
	// answer from a contradicting one.
	answersKept = 16
	// listenEvery and longestListenOn bound how often and how long an answer is
	// waited for behind its time, to tell a slow device from a silent one.
	listenEvery, longestListenOn = 4, time.Second
	// repeatsFor is how long a device is shown as one that repeats its answers
	// after it has done so.
	repeatsFor = time.Minute
)

var _ carrier = (*transport)(nil)

var errRepeats = protocolError("more than %d answers in a row were given before", maxDuplicates)

// transport carries one request after the other over the one connection of a
// session. Any error ends the session: after it nobody knows what the next
// bytes belong to.
type transport struct {
	timeout time.Duration
	// pause comes before each request but the first.
	pause time.Duration
	dial  func(context.Context) (net.Conn, error)
	log   *zap.Logger
	// duplicates counts the repeated answers, all byte for byte the same, that
	// were dropped.
	duplicates atomic.Uint64
	// busy holds a token while a request is under way; a channel, so that
	// waiting for it ends with a context.
	busy chan struct{}

	mu      sync.Mutex
	link    *link // nil without a session
	cause   error // why there is none
	repeats spell // in which the device repeats its answers

	// Of the holder of busy. goburrow's Transporter has no way to pass them.
	ctx     context.Context
	current *link
	done    time.Time // when the last request ended
	silent  int       // requests in a row without an answer in time
}

// sessions opens and ends what a carrier carries.
type sessions interface {
	// open begins a session. It replaces none that is still open.
	open(ctx context.Context, session uint64) error
	// close ends the session, also while a request waits for its answer.
	close(cause error) error
	// because says better why there is no session, if it ended by err.
	because(err, cause error)
}

// carrier takes requests to a device: over a socket of its own, or as one unit
// of a line.
type carrier interface {
	sessions
	// Send is called by who has acquired it. An error ends the session, unless it
	// is forgiven.
	pdu.Transporter
	// acquire waits for the wire, urgently before others, and returns the
	// session's number. The caller releases it after it has used the answer.
	acquire(ctx context.Context, urgent bool) (session uint64, err error)
	release()
}

// link is the connection of one session with what was read ahead.
type link struct {
	conn     net.Conn
	session  uint64
	in       [2 * maxFrame]byte
	from, to int

	// The last answers, the oldest overwritten first. A frame begins with its
	// transaction id.
	kept     [answersKept][maxFrame]byte
	sizes    [answersKept]int // 0 for none
	next     int
	repeated bool // the log knows that the device repeats itself
}

// newTransport returns a transport over what dial connects to.
func newTransport(timeout, pause time.Duration, dial func(context.Context) (net.Conn, error), log *zap.Logger) *transport {
	return &transport{timeout: timeout, pause: pause, dial: dial, log: log, busy: make(chan struct{}, 1), cause: drivers.ErrNotConnected}
}

// open dials once.
func (t *transport) open(ctx context.Context, session uint64) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	conn, err := t.dial(ctx)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return drivers.Away(fmt.Errorf("no connection within %v", t.timeout))
		}
		return drivers.Away(bare(err))
	}
	t.start(conn, session)
	return nil
}

func (t *transport) start(conn net.Conn, session uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.link, t.cause = &link{conn: conn, session: session}, nil
}

// close ends the session, also while a request waits for its answer.
func (t *transport) close(cause error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.link == nil {
		return nil
	}
	err := t.link.conn.Close()
	t.link, t.cause = nil, cause
	return err
}

// because implements sessions.
func (t *transport) because(err, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.link == nil && t.cause != nil && errors.Is(err, t.cause) {
		t.cause = cause
	}
}

// drop ends the session of l, if it is still the current one.
func (t *transport) drop(l *link, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.conn.Close()
	if t.link == l {
		t.link, t.cause = nil, cause
	}
}

// acquire waits for the line and returns the session's number. The caller
// releases it after it has used the answer, which lies in the link's buffer.
func (t *transport) acquire(ctx context.Context, _ bool) (session uint64, err error) {
	select {
	case t.busy <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	t.mu.Lock()
	t.ctx, t.current, err = ctx, t.link, t.cause
	t.mu.Unlock()
	if t.current == nil {
		t.release()
		if !errors.Is(err, drivers.ErrNotConnected) {
			err = fmt.Errorf("%w: %w", drivers.ErrNotConnected, err)
		}
		return 0, err
	}
	return t.current.session, nil
}

func (t *transport) release() {
	t.ctx, t.current = nil, nil
	<-t.busy
}

// Send implements goburrow's Transporter: it writes a request and returns the
// answer to this very request, checked as far as the request allows. Only the
// holder of the line calls it. Any error ends the session.
func (t *transport) Send(request []byte) (answer []byte, err error) {
	l, ctx := t.current, t.ctx
	defer func() {
		if err != nil {
			err = t.explain(ctx, err)
			t.drop(l, err)
		}
	}()
	if t.pause > 0 {
		if err := pauseFor(ctx, time.Until(t.done.Add(t.pause))); err != nil {
			return nil, err
		}
		defer func() { t.done = time.Now() }()
	}
	deadline := time.Now().Add(t.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := l.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	// The order matters: a context that ends before this line is seen by
	// ctx.Err, one that ends after it by the deadline in the past.
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if _, err := l.conn.Write(request); err != nil {
		return nil, err
	}
	begun := time.Now()
	if answer, err = t.receive(l, request); err != nil {
		return nil, t.listenOn(ctx, l, request, begun, err)
	}
	t.silent = 0
	if err := check(request, answer); err != nil {
		return nil, err
	}
	// What came together with the answer may contradict it. What comes later is
	// seen by the next request.
	for n := 0; l.whole(); n++ {
		f, err := l.frame()
		if err != nil {
			return nil, err
		}
		if n == maxDuplicates {
			return nil, errRepeats
		}
		if err := t.repeat(l, f); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// listenOn waits a little longer for an answer that is late, since what is late
// has another remedy than what is silent. The session ends all the same; after
// the first time a device that stays silent is seldom waited for.
func (t *transport) listenOn(ctx context.Context, l *link, request []byte, begun time.Time, err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
		return err
	}
	if t.silent++; t.silent%listenEvery != 1 {
		return err
	}
	// The order of these two matters as in Send.
	if l.conn.SetDeadline(time.Now().Add(min(2*t.timeout, longestListenOn))) != nil || ctx.Err() != nil {
		return err
	}
	answer, late := t.receive(l, request)
	took := time.Since(begun).Round(time.Millisecond)
	switch part := l.to - l.from; {
	case late == nil && exceptionOf(answer[headerSize:]).ofWay():
		t.silent = 0
		// A longer timeout would change the words, and not that nobody is there.
		return fmt.Errorf("no answer within %v, but exception %d of the gateway box came after %v: the device behind it is silent", t.timeout, answer[headerSize+1], took)
	case late == nil:
		t.silent = 0
		return fmt.Errorf("no answer within %v, but one came after %v: raise timeout above that", t.timeout, took)
	case errors.Is(late, os.ErrDeadlineExceeded) && part > 0 && ctx.Err() == nil:
		return fmt.Errorf("no answer within %v, only %d bytes of one after %v: it is cut off, or the way to it is slow; then raise timeout", t.timeout, part, took)
	default:
		return err
	}
}

// receive returns the answer to request, over repeated answers to earlier ones.
func (t *transport) receive(l *link, request []byte) ([]byte, error) {
	for range maxDuplicates + 1 {
		f, err := l.frame()
		if err != nil {
			return nil, err
		}
		if bytes.Equal(f[:2], request[:2]) {
			return l.keep(f), nil
		}
		if err := t.repeat(l, f); err != nil {
			return nil, err
		}
	}
	return nil, errRepeats
}

// repeat takes a frame that answers no open request: a repeated answer is
// counted and dropped.
func (t *transport) repeat(l *link, f []byte) error {
	first, err := l.repeats(f)
	if err != nil {
		return err
	}
	t.duplicates.Add(1)
	t.mu.Lock()
	t.repeats.again(time.Now(), repeatsFor)
	t.mu.Unlock()
	if first {
		t.log.Warn("the device repeats its answers; what is the same is dropped")
	}
	return nil
}

// repeatsSince returns since when the device repeats its answers, zero if it has
// not for a while. It may be called from any goroutine.
func (t *transport) repeatsSince() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.repeats.since(time.Now())
}

// repeats checks a frame that answers no open request. Where a request without
// an answer ends the session, it can only be an answer given before: one with
// other bytes shows that at least one of the two was wrong. first is set for the
// first one of the link.
func (l *link) repeats(f []byte) (first bool, err error) {
	for i, size := range l.sizes {
		old := l.kept[i][:size]
		if size == 0 || !bytes.Equal(old[:2], f[:2]) {
			continue
		}
		if !bytes.Equal(old, f) {
			return false, protocolError("a second, different answer to request %d", binary.BigEndian.Uint16(f))
		}
		first, l.repeated = !l.repeated, true
		return first, nil
	}
	return false, protocolError("an answer to request %d, which is none of the last %d", binary.BigEndian.Uint16(f), answersKept)
}

// answerTo returns the answer to that request that is kept, nil for none.
func (l *link) answerTo(id uint16) []byte {
	for i, size := range l.sizes {
		if size > 0 && binary.BigEndian.Uint16(l.kept[i][:]) == id {
			return l.kept[i][:size]
		}
	}
	return nil
}

// keep remembers an answer and returns what it remembers, valid for the next
// answersKept-1 answers.
func (l *link) keep(f []byte) []byte {
	i := l.next
	l.next = (l.next + 1) % answersKept
	l.sizes[i] = copy(l.kept[i][:], f)
	return l.kept[i][:l.sizes[i]]
}

// whole reports whether a frame, or a header that begins none, was read ahead.
func (l *link) whole() bool {
	ahead := l.in[l.from:l.to]
	if len(ahead) < headerSize {
		return false
	}
	length := int(binary.BigEndian.Uint16(ahead[4:]))
	return length > maxLength || len(ahead) >= headerSize-1+length
}

// frame returns the next frame; it is valid until the next call.
func (l *link) frame() ([]byte, error) {
	if err := l.fill(headerSize); err != nil {
		return nil, err
	}
	header := l.in[l.from:]
	if id := binary.BigEndian.Uint16(header[2:]); id != 0 {
		return nil, protocolError("protocol id %d instead of 0: this is no Modbus TCP", id)
	}
	length := int(binary.BigEndian.Uint16(header[4:]))
	if length < minLength || length > maxLength {
		return nil, protocolError("a frame of length %d, possible are %d to %d", length, minLength, maxLength)
	}
	size := headerSize - 1 + length
	if err := l.fill(size); err != nil {
		return nil, err
	}
	frame := l.in[l.from : l.from+size]
	l.from += size
	return frame, nil
}

// fill reads until n unread bytes are there.
func (l *link) fill(n int) error {
	if l.from == l.to {
		l.from, l.to = 0, 0
	}
	if l.from+n > len(l.in) {
		l.to = copy(l.in[:], l.in[l.from:l.to])
		l.from = 0
	}
	for l.to-l.from < n {
		got, err := l.conn.Read(l.in[l.to:])
		l.to += got
		if err != nil && l.to-l.from < n {
			return err
		}
	}
	return nil
}

// check compares an answer with its request: goburrow does not notice an answer
// of the wrong length, and takes one of the wrong function for an exception.
func check(request, answer []byte) error {
	if answer[6] != request[6] {
		return protocolError("an answer of unit %d instead of %d", answer[6], request[6])
	}
	function, data := request[7], answer[8:]
	switch answer[7] {
	case function:
	case function | 0x80:
		if len(data) != 1 || data[0] == 0 {
			return protocolError("an exception without its code")
		}
		return nil
	default:
		return protocolError("an answer to function %d instead of %d", answer[7], function)
	}
	if function > pdu.FuncCodeReadInputRegisters {
		// A write echoes the address, and the value or the count.
		if echo := request[8:12]; !bytes.Equal(data, echo) {
			return protocolError("it confirms % x where % x was written", data, echo)
		}
		return nil
	}
	count := int(binary.BigEndian.Uint16(request[10:]))
	want := 2 * count
	if function == pdu.FuncCodeReadCoils || function == pdu.FuncCodeReadDiscreteInputs {
		want = (count + 7) / 8
	}
	switch {
	case len(data) == 0:
		return protocolError("an answer without data")
	case len(data)-1 != int(data[0]):
		return protocolError("the answer says %d bytes of data, and %d are in it", data[0], len(data)-1)
	case int(data[0]) != want:
		return protocolError("an answer with %d bytes of data instead of %d", data[0], want)
	}
	return nil
}

func protocolError(format string, args ...any) error {
	return fmt.Errorf("the device does not keep to the protocol: "+format, args...)
}

// explain puts an error of the socket into the words of the trade. Whose fault
// an expired deadline is only the context knows.
func (t *transport) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return drivers.Away(fmt.Errorf("no answer in the time for one poll: %w", ctx.Err()))
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return drivers.Away(fmt.Errorf("no answer within %v", t.timeout))
	case errors.Is(err, io.EOF):
		return errors.New("the device closed the connection")
	default:
		return bare(err)
	}
}

// bare strips the socket's addresses, which the caller names better.
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
