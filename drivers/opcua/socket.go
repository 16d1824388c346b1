package opcua

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/gopcua/opcua/uacp"
)

// socket is the way to a session's connection past the library. While the
// library renews its channel it holds locks that know no context, for as long
// as the server is silent; only the end of the connection ends that wait.
type socket struct {
	mu      sync.Mutex
	raw     []syscall.RawConn
	severed bool
}

// dialTimeout is how long nobody may answer the first packet of a connection. It
// is sent again after a second; beyond that a new attempt is sooner there when the
// server comes back than the third packet.
const dialTimeout = 1500 * time.Millisecond

var errSevered = errors.New("the session was given up")

// dialer returns a dialer whose connections sever ends.
func (k *socket) dialer(o *Options) *uacp.Dialer {
	return &uacp.Dialer{
		Dialer: &net.Dialer{Timeout: min(o.Timeout.Std(), dialTimeout), Control: func(_, _ string, c syscall.RawConn) error {
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.severed {
				return errSevered
			}
			k.raw = append(k.raw, c)
			return nil
		}},
		// Our own: the package's default is one variable for all clients.
		ClientACK: &uacp.Acknowledge{ReceiveBufSize: uacp.DefaultReceiveBufSize, SendBufSize: uacp.DefaultSendBufSize},
	}
}

// sever shuts the connections down in both directions: whoever reads or writes
// returns at once. The library still closes them. It may be called from any
// goroutine and more than once.
func (k *socket) sever() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.severed = true
	for _, c := range k.raw {
		// Both fail on a connection that is closed or was never made.
		_ = c.Control(func(fd uintptr) { _ = shutdown(fd) })
	}
	k.raw = nil
}
