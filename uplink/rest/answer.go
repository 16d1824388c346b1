package rest

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// outcome is what a status says of the events of a request.
type outcome uint8

const (
	// taken: the receiver has them.
	taken outcome = iota
	// refused: it will never take them as they are.
	refused
	// conflicting: it has them already, or is busy with them, or refuses them;
	// receivers differ.
	conflicting
	// again: it stumbled over these events; others may pass.
	again
	// down: it, or what stands before it, can take nothing now.
	down
	// wrong: something is set wrongly here or there, and only a person can mend
	// it. No event is at fault.
	wrong
	// unsure: wrong, or the receiver's word on one machine.
	unsure
)

// statuses says what each status means (RFC 9110 section 15, RFC 6585, RFC
// 8470) and, where a setting may be at fault, which. A 4xx that is not here is
// refused, a 5xx is down, and whatever else nobody knows is wrong.
var statuses = map[int]struct {
	outcome outcome
	advice  string
}{
	401: {wrong, "check the secret of auth"},
	402: {wrong, "ask whoever runs the receiver"},
	403: {unsure, "check what auth may do at the receiver"},
	404: {unsure, "check url"},
	405: {wrong, "check url and method"},
	406: {wrong, "check url"},
	407: {wrong, "the proxy wants a login, or refuses that of proxy_auth; check proxy_auth, or let the proxy pass this computer"},
	408: {down, ""},
	409: {conflicting, "if that means that it has the event already, set conflict: delivered"},
	410: {unsure, "check url"},
	414: {wrong, "check url"},
	415: {wrong, "the receiver does not take CloudEvents in JSON; check url and batch"},
	417: {again, ""}, // it cannot say whether it wants a body before it comes
	421: {wrong, "check url"},
	423: {again, ""},
	424: {again, ""},
	425: {down, ""},
	426: {wrong, "check url"},
	429: {down, ""},
	431: {wrong, "check headers and auth"},
	451: {wrong, "ask whoever runs the receiver"},
	500: {again, ""},
	501: {wrong, "check url and method"},
	505: {wrong, "the receiver does not speak HTTP/1.1"},
	511: {wrong, "the network wants a login before it lets anything pass"},
}

func outcomeOf(status int) outcome {
	if s, ok := statuses[status]; ok {
		return s.outcome
	}
	switch {
	case status >= 200 && status <= 299:
		return taken
	case status >= 400 && status <= 499:
		return refused
	case status >= 500 && status <= 599:
		return down
	default:
		return wrong
	}
}

// outcome is outcomeOf for a whole answer.
func (s *Sender) outcome(a *httplink.Answer) outcome {
	switch {
	case s.plainToTLS(a), s.portal(a):
		return wrong
	case a.Status == http.StatusRequestEntityTooLarge && a.Header.Get("Retry-After") != "":
		return again // for now only, RFC 9110 section 15.5.14
	}
	if o, ok := s.options.Answer.outcome(a.Status); ok {
		return o
	}
	return outcomeOf(a.Status)
}

// plainToTLS reports whether a 400 says that url should begin with https://. The
// words are those of Go, nginx and Apache; no event is at fault.
func (s *Sender) plainToTLS(a *httplink.Answer) bool {
	if a.Status != http.StatusBadRequest || s.target.Scheme != "http" {
		return false
	}
	return slices.ContainsFunc([]string{"HTTPS server", "HTTPS port", "plain HTTP to an SSL"}, func(words string) bool {
		return bytes.Contains(a.Body, []byte(words))
	})
}

// portal reports whether a success is a web page, which a login portal or a
// proxy shows whoever comes: nothing says that the receiver has the events.
func (s *Sender) portal(a *httplink.Answer) bool {
	return a.Page && a.Status >= 200 && a.Status <= 299 && s.options.WebPage != webPageDelivered
}

const (
	// unsureSpan is how long something taken shows that the settings are right.
	unsureSpan = time.Minute
	// conflictTries is how often the same events are sent before a 409 is final:
	// it may be the answer to a request whose twin is still being worked on.
	conflictTries = 3
)

