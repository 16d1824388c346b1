package prodsmart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

const (
	apiKey    = "gw-key"
	apiSecret = "c4nary-secret"
)

// wire carries requests to a handler without a network, so that a test's time
// need not be the clock's. It keeps what was asked.
type wire struct {
	handler http.Handler
	timeout time.Duration
	// away: no connection is to be had.
	away bool

	mu    sync.Mutex
	lines []string
	calls int
	life  context.Context
	end   context.CancelFunc
}

func newWire(h http.Handler) *wire {
	life, end := context.WithCancel(context.Background())
	return &wire{handler: h, timeout: 10 * time.Second, life: life, end: end}
}

// Do implements caller.
func (w *wire) Do(ctx context.Context, r *httplink.Request) (*httplink.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	request := httptest.NewRequestWithContext(ctx, r.Method, r.URL.String(), bytes.NewReader(r.Body))
	request.Header = r.Header.Clone()
	w.mu.Lock()
	w.calls++
	w.lines = append(w.lines, strings.TrimSpace(r.Method+" "+r.URL.EscapedPath()+" "+string(r.Body)))
	w.mu.Unlock()
	if w.away {
		return nil, errors.New("connection refused")
	}
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	recorder := httptest.NewRecorder()
	if err := serve(w.handler, recorder, request); err != nil {
		return nil, err
	}
	response := recorder.Result()
	body, err := io.ReadAll(response.Body)
	return &httplink.Answer{Status: response.StatusCode, Header: response.Header, Body: body, BodyErr: err}, nil
}

// serve turns a connection that a handler cuts into an error.
func serve(h http.Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler { //nolint:errorlint // it is that value
				panic(p)
			}
			err = errors.New("the connection was cut")
		}
	}()
	h.ServeHTTP(w, r)
	return nil
}

// Context implements caller.
func (w *wire) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(w.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// Close implements caller.
func (w *wire) Close() { w.end() }

// asked returns what was asked since the last call, one request a line.
func (w *wire) asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.lines
	w.lines = nil
	return lines
}

// rig is a Sender in front of a strict Prodsmart, in a synctest bubble.
type rig struct {
	t       testing.TB
	fake    *fake.Fake
	wire    *wire
	sender  *Sender
	options Options
	codes   *uplink.Codes
	logs    *observer.ObservedLogs
	journal []uplink.Exchange
	// memory is the uplink's, as the Queue keeps it.
	mu     sync.Mutex
	memory map[string][]byte
	// books are what the gateway's say.
	books func(component string, m plant.MachineID) (uplink.Stock, error)
	next  map[plant.MachineID]plant.Sequence
	sent  map[plant.MachineID]plant.Sequence
}

func company() fake.Company {
	return fake.Company{
		Key: apiKey, Secret: apiSecret,
		Machines: []fake.Machine{
			{Code: "M-1", DowntimeTypes: []string{"Jam", "Waiting", "Run"}},
			{Code: "M-2", DowntimeTypes: []string{"Jam"}},
		},
		WasteCodes: []string{"BURR", "CRACK", "REWORK"},
	}
}

func newRig(t testing.TB, c fake.Company, change ...func(*Options)) *rig {
	t.Helper()
	o := defaults()
	o.APIKey, o.APISecret = config.NewSecret(apiKey), config.NewSecret(apiSecret)
	o.DefaultType = "Run"
	o.OpenProduction = 0
	for _, ch := range change {
		ch(&o)
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, fake: fake.New(c), options: o, memory: map[string][]byte{}, next: map[plant.MachineID]plant.Sequence{}, sent: map[plant.MachineID]plant.Sequence{}}
	r.open()
	t.Cleanup(func() {
		for _, line := range r.logs.All() {
			for _, s := range r.fake.Secrets() {
				if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, s) {
					t.Errorf("a secret in the log: %s", text)
				}
			}
		}
		for _, x := range r.journal {
			text := fmt.Sprintf("%+v", x)
			for _, s := range append(r.fake.Secrets(), tokenParameter+"=") {
				if strings.Contains(text, s) {
					t.Errorf("a secret in the journal: %s", text)
				}
			}
		}
	})
	return r
}

// open makes a Sender, again after a restart of the gateway.
func (r *rig) open() {
	base, err := url.Parse("https://app.prodsmart.example/")
	if err != nil {
		r.t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	if r.logs == nil {
		r.logs = logs
	}
	r.wire = newWire(r.fake)
	r.sender = newSender(r.options, base, r.wire, httplink.NewRedactor(r.options.secrets()...), uplink.Env{
		Name: "prodsmart", Gateway: "gw", Log: zap.New(core), Codes: r.codes,
		Journal: uplink.NewJournal("prodsmart", func(x uplink.Exchange) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.journal = append(r.journal, x)
		}),
		Stock: func(_ context.Context, component string, m plant.MachineID) (uplink.Stock, error) {
			return r.books(component, m)
		},
		Memory: func(key string) ([]byte, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.memory[key], nil
		},
	})
	r.logs = logs
}

