package rest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

const (
	// batchType is the media type of several events (CloudEvents JSON format
	// 1.0, section 4).
	batchType = "application/cloudevents-batch+json; charset=utf-8"
	// envelope is more than the attributes of an event take, unless names are
	// long.
	envelope = 512
	// maxHops is how many redirects of one request are followed.
	maxHops = 3
	// maxAnswer and maxAnswerEvent bound what is read of an answer: the second
	// is added for each event of the request.
	maxAnswer      = 64 << 10
	maxAnswerEvent = 512
	// maxAnswerEcho is how many times the size of the request may be added, for
	// receivers that answer with what they have made of it.
	maxAnswerEcho = 2
	// askFirst is the size of a body from which a receiver is asked whether it
	// wants it, after it has hung up on it: who hangs up while a body comes has
	// often said why, and the network threw that away (RFC 9112 section 9.6).
	askFirst = 64 << 10
	// maxWords bounds what is read of an answer that nothing depends on.
	maxWords = 8 << 10
	// pageHead is how much of an answer is looked at for a web page.
	pageHead = 512
	// linger is how long the rest of such an answer is waited for, so that the
	// connection can be used again.
	linger = time.Second
)

// header returns what each request carries.
func (o Options) header() http.Header {
	h := http.Header{
		"Accept":          {"application/json"},
		"Accept-Encoding": {"identity"}, // without it a server may pack as it likes (RFC 9110 section 12.5.3)
		"Content-Type":    {uplink.ContentType},
		"User-Agent":      {"sluice"},
	}
	if o.Batch > 1 {
		h.Set("Content-Type", batchType)
	}
	for name, value := range o.Headers {
		h.Set(name, value)
	}
	o.Auth.set(h)
	return h
}

// span is a body of which nobody knows what became of it.
type span struct {
	first plant.Sequence
	n     int
}

// doubt notes that nobody knows what became of a body.
func (s *Sender) doubt(m plant.MachineID, events []plant.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubts[m] = span{events[0].Sequence, len(events)}
}

// doubted returns how many events the next body must hold, so that it is the
// one of which nobody knows what became; 0 if there is none. Those who know
// bodies by their key must meet the same again.
func (s *Sender) doubted(m plant.MachineID, events []plant.Event) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.doubts[m]
	delete(s.doubts, m)
	if d.first != events[0].Sequence || d.n > len(events) {
		return 0
	}
	return d.n
}

// fill makes the next body and returns how many events are in it, 0 if the
// first alone is more than max_body.
func (s *Sender) fill(events []plant.Event) (body []byte, n int) {
	if s.options.Batch == 1 {
		if body = s.render(events[:1]); len(body) > int(s.options.MaxBody) {
			return body, 0
		}
		return body, 1
	}
	limit := int(s.options.MaxBody)
	if most := int(s.most.Load()); most > 0 {
		limit = min(limit, most)
	}
	size := 2
	for n < len(events) && n < s.options.Batch && size < limit {
		size += len(events[n].Data) + envelope
		n++
	}
	body = append(make([]byte, 0, size), '[')
	for i := range events[:n] {
		before := len(body)
		if i > 0 {
			body = append(body, ',')
		}
		if body = uplink.AppendCloudEvent(body, &events[i]); len(body) < limit {
			continue
		}
		if i == 0 { // alone it may still be taken
			if len(body) >= int(s.options.MaxBody) {
				return append(body, ']'), 0
			}
			return append(body, ']'), 1
		}
		return append(body[:before], ']'), i
	}
	return append(body, ']'), n
}

// render makes the body of events.
func (s *Sender) render(events []plant.Event) []byte {
	size := 2
	for i := range events {
		size += len(events[i].Data) + envelope
	}
	body := make([]byte, 0, size)
	if s.options.Batch == 1 {
		return uplink.AppendCloudEvent(body, &events[0])
	}
	body = append(body, '[')
	for i := range events {
		if i > 0 {
			body = append(body, ',')
		}
		body = uplink.AppendCloudEvent(body, &events[i])
	}
	return append(body, ']')
}

