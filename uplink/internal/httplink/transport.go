package httplink

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// connectTimeout bounds connecting and the TLS handshake, each, where the
	// timeout of the whole request is longer.
	connectTimeout = 5 * time.Second
	// idleTimeout ends a connection that nobody needs; most servers keep theirs
	// for longer.
	idleTimeout = 30 * time.Second
	// continueTimeout is how long a receiver that was asked first has to say that
	// it wants the body; one that knows nothing of that gets it then.
	continueTimeout = time.Second
	// maxHeaders bounds the headers of an answer.
	maxHeaders = 64 << 10
)

// newTransport returns a transport of its own for one receiver. It speaks
// HTTP/1.1, so that a machine's request never waits behind another machine's,
// and keeps one connection for each machine that is sent at once. It neither
// follows redirects nor unpacks bodies, and knows no proxy but its own.
func newTransport(security *tls.Config, proxy *url.URL, connections int, timeout time.Duration, dial *dialer) *http.Transport {
	connect := min(timeout, connectTimeout)
	security.NextProtos = []string{"http/1.1"} // so that a receiver of HTTP/2 alone says so
	dial.Timeout = connect
	t := &http.Transport{
		DialContext:            dial.dial,
		TLSClientConfig:        security,
		TLSHandshakeTimeout:    connect,
		ResponseHeaderTimeout:  timeout,
		ExpectContinueTimeout:  min(timeout, continueTimeout),
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           connections,
		MaxIdleConnsPerHost:    connections,
		MaxConnsPerHost:        connections,
		MaxResponseHeaderBytes: maxHeaders,
		DisableCompression:     true,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
		if proxy.Scheme == "https" {
			t.DialTLSContext = dial.secured(security, proxy.Hostname())
		}
		t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
			if answer.StatusCode != http.StatusOK {
				return &proxyRefusal{answer.StatusCode, proxy.User != nil}
			}
			return nil
		}
	}
	return t
}

// dialer makes connections that its close ends: http.Transport goes on dialling
// and shaking hands for a request that has been given up.
type dialer struct {
	net.Dialer
	life context.Context
	end  context.CancelFunc

	mu    sync.Mutex
	conns map[*conn]struct{} // nil after close
}

func newDialer() *dialer {
	life, end := context.WithCancel(context.Background())
	return &dialer{life: life, end: end, conns: make(map[*conn]struct{})}
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	raw, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, dialer: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		_ = raw.Close() // nothing was said on it
		return nil, net.ErrClosed
	}
	d.conns[c] = struct{}{}
	return c, nil
}

// secured dials a proxy that is called by TLS, and shakes hands with it by its
// own name. Where there is a proxy the transport dials nobody else so.
func (d *dialer) secured(security *tls.Config, host string) func(context.Context, string, string) (net.Conn, error) {
	own := security.Clone()
	own.ServerName = host
	own.VerifyConnection = nil // what watches the receiver's certificate does not mean the proxy's
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		plain, err := d.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		bounded, cancel := context.WithTimeout(ctx, d.Timeout)
		defer cancel()
		c := tls.Client(plain, own)
		if err := c.HandshakeContext(bounded); err != nil {
			_ = plain.Close() // nothing was said on it
			return nil, &proxyHandshake{err}
		}
		return c, nil
	}
}

// close ends every connection, and every later one.
func (d *dialer) close() {
	d.end()
	d.mu.Lock()
	conns := d.conns
	d.conns = nil
	d.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close() // what was under way has no result
	}
}

// conn tells its dialer when it is closed.
type conn struct {
	net.Conn
	dialer *dialer
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}
