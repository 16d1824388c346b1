package nextplus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// maxAnswer bounds what is read of an answer, in bytes: it holds one id or one
// sentence.
const maxAnswer = 64 << 10

// link is a URL and the way to its host.
type link struct {
	url *url.URL
	way *httplink.Link
}

// requestID is by what a receiver knows an event that is sent again: its id, as a
// header can hold it.
func requestID(e *plant.Event) string { return httplink.HeaderSafe(e.ID().String()) }

// post makes the request of one event. sent is set if the request went out, so
// that without an answer nobody knows whether the receiver has it. repeated is set
// if it may have gone out before.
func (s *Sender) post(ctx context.Context, to target, e *plant.Event, content []byte, repeated bool) (a *httplink.Answer, sent bool, err error) {
	ctx, cancel := to.client.Context(ctx)
	defer cancel()
	var out atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { out.Store(true) }})
	header := s.header.Clone()
	header.Set("Event-Time", e.Time.UTC().Format("2006-01-02T15:04:05.000Z"))
	if repeated {
		header.Set("Sluice-Repeated", "true")
	}
	// Under its canonical name net/http would take this header for leave to send the
	// request again by itself, unmarked; the receiver reads names in any case.
	header["idempotency-key"] = []string{requestID(e)}
	fault.Pass("nextplus.beforeRequest")
	a, err = to.client.Do(ctx, &httplink.Request{
		Method: http.MethodPost, URL: to.url, Header: header, Body: content, Stay: true, Most: maxAnswer,
		Whole: func(int, http.Header) bool { return true },
	})
	fault.Pass("nextplus.afterResponse")
	var token *httplink.TokenError
	return a, out.Load() && !errors.As(err, &token), err
}

// decision is what becomes of an event.
type decision struct {
	status plant.Status
	cause  error
	wait   time.Duration
	// lost: the request went out and its reply did not come.
	lost bool
	// code is the status of HTTP, and words what the receiver said; externalID is
	// its id.
	code       int
	words      string
	externalID string
}

// unanswered decides on a request without an answer.
func (s *Sender) unanswered(err error, sent bool) decision {
	d := decision{cause: &uplink.LinkError{Err: err}, lost: sent}
	var asks interface{ Wait() time.Duration }
	if errors.As(err, &asks) {
		d.wait = asks.Wait()
	}
	if sent && s.options.OnLostReply == lostPark {
		d.status, d.cause = plant.Rejected, &parked{err}
	}
	return d
}

// parked is the Cause of an event that the receiver may have or not.
type parked struct{ err error }

// Error says what to do.
func (p *parked) Error() string {
	return p.err.Error() + "; nobody knows whether the receiver has booked it, and on_lost_reply is park: look it up there, then drop this dead letter or retry it"
}

// Unwrap returns the failure.
func (p *parked) Unwrap() error { return p.err }

// Sort makes all lost replies one of a sort.
func (p *parked) Sort() string { return "lost reply" }

// Final says that it is not sent again by itself, however many there were.
func (p *parked) Final() bool { return true }

// wrong are the statuses that a person must mend, here or there; the event is not
// at fault (RFC 9110 section 15, RFC 6585). Those in doubt are the receiver's word
// on the event if they come with a message of its own.
var wrong = map[int]struct {
	advice string
	doubt  bool
}{
	401: {"check the secret of auth", false},
	402: {"ask whoever runs the receiver", false},
	403: {"check what auth may do at the receiver", false},
	404: {"check the URL", true},
	405: {"check the URL: it does not take POST", false},
	406: {"check the URL", false},
	407: {"the proxy wants a login, which this uplink has not; let the proxy pass this computer", false},
	410: {"check the URL", true},
	414: {"check the URL", false},
	415: {"check the URL: it does not take JSON", false},
	421: {"check the URL", false},
	426: {"check the URL", false},
	431: {"check auth", false},
	451: {"ask whoever runs the receiver", false},
	501: {"check the URL", false},
	505: {"the receiver does not speak HTTP/1.1", false},
	511: {"the network wants a login before it lets anything pass", false},
}