// key returns the Idempotency-Key of events: the id of the one; of several the
// id of the first, the end of the last one's id and their number, which is the
// same whenever the same events are sent in one body. What a header cannot hold
// safely is percent-encoded.
func key(events []plant.Event) string {
	first := events[0].ID().String()
	if len(events) > 1 {
		last := &events[len(events)-1]
		first = fmt.Sprintf("%s..%s-%d/%d", first, last.Epoch, uint64(last.Sequence), len(events))
	}
	safe := func(c byte) bool { return c > ' ' && c <= '~' && c != '%' && c != '"' && c != ',' && c != ';' }
	plain := true
	for i := range len(first) {
		plain = plain && safe(first[i])
	}
	if plain {
		return first
	}
	var b strings.Builder
	for i := range len(first) {
		if c := first[i]; safe(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// answer is what came back, read to its end.
type answer struct {
	status int
	header http.Header
	// body is what was read, and bodyErr why not all of it.
	body    []byte
	bodyErr error
	// page is set if the body is a web page.
	page bool
	// elsewhere names where a redirect that is not followed leads.
	elsewhere string
}

// errTimeout is the cause of a request's end when it took too long.
var errTimeout = errors.New("no answer in time")

// post makes one request and reads the answer. An error means that nobody knows
// what became of the events.
//
// One thing only is tried again at once, by the transport: a request on a kept
// connection that broke before the first byte of an answer, which is what it
// looks like when the receiver just then ended an idle connection. It goes to a
// connection that is new in the end, with the same Idempotency-Key. again is set
// if this body was sent before and nobody knows what became of it.
func (s *Sender) post(ctx context.Context, events []plant.Event, body []byte, again bool) (*answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.options.Timeout.Std(), errTimeout)
	defer cancel()
	header := s.headers.Clone()
	header.Set("Idempotency-Key", key(events))
	if again && len(body) >= askFirst {
		header.Set("Expect", "100-continue")
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	target := s.target
	for hop := 0; ; hop++ {
		content, _ := open() // it has no error
		request := (&http.Request{
			Method: s.options.Method, ProtoMajor: 1, ProtoMinor: 1, URL: target, Host: target.Host, Header: header,
			Body: content, GetBody: open, ContentLength: int64(len(body)),
		}).WithContext(ctx)
		fault.Pass("rest.beforeRequest")
		response, err := s.transport.RoundTrip(request)
		fault.Pass("rest.afterResponse")
		if err != nil {
			return nil, err
		}
		a := s.read(response, cancel, maxAnswer+len(events)*maxAnswerEvent+maxAnswerEcho*len(body))
		location := a.header.Get("Location")
		if a.status < 300 || a.status > 399 || location == "" {
			return a, nil
		}
		next := follow(target, a, location)
		if next == nil || hop == maxHops {
			return a, nil
		}
		target = next
	}
}

// follow returns where a redirect leads if it keeps method and body (307 and
// 308, RFC 9110 section 15.4) and leads to the same scheme, host and port, so
// that no event and no secret goes to anybody else. Else it returns nil.
func follow(from *url.URL, a *answer, location string) *url.URL {
	to, err := from.Parse(location)
	if err != nil {
		a.elsewhere = "a place that is no URL"
		return nil
	}
	a.elsewhere = show(to)
	keeps := a.status == http.StatusTemporaryRedirect || a.status == http.StatusPermanentRedirect
	if !keeps || to.Scheme != from.Scheme || !strings.EqualFold(to.Host, from.Host) || to.User != nil {
		return nil
	}
	to.Fragment = ""
	return to
}

// read reads the answer, at most so many bytes, and closes it. Where nothing
// depends on the body, it gets linger at most.
func (s *Sender) read(response *http.Response, cancel context.CancelFunc, most int) *answer {
	a := &answer{status: response.StatusCode, header: response.Header}
	defer response.Body.Close() //nolint:errcheck // all that mattered has been read
	limit := int64(most)
	body := bufio.NewReaderSize(response.Body, pageHead)
	if s.speaks(a) {
		a.page = webPage(body)
		a.body, a.bodyErr = io.ReadAll(io.LimitReader(body, limit+1))
		if int64(len(a.body)) > limit {
			a.bodyErr = fmt.Errorf("it is longer than %d bytes", limit)
		}
		return a
	}
	if response.ContentLength != 0 {
		defer time.AfterFunc(linger, cancel).Stop()
	}
	a.page = webPage(body)
	if a.status >= http.StatusMultipleChoices {
		a.body, a.bodyErr = io.ReadAll(io.LimitReader(body, maxWords))
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(body, limit-int64(len(a.body)))) // the status has said what matters
	return a
}

// webPage reports whether a body begins as an HTML document does (WHATWG HTML,
// section 13.1), without taking anything from it. It blocks for pageHead bytes
// or the end.
func webPage(body *bufio.Reader) bool {
	head, _ := body.Peek(pageHead) // less is an answer as well
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n\f")
	head = bytes.ToLower(head[:min(len(head), len("<!doctype html")+1)])
	for _, begin := range []string{"<!doctype html", "<html"} {
		if rest, ok := bytes.CutPrefix(head, []byte(begin)); ok {
			return len(rest) == 0 || bytes.IndexByte([]byte("> \t\r\n\f"), rest[0]) >= 0
		}
	}
	return false
}

// speaks reports whether the body of the answer may say something of each
// event.
func (s *Sender) speaks(a *answer) bool {
	switch {
	case a.status == http.StatusMultiStatus:
		return true
	case a.status < 200 || a.status > 299 || s.options.Results == resultsIgnore:
		return false
	case s.options.Results == resultsRequired:
		return true
	}
	return s.options.Batch > 1 && jsonType(a.header)
}

// jsonType reports whether the body is JSON by its own account.
func jsonType(h http.Header) bool {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}

// failure is a request without an answer, in words that hold no secret.
type failure struct {
	text  string
	cause error
}

// Error implements error.
func (f *failure) Error() string { return f.text }

// Unwrap returns the cause, whose words may be those of the receiver.
func (f *failure) Unwrap() error { return f.cause }

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
		return words + "; it asks for a certificate of the gateway: set cert and key"
	case strings.Contains(words, "no application protocol"):
		return "it takes HTTP/2 only, and the gateway speaks HTTP/1.1"
	default:
		return words
	}
}

// failed gives a request that got no answer plain words.
func (s *Sender) failed(ctx context.Context, err error) error {
	what := s.clean(err.Error())
	var timeout net.Error
	var record tls.RecordHeaderError
	var proxy *proxyRefusal
	switch {
	case errors.Is(context.Cause(ctx), net.ErrClosed):
		what = "the uplink is closed"
	case ctx.Err() != nil:
		what = "no answer before send_timeout, or before the gateway stopped"
	case errors.As(err, &proxy):
		what = proxy.Error()
	case errors.As(err, &record):
		what = "it does not speak TLS there; check the port in url, or write http://"
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		what = fmt.Sprintf("no answer within %v", s.options.Timeout)
	default:
		what = security(err, what)
	}
	return &failure{fmt.Sprintf("rest: %s %s: %s", s.options.Method, show(s.target), what), err}
}
