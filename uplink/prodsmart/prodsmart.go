// Package prodsmart is the uplink to Prodsmart (today Autodesk Fusion
// Operations), by the letter of its REST API: machine counters, starts and
// stops, parameters, inventory movements, stock. Prodsmart takes 120 requests a minute from a whole company,
// and its machine endpoints take no time and no id: so requests are spread over
// the gateway's share, what a newer count contains is merged into it, and what is
// late is brought to the present state instead of being booked at a wrong hour.
package prodsmart

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// Kind is the kind "prodsmart" of an uplink.
var Kind = kind.NewKind("prodsmart", defaults, plan)

// plan turns good Options into a Plan. It reads the certificates.
func plan(_ string, o Options) (uplink.Plan, error) {
	o.NeedsTime(o.LeastTime())
	base, err := httplink.ParseURL("url", o.URL)
	if err != nil {
		return uplink.Plan{}, err // Validate has seen it, so this does not happen
	}
	if !strings.HasSuffix(base.Path, "/") {
		base = base.JoinPath("/")
	}
	if o.Movements != nil {
		o.Movements.fill()
	}
	if o.Stock != nil {
		o.Stock.fill()
	}
	link, err := o.Load(base)
	if err != nil {
		return uplink.Plan{}, err
	}
	return uplink.Plan{
		Endpoint: httplink.Show(base),
		// Two gateways of one company are one Target only with one key.
		Target:  base.String() + " " + o.APIKey.Reveal(),
		Bind:    string(o.Bind),
		Carries: o.carries,
		Codes:   o.Codes,
		Names:   o.names(),
		Expires: link.Expires(httplink.Auth{}),
		Options: o.Options,
		Open: func(env uplink.Env) uplink.Sender {
			redactor := httplink.NewRedactor(o.secrets()...)
			return newSender(o, base, link.Watched(env.Expiries).Open("prodsmart", o.Concurrent, redactor), redactor, env)
		},
	}, nil
}

// Sender tells one company's Prodsmart what its machines do.
type Sender struct {
	options  Options
	env      uplink.Env
	log      *zap.Logger
	base     *url.URL
	client   caller
	redactor *httplink.Redactor
	budget   *budget
	token    token
	// basic goes with the machine endpoints and the authorisation, plain with what
	// needs a token.
	basic, plain http.Header

	mu       sync.Mutex
	machines map[plant.MachineID]*machine
	// recalled is set once a kept Retry-After was looked for; until quietUntil
	// Prodsmart is left alone, for quietCause.
	recalled   bool
	quietUntil time.Time
	quietCause error
	open       openProductions
	// bills are the bills of materials that were asked for.
	bills map[string]bill
	// components are those that are booked or whose stock is set, by our code; it is
	// never changed.
	components map[string]Component
	// stocks is what is under way for each component whose stock is set.
	stocks map[string]*stockState
}

// caller makes requests: a *httplink.Client, or what stands in for one and a
// network in a test whose time is not the clock's.
type caller interface {
	Do(ctx context.Context, r *httplink.Request) (*httplink.Answer, error)
	Context(ctx context.Context) (context.Context, context.CancelFunc)
	Close()
}

var (
	_ caller        = (*httplink.Client)(nil)
	_ uplink.Sender = (*Sender)(nil)
	_ uplink.Merger = (*Sender)(nil)
	_ uplink.Misser = (*Sender)(nil)

	_ uplink.Informer = (*Sender)(nil)
)

func newSender(o Options, base *url.URL, client caller, redactor *httplink.Redactor, env uplink.Env) *Sender {
	plain := http.Header{
		"Accept": {"application/json"}, "Accept-Encoding": {"identity"},
		"Content-Type": {"application/json"}, "User-Agent": {"sluice"},
	}
	basic := plain.Clone()
	basic.Set("Authorization", "Basic "+o.login())
	components := make(map[string]Component)
	for _, row := range o.components() {
		components[row.Name] = row.Value
	}
	return &Sender{
		bills: make(map[string]bill), components: components, stocks: make(map[string]*stockState),
		options: o, env: env, log: env.Log, base: base, basic: basic, plain: plain,
		client: client, redactor: redactor,
		budget:   newBudget(float64(o.RequestsPerMinute) * float64(o.RateUse) / 100),
		token:    token{turn: make(chan struct{}, 1)},
		machines: make(map[plant.MachineID]*machine),
	}
}

