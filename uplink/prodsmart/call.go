package prodsmart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// maxAnswer bounds what is read of an answer: a page of 25 productions with
// everything in it is some 50 kB.
const maxAnswer = 1 << 20

// call is one request.
type call struct {
	class  class
	method string
	// path is below /api/, escaped; query goes without the token.
	path  string
	query url.Values
	body  []byte
	// header says who asks.
	header http.Header
	// made says that a success carries the id of what was made.
	made bool
	// whole says that the body of a success matters.
	whole bool

	// machine, kind and events are what it is about, for the journal; first and
	// last are 0 for a request that carries no event.
	machine     plant.MachineID
	kind        plant.EventKind
	first, last plant.Sequence
	events      int
	asked       uplink.Outcome // what a success is called that carries no event
	says        string         // what the journal says of that success
	until       time.Time      // how long it may wait for its turn
}

// outcome is what an answer says of the request.
type outcome uint8

const (
	// taken: Prodsmart has it.
	taken outcome = iota
	// refused: Prodsmart will never take it as it is.
	refused
	// missing: what the path names is not there.
	missing
	// stumbled: Prodsmart failed over this request; others may pass.
	stumbled
	// denied: whoever asks may not.
	denied
)

// halt is why nothing more can be sent in this Send.
type halt struct {
	cause error
	wait  time.Duration
	put   []plant.KV
	// doubt is set if the request may have arrived.
	doubt bool
	// ahead is, for want of room, about how long that will last.
	ahead time.Duration
}

// noRoom is the halt for want of room in the share.
func noRoom() *halt {
	return &halt{cause: &uplink.NotYet{Why: "prodsmart: the gateway's share of requests is used up for the moment"}}
}

// waitsForRoom reports whether h is for want of room only.
func waitsForRoom(h *halt) bool {
	var later *uplink.NotYet
	return errors.As(h.cause, &later)
}

// linked reports whether h concerns Prodsmart as a whole.
func linked(h *halt) bool {
	var link *uplink.LinkError
	return errors.As(h.cause, &link)
}

// do waits for room, makes the request, judges the answer and notes it in the
// journal. With a halt nothing else may be sent now.
func (s *Sender) do(ctx context.Context, c *call) (*httplink.Answer, outcome, *halt) {
	a, o, h, x := s.exchange(ctx, c)
	if x != nil {
		s.env.Journal.Note(*x)
	}
	return a, o, h
}

// exchange is do without the note: x is what it would be, nil if no request was made.
func (s *Sender) exchange(ctx context.Context, c *call) (a *httplink.Answer, o outcome, h *halt, x *uplink.Exchange) {
	until := c.until
	if end, bounded := ctx.Deadline(); bounded {
		// To begin later would leave in doubt what became of it.
		until = earlier(until, end.Add(-s.options.Timeout.Std()))
	}
	if key := string(c.machine) + "|" + c.path; !s.budget.take(ctx, key, c.class, until) {
		h := noRoom()
		h.ahead = s.budget.ahead(key, c.class)
		return nil, stumbled, h, nil
	}
	target := *s.base
	target.RawPath = s.base.EscapedPath() + "api/" + c.path
	path, err := url.PathUnescape(target.RawPath)
	if err != nil {
		panic(err) // it was escaped by us
	}
	target.Path, target.RawQuery = path, c.query.Encode()
	began := time.Now()
	var out atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { out.Store(true) }})
	fault.Pass("prodsmart.beforeRequest")
	a, err = s.client.Do(ctx, &httplink.Request{
		Method: c.method, URL: &target, Header: c.header, Body: c.body, Most: maxAnswer,
		Whole: func(status int, _ http.Header) bool { return c.whole && status >= 200 && status <= 299 },
	})
	fault.Pass("prodsmart.afterResponse")
	x = &uplink.Exchange{
		Time: began, Machine: c.machine, Kind: c.kind, First: c.first, Last: c.last, Events: c.events,
		Method: c.method, Where: httplink.Show(&target), Duration: time.Since(began), Outcome: uplink.OutcomeRetry,
	}
	if err != nil {
		x.Words = err.Error()
		return nil, stumbled, unanswered(err, out.Load()), x
	}
	o, h = s.judge(c, &target, a)
	x.Status, x.Words = a.Status, s.redactor.Clean(a.Words())
	switch {
	case h != nil:
		x.Words = h.cause.Error()
	case o == taken && c.asked != "":
		x.Outcome, x.Words = c.asked, c.says
	case o == taken:
		x.Outcome = uplink.OutcomeDelivered
		if c.made {
			x.ReceiverID = idIn(a.Body)
		}
	case o == refused && c.first > 0:
		x.Outcome = uplink.OutcomeRefused
	case o == missing && c.first > 0:
		x.Outcome = uplink.OutcomeHeld
	}
	return a, o, h, x
}

