// Package admin is how the command line talks to the store: a small HTTP/JSON
// protocol with its version in the path, over a socket of mode 0600 beside the
// store to the running gateway, or over a pipe in memory where the command
// itself has opened the store. Whatever changes something is in the audit log
// before it is done.
package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Protocol is the version of the protocol; it stands in every path. Within a
// version fields and paths are only ever added.
const Protocol = 1

// SocketName is the socket's name beside the store.
const SocketName = "admin.sock"

// ErrNotRunning says that nobody answers on the socket.
var ErrNotRunning = errors.New("no gateway is running on this store")

// Limits of the server: a handful of people, on this computer.
const (
	maxConnections = 16
	maxRequest     = 64 << 10
	headerTimeout  = 3 * time.Second
	idleTimeout    = 30 * time.Second
	// stallTimeout is how long a client may not read before it is dropped, so
	// that a stopped terminal does not keep a snapshot of the store open for ever.
	stallTimeout = 30 * time.Second
)

// Listener accepts connections and knows who is at the other end.
type Listener interface {
	net.Listener
	// Peer names the user at the other end of a connection that Accept returned.
	Peer(c net.Conn) string
}

type peerKey struct{}

// peer returns who sent a request.
func peer(r *http.Request) string {
	if by, ok := r.Context().Value(peerKey{}).(string); ok {
		return by
	}
	return "unknown"
}

// Serve answers on l until ctx ends, then lets requests in flight finish for a
// moment. It closes l and returns when all of its goroutines have ended.
func Serve(ctx context.Context, l Listener, h http.Handler) error {
	s := &http.Server{
		Handler:           http.MaxBytesHandler(h, maxRequest),
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxRequest,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, l.Peer(c))
		},
	}
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(&bounded{Listener: l, room: make(chan struct{}, maxConnections), ended: make(chan struct{})})
	}()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 300*time.Millisecond)
	defer cancel()
	err := s.Shutdown(bye)
	if err != nil {
		err = s.Close() // a long export does not keep the gateway from stopping
	}
	<-served
	return err
}

// bounded takes a bounded number of connections at once; further ones wait.
type bounded struct {
	net.Listener
	room  chan struct{}
	ended chan struct{}
	once  sync.Once
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.room <- struct{}{}:
	case <-b.ended:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &counted{Conn: c, done: func() { <-b.room }}, nil
}

func (b *bounded) Close() error {
	b.once.Do(func() { close(b.ended) })
	return b.Listener.Close()
}

type counted struct {
	net.Conn
	once sync.Once
	done func()
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.done)
	return err
}

// pipe is a Listener in memory.
type pipe struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
	by    string
}

var _ Listener = (*pipe)(nil)

func newPipe(by string) *pipe {
	return &pipe{conns: make(chan net.Conn), ended: make(chan struct{}), by: by}
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.ended) })
	return nil
}

func (p *pipe) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipe) Peer(net.Conn) string { return p.by }

func (p *pipe) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.ended:
	case <-ctx.Done():
	}
	return nil, errors.Join(net.ErrClosed, here.Close(), there.Close())
}
