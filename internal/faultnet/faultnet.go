// Package faultnet is a TCP proxy on a loopback port that misbehaves on demand,
// for tests and for the end-to-end run: it refuses, freezes, cuts, delays,
// slows, corrupts and duplicates what passes through it.
package faultnet

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Proxy carries connections to one target. It starts in the mode of Pass. Its
// methods may be called from any goroutine and do not wait for connections.
// The two directions are named from the side of the system under test: requests
// go to the target, answers come from it.
type Proxy struct {
	port   *Port
	target string

	mu       sync.Mutex
	listener net.Listener // nil while refusing
	mode     mode
	changed  chan struct{} // closed and replaced at each change of mode
	links    map[*link]struct{}
	accepted uint64
	closed   bool

	running sync.WaitGroup
}

type kind uint8

const (
	pass kind = iota
	refuse
	stall
	delay
	slow
	corrupt
	duplicate
	cutAfter
)

type mode struct {
	kind    kind
	wait    time.Duration // delay: of an answer; slow: between two bytes
	at      int           // corrupt: which byte of a chunk
	budget  *budget       // cutAfter
	answers bool          // cutAfter: which direction counts
}

// budget is shared by all connections, so that one cut is one cut.
type budget struct {
	mu   sync.Mutex
	left int
}

// New starts a proxy to target, a host:port, on a free port.
func New(target string) (*Proxy, error) {
	port, err := KeepPort("127.0.0.1")
	if err != nil {
		return nil, fmt.Errorf("faultnet: find a port: %w", err)
	}
	l, err := net.Listen("tcp", port.Addr())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("faultnet: listen: %w", err), port.Close())
	}
	p := &Proxy{
		port: port, target: target,
		changed: make(chan struct{}), links: map[*link]struct{}{},
	}
	p.serve(l)
	return p, nil
}

// Addr returns the proxy's host:port; it never changes.
func (p *Proxy) Addr() string { return p.port.Addr() }

// Conns returns how many connections from clients are open.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Accepted returns how many connections were accepted since New.
func (p *Proxy) Accepted() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Pass carries everything as it comes, and what a Stall held back.
func (p *Proxy) Pass() { p.set(mode{kind: pass}) }

// Refuse closes the port and cuts what is open: nothing listens there.
func (p *Proxy) Refuse() { p.set(mode{kind: refuse}) }

// Stall accepts connections and carries nothing, on open ones neither: the
// peer's network cable is out, and nobody says so.
func (p *Proxy) Stall() { p.set(mode{kind: stall}) }

// Delay hands over each answer d later.
func (p *Proxy) Delay(d time.Duration) { p.set(mode{kind: delay, wait: d}) }

// Slow hands over answers in writes of one byte, bytesPerSecond at most over each
// answer.
func (p *Proxy) Slow(bytesPerSecond int) {
	p.set(mode{kind: slow, wait: time.Second / time.Duration(bytesPerSecond)})
}

// Corrupt inverts one byte of each answer, the one at index at (modulo the
// answer's length; an answer is what one read from the target gives).
func (p *Proxy) Corrupt(at int) { p.set(mode{kind: corrupt, at: at}) }

// Duplicate hands over each answer twice.
func (p *Proxy) Duplicate() { p.set(mode{kind: duplicate}) }

// CutAfter hands over n more bytes of answers, over all connections together,
// then cuts the connection that would carry the next, once; then it passes.
func (p *Proxy) CutAfter(n int) {
	p.set(mode{kind: cutAfter, budget: &budget{left: n}, answers: true})
}

// CutRequestsAfter does what CutAfter does, counting the bytes of requests.
func (p *Proxy) CutRequestsAfter(n int) {
	p.set(mode{kind: cutAfter, budget: &budget{left: n}})
}

// Cut resets all open connections (RST); the mode stays.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *Proxy) cutLocked() {
	for l := range p.links {
		l.reset()
	}
}

// Close closes the port and all connections and waits for every goroutine.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	err := errors.Join(p.unlistenLocked(), p.port.Close())
	p.cutLocked()
	p.wakeLocked()
	p.mu.Unlock()
	p.running.Wait()
	return err
}

func (p *Proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	was := p.mode.kind
	p.mode = m
	if m.kind == refuse {
		_ = p.unlistenLocked() // closing a listener that listens cannot fail in a way that matters here
		p.cutLocked()
	} else if was == refuse {
		p.running.Go(p.relisten)
	}
	p.wakeLocked()
}

func (p *Proxy) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) unlistenLocked() error {
	if p.listener == nil {
		return nil
	}
	err := p.listener.Close()
	p.listener = nil
	return err
}

// relisten takes the port again. While it was closed somebody else may have
// been given it; then clients find it refused until it is free.
func (p *Proxy) relisten() {
	for {
		p.mu.Lock()
		if p.closed || p.mode.kind == refuse || p.listener != nil {
			p.mu.Unlock()
			return
		}
		l, err := net.Listen("tcp", p.port.Addr())
		if err == nil {
			p.listenLocked(l)
			p.mu.Unlock()
			return
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *Proxy) serve(l net.Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listenLocked(l)
}

func (p *Proxy) listenLocked(l net.Listener) {
	p.listener = l
	p.running.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(10 * time.Millisecond) // out of file descriptors, for example
				continue
			}
			p.carry(conn.(*net.TCPConn))
		}
	})
}

// now returns the mode and a channel that is closed when it changes.
func (p *Proxy) now() (mode, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode, p.changed
}
