package httplink

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

const (
	// MaxHops is how many redirects of one request are followed.
	MaxHops = 3
	// AskFirst is the size of a body from which it is of use to ask a receiver
	// whether it wants it, after it has hung up on it: who hangs up while a body
	// comes has often said why, and the network threw that away (RFC 9112 section
	// 9.6).
	AskFirst = 64 << 10
	// maxWords bounds what is read of an answer that nothing depends on.
	maxWords = 8 << 10
	// pageHead is how much of an answer is looked at for a web page.
	pageHead = 512
	// linger is how long the rest of such an answer is waited for, so that the
	// connection can be used again.
	linger = time.Second
)

// Client calls one receiver. It may be used from any goroutine.
type Client struct {
	name        string
	link        *Link
	target      *url.URL
	timeout     time.Duration
	dialer      *dialer
	redactor    *Redactor
	connections int
	way         way
	// asked is set once the receiver has asked for a certificate of the gateway that
	// there is none of.
	asked *atomic.Bool
}

// Request is one request. Nothing in it is changed.
type Request struct {
	Method string
	// URL must be of the scheme, host and port that the Client was made for.
	URL    *url.URL
	Header http.Header
	// Body is sent as it is, nil for none; it must not change before the answer.
	Body []byte
	// AskFirst asks the receiver whether it wants the body before it comes.
	AskFirst bool
	// Stay leaves a redirect as the answer that it is, wherever it leads.
	Stay bool
	// Most bounds what is read of the answer's body, in bytes.
	Most int
	// Whole reports whether something depends on the body of an answer with that
	// status and those headers, so that it is read to its end or to Most. Of
	// others the words of a refusal are read, for a second at most. nil: no body
	// is waited for.
	Whole func(status int, h http.Header) bool
}

// errElsewhere is the cause of a request that would go to somebody else.
var errElsewhere = errors.New("it would go to another scheme, host or port than url names")

// Clean makes text from outside safe to show.
func (c *Client) Clean(text string) string { return c.redactor.Clean(text) }

// Redactor returns what takes the secrets out of text.
func (c *Client) Redactor() *Redactor { return c.redactor }

