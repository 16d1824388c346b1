// Package rest is the uplink to an HTTP receiver: CloudEvents in JSON, or what the
// templates of its config make of each kind of event, one or many in a body.
// "Delivered" is the receiver's word, a status 2xx or, where it answers for each
// event or has rules of its own, what it says of that event.
package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// Kind is the kind "rest" of an uplink.
var Kind = kind.NewKind("rest", defaults, plan)

// maxRequests bounds the requests of one Send, so that a receiver of usual
// speed answers them all within send_timeout.
const maxRequests = 32

// plan turns good Options into a Plan. It reads the certificates.
func plan(_ string, o Options) (uplink.Plan, error) {
	o.NeedsTime(o.LeastTime())
	target, err := httplink.ParseURL("url", o.URL)
	if err != nil {
		return uplink.Plan{}, err // Validate has seen it, so this does not happen
	}
	link, err := o.LoadAuth(target, o.Auth)
	if err != nil {
		return uplink.Plan{}, err
	}
	templates, err := o.compile(target)
	if err != nil {
		return uplink.Plan{}, err
	}
	o.BatchEvents = min(o.BatchEvents, o.Batch*maxRequests)
	codes, translates, doubts := o.translation(templates)
	return uplink.Plan{
		Endpoint: httplink.Show(target),
		Target:   target.String(),
		Bind:     string(o.Bind),
		Carries:  o.carries,
		Codes:    codes,
		Expires:  link.Expires(o.Auth),
		Options:  o.Options,

		Translates: translates,
		Open: func(env uplink.Env) uplink.Sender {
			s := &Sender{
				options: o, target: target, log: env.Log, memory: env.Memory, journal: env.Journal, headers: o.header(),
				form:      o.form(target, templates, env.Codes),
				conflicts: make(map[plant.MachineID]conflict),
				doubts:    make(map[plant.MachineID]span),
			}
			s.client = link.Watched(env.Expiries).Session(httplink.SessionOptions{Name: "rest", Connections: o.Concurrent, Auth: o.Auth, Sign: o.Sign, Note: httplink.NoteTokens(env.Journal, o.Auth)})
			return s
		},
	}, doubts
}

// translation returns the tables that have a say in what is sent, what becomes of
// the codes of a kind there, and as config.FieldErrors what has no say.
func (o Options) translation(templates *templated) (codes uplink.CodeTables, translates func(plant.CodeKind) uplink.Translation, doubts error) {
	if len(o.Requests) == 0 {
		return o.Codes.ForCloudEvents(), nil, o.Codes.CheckCloudEvents()
	}
	var errs []error
	for _, kind := range plant.CodeKinds() {
		if len(o.Codes.Table(kind).Rows) > 0 && templates.translates(kind) == uplink.Untranslated {
			errs = append(errs, config.Warn("codes."+string(kind), "no template asks for it, so it has no effect", fmt.Sprintf("write {{code %q …}} where such a code goes, or remove the table", kind)))
		}
	}
	return o.Codes, templates.translates, errors.Join(errs...)
}

// form returns what makes messages of events.
func (o Options) form(target *url.URL, templates *templated, codes *uplink.Codes) form {
	if len(o.Requests) == 0 {
		return &cloudEvents{method: o.Method, target: target, header: o.header(), batch: o.Batch, codes: codes}
	}
	return templates.pool(codes)
}

// Sender posts the events of all machines to one URL.
type Sender struct {
	options Options
	target  *url.URL
	form    form
	// headers are those of a request that carries no event.
	headers http.Header
	client  *httplink.Session
	journal *uplink.Journal
	log     *zap.Logger
	memory  func(key string) ([]byte, error)

	// packers are *gzip.Writer that are not in use.
	packers sync.Pool

	// taken is when the receiver last took something, in Unix nanoseconds.
	taken atomic.Int64
	// most is the largest body of several events that the receiver has not yet
	// called too large; 0 while it has called none so.
	most atomic.Int64

	mu        sync.Mutex
	conflicts map[plant.MachineID]conflict
	doubts    map[plant.MachineID]span
	// quiet is nil before the first Send.
	quiet *quiet
}

var _ uplink.Sender = (*Sender)(nil)

// errLate is the Cause of events that there was no time for.
var errLate = errors.New("the receiver is slow: send_timeout ended before all events of the batch were sent; if it is always that slow, raise batch, or lower batch_events")

