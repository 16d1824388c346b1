package line

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/goburrow/serial"
)

const (
	// serialSlice is how long one look at a serial port lasts, and so how long
	// closing it may take.
	serialSlice = 50 * time.Millisecond
	// keepAlive bounds how long a peer whose computer or cable is gone stays
	// unnoticed while it has nothing to say.
	keepAliveIdle, keepAliveInterval, keepAliveCount = 15 * time.Second, 5 * time.Second, 3
	unheard                                          = keepAliveIdle + keepAliveCount*keepAliveInterval
)

// errQuiet says that nothing came in the time that was given.
var errQuiet = errors.New("nothing came")

// wire is one connection. read is called from one goroutine, write and close
// from any.
type wire interface {
	// read waits for bytes, at most for wait if that is not 0; errQuiet says that
	// none came. A wire may return errQuiet sooner.
	read(b []byte, wait time.Duration) (int, error)
	write(b []byte, timeout time.Duration) error
	// close makes read return soon, in whatever state.
	close() error
}

// socket is a TCP connection.
type socket struct{ net.Conn }

func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount}
}

func dial(ctx context.Context, o *Options) (wire, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout.Std())
	defer cancel()
	conn, err := o.Bind.Dial(ctx, "tcp", string(o.Endpoint))
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetKeepAliveConfig(keepAlive()); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return socket{conn}, nil
}

func (s socket) read(b []byte, wait time.Duration) (int, error) {
	var until time.Time
	if wait > 0 {
		until = time.Now().Add(wait)
	}
	if err := s.SetReadDeadline(until); err != nil {
		return 0, err
	}
	n, err := s.Read(b)
	var late net.Error
	switch {
	case err == nil:
	case errors.As(err, &late) && late.Timeout() && wait > 0:
		return n, errQuiet
	case errors.Is(err, io.EOF):
		return n, errors.New("the device has closed the connection")
	}
	return n, err
}

func (s socket) write(b []byte, timeout time.Duration) error {
	if err := s.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := s.Write(b)
	return err
}

func (s socket) close() error { return s.Close() }

// tty is a serial port. goburrow's Close frees the descriptor under a Read that
// is under way, so the reader closes it.
type tty struct {
	mu     sync.Mutex
	port   serial.Port // nil once closed
	ending bool
}

func openTTY(o *Options) (wire, error) {
	port, err := serial.Open(&serial.Config{
		Address: o.Port, BaudRate: o.Baud, DataBits: o.DataBits, StopBits: o.StopBits,
		Parity: parities[o.Parity], Timeout: serialSlice,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: is it plugged in, does the user of the gateway belong to the group that may use it (dialout), and does no other program have it open?", err)
	}
	return &tty{port: port}, nil
}

func (t *tty) read(b []byte, _ time.Duration) (n int, err error) {
	t.mu.Lock()
	port, ending := t.port, t.ending
	t.mu.Unlock()
	if port == nil || ending {
		return 0, t.free(net.ErrClosed)
	}
	defer func() {
		// The library indexes a fixed set by the descriptor's number.
		if r := recover(); r != nil {
			n, err = 0, t.free(fmt.Errorf("the serial port cannot be read: %v", r))
		}
	}()
	n, err = port.Read(b)
	switch {
	case errors.Is(err, serial.ErrTimeout):
		return 0, errQuiet
	case err != nil:
		return n, t.free(err)
	case n == 0:
		return 0, t.free(errors.New("the serial port hung up: was the adapter unplugged?"))
	}
	return n, nil
}

// free closes the port once and returns why.
func (t *tty) free(why error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.port != nil {
		_ = t.port.Close() // it is gone, or nobody wants it
		t.port = nil
	}
	return why
}

func (t *tty) write(b []byte, _ time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.port == nil || t.ending {
		return net.ErrClosed
	}
	n, err := t.port.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

func (t *tty) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ending = true
	return nil
}