// Close implements io.Closer: it ends every connection. It does not wait for a
// Send under way, which ends with the connections.
func (s *Sender) Close() error {
	s.client.Close()
	return nil
}

const (
	// lookAgain is how long a Send waits for its turn before the machine's events
	// are read again: a start or stop that has come goes first then, and the newest
	// count is sent.
	lookAgain = time.Second
	// longestLook bounds that of a machine with a long backlog, which takes its time
	// to be read; it leaves the request its timeout within a usual send_timeout.
	longestLook = 18 * time.Second
	// heldFor is how long what a person must mend, or what must grow first, is left
	// alone.
	heldFor = time.Minute
)

// patience is how long a Send of those events may wait for its turn: about a
// thousand times what it takes to read what they were merged from.
func patience(events []plant.Event) time.Duration {
	span := time.Duration(events[len(events)-1].Sequence-events[0].Previous) * time.Millisecond
	return min(max(span, lookAgain), longestLook)
}

// work is one Send.
type work struct {
	*Sender
	m      *machine
	events []plant.Event
	done   []result
	// stock is the component whose stock an event has changed, by its index.
	stock map[int]string
	until time.Time
	// commanded says that a person sends the events again, who may have mended what
	// stood in their way.
	commanded bool
	// put is what the answers want to be kept besides the machine's memory.
	put []plant.KV
}

// result is what became of an event; the zero result is open.
type result struct {
	plant.Result
	set bool
}

// Send implements uplink.Sender: starts and stops first, then counts, then
// parameters, and stock last, each as soon as there is room for its request.
func (s *Sender) Send(ctx context.Context, id plant.MachineID, events []plant.Event) []plant.Result {
	ctx, cancel := s.client.Context(ctx)
	defer cancel()
	w := &work{Sender: s, events: events, done: make([]result, len(events)), stock: make(map[int]string), until: time.Now().Add(patience(events))}
	stop := s.quiet()
	if stop == nil {
		w.m = s.load(id)
		if w.commanded = uplink.Commanded(ctx); w.commanded {
			w.m.askAnew()
		}
		stop = w.run(ctx)
	}
	if stop != nil && stop.ahead > 0 {
		// A machine whose backlog takes long to be read is not read again long before
		// its turn.
		stop.wait = min(max(stop.ahead-lookAgain, 0), patience(events)-lookAgain)
	}
	return w.results(stop)
}

// run sends what is to be sent, class by class, and returns why not all of it.
func (w *work) run(ctx context.Context) *halt {
	w.sort()
	for _, step := range []func(context.Context) *halt{w.states, w.movements, w.counts, w.parameters, w.stocktake} {
		if stop := step(ctx); stop != nil {
			return stop
		}
	}
	w.lookForPairs(ctx)
	w.lookForProductions(ctx)
	return nil
}

// sort answers for what says nothing to Prodsmart.
func (w *work) sort() {
	for i := range w.events {
		e := &w.events[i]
		_, named := w.options.AsParameters[string(e.Kind)]
		moved, err := w.options.Stock.moved(e)
		switch {
		case err != nil:
			w.settle(i, plant.Rejected, problem("unreadable", "the event's data cannot be read: %v", err), 0)
		case moved != "":
			w.stock[i] = moved
		case e.Machine == plant.GatewayStream:
			w.deliver(i)
		case e.Kind == plant.KindGap:
			w.noteGap(e)
			if !named {
				w.deliver(i)
			}
		case e.Kind == plant.KindCounter && e.Sequence <= w.m.Counter:
			w.deliver(i) // Prodsmart has a newer one, which contains it
		case named, w.options.Movements.carries(e.Kind), e.Kind == plant.KindCounter, e.Kind == plant.KindParameters, e.Kind == plant.KindStartStop, e.Kind == plant.KindReason:
		default:
			w.deliver(i)
		}
	}
}

func (w *work) deliver(i int) { w.settle(i, plant.Delivered, nil, 0) }

// settle says what became of event i.
func (w *work) settle(i int, status plant.Status, cause error, wait time.Duration) {
	s := w.events[i].Sequence
	w.done[i] = result{plant.Result{First: s, Last: s, Status: status, Cause: cause, Wait: wait}, true}
}

