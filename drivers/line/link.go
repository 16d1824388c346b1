package line

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
)

const (
	// mostCallers bounds the devices that are connected at once.
	mostCallers = 16
	// opening is how soon after a serial port was opened bytes are the rest of a
	// line whose beginning nobody heard.
	opening = 100 * time.Millisecond
)

// entry is a line that waits, or why what came is none.
type entry struct {
	found
	// number is its place among the lines of the device, 0 where it is polled.
	number uint32
	// The line was made between asked and at.
	asked, at time.Time
	from      wire
	// full is set for a line that had no place in the queue.
	full bool
}

// link is what is open in one session: one connection, or a listener and those
// that called. Goroutines read into a bounded queue.
type link struct {
	o      *Options
	counts *counts
	log    *zap.Logger
	// lines is closed when no more can come; err then says why.
	lines chan entry
	err   error

	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
	// heard is when the newest line came, in Unix nanoseconds.
	heard atomic.Int64
	// changed has a token when devices have called or left.
	changed chan struct{}

	mu       sync.Mutex
	wires    map[wire]struct{}
	listener net.Listener
	left     time.Time // when the last caller left

	order sync.Mutex // numbers are given in the order of the queue
	lost  *entry     // the newest line of a serial port, if it had no place
}

// counts are of a driver, over all its sessions.
type counts struct {
	sequence, refused, dropped atomic.Uint32
	// turned are callers that had no place, lost the lines of dropped.
	turned, lost tally
}

// drop counts lines that are lost.
func (c *counts) drop(n int) {
	c.dropped.Add(uint32(n))
	c.lost.add(uint64(n), time.Now())
}

func newLink(o *Options, c *counts, log *zap.Logger) *link {
	l := &link{
		o: o, counts: c, log: log, lines: make(chan entry, o.Queue), stop: make(chan struct{}),
		changed: make(chan struct{}, 1), wires: make(map[wire]struct{}),
	}
	l.heard.Store(time.Now().UnixNano())
	return l
}

// open connects, or begins to listen. It blocks until that is done or ctx ends.
func (l *link) open(ctx context.Context) error {
	switch o := l.o; {
	case o.Listen != "":
		var listening net.ListenConfig
		listening.KeepAliveConfig = keepAlive()
		found, err := o.Bind.Listen(ctx, listening, "tcp", string(o.Listen))
		var refused *net.OpError
		switch {
		case errors.As(err, &refused):
			return fmt.Errorf("%w: is the address one of this computer, and does no other device of this config, and no other program, listen there?", err)
		case err != nil:
			return err
		}
		l.listener = found
		l.done.Go(l.accept)
	default:
		var w wire
		var err error
		if o.Port != "" {
			w, err = openTTY(o)
		} else {
			w, err = dial(ctx, o)
		}
		if err != nil {
			return drivers.Away(err)
		}
		l.wires[w] = struct{}{}
		l.done.Go(func() {
			l.err = l.pump(w)
			close(l.lines)
		})
	}
	return nil
}

// accept takes devices that call until the listener is closed.
func (l *link) accept() {
	var callers sync.WaitGroup
	var said time.Time // a device that is turned away calls again at once
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			l.err = err
			break
		}
		w := socket{conn}
		if !l.join(w) {
			if !l.stopped() {
				l.counts.turned.add(1, time.Now())
			}
			if !l.stopped() && time.Since(said) > time.Minute {
				said = time.Now()
				l.log.Warn("a device was turned away, and what it sent is lost: too many are connected; give each its own port, or fewer this one",
					zap.Stringer("caller", conn.RemoteAddr()), zap.Int("connected", mostCallers))
			}
			_ = conn.Close() // it is told nothing: it would not listen
			continue
		}
		callers.Go(func() {
			_ = l.pump(w) // a caller that leaves is no fault of the session
			l.leave(w)
		})
	}
	l.closeWires()
	callers.Wait()
	close(l.lines)
}

