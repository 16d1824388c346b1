package httplink

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// WrongWait is how long a refusal is left alone that only a person can cure.
const WrongWait = time.Minute

// Failure is a request without an answer, in words that hold no secret: nobody
// knows what became of it.
type Failure struct {
	text  string
	cause error
	wait  time.Duration
}

// Error returns the words: who was called how, and what came of it.
func (f *Failure) Error() string { return f.text }

// Unwrap returns the cause, whose words may be those of the receiver.
func (f *Failure) Unwrap() error { return f.cause }

// Wait is how long the link should be left alone at least; 0 for as long as ever
// is usual.
func (f *Failure) Wait() time.Duration { return f.wait }

// errTimeout is the cause of a request's end when it took too long.
var errTimeout = errors.New("no answer in time")

// proxyRefusal is the answer of a proxy that opens no tunnel.
type proxyRefusal struct {
	status int
	// login is set if it was given one.
	login bool
}

// Error implements error.
func (p *proxyRefusal) Error() string {
	switch {
	case p.status == http.StatusProxyAuthRequired && p.login:
		return "the proxy refuses the login of proxy_auth; check user and password"
	case p.status == http.StatusProxyAuthRequired:
		return "the proxy wants a login, which this uplink has not; set proxy_auth, or let the proxy pass this computer"
	}
	return fmt.Sprintf("the proxy answers %s to the wish for a connection; ask who runs it what it lets pass", Title(p.status))
}

// wait returns how long a refusal is left alone: only a person cures a 4xx.
func (p *proxyRefusal) wait() time.Duration {
	if p.status >= 500 {
		return 0
	}
	return WrongWait
}

// proxyHandshake is a failed TLS handshake with a proxy.
type proxyHandshake struct{ err error }

// Error implements error.
func (p *proxyHandshake) Error() string { return "the proxy: " + p.err.Error() }

// Unwrap returns the cause.
func (p *proxyHandshake) Unwrap() error { return p.err }

// byProxy is a request that had not got beyond the proxy.
type byProxy struct{ err error }

// Error implements error.
func (b *byProxy) Error() string { return b.err.Error() }

// Unwrap returns the cause.
func (b *byProxy) Unwrap() error { return b.err }

// unanswered gives plain words to an end without an answer, and to an answer that is
// none of HTTP: what a server of TLS does when it is called without; empty for
// anything else.
func (c *Client) unanswered(err error) string {
	var proxy *byProxy
	who, key := "it", ""
	switch {
	case errors.As(err, &proxy) && c.link.proxy.Scheme == "http":
		who, key = "the proxy "+Show(c.link.proxy), "; if it is called by TLS, write https:// in proxy"
	case c.link.proxy == nil && c.target.Scheme == "http":
		key = "; if it speaks TLS there, write https:// in url"
	}
	switch {
	case strings.Contains(err.Error(), "malformed HTTP"):
		return who + " does not answer in HTTP" + key
	case key != "" && proxy != nil && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if proxy == nil {
			key = ""
		}
		return who + " closed the connection before it answered" + key
	}
	if _, why, broken := strings.Cut(err.Error(), "transport connection broken: "); broken {
		return who + " does not keep to HTTP: " + c.redactor.Clean(strings.TrimPrefix(why, "net/http: "))
	}
	return ""
}

// handshakeTimeout is a request that had not got beyond the TLS handshake.
type handshakeTimeout struct{ err error }

// Error implements error.
func (h *handshakeTimeout) Error() string { return h.err.Error() }

// Unwrap returns the cause.
func (h *handshakeTimeout) Unwrap() error { return h.err }

// failed gives a request that got no answer plain words; ctx is the caller's.
func (c *Client) failed(ctx context.Context, r *Request, err error) *Failure {
	what := c.redactor.Clean(err.Error())
	var timeout net.Error
	var record tls.RecordHeaderError
	var proxy *proxyRefusal
	var shaking *handshakeTimeout
	late := errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
	f := &Failure{cause: err}
	switch {
	case errors.Is(context.Cause(ctx), net.ErrClosed), errors.Is(err, net.ErrClosed) && c.dialer.life.Err() != nil:
		what = "the uplink is closed"
	case ctx.Err() != nil:
		what = "no answer before send_timeout, or before the gateway stopped"
	case errors.As(err, &proxy):
		what, f.wait = proxy.Error(), proxy.wait()
	case errors.As(err, &record):
		what = "it does not speak TLS there; check the port in url, or write http://"
	case late && (errors.As(err, &shaking) || strings.Contains(what, "TLS handshake timeout")):
		what = fmt.Sprintf("no TLS handshake within %v; look whether the port in url is one of TLS, and whether a firewall stands between", min(c.timeout, connectTimeout))
	case late:
		what = fmt.Sprintf("no answer within %v", c.timeout)
	default:
		what = cmp.Or(c.unanswered(err), security(err, what))
		if c.asked.Load() && (errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)) {
			// What it said of that was lost on the way.
			what += "; " + wantsCertificate
		}
	}
	f.text = fmt.Sprintf("%s: %s %s: %s", c.name, r.Method, Show(r.URL), what)
	return f
}

const wantsCertificate = "it asks for a certificate of the gateway: set cert and key"

// security gives a failed TLS handshake plain words and a remedy; other words
// stay. The standard library has no types for what the peer complained of.
func security(err error, words string) string {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		return words + "; write the name in its certificate as server_name, or another host in url"
	case errors.As(err, &authority):
		return words + "; set ca to the file of the authority that signed it"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return words + "; it needs a new certificate, or the clock of this computer is wrong"
	case strings.Contains(words, "certificate required"):
		return words + "; " + wantsCertificate
	case strings.Contains(words, "no application protocol"):
		return "it takes HTTP/2 only, and the gateway speaks HTTP/1.1"
	default:
		return words
	}
}
