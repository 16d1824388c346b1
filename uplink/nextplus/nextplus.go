// Package nextplus is the uplink to an ERP that was built to receive the reports
// of the Next Plus Integration Builder: serial numbers, attached items and
// operations as HTTP POST with JSON, one URL for each. The gateway takes the place
// of Next Plus. The ids that the receiver answers with are kept durably, and an
// attach waits for the answer to its unit.
package nextplus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// Kind is the kind "nextplus" of an uplink.
var Kind = kind.NewKind("nextplus", defaults, plan)

// maxEvents bounds the events of one Send, a request each, so that a receiver of
// usual speed answers them all within send_timeout.
const maxEvents = 32

// plan turns good Options into a Plan. It reads the certificates.
func plan(_ string, o Options) (uplink.Plan, error) {
	o.NeedsTime(o.LeastTime())
	links := make(map[plant.EventKind]link)
	p := uplink.Plan{Codes: o.Codes, Orders: uplink.OrderSource{Key: "work_order_source", Name: o.WorkOrderSource}}
	var shown, targets []string
	for _, f := range forms {
		text := f.url(&o)
		if text == "" {
			continue
		}
		to, err := httplink.ParseURL(f.key, text)
		if err != nil {
			return uplink.Plan{}, err // Validate has seen it, so this does not happen
		}
		way, err := o.LoadAuth(to, o.Auth)
		if err != nil {
			return uplink.Plan{}, err
		}
		links[f.kind] = link{to, way}
		p.Expires = way.Expires(o.Auth)
		if f.kind == plant.KindItemAttach {
			for _, k := range o.Doses.kinds() {
				links[k] = links[f.kind]
			}
		}
		shown, targets = append(shown, httplink.Show(to)), append(targets, to.String())
	}
	o.BatchEvents = min(o.BatchEvents, maxEvents)
	p.Endpoint, p.Target, p.Bind, p.Options = strings.Join(shown, ", "), strings.Join(targets, " "), string(o.Bind), o.Options
	p.Carries = func(k plant.EventKind) bool { _, has := links[k]; return has && o.Kinds.Carry(k) }
	p.Open = func(env uplink.Env) uplink.Sender { return open(o, links, env) }
	return p, nil
}

func open(o Options, links map[plant.EventKind]link, env uplink.Env) *Sender {
	s := &Sender{
		options: o, env: env, codes: env.Codes, memory: env.Memory, header: o.header(),
		targets: make(map[plant.EventKind]target), lost: make(map[plant.MachineID]plant.Sequence),
		began: make(map[string]began), lulls: make(map[string]*lull), pause: pauseAfter,
		opened: time.Now(), sent: make(map[plant.MachineID]int),
	}
	clients := make(map[string]*httplink.Session)
	for _, f := range forms {
		l, has := links[f.kind]
		if !has {
			continue
		}
		origin := l.url.Scheme + "://" + l.url.Host
		client := clients[origin]
		if client == nil {
			client = l.way.Watched(env.Expiries).Session(httplink.SessionOptions{
				Name: "nextplus", Connections: o.Concurrent, Auth: o.Auth, Note: httplink.NoteTokens(env.Journal, o.Auth),
			})
			clients[origin] = client
		}
		s.targets[f.kind] = target{l.url, client}
	}
	for _, k := range o.Doses.kinds() {
		s.targets[k] = s.targets[plant.KindItemAttach]
	}
	return s
}

// Sender posts the events of all machines to the URLs of their kinds.
type Sender struct {
	options Options
	env     uplink.Env
	codes   *uplink.Codes
	memory  func(key string) ([]byte, error)
	header  http.Header
	targets map[plant.EventKind]target

	mu sync.Mutex
	// lost is the event of a machine whose request went out and had no reply.
	lost map[plant.MachineID]plant.Sequence
	// began is what was noted of a machine before its requests, by key of the memory.
	began map[string]began
	// opened is when the Sender was opened, and sent how many requests it has made
	// since of a machine's events from before; it stops at maxEvents.
	opened time.Time
	sent   map[plant.MachineID]int
	// lulls are the URLs that have lost a reply.
	lulls map[string]*lull
	// pause is pauseAfter, but in tests.
	pause func(lost int) time.Duration
}