// conflict counts the 409 in a row for a machine's next event.
type conflict struct {
	first plant.Sequence
	tries int
}

// judge turns an answer into Results. It returns nil if several events were
// refused as one, so that smaller bodies have to show which is at fault.
func (s *Sender) judge(m plant.MachineID, msg *message, a *httplink.Answer) []plant.Result {
	events := msg.events
	o := s.outcome(a)
	if o != conflicting {
		s.settled(m)
	}
	if o == taken {
		s.taken.Store(time.Now().UnixNano())
		return s.judgeTaken(msg, a)
	}
	cause := s.cause(msg, a)
	wait := httplink.RetryAfter(a.Header, time.Now())
	machine := func() []plant.Result {
		r := answerFor(events[:1], plant.Retry, cause)
		r.Wait = wait
		return []plant.Result{r}
	}
	system := func(least time.Duration) []plant.Result {
		r := answerFor(events[:1], plant.Retry, &uplink.LinkError{Err: cause})
		r.Wait = max(wait, least)
		return []plant.Result{r}
	}
	switch o {
	case again:
		return machine()
	case down:
		results := system(0)
		results[0].Put = httplink.KeepWait(s.target, a.Status, wait)
		return results
	case wrong:
		return system(httplink.WrongWait)
	case unsure:
		if time.Since(time.Unix(0, s.taken.Load())) > unsureSpan {
			return system(httplink.WrongWait)
		}
		wait = max(wait, httplink.WrongWait)
		return machine()
	case conflicting:
		if s.options.Conflict == conflictDelivered && len(events) == 1 {
			s.settled(m)
			return []plant.Result{answerFor(events, plant.Delivered, nil)}
		}
		if s.options.Conflict != conflictDelivered && s.conflict(m, events[0].Sequence) < conflictTries {
			return machine()
		}
	}
	if len(events) > 1 {
		return nil
	}
	s.settled(m)
	return []plant.Result{answerFor(events, plant.Rejected, cause)}
}

// conflict counts a 409 and returns how many came in a row.
func (s *Sender) conflict(m plant.MachineID, first plant.Sequence) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conflicts[m]
	if c.first != first {
		c = conflict{first: first}
	}
	c.tries++
	s.conflicts[m] = c
	return c.tries
}

// settled forgets the conflicts of m.
func (s *Sender) settled(m plant.MachineID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conflicts) > 0 {
		delete(s.conflicts, m)
	}
}

// judgeTaken turns a 2xx into Results: all delivered, unless the body says
// otherwise by the receiver's own rules, or speaks for each event. It returns nil
// if several events were refused as one.
func (s *Sender) judgeTaken(msg *message, a *httplink.Answer) []plant.Result {
	events := msg.events
	if s.ruled(a.Status) {
		if results, failed := s.judgeRules(msg, a); failed {
			return results
		}
	}
	must := a.Status == http.StatusMultiStatus || s.options.Results == resultsRequired
	if !s.speaks(msg, a.Status) || !must && (a.Page || !jsonBody(a)) {
		return []plant.Result{answerFor(events, plant.Delivered, nil)}
	}
	if why := unreadable(a); why != "" {
		return silent(events, a, why)
	}
	if why := s.items().unusable(a.Body, httplink.JSONType(a.Header)); why != "" {
		return silent(events, a, why)
	}
	items, spoken := s.items().parse(a.Body)
	if !spoken {
		if must {
			return silent(events, a, "says nothing of each event")
		}
		return []plant.Result{answerFor(events, plant.Delivered, nil)}
	}
	return s.judgeItems(msg, items, httplink.RetryAfter(a.Header, time.Now()))
}