// judge decides on an answer. By the letter of the form every status below 400 is
// a success and every other a failure.
//
// repeated is set if the request went out before and its reply was lost: a word
// that the thing is there already, or is gone already, then speaks of the first.
func (s *Sender) judge(to target, c *call, a *httplink.Answer, repeated bool) decision {
	d := decision{code: a.Status, words: to.client.Clean(message(a))}
	switch {
	case repeated && (c.add && a.Status == http.StatusConflict || !c.add && (a.Status == http.StatusNotFound || a.Status == http.StatusGone)):
		c.marks = append(c.marks, fmt.Sprintf("%s is taken for the effect of the first request", httplink.Title(a.Status)))
		return s.accepted(to, c, a, d)
	case a.Status < http.StatusBadRequest:
		return s.accepted(to, c, a, d)
	case a.Status == http.StatusInternalServerError:
		// It stumbled over this event; others may pass.
		d.cause = s.said(to, a, d.words, "")
		d.wait = httplink.RetryAfter(a.Header, time.Now())
		return d
	}
	if nobodyKnows(a) {
		lost := s.unanswered(s.said(to, a, d.words, ""), true)
		lost.code, lost.words, lost.wait = d.code, d.words, httplink.RetryAfter(a.Header, time.Now())
		return lost
	}
	place, mend := wrong[a.Status]
	if mend && place.doubt && d.words != "" && !a.Page {
		mend = false
	}
	switch {
	case mend:
		d.cause, d.wait = &uplink.LinkError{Err: s.said(to, a, d.words, place.advice)}, max(httplink.WrongWait, httplink.RetryAfter(a.Header, time.Now()))
	case a.Status >= 500, a.Status == http.StatusRequestTimeout, a.Status == http.StatusTooEarly, a.Status == http.StatusTooManyRequests:
		d.cause, d.wait = &uplink.LinkError{Err: s.said(to, a, d.words, "")}, httplink.RetryAfter(a.Header, time.Now())
	case a.Status == http.StatusLocked, a.Status == http.StatusFailedDependency, a.Status == http.StatusExpectationFailed:
		d.cause, d.wait = s.said(to, a, d.words, ""), httplink.RetryAfter(a.Header, time.Now())
	default:
		d.status, d.cause = plant.Rejected, s.said(to, a, d.words, "")
	}
	return d
}

// nobodyKnows reports whether an answer is that of a proxy that lost the receiver,
// which may have booked (RFC 9110 section 15.6). Who asks to come later, or writes
// a message of the form, has not.
func nobodyKnows(a *httplink.Answer) bool {
	switch a.Status {
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	case http.StatusServiceUnavailable:
		var form struct {
			Message string `json:"message"`
		}
		return a.Header.Get("Retry-After") == "" && (json.Unmarshal(a.Body, &form) != nil || form.Message == "")
	default:
		return false
	}
}

// accepted decides on a success.
func (s *Sender) accepted(to target, c *call, a *httplink.Answer, d decision) decision {
	switch {
	case a.Status >= 300 && a.Status < 400 && s.options.Redirect == asRetry:
		d.cause, d.wait = &uplink.LinkError{Err: s.said(to, a, d.words, "redirect is retry; check the URL")}, httplink.WrongWait
		return d
	case a.Status < 300 && a.Page && s.options.WebPage == asRetry:
		d.cause = &uplink.LinkError{Err: s.said(to, a, "", "a web page came where an answer was expected: is there a login portal or a proxy in between? If the receiver itself answers so, set web_page: delivered")}
		d.wait = httplink.WrongWait
		return d
	case c.add && a.BodyErr != nil && len(a.Body) <= maxAnswer:
		// The answer holds the id that everything later goes by.
		lost := s.unanswered(fmt.Errorf("nextplus: POST %s: the receiver answers %s, and the rest of its answer is lost: %w", httplink.Show(to.url), httplink.Title(a.Status), a.BodyErr), true)
		lost.code = a.Status
		return lost
	}
	d.status = plant.Delivered
	if a.Elsewhere != "" {
		c.marks = append(c.marks, "it leads to "+to.client.Clean(a.Elsewhere)+", which is not followed: Next Plus counts a redirect as success")
	}
	if !c.add {
		return d
	}
	if d.externalID = externalID(a.Body); d.externalID == "" {
		c.marks = append(c.marks, "the answer names no externalId, so later calls go without it")
	} else {
		d.words = "externalId " + to.client.Clean(d.externalID)
	}
	return d
}

// externalID returns the receiver's id in the body of a success, empty for none:
// text, or a number as some ERPs have them.
func externalID(body []byte) string {
	var answer struct {
		ExternalID any `json:"externalId"`
	}
	in := json.NewDecoder(bytes.NewReader(body))
	in.UseNumber()
	if in.Decode(&answer) != nil {
		return ""
	}
	switch id := answer.ExternalID.(type) {
	case string:
		return id
	case json.Number:
		return id.String()
	default:
		return ""
	}
}

// message returns the words of an answer that are meant for people: message, as
// the form has it, else what others write.
func message(a *httplink.Answer) string {
	var answer struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(a.Body, &answer) == nil && answer.Message != "" {
		return answer.Message
	}
	return a.Words()
}

// said is what the receiver answered, in words; it holds no secret.
func (s *Sender) said(to target, a *httplink.Answer, words, advice string) error {
	text := fmt.Sprintf("nextplus: POST %s: the receiver answers %s", httplink.Show(to.url), httplink.Title(a.Status))
	if words != "" {
		text += ": " + words
	}
	if advice != "" {
		text += "; " + advice
	}
	return errors.New(text)
}