var (
	_ uplink.Sender = (*Sender)(nil)
	_ uplink.Tester = (*Sender)(nil)
)

// errLate is the Cause of events that there was no time for, and errMemory is in
// the Cause of those for which the memory could not be read.
var (
	errLate   = errors.New("nextplus: the receiver is slow: send_timeout ended before all events of the batch were sent")
	errMemory = errors.New("nextplus: read memory")
)

// Send implements uplink.Sender: a request for each event, in order. An event that
// waits for another one's answer is set aside, and those behind it go on; any other
// that is not accepted ends the Send.
func (s *Sender) Send(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
	v := s.view(m)
	results := make([]plant.Result, 0, len(events))
	for i := range events {
		if i > 0 && s.late(ctx) {
			return append(results, result(&events[i], plant.Retry, errLate))
		}
		v.begin()
		r := s.one(ctx, v, &events[i])
		results = append(results, r)
		// What is behind a refused event may be held back: the Forwarder decides.
		if r.Status == plant.Retry || r.Status == plant.Rejected {
			break
		}
	}
	return results
}

// late reports whether the next request might not end before ctx does.
func (s *Sender) late(ctx context.Context) bool {
	end, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && time.Until(end) < s.options.Timeout.Std()
}

func result(e *plant.Event, status plant.Status, cause error) plant.Result {
	return plant.Result{First: e.Sequence, Last: e.Sequence, Status: status, Cause: cause}
}

// one sends one event and says what became of it.
func (s *Sender) one(ctx context.Context, v *view, e *plant.Event) plant.Result {
	c, err := s.build(v, e)
	var content []byte
	if err == nil {
		content, err = body(c.form)
	}
	var wait *waits
	var skip *passed
	switch {
	case errors.As(err, &skip):
		return result(e, plant.Skipped, err)
	case errors.As(err, &wait):
		r := result(e, plant.Held, err)
		r.WaitsFor = wait.key
		v.held[wait.key] = true
		return r
	case errors.Is(err, errMemory):
		return result(e, plant.Retry, err)
	case err != nil:
		return result(e, plant.Rejected, err)
	}
	to := s.targets[e.Kind]
	if r, wait := s.lulled(ctx, to, e); wait {
		s.over(v, e) // a note says that it went out
		r.Put = v.take()
		return r
	}
	if r, stop := s.begin(ctx, v, e); stop {
		if r.Status == plant.Rejected && c.add {
			v.refuse(c.key, r.Cause.Error())
			r.Put = v.take()
		}
		return r
	}
	repeated := s.repeated(e)
	if repeated {
		c.marks = append(c.marks, "sent again: the reply to the first request was lost")
	}
	began := time.Now()
	answer, sent, err := s.post(ctx, to, e, content, repeated || s.mayBeRepeated(ctx, e))
	var d decision
	if err != nil {
		d = s.unanswered(err, sent)
	} else {
		d = s.judge(to, c, answer, repeated)
	}
	s.settled(e, d)
	s.noteLull(to, d.lost, err == nil, d.cause)
	s.over(v, e)
	r := result(e, d.status, d.cause)
	r.Wait = d.wait
	if err := s.remember(v, c, d); err != nil {
		// Accepted, and what it means cannot be kept now: the id would be lost.
		d.status, d.cause = plant.Retry, err
		r = result(e, plant.Retry, err)
	} else {
		r.Put = v.take()
	}
	s.note(e, to, c, d, began)
	return r
}

// remember enters what became of a call into v.
func (s *Sender) remember(v *view, c *call, d decision) error {
	switch {
	case d.status == plant.Delivered:
		return c.accepted(v, d.externalID)
	case d.status == plant.Rejected && c.add:
		v.refuse(c.key, d.cause.Error())
	}
	return nil
}

// repeated reports whether the request of e went out before, without a reply.
func (s *Sender) repeated(e *plant.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost[e.Machine] == e.Sequence
}