// idIn returns the id in an answer, empty for none.
func idIn(body []byte) string {
	var of struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(body, &of) != nil || string(of.ID) == "null" {
		return ""
	}
	return strings.Trim(string(of.ID), `"`)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// unanswered is the halt of a request without an answer; sent is set if it went out
// or may have.
func unanswered(err error, sent bool) *halt {
	h := &halt{cause: &uplink.LinkError{Err: err}, doubt: sent}
	var f *httplink.Failure
	if errors.As(err, &f) {
		h.wait = f.Wait()
	}
	return h
}

// wrong are the statuses that only a person can cure, and that are no event's fault.
var wrong = []int{
	http.StatusPaymentRequired, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusProxyAuthRequired,
	http.StatusRequestURITooLong, http.StatusUnsupportedMediaType, http.StatusMisdirectedRequest, http.StatusUpgradeRequired,
	http.StatusRequestHeaderFieldsTooLarge, http.StatusUnavailableForLegalReasons, http.StatusNotImplemented,
	http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired,
}

// judge turns an answer into what it says of the request, or of Prodsmart as a
// whole.
func (s *Sender) judge(c *call, target *url.URL, a *httplink.Answer) (outcome, *halt) {
	words := fmt.Sprintf("prodsmart: %s %s: Prodsmart answers %s", c.method, httplink.Show(target), httplink.Title(a.Status))
	if said := s.redactor.Clean(a.Words()); said != "" {
		words += ": " + said
	}
	system := func(least time.Duration, advice string) (outcome, *halt) {
		return stumbled, &halt{cause: &uplink.LinkError{Err: errors.New(words + advice)}, wait: max(least, httplink.RetryAfter(a.Header, time.Now()))}
	}
	switch status := a.Status; {
	case a.Success() && a.Page:
		return system(httplink.WrongWait, ", but a web page came where an answer was expected: is there a login portal or a proxy in between?")
	case a.Success():
		return taken, nil
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		_, h := system(0, "")
		// A proxy that has lost Prodsmart asks for nothing.
		h.doubt = status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") == ""
		s.leaveAlone(time.Now().Add(h.wait), h.cause)
		h.put = httplink.KeepWait(s.base, status, h.wait)
		return stumbled, h
	case slices.Contains(s.options.RenewOn, status), status == http.StatusUnauthorized, status == http.StatusForbidden:
		if c.query.Has(tokenParameter) || c.header.Get("Authorization") != s.basic.Get("Authorization") {
			return denied, nil
		}
		return system(httplink.WrongWait, "; check api_key and api_secret: Prodsmart shows them where the user is edited")
	case status == http.StatusNotFound, status == http.StatusGone:
		return missing, nil
	case status == http.StatusInternalServerError, status == http.StatusExpectationFailed, status == http.StatusLocked, status == http.StatusFailedDependency:
		return stumbled, nil
	case slices.Contains(wrong, status), status < 400:
		if a.Elsewhere != "" {
			return system(httplink.WrongWait, "; it sends us to "+s.redactor.Clean(a.Elsewhere)+", which is not followed; if that is right, write it as url")
		}
		return system(httplink.WrongWait, "; check url")
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return system(0, "")
	case status >= 500:
		// 502 and 504 are the words of a proxy (RFC 9110 section 15.6): Prodsmart may be
		// at work on it.
		o, h := system(0, "")
		h.doubt = true
		return o, h
	default:
		return refused, nil
	}
}

// leaveAlone keeps every request back until then, also of Sends that are under way.
func (s *Sender) leaveAlone(until time.Time, cause error) {
	s.budget.pause(until)
	s.mu.Lock()
	defer s.mu.Unlock()
	if until.After(s.quietUntil) {
		s.quietUntil, s.quietCause = until, cause
	}
}

// quiet returns the halt while Prodsmart is to be left alone, nil if it may be
// asked. Its wish from before the gateway was started is read once.
func (s *Sender) quiet() *halt {
	s.mu.Lock()
	recall := !s.recalled
	s.recalled = true
	s.mu.Unlock()
	if recall {
		before, err := httplink.RecallWait(s.env.Memory, s.base)
		if err != nil {
			s.log.Warn("whether Prodsmart asked to wait before the start cannot be read; it is asked now", zap.Error(err))
		}
		if before.Left > 0 {
			s.leaveAlone(time.Now().Add(before.Left), &uplink.LinkError{Err: errors.New("prodsmart: " + before.Words("Prodsmart"))})
		}
	}
	left, cause := s.leftAlone()
	if left <= 0 {
		return nil
	}
	return &halt{cause: cause, wait: left}
}

// leftAlone returns how long Prodsmart is still to be left alone, and why; it may
// be asked if that is not above zero.
func (s *Sender) leftAlone() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.quietUntil), s.quietCause
}
