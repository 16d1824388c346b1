package status

import (
	"net"
	"sync"
)

// limited is a listener with at most so many open connections; more wait in the
// kernel's queue until one is closed.
type limited struct {
	net.Listener
	slots chan struct{} // one token for each open connection
	done  chan struct{}
	once  sync.Once
}

// limit bounds the connections of l.
func limit(l net.Listener, n int) *limited {
	return &limited{Listener: l, slots: make(chan struct{}, n), done: make(chan struct{})}
}

// Accept waits for a free slot, then for a connection.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close ends an Accept that waits for a slot, too.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

// Close gives the slot back, once.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