// mayBeRepeated reports whether the request of e may have gone out before, for all
// that is known: a person sends it again, or it may have been among those that a
// gateway which was killed had sent and not settled. With on_lost_reply: park those
// are noted.
func (s *Sender) mayBeRepeated(ctx context.Context, e *plant.Event) bool {
	if uplink.Commanded(ctx) {
		return true
	}
	if s.options.OnLostReply == lostPark || !e.Time.Before(s.opened) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent[e.Machine] == maxEvents {
		return false
	}
	s.sent[e.Machine]++
	return true
}

// settled notes what a decision says of the link and of a lost reply.
func (s *Sender) settled(e *plant.Event, d decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case d.lost:
		s.lost[e.Machine] = e.Sequence
	case d.status != plant.Retry:
		delete(s.lost, e.Machine)
	}
}

// note tells the journal of a request.
func (s *Sender) note(e *plant.Event, to target, c *call, d decision, began time.Time) {
	outcome := uplink.OutcomeRetry
	switch d.status {
	case plant.Delivered:
		outcome = uplink.OutcomeDelivered
	case plant.Rejected:
		outcome = uplink.OutcomeRefused
	}
	words := d.words
	if d.cause != nil {
		words = d.cause.Error()
	}
	if len(c.marks) > 0 {
		words = strings.Join(append(slices.DeleteFunc([]string{words}, func(w string) bool { return w == "" }), c.marks...), "; ")
	}
	theirs := ""
	if d.externalID != "" {
		theirs = to.client.Clean(d.externalID)
	}
	s.env.Journal.Note(uplink.Exchange{
		Time: began, Machine: e.Machine, Kind: e.Kind, First: e.Sequence, Last: e.Sequence, Events: 1,
		RequestID: requestID(e), ReceiverID: theirs, Method: http.MethodPost, Where: httplink.Show(to.url), Status: d.code, Duration: time.Since(began), Outcome: outcome, Words: words,
	})
}

// Close implements io.Closer: it ends every connection. It does not wait for a
// Send under way, which ends with the connections.
func (s *Sender) Close() error {
	for _, t := range s.targets {
		t.client.Close()
	}
	return nil
}

// Test implements uplink.Tester: it asks each URL for its options, which changes
// nothing there (RFC 9110 section 9.3.7). A receiver of POST alone answers 405 or
// 404, and is there as well; who is not let in hears so.
func (s *Sender) Test(ctx context.Context) error {
	var errs []error
	for _, f := range forms {
		if to, has := s.targets[f.kind]; has {
			errs = append(errs, s.try(ctx, f.key, to))
		}
	}
	return errors.Join(errs...)
}

func (s *Sender) try(ctx context.Context, key string, to target) error {
	return s.askOptions(ctx, to, uplink.OutcomeTest, func(a *httplink.Answer) (string, error) {
		switch {
		case a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden || a.Status == http.StatusProxyAuthRequired || a.Status >= 500 && a.Status != http.StatusNotImplemented:
			return "", fmt.Errorf("nextplus: %s: %s answers %s: %s", key, httplink.Show(to.url), httplink.Title(a.Status), cmp.Or(to.client.Clean(a.Words()), "check the URL and auth"))
		case a.Success() && a.Page && s.options.WebPage == asRetry:
			return "", fmt.Errorf("nextplus: %s: %s answers %s, but a web page came where an answer was expected: is there a login portal or a proxy in between? If the receiver itself answers so, set web_page: delivered", key, httplink.Show(to.url), httplink.Title(a.Status))
		}
		return to.client.Clean(a.Words()), nil
	})
}

// askOptions asks a URL for its options.
func (s *Sender) askOptions(ctx context.Context, to target, outcome uplink.Outcome, judge func(*httplink.Answer) (string, error)) error {
	ctx, cancel := to.client.Context(ctx)
	defer cancel()
	return to.client.Ask(ctx, s.env.Journal, &httplink.Request{Method: http.MethodOptions, URL: to.url, Header: s.header, Stay: true, Most: maxAnswer}, outcome, judge)
}