// Context returns a context that ends with ctx and with Close. The caller calls
// the function when it is done.
func (c *Client) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.dialer.life, func() { cancel(net.ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// Do makes one request and reads the answer. An error is a *Failure, and says
// that nobody knows what became of the request. It blocks for the timeout at
// most, and ends with ctx and with Close.
//
// A redirect is followed where it keeps method and body (307 and 308, RFC 9110
// section 15.4) and leads to the same scheme, host and port, so that no event
// and no secret goes to anybody else.
//
// One thing only is tried again at once, by the transport: a request on a kept
// connection that broke before the first byte of an answer, which is what it
// looks like when the receiver just then ended an idle connection. It goes to a
// connection that is new in the end. (net/http does so if the method is
// idempotent or there is an Idempotency-Key.)
func (c *Client) Do(ctx context.Context, r *Request) (*Answer, error) {
	if !SameOrigin(r.URL, c.target) {
		return nil, c.failed(ctx, r, errElsewhere)
	}
	bounded, cancel := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
	defer cancel()
	var shaking, beyond atomic.Bool
	if r.URL.Scheme == "https" {
		bounded = httptrace.WithClientTrace(bounded, &httptrace.ClientTrace{
			TLSHandshakeStart: func() { shaking.Store(true); beyond.Store(true) },
			TLSHandshakeDone:  func(_ tls.ConnectionState, err error) { shaking.Store(err != nil) }, // the end of bounded ends it as well
			GotConn:           func(httptrace.GotConnInfo) { beyond.Store(true) },
		})
	}
	header := r.Header
	if r.AskFirst {
		header = header.Clone()
		header.Set("Expect", "100-continue")
	}
	target := r.URL
	for hop := 0; ; hop++ {
		request := &http.Request{Method: r.Method, ProtoMajor: 1, ProtoMinor: 1, URL: target, Host: target.Host, Header: header}
		if r.Body != nil {
			open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
			request.Body, _ = open() // it has no error
			request.GetBody, request.ContentLength = open, int64(len(r.Body))
		}
		response, err := c.transport().RoundTrip(request.WithContext(bounded))
		if err != nil {
			if shaking.Load() {
				err = &handshakeTimeout{err}
			}
			if c.link.proxy != nil && !beyond.Load() {
				err = &byProxy{err}
			}
			return nil, c.failed(ctx, r, err)
		}
		a := read(response, cancel, r)
		if a.BodyErr != nil {
			a.BodyErr = c.failedBody(ctx, bounded, a.BodyErr)
		}
		location := a.Header.Get("Location")
		if a.Status < 300 || a.Status > 399 || location == "" {
			return a, nil
		}
		next := follow(target, a, location)
		if next == nil || r.Stay || hop == MaxHops {
			return a, nil
		}
		target = next
	}
}

// failedBody gives an answer that ended early plain words; bounded is ctx until the
// time-out.
func (c *Client) failedBody(ctx, bounded context.Context, err error) error {
	switch {
	case ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(context.Cause(bounded), errTimeout)):
		return fmt.Errorf("it did not end within %v", c.timeout)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("the connection ended in the middle of it")
	}
	return errors.New(c.Clean(err.Error()))
}

// Close ends every connection, and every later one. It does not wait for a Do
// under way, which ends with the connections. A second Close does nothing.
func (c *Client) Close() {
	c.dialer.close()
	c.transport().CloseIdleConnections()
}

// follow returns where a redirect leads if it may be followed, else nil.
func follow(from *url.URL, a *Answer, location string) *url.URL {
	to, err := from.Parse(location)
	if err != nil {
		a.Elsewhere = "a place that is no URL"
		return nil
	}
	a.Elsewhere = Show(to)
	keeps := a.Status == http.StatusTemporaryRedirect || a.Status == http.StatusPermanentRedirect
	if !keeps || !SameOrigin(to, from) || to.User != nil {
		return nil
	}
	to.Fragment = ""
	return to
}

// read reads the answer and closes it. Where nothing depends on the body, it
// gets linger at most.
func read(response *http.Response, cancel context.CancelFunc, r *Request) *Answer {
	a := &Answer{Status: response.StatusCode, Header: response.Header}
	defer response.Body.Close() //nolint:errcheck // all that mattered has been read
	limit := int64(r.Most)
	body := bufio.NewReaderSize(response.Body, pageHead)
	if r.Whole != nil && r.Whole(a.Status, a.Header) {
		a.Page = webPage(response.Header, body)
		a.Body, a.BodyErr = io.ReadAll(io.LimitReader(body, limit+1))
		if int64(len(a.Body)) > limit {
			a.BodyErr = fmt.Errorf("it is longer than %d bytes", limit)
		}
		return a
	}
	if response.ContentLength != 0 {
		defer time.AfterFunc(linger, cancel).Stop()
	}
	a.Page = webPage(response.Header, body)
	if a.Status >= http.StatusMultipleChoices {
		a.Body, a.BodyErr = io.ReadAll(io.LimitReader(body, maxWords))
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(body, limit-int64(len(a.Body)))) // the status has said what matters
	return a
}

// webPage reports whether a body begins as an HTML document does (WHATWG HTML,
// section 13.1, and XHTML): with its doctype or an element of its beginning, behind
// an XML declaration and comments; or with any tag, if it says itself that it is
// HTML. It takes nothing from it and blocks for pageHead bytes or the end.
func webPage(h http.Header, body *bufio.Reader) bool {
	head, _ := body.Peek(pageHead) // less is an answer as well
	head = bytes.ToLower(bytes.TrimPrefix(head, []byte("\ufeff")))
	for {
		head = bytes.TrimLeft(head, " \t\r\n\f")
		end := ""
		switch {
		case bytes.HasPrefix(head, []byte("<!--")):
			end = "-->"
		case bytes.HasPrefix(head, []byte("<?xml")):
			end = "?>"
		}
		if end == "" {
			break
		}
		_, rest, ok := bytes.Cut(head, []byte(end))
		if !ok {
			return end == "-->" // a comment as long as that begins no answer of a program
		}
		head = rest
	}
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type")) // a damaged one says nothing
	if (media == "text/html" || media == "application/xhtml+xml") && bytes.HasPrefix(head, []byte("<")) {
		return true
	}
	for _, begin := range []string{"<!doctype html", "<html", "<head", "<body", "<title"} {
		if rest, ok := bytes.CutPrefix(head, []byte(begin)); ok {
			return len(rest) == 0 || bytes.IndexByte([]byte("> \t\r\n\f"), rest[0]) >= 0
		}
	}
	return false
}
