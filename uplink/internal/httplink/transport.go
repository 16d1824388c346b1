package httplink

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/internal/card"
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

const (
	// lookEvery is how often a Client looks whether its certificate files have changed.
	lookEvery = time.Second
	// freshEvery is how old a kept connection may become, about: certificates are shown
	// when one is made, and those that were renewed are not seen before.
	freshEvery = time.Hour
)

// way is how a Client calls now.
type way struct {
	mu        sync.Mutex
	transport *http.Transport
	// security is by what transport was made, at made; the files were last looked at
	// at looked.
	security     *tls.Config
	made, looked time.Time
}

// transport returns what requests are made by: another one once the certificate
// files have changed, and each hour, so that no connection lives for ever. What is
// under way on the one before goes on there. It blocks on small reads.
func (c *Client) transport() *http.Transport {
	w := &c.way
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.transport != nil && now.Sub(w.looked) < lookEvery {
		return w.transport
	}
	w.looked = now
	security, _ := c.link.files.Config() // what is wrong with the files is told by Expiries.Notices
	if w.transport != nil && security == w.security && now.Sub(w.made) < freshEvery {
		return w.transport
	}
	before := w.transport
	c.asked.Store(false)
	w.transport, w.security, w.made = c.link.transport(security, c.connections, c.dialer, c.asked), security, now
	if before != nil {
		before.CloseIdleConnections()
	}
	return w.transport
}

// transport returns one that uses these certificates. asked is set once somebody
// has asked for one of the gateway and there is none.
func (l *Link) transport(security *tls.Config, connections int, dial *dialer, asked *atomic.Bool) *http.Transport {
	receiver := security.Clone()
	if len(receiver.Certificates) == 0 {
		receiver.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked.Store(true)
			return new(tls.Certificate), nil // none
		}
	}
	var proxy *tls.Config
	if l.proxy != nil && l.proxy.Scheme == "https" {
		proxy = receiver.Clone()
		proxy.ServerName = l.proxy.Hostname()
		l.expiries.Watch(proxy, "the certificate of the proxy "+l.proxy.Host)
	}
	l.expiries.Watch(receiver, "the certificate of "+l.target.Host)
	return newTransport(receiver, l.proxy, proxy, connections, l.timeout, dial)
}

// newTransport returns a transport of its own for one receiver. It speaks
// HTTP/1.1, so that a machine's request never waits behind another machine's,
// and keeps one connection for each machine that is sent at once. It neither
// follows redirects nor unpacks bodies, and knows no proxy but its own, which toProxy is for if it is called by
// TLS.
func newTransport(security *tls.Config, proxy *url.URL, toProxy *tls.Config, connections int, timeout time.Duration, dial *dialer) *http.Transport {
	connect := min(timeout, connectTimeout)
	security.NextProtos = []string{"http/1.1"} // so that a receiver of HTTP/2 alone says so
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
		if toProxy != nil {
			t.DialTLSContext = dial.secured(toProxy)
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
	bind card.Bind
	life context.Context
	end  context.CancelFunc

	mu    sync.Mutex
	conns map[*conn]struct{} // nil after close
}

func newDialer(bind card.Bind) *dialer {
	life, end := context.WithCancel(context.Background())
	return &dialer{bind: bind, life: life, end: end, conns: make(map[*conn]struct{})}
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	raw, err := d.bind.DialBy(ctx, d.Dialer, network, address)
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

// secured dials a proxy that is called by TLS, and shakes hands with it. Where there
// is a proxy the transport dials nobody else so.
func (d *dialer) secured(security *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	security.NextProtos = []string{"http/1.1"}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		plain, err := d.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		bounded, cancel := context.WithTimeout(ctx, d.Timeout)
		defer cancel()
		c := tls.Client(plain, security)
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