// event makes a machine's next event, a second after the one before.
func (r *rig) event(m plant.MachineID, kind plant.EventKind, data string) plant.Event {
	r.next[m]++
	s := r.next[m]
	data = fmt.Sprintf(`{"machine":%q,"mode":"production",%s`, m, strings.TrimPrefix(data, "{"))
	if !json.Valid([]byte(data)) {
		r.t.Fatalf("%s is no JSON", data)
	}
	return plant.Event{
		Gateway: "gw", Source: "/e/s/a/" + string(m), Machine: m, Epoch: 7, Sequence: s, Previous: r.sent[m],
		Kind: kind, Version: 1, Time: at(int(s)), TimeSource: plant.GatewayTime, Data: []byte(data),
	}
}

// at is when event n happened.
func at(n int) time.Time {
	return time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second)
}

// counter is the data of a counter event of so many good pieces, the last delta of
// which are new; waste is code, quantity and delta of each.
func counter(good, delta int64, waste ...any) string {
	scrap := ""
	for i := 0; i < len(waste); i += 3 {
		if i > 0 {
			scrap += ","
		}
		scrap += fmt.Sprintf(`{"code":%q,"quantity":%d,"delta":%d}`, waste[i], waste[i+1], waste[i+2])
	}
	if scrap != "" {
		scrap = `"scrap":[` + scrap + `],`
	}
	return fmt.Sprintf(`{"good":%d,"good_delta":%d,%s"from":"2026-11-22T06:00:00.000Z","to":"2026-11-22T06:00:01.000Z","raw":%d}`, good, delta, scrap, good)
}

// send sends events of one machine as the Forwarder does: merged, keeping what the
// Results put, and again at once where a stop waits to be noted. It returns what
// became of each.
func (r *rig) send(events ...plant.Event) []plant.Result {
	r.t.Helper()
	for {
		results := r.once(events...)
		if !errors.Is(results[len(results)-1].Cause, errStopNoted) {
			return results
		}
	}
}

// once is one Send.
func (r *rig) once(events ...plant.Event) []plant.Result {
	r.t.Helper()
	merged := r.merge(events)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	results := r.sender.Send(ctx, merged[0].Machine, merged)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, result := range results {
		for _, kv := range result.Put {
			r.memory[kv.Key] = kv.Value
		}
		if result.Status == plant.Delivered {
			r.sent[merged[0].Machine] = result.Last
		}
	}
	return results
}

// merge folds as the Forwarder does.
func (r *rig) merge(events []plant.Event) []plant.Event {
	var all []plant.Event
next:
	for _, e := range events {
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].Kind != e.Kind {
				continue
			}
			if merged, ok := r.sender.Merge(all[i], e); ok {
				merged.Previous = 0
				all = append(append(all[:i:i], all[i+1:]...), merged)
				continue next
			}
			break
		}
		all = append(all, e)
	}
	for i := range all {
		all[i].Previous = r.sent[all[i].Machine]
	}
	return all
}

// deliver sends events until all are delivered, at most a quarter of an hour.
func (r *rig) deliver(events ...plant.Event) {
	r.t.Helper()
	for end := time.Now().Add(15 * time.Minute); ; {
		results := r.send(events...)
		last := results[len(results)-1]
		for _, result := range results {
			for len(events) > 0 && (result.Status == plant.Delivered || result.Status == plant.Skipped) && events[0].Sequence <= result.Last {
				events = events[1:]
			}
		}
		if len(events) == 0 {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("not delivered: %+v, %v", last, last.Cause)
		}
		elapse(max(last.Wait, time.Second))
	}
}

// told returns what the journal says of the event of that number: the outcomes of
// its requests in their order.
func (r *rig) told(s plant.Sequence) (all []uplink.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.journal {
		if x.First <= s && s <= x.Last {
			all = append(all, x.Outcome)
		}
	}
	return all
}

// want checks what was asked.
func (r *rig) want(lines ...string) {
	r.t.Helper()
	got := r.wire.asked()
	for i := range lines {
		lines[i] = strings.Replace(lines[i], "M-1 ", "/api/machines/M-1/", 1)
		if strings.HasPrefix(lines[i], "/") {
			lines[i] = "POST " + lines[i]
		}
	}
	if strings.Join(got, "\n") != strings.Join(lines, "\n") {
		r.t.Errorf("asked\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// strict checks that nothing was done that Prodsmart's document forbids.
func (r *rig) strict(allowed ...string) {
	r.t.Helper()
	if v := r.fake.Violations(allowed...); len(v) > 0 {
		r.t.Errorf("violations:\n%s", central.Words(v))
	}
}

// bubble runs a test in its own time.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// elapse lets d go by in a bubble's time, and all that it causes come to rest.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