// Send implements uplink.Sender: it sends the events in order, one request
// after the other, up to the first that is not taken.
func (s *Sender) Send(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
	ctx, cancel := s.client.Context(ctx)
	defer cancel()
	if left, cause := s.quietLeft(); left > 0 {
		r := answerFor(events[:1], plant.Retry, cause)
		r.Wait = left
		return []plant.Result{r}
	}
	var results []plant.Result
	for at := 0; at < len(events); {
		if at > 0 && s.late(ctx) {
			return add(results, answerFor(events[at:at+1], plant.Retry, errLate))
		}
		next := events[at:]
		again := s.doubted(m, next)
		if again > 0 {
			next = next[:again]
		}
		msg, err := s.fill(next)
		if err != nil {
			return add(results, answerFor(events[at:at+1], plant.Rejected, err))
		}
		n := len(msg.events)
		if msg.leftOut {
			results = add(results, answerFor(msg.events, plant.Delivered, nil))
			at += n
			continue
		}
		answers := s.deliver(ctx, m, msg, again == n)
		results = add(results, answers...)
		if results[len(results)-1].Status != plant.Delivered || len(answers) > 1 {
			return results
		}
		at += n
	}
	return results
}

// late reports whether the next request might not end before ctx does. To begin
// it would leave in doubt what became of it.
func (s *Sender) late(ctx context.Context) bool {
	end, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && time.Until(end) < s.options.Timeout.Std()
}

// deliver sends one message, and its events in halves if that one is refused
// without a word on which event is at fault. again is that of post.
func (s *Sender) deliver(ctx context.Context, m plant.MachineID, msg *message, again bool) []plant.Result {
	events := msg.events
	began := time.Now()
	a, err := s.post(ctx, msg, again)
	results := s.settle(m, msg, a, err)
	s.note(m, msg, began, a, err, results)
	if results != nil {
		return results
	}
	if a.Status == http.StatusRequestEntityTooLarge {
		s.tooLarge(len(msg.body))
	}
	return s.halves(ctx, m, events)
}

// settle turns what came of one message into Results. It returns nil if several
// events were refused as one.
func (s *Sender) settle(m plant.MachineID, msg *message, a *httplink.Answer, err error) []plant.Result {
	events := msg.events
	if err != nil {
		r := answerFor(events[:1], plant.Retry, &uplink.LinkError{Err: err})
		if token, ok := errors.AsType[*httplink.TokenError](err); ok {
			r.Wait = token.Wait()
			return []plant.Result{r}
		}
		s.doubt(m, events)
		if failure, ok := errors.AsType[*httplink.Failure](err); ok {
			r.Wait = failure.Wait()
		}
		return []plant.Result{r}
	}
	results := s.judge(m, msg, a)
	if results != nil && a.BodyErr != nil && results[0].Status == plant.Retry {
		s.doubt(m, events)
	}
	return results
}

// halves sends events in two messages, the second if the first is delivered.
func (s *Sender) halves(ctx context.Context, m plant.MachineID, events []plant.Event) (results []plant.Result) {
	half := len(events) / 2
	for _, part := range [][]plant.Event{events[:half], events[half:]} {
		if len(results) > 0 && s.late(ctx) {
			return add(results, answerFor(part[:1], plant.Retry, errLate))
		}
		smaller, err := s.form.fill(part, int(s.options.MaxBody), int(s.options.MaxBody))
		if err != nil {
			return add(results, answerFor(part[:1], plant.Rejected, err))
		}
		results = add(results, s.deliver(ctx, m, smaller, false)...)
		if results[len(results)-1].Status != plant.Delivered || len(smaller.events) < len(part) {
			return results
		}
	}
	return results
}

// tooLarge remembers that a body of several events was called too large, so
// that not each batch is sent twice.
func (s *Sender) tooLarge(size int) {
	for {
		most := s.most.Load()
		if most != 0 && most <= int64(size)/2 {
			return
		}
		if s.most.CompareAndSwap(most, int64(size)/2) {
			s.log.Info("the receiver calls a body too large, smaller batches from now on", zap.Int("bytes", size))
			return
		}
	}
}

// add appends results, contiguous Delivered ones as one.
func add(results []plant.Result, more ...plant.Result) []plant.Result {
	for _, r := range more {
		if n := len(results); n > 0 && r.Status == plant.Delivered && results[n-1].Status == plant.Delivered {
			results[n-1].Last = r.Last
			continue
		}
		results = append(results, r)
	}
	return results
}

// answerFor returns one Result for all of events.
func answerFor(events []plant.Event, status plant.Status, cause error) plant.Result {
	return plant.Result{First: events[0].Sequence, Last: events[len(events)-1].Sequence, Status: status, Cause: cause}
}

// Close implements io.Closer: it ends every connection. It does not wait for a
// Send under way, which ends with the connections.
func (s *Sender) Close() error {
	s.client.Close()
	return nil
}
