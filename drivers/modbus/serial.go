package modbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/goburrow/serial"
)

// serialSlice is how long one look at a port takes at least: the library knows
// one time-out for a port, and a deadline is kept to by looking again and again.
const serialSlice = 2 * time.Millisecond

// serialWire is a serial port with deadlines and without endless loops: the
// library's port answers a hang-up by reads of nothing, for ever.
type serialWire struct {
	mu       sync.Mutex // the library's port is not to be closed while it reads
	port     serial.Port
	deadline atomic.Int64 // Unix nanoseconds; 0 for none
	closed   atomic.Bool
}

var _ wire = (*serialWire)(nil)

// openSerial opens a port. It does not wait for a line that is connected.
func openSerial(_ context.Context, c serial.Config) (wire, error) {
	name := c.Address
	if runtime.GOOS == "windows" && !strings.HasPrefix(c.Address, `\\`) {
		c.Address = `\\.\` + c.Address // COM10 and above have no shorter name
	}
	port, err := serial.Open(&c)
	if err != nil {
		return nil, serialError(name, err)
	}
	return &serialWire{port: port}, nil
}

// serialError says what is wrong with a port and what helps.
func serialError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the port %s is not there: plug in the adaptor, or name the port as the system does (ls -l /dev/serial/by-id): %w", name, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the port %s may not be opened: add the user sluice to the group dialout: %w", name, err)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("the port %s is in use: end the other program: %w", name, err)
	default:
		return fmt.Errorf("the port %s cannot be opened: %w", name, err)
	}
}

// SetDeadline implements wire.
func (w *serialWire) SetDeadline(t time.Time) error {
	at := int64(0)
	if !t.IsZero() {
		at = t.UnixNano()
	}
	w.deadline.Store(at)
	return nil
}

func (w *serialWire) over() bool {
	at := w.deadline.Load()
	return at != 0 && time.Now().UnixNano() >= at
}

// Read implements io.Reader. It looks at the port at least once.
func (w *serialWire) Read(b []byte) (int, error) {
	for {
		n, err := w.once(func() (int, error) { return w.port.Read(b) })
		switch {
		case n > 0:
			return n, nil
		case errors.Is(err, serial.ErrTimeout) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("the port is gone: %w", err)
		default:
			return 0, io.EOF // a hang-up: the adaptor was pulled out
		}
		if w.over() {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// Write implements io.Writer: the library's port takes what fits and says EAGAIN
// for the rest.
func (w *serialWire) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := w.once(func() (int, error) { return w.port.Write(b[done:]) })
		done += max(n, 0)
		switch {
		case n > 0:
		case err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR):
			return done, fmt.Errorf("the port is gone: %w", err)
		case w.over():
			return done, os.ErrDeadlineExceeded
		default:
			<-time.After(serialSlice) // the library cannot wait for room to write
		}
	}
	return done, nil
}

func (w *serialWire) once(do func() (int, error)) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed.Load() {
		return 0, os.ErrClosed
	}
	return do()
}

// Close implements io.Closer.
func (w *serialWire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed.Swap(true) {
		return nil
	}
	return w.port.Close()
}
