package uplinktest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// HTTPSubject is a kind of Sender that speaks to a system over HTTP, in whatever
// dialect.
type HTTPSubject struct {
	// System makes a healthy receiver.
	System func(t testing.TB) HTTPSystem
	// Open makes a Sender. The suite closes it.
	Open func(t testing.TB, to HTTPTarget) uplink.Sender
	// Events returns n events of one machine from that sequence on that this
	// dialect carries, each of which the system books; the counter events of
	// Events without it.
	Events func(from plant.Sequence, n int) []plant.Event
	// Permanent are the statuses by which the system refuses an event for good.
	Permanent []int
	// Success are the statuses beyond 2xx that are one by the dialect's own rule.
	Success []int
	// Once says that a lost reply must lead to no second booking.
	Once bool
	// Allowed are the rules of the system that the suite's faults break.
	Allowed []string
}

// HTTPSystem is one receiver, mostly a stand-in of internal/central.
type HTTPSystem struct {
	Handler http.Handler
	// Faults stand before Handler's work.
	Faults *central.Faults
	// Booked returns how often the system has booked an event.
	Booked func(e *plant.Event) int
	// Secrets are what no error and no log line may show, asked at the end.
	Secrets func() []string
	// Violations are what the system found that its document forbids; nil if it
	// does not look.
	Violations func(allowed ...string) []central.Violation
}

// HTTPTarget is what a Sender is opened with.
type HTTPTarget struct {
	// URL is the system's base, "http://127.0.0.1:1234" or https.
	URL string
	// CA is the file of the authority that an https system's certificate is of;
	// empty for http.
	CA config.Path
	// Timeout is how long one answer is waited for.
	Timeout time.Duration
	// Env has Name, Log and Memory.
	Env uplink.Env
}

// httpRig is one Sender in front of one system.
type httpRig struct {
	*testing.T
	subject HTTPSubject
	system  HTTPSystem
	server  *httptest.Server
	target  HTTPTarget
	sender  uplink.Sender
	logs    *observer.ObservedLogs

	mu     sync.Mutex
	memory map[string][]byte
	said   []string // the words of every result
}

// events are the subject's.
func (r *httpRig) events(from plant.Sequence, n int) []plant.Event {
	if r.subject.Events != nil {
		return r.subject.Events(from, n)
	}
	return Events("M-1", from, n)
}

func newHTTPRig(t *testing.T, s HTTPSubject, timeout time.Duration, secure *tls.Config, ca config.Path) *httpRig {
	t.Helper()
	r := &httpRig{T: t, subject: s, system: s.System(t), memory: map[string][]byte{}}
	r.server = httptest.NewUnstartedServer(r.system.Handler)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure != nil {
		r.server.TLS = secure
		r.server.StartTLS()
	} else {
		r.server.Start()
	}
	t.Cleanup(r.server.Close)
	core, logs := observer.New(zapcore.DebugLevel)
	r.logs = logs
	r.target = HTTPTarget{URL: r.server.URL, CA: ca, Timeout: timeout, Env: uplink.Env{
		Name: "mes", Gateway: "gw", Path: "/acme/lisbon/packing", Log: zap.New(core), Memory: r.recall,
	}}
	r.sender = s.Open(t, r.target)
	// Close of the server waits for its handlers, so the Sender goes first.
	t.Cleanup(func() {
		r.system.Faults.Clear()
		if err := r.sender.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		r.server.CloseClientConnections()
		r.keptSecret()
		if r.system.Violations != nil {
			if found := r.system.Violations(s.Allowed...); len(found) > 0 {
				t.Errorf("the system's document forbids:\n%s", central.Words(found))
			}
		}
	})
	return r
}

func (r *httpRig) recall(key string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.memory[key], nil
}

// send sends events and returns the results; what is delivered must be booked.
func (r *httpRig) send(ctx context.Context, events []plant.Event) []plant.Result {
	results := r.sender.Send(ctx, events[0].Machine, events)
	next := events[0].Sequence
	for i := range results {
		one := &results[i]
		if one.First != next || one.Last < one.First || one.Last > events[len(events)-1].Sequence {
			r.Errorf("result %+v where %d is next", one, next)
			return results
		}
		next = one.Last + 1
		r.note(one)
		if one.Status != plant.Delivered {
			if one.Cause == nil {
				r.Errorf("%v of %d without a cause", one.Status, one.First)
			}
			continue
		}
		for j := range events {
			if e := &events[j]; e.Sequence >= one.First && e.Sequence <= one.Last && r.system.Booked(e) == 0 {
				r.Errorf("event %d is said to be delivered, and the system has not booked it", e.Sequence)
			}
		}
	}
	return results
}

// note keeps what a result wants to be remembered, and its words.
func (r *httpRig) note(one *plant.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, kv := range one.Put {
		r.memory[kv.Key] = kv.Value
	}
	if one.Cause != nil {
		r.said = append(r.said, one.Cause.Error())
	}
}

// try sends once, for a minute at most, and returns how many events from the
// first are delivered, and the first result that says otherwise.
func (r *httpRig) try(events []plant.Event) (n int, stop plant.Result) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	for _, one := range r.send(ctx, events) {
		if one.Status != plant.Delivered {
			return n, one
		}
		n += int(one.Last-one.First) + 1
	}
	return n, stop
}

// deliver sends again and again until all are delivered, as the Forwarder does.
func (r *httpRig) deliver(events []plant.Event) {
	r.Helper()
	var stop plant.Result
	for deadline := time.Now().Add(time.Minute); len(events) > 0; {
		if time.Now().After(deadline) {
			r.Fatalf("%d events are not delivered: %+v", len(events), stop)
		}
		var n int
		n, stop = r.try(events)
		events = events[n:]
		if len(events) > 0 {
			time.Sleep(min(stop.Wait, 50*time.Millisecond))
		}
	}
}

// once checks that each event is booked, and exactly once if it must be.
func (r *httpRig) once(events []plant.Event, exactly bool) {
	r.Helper()
	for i := range events {
		if n := r.system.Booked(&events[i]); n == 0 || exactly && n > 1 {
			r.Errorf("event %d is booked %d times", events[i].Sequence, n)
		}
	}
}

// keptSecret looks for a secret in everything that the Sender said.
func (r *httpRig) keptSecret() {
	var all strings.Builder
	r.mu.Lock()
	for _, words := range r.said {
		all.WriteString(words + "\n")
	}
	r.mu.Unlock()
	for _, entry := range r.logs.All() {
		fmt.Fprintln(&all, entry.Message, entry.ContextMap())
	}
	for _, secret := range r.system.Secrets() {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if secret != "" && strings.Contains(all.String(), form) {
				r.Errorf("a secret stands in what the Sender says: %s", strings.ReplaceAll(all.String(), form, "<SECRET>"))
			}
		}
	}
}

// words returns those of a result's cause.
func words(one plant.Result) string {
	if one.Cause == nil {
		return ""
	}
	return one.Cause.Error()
}

// trap is another host that nobody may be sent to.
type trap struct {
	*httptest.Server
	mu   sync.Mutex
	came bytes.Buffer
}

func newTrap(t testing.TB) *trap {
	p := &trap{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		fmt.Fprintf(&p.came, "%s %s\n", r.Method, r.URL.Path)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *trap) visits() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.came.String()
}
