package modbus

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sluice-edge/sluice/drivers"
)

// wired is one end of a connection inside this process, for tests whose time is
// that of a synctest bubble: as at a socket, a write waits for no reader.
type wired struct {
	net.Conn
	queue chan []byte
	ended chan struct{}
	once  sync.Once
}

// connected returns the two ends of a connection. Each is to be closed.
func connected() (near, far *wired) {
	one, two := net.Pipe()
	return newWired(one), newWired(two)
}

func newWired(c net.Conn) *wired {
	w := &wired{Conn: c, queue: make(chan []byte, 1000), ended: make(chan struct{})}
	go w.carry()
	return w
}

func (w *wired) carry() {
	for {
		select {
		case b := <-w.queue:
			if _, err := w.Conn.Write(b); err != nil {
				return
			}
		case <-w.ended:
			return
		}
	}
}

func (w *wired) Write(b []byte) (int, error) {
	select {
	case w.queue <- bytes.Clone(b):
		return len(b), nil
	case <-w.ended:
		return 0, io.ErrClosedPipe
	}
}

func (w *wired) Close() error {
	w.once.Do(func() { close(w.ended) })
	return w.Conn.Close()
}

// inBubble runs a test whose time is its own.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// onWire opens a line whose wire ends at a bus without a socket.
func onWire(t testing.TB, b *bus, text string) drivers.Line {
	t.Helper()
	l := openLine(t, "endpoint: bus:1\n"+text)
	l.(*line).dial = func(context.Context) (wire, error) { return b.plug(), nil }
	return l
}

// plug connects to a bus without a socket.
func (b *bus) plug() net.Conn {
	near, far := connected()
	b.mu.Lock()
	b.connections++
	b.open = append(b.open, far)
	b.mu.Unlock()
	go b.serve(far)
	return near
}

// openWired opens a driver whose connections end at a peer without a socket.
func openWired(t *testing.T, text string, answer func(request []byte) [][]byte) drivers.Driver {
	t.Helper()
	d := openDriver(t, text, "peer:1")
	d.(*driver).own.dial = wiredPeer(answer)
	return d
}

// wiredPeer is peer without a socket.
func wiredPeer(answer func(request []byte) [][]byte) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		near, far := connected()
		go servePeer(far, answer)
		return near, nil
	}
}
