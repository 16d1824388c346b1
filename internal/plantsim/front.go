package plantsim

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/faultnet"
)

// front is a port that stays the same while the server behind it comes and
// goes. Closing it resets every connection, as a device does that loses power;
// the server library would say goodbye first, and wait for the clients.
type front struct {
	addr string
	kept *faultnet.Port // nil where the address was given

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	running  sync.WaitGroup
}

// open reports whether the port is taken.
func (f *front) open() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listener != nil
}

// listen takes the port, the first time a free one if addr asks for port 0.
// Somebody may have taken it meanwhile, so it waits up to 5 s.
func (f *front) listen(target string) error {
	var err error
	if host, port, _ := net.SplitHostPort(f.addr); port == "0" {
		if f.kept, err = faultnet.KeepPort(host); err != nil {
			return fmt.Errorf("listen on %s: %w", f.addr, err)
		}
		f.mu.Lock()
		f.addr = f.kept.Addr()
		f.mu.Unlock()
	}
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", f.addr); err == nil {
			f.mu.Lock()
			f.addr, f.listener, f.conns = l.Addr().String(), l, map[net.Conn]struct{}{}
			f.mu.Unlock()
			f.running.Go(func() { f.accept(l, target) })
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("listen on %s: %w", f.addr, err)
}

func (f *front) accept(l net.Listener, target string) {
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of file descriptors, for example
			continue
		}
		server, err := net.Dial("tcp", target)
		if err != nil || !f.add(client, server) {
			client.Close()
			if server != nil {
				server.Close()
			}
			continue
		}
		f.running.Go(func() { f.pipe(client, server) })
		f.running.Go(func() { f.pipe(server, client) })
	}
}

func (f *front) add(conns ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listener == nil {
		return false
	}
	for _, c := range conns {
		f.conns[c] = struct{}{}
	}
	return true
}

func (f *front) pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from) // its end is the end of the connection, whatever the cause
	to.Close()
	from.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, to)
	delete(f.conns, from)
}

// close gives up the port, resets all connections and waits for every
// goroutine.
func (f *front) close() error {
	f.mu.Lock()
	if f.listener == nil {
		f.mu.Unlock()
		return nil
	}
	err := f.listener.Close()
	f.listener = nil
	for c := range f.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a connection that is gone already needs no reset
		}
		c.Close()
	}
	f.mu.Unlock()
	f.running.Wait()
	return err
}