// refuse settles an event that Prodsmart refuses for good, and remembers it, so
// that it is not asked again at once if the stream is held for it.
func (w *work) refuse(i int, c class, cause error) {
	w.m.refused[c] = refusedEvent{w.events[i].Sequence, time.Now(), cause}
	w.settle(i, plant.Rejected, cause, 0)
}

// again settles an event that was refused a short while ago, and reports whether
// it was.
func (w *work) again(i int, c class) bool {
	r := w.m.refused[c]
	if r.sequence != w.events[i].Sequence || time.Since(r.at) > heldFor {
		return false
	}
	w.settle(i, plant.Rejected, r.cause, 0)
	return true
}

// hold settles an event that waits for a person, or for a count to grow.
func (w *work) hold(i int, c class, cause error) {
	w.m.held[c] = hold{until: time.Now().Add(heldFor), cause: cause}
	w.settle(i, plant.Held, cause, 0)
}

// results answers for the events in their order, up to the first that is open.
func (w *work) results(stop *halt) []plant.Result {
	var all []plant.Result
	for i := range w.done {
		if !w.done[i].set {
			s := w.events[i].Sequence
			r := plant.Result{First: s, Last: s, Status: plant.Retry, Cause: errOpen}
			if stop != nil {
				r.Cause, r.Wait = stop.cause, stop.wait
			}
			all = append(all, r)
			break
		}
		r := w.done[i].Result
		if n := len(all); n > 0 && r.Status == plant.Delivered && all[n-1].Status == plant.Delivered {
			all[n-1].Last = r.Last
			continue
		}
		all = append(all, r)
		if r.Status == plant.Retry || r.Status == plant.Held {
			break
		}
	}
	put := w.put
	if stop != nil {
		put = append(put, stop.put...)
	}
	if w.m != nil {
		put = append(put, w.Sender.put(w.m)...)
	}
	if len(put) == 0 {
		return all
	}
	// The Forwarder may stop at any refusal, and keeps what stands at the result
	// that it stops at.
	for i := range all {
		if all[i].Status != plant.Delivered || i == len(all)-1 {
			all[i].Put = put
		}
	}
	return all
}

// errOpen is the Cause of an event behind one that waits.
var errOpen = errors.New("prodsmart: it waits for the events before it")

// machineCall is a call of one of the machine endpoints about events first…last.
func (w *work) machineCall(c class, what string, body []byte, kind plant.EventKind, indexes ...int) *call {
	code, _ := w.env.Codes.For(w.m.id, w.events[indexes[len(indexes)-1]].Sequence).Lookup(plant.CodeMachine, string(w.m.id)) // an unmapped one goes as it is, and is listed
	return &call{
		class: c, method: http.MethodPost, path: "machines/" + url.PathEscape(code) + "/" + what, body: body, header: w.basic,
		machine: w.m.id, kind: kind, until: w.until, events: len(indexes),
		first: w.events[indexes[0]].Sequence, last: w.events[indexes[len(indexes)-1]].Sequence,
	}
}

// concluded settles the events of a machine call that was not taken. It returns
// the halt if nothing else may be sent.
func (w *work) concluded(c *call, o outcome, a *httplink.Answer, h *halt, indexes ...int) *halt {
	if h != nil {
		return h
	}
	var cause error
	switch o {
	case missing:
		cause = problem("missing", "Prodsmart has no such machine: %s; give its code there in codes: machine:", w.said(c, a))
	case stumbled:
		cause = problem("stumbled", "%s", w.said(c, a))
	default:
		cause = problem("refused "+letters(a.Words()), "%s", w.said(c, a))
	}
	for _, i := range indexes {
		switch o {
		case missing:
			w.hold(i, c.class, cause)
		case stumbled:
			w.settle(i, plant.Retry, cause, httplink.RetryAfter(a.Header, time.Now()))
		default:
			w.refuse(i, c.class, cause)
		}
	}
	return nil
}

// said is what Prodsmart said to a call.
func (s *Sender) said(c *call, a *httplink.Answer) string {
	text := c.method + " " + c.path + ": Prodsmart answers " + httplink.Title(a.Status)
	if words := s.redactor.Clean(a.Words()); words != "" {
		text += ": " + words
	}
	return text
}

// letters is text without digits, so that refusals that differ in a number are of
// one sort.
func letters(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}
