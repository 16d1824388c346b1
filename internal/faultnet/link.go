package faultnet

import (
	"net"
	"sync"
	"time"
)

// link is one connection of a client with its counterpart at the target.
type link struct {
	proxy *Proxy
	done  chan struct{} // closed when the link is over

	mu     sync.Mutex
	client *net.TCPConn
	server *net.TCPConn // nil until dialled
	over   bool
}

// carry takes over a client's connection.
func (p *Proxy) carry(client *net.TCPConn) {
	l := &link{proxy: p, client: client, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.mode.kind == refuse {
		l.reset()
		return
	}
	p.accepted++
	p.links[l] = struct{}{}
	p.running.Go(func() {
		defer func() {
			p.mu.Lock()
			delete(p.links, l)
			p.mu.Unlock()
		}()
		l.run()
	})
}

func (l *link) run() {
	defer l.close(false)
	if !l.thaw() {
		return
	}
	conn, err := net.DialTimeout("tcp", l.proxy.target, 5*time.Second)
	if err != nil {
		l.reset()
		return
	}
	server := conn.(*net.TCPConn)
	l.mu.Lock()
	l.server = server
	over := l.over
	l.mu.Unlock()
	if over {
		_ = server.Close()
		return
	}
	var requests sync.WaitGroup
	requests.Go(func() {
		defer l.close(false)
		l.copy(server, l.client, false)
	})
	l.copy(l.client, server, true)
	l.close(false)
	requests.Wait()
}

// reset ends the link so that both peers see "connection reset".
func (l *link) reset() { l.close(true) }

func (l *link) close(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.done)
	for _, c := range []*net.TCPConn{l.client, l.server} {
		if c == nil {
			continue
		}
		if reset {
			_ = c.SetLinger(0) // without it the peer sees an orderly end, which is a fault too
		}
		_ = c.Close()
	}
}

// thaw waits while the proxy stalls; false means that the link is over.
func (l *link) thaw() bool {
	for {
		m, changed := l.proxy.now()
		if m.kind != stall {
			return true
		}
		if !l.sleep(changed, -1) {
			return false
		}
	}
}

// sleep waits for d (for ever if it is negative) or until the mode changes;
// false means that the link is over.
func (l *link) sleep(changed <-chan struct{}, d time.Duration) bool {
	var expired <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-l.done:
		return false
	case <-changed:
		return true
	case <-expired:
		return true
	}
}

// copy carries one direction until either end is closed.
func (l *link) copy(to, from *net.TCPConn, answers bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && (!l.thaw() || !l.hand(to, buf[:n], answers)) {
			return
		}
		if err != nil {
			return
		}
	}
}

// hand writes one chunk as the mode of this moment wants it.
func (l *link) hand(to *net.TCPConn, chunk []byte, answers bool) bool {
	m, changed := l.proxy.now()
	if m.kind == cutAfter && m.answers == answers {
		return l.cutWithin(to, chunk, m.budget)
	}
	if !answers {
		return write(to, chunk)
	}
	switch m.kind {
	case delay:
		// A delayed answer stays delayed if the mode changes meanwhile.
		if !l.sleep(nil, m.wait) || !l.thaw() {
			return false
		}
	case slow:
		// A byte that a busy computer is late with does not make the next ones late.
		for due := time.Now(); len(chunk) > 1; {
			due = due.Add(m.wait)
			if !write(to, chunk[:1]) || !l.sleep(changed, max(0, time.Until(due))) || !l.thaw() {
				return false
			}
			chunk = chunk[1:]
			if now, _ := l.proxy.now(); now != m {
				break
			}
		}
	case corrupt:
		chunk[m.at%len(chunk)] ^= 0xFF
	case duplicate:
		if !write(to, chunk) {
			return false
		}
	}
	return write(to, chunk)
}

func (l *link) cutWithin(to *net.TCPConn, chunk []byte, b *budget) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.left < 0: // the cut has happened
		return write(to, chunk)
	case len(chunk) <= b.left:
		b.left -= len(chunk)
		return write(to, chunk)
	default:
		part := chunk[:b.left]
		b.left = -1
		// An orderly end, not a reset: a reset would drop what the peer has not
		// read yet, and the cut would not be where it was asked for.
		if len(part) > 0 {
			write(to, part)
		}
		return false
	}
}

func write(to *net.TCPConn, b []byte) bool {
	_, err := to.Write(b)
	return err == nil
}
