package opcua

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// socket is the way to a session's connections past whoever uses them: a server
// that is silent must not hold up an end.
type socket struct {
	mu      sync.Mutex
	conns   []net.Conn
	severed bool
}

// dialTimeout is how long nobody may answer the first packet of a connection. It
// is sent again after a second; beyond that a new attempt is sooner there when the
// server comes back than the third packet.
const dialTimeout = 1500 * time.Millisecond

var errSevered = errors.New("the session was given up")

// dial connects to the server, over the card of the config; sever ends the connection.
func (k *socket) dial(ctx context.Context, o *Options) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, min(o.Timeout.Std(), dialTimeout))
	defer cancel()
	conn, err := o.Bind.Dial(ctx, "tcp", o.Endpoint.address())
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.severed {
		return nil, errors.Join(errSevered, conn.Close())
	}
	k.conns = append(k.conns, conn)
	return conn, nil
}

// sever closes the connections: whoever reads or writes returns at once. It may
// be called from any goroutine and more than once.
func (k *socket) sever() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.severed = true
	for _, c := range k.conns {
		_ = c.Close() // it may be closed already
	}
	k.conns = nil
}