// jsonBody reports whether the body of an answer is to be read as JSON: it says so,
// or it begins so, since many a server sends JSON as text/html or as nothing. "[OK]"
// does not begin so.
func jsonBody(a *httplink.Answer) bool {
	if httplink.JSONType(a.Header) || a.Coding() != "" && len(a.Body) > 0 {
		return true
	}
	raw := bare(a.Body)
	if len(raw) == 0 || raw[0] != '{' && raw[0] != '[' {
		return false
	}
	next := bytes.TrimSpace(raw[1:])
	return len(next) > 0 && bytes.IndexByte([]byte(`"{}[]`), next[0]) >= 0
}

// silent is an answer of which nobody knows what it says.
func silent(events []plant.Event, a *httplink.Answer, why string) []plant.Result {
	return []plant.Result{answerFor(events[:1], plant.Retry, fmt.Errorf("rest: read results: the receiver answers %s, but %s", httplink.Title(a.Status), why))}
}

// unreadable says why the body of an answer cannot be read; empty if it can.
func unreadable(a *httplink.Answer) string {
	if a.BodyErr != nil {
		return "what it says of each event cannot be read: " + a.BodyErr.Error()
	}
	if coding := a.Coding(); coding != "" && len(a.Body) > 0 {
		return "what it says of each event is packed (" + coding + "), which it was asked not to do"
	}
	return ""
}

// judgeRules holds a success against the receiver's own rules. failed is false if
// it is one by them; the results are nil if several events were refused as one.
func (s *Sender) judgeRules(msg *message, a *httplink.Answer) (results []plant.Result, failed bool) {
	rules := &s.options.Answer
	if rules.Success == "" && rules.Error == "" {
		return nil, false // the id alone is of interest, and no reason to send again
	}
	if why := unreadable(a); why != "" {
		return silent(msg.events, a, s.client.Clean(why)), true
	}
	why, err := rules.failed(a.Body)
	switch {
	case err != nil:
		return silent(msg.events, a, s.client.Clean(err.Error())), true
	case why == "":
		return nil, false
	}
	cause := &refusal{fmt.Sprintf("rest: %s %s: the receiver answers %s, but in it: %s", msg.method, httplink.Show(msg.target), httplink.Title(a.Status), s.client.Clean(why))}
	switch {
	case rules.Failure == failureRetry:
		r := answerFor(msg.events[:1], plant.Retry, cause)
		r.Wait = httplink.RetryAfter(a.Header, time.Now())
		return []plant.Result{r}, true
	case len(msg.events) > 1:
		return nil, true
	default:
		return []plant.Result{answerFor(msg.events, plant.Rejected, cause)}, true
	}
}

// cause returns what the receiver said, in words.
func (s *Sender) cause(msg *message, a *httplink.Answer) error {
	text := fmt.Sprintf("rest: %s %s: the receiver answers %s", msg.method, httplink.Show(msg.target), httplink.Title(a.Status))
	if words := s.client.Clean(s.options.Answer.words(a)); words != "" {
		text += ": " + words
	}
	advice := statuses[a.Status].advice
	if a.Status == http.StatusUnsupportedMediaType && len(s.options.Requests) > 0 {
		advice = "the receiver does not take a body of that sort; check format and content_type of the request, and gzip"
	}
	switch {
	case s.portal(a):
		text += ", but a web page came where an answer was expected: is there a login portal or a proxy in between? If the receiver itself answers so, set web_page: delivered"
	case s.plainToTLS(a):
		text += "; it speaks TLS there: write https:// in url"
	case a.Elsewhere != "":
		text += "; it sends us to " + s.client.Clean(a.Elsewhere) + ", which is not followed; if that is right, write it as url"
	case a.Status == http.StatusUnauthorized && s.options.Auth.None():
		text += "; it wants to know who we are: set auth"
	case advice != "":
		text += "; " + advice
	case a.Status < 200 || a.Status >= 300 && a.Status < 400 || a.Status > 599:
		text += ", which says nothing of the event; check url"
	}
	return &refusal{text}
}

// refusal is an answer that is no success, in words that hold no secret.
type refusal struct{ text string }

// Error implements error.
func (r *refusal) Error() string { return r.text }