func (l *link) join(w wire) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped() || len(l.wires) >= mostCallers {
		return false
	}
	l.wires[w] = struct{}{}
	l.tell()
	return true
}

func (l *link) leave(w wire) {
	_ = w.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.wires, w)
	l.left = time.Now()
	l.tell()
}

func (l *link) tell() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *link) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// callers returns how many devices are connected, and when the last one left.
func (l *link) callers() (n int, left time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.wires), l.left
}

// pump reads lines until the connection ends.
func (l *link) pump(w wire) error {
	f, buffer := newFramer(l.o), make([]byte, 4096)
	begun := time.Now()
	last, asked := begun, begun
	// The rest of a line that began before the port was opened is none.
	var rest bool
	emit := func(x found) {
		if rest {
			rest = false
			l.counts.refused.Add(1)
			return
		}
		l.put(entry{found: x, asked: asked, at: last, from: w})
	}
	for {
		wait := time.Duration(0)
		if f.pending() {
			wait = l.o.HalfAfter.Std()
		}
		n, err := w.read(buffer, wait)
		now := time.Now()
		if n > 0 {
			if l.o.Port != "" && l.o.Poll == "" && l.o.Start.text == "" && last.Equal(begun) {
				rest = now.Sub(begun) < opening
			}
			// A line that was on its way was made after the one before, and not
			// longer ago than a dead connection stays unnoticed.
			if asked = now; l.o.Port == "" {
				asked = last
				if sure := now.Add(-unheard); asked.Before(sure) {
					asked = sure
				}
			}
			last = now
			f.feed(buffer[:n], emit)
			if stray := f.strays(); stray > 0 {
				l.counts.refused.Add(1)
			}
		}
		switch {
		case errors.Is(err, errQuiet):
			if f.pending() && now.Sub(last) >= l.o.HalfAfter.Std() {
				f.rest(fmt.Sprintf("no end of the line came within %s: let the device send %s behind each line, or say in end: what it sends", l.o.HalfAfter, endName(l.o)), emit)
			}
		case err != nil:
			// Half of a value that comes again soon is no news; half of what a
			// scanner sent is.
			f.rest("the connection ended within it", func(x found) {
				if l.o.streams() {
					l.counts.refused.Add(1)
					return
				}
				emit(x)
			})
			return err
		}
	}
}

func endName(o *Options) string {
	if o.End.name == "any" {
		return "CR or LF"
	}
	return o.End.String()
}

// put queues a line. A device behind a socket is made to wait while the queue is
// full; a serial port would lose what comes meanwhile without a word, so there
// the line is counted and its number left out.
func (l *link) put(e entry) {
	l.order.Lock()
	defer l.order.Unlock()
	l.heard.Store(e.at.UnixNano())
	if l.o.Poll == "" {
		e.number = l.counts.sequence.Add(1)
	}
	if l.o.Port != "" {
		select {
		case l.lines <- e:
			l.lost = nil
		default:
			e.full = true
			l.lost = &e
			l.counts.drop(1)
		}
		return
	}
	select {
	case l.lines <- e:
	case <-l.stop:
		l.counts.drop(1)
	}
}

// full returns the newest line if it had no place and all before it were taken:
// no other line may come whose number tells of those that are missing.
func (l *link) full() *entry {
	if l.o.Port == "" || len(l.lines) > 0 {
		return nil // behind a socket nothing is lost, and order may be held for long
	}
	l.order.Lock()
	defer l.order.Unlock()
	if len(l.lines) > 0 {
		return nil
	}
	e := l.lost
	l.lost = nil
	return e
}

// closeWires ends all connections.
func (l *link) closeWires() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.wires {
		_ = w.close() // nothing waits for its answer
	}
}

// close ends all that is open, waits for it, and returns how many lines nobody
// took.
func (l *link) close() (left int) {
	l.once.Do(func() { close(l.stop) })
	if l.listener != nil {
		_ = l.listener.Close() // accept tells
	}
	l.closeWires()
	l.done.Wait()
	for range l.lines {
		left++
	}
	return left
}
