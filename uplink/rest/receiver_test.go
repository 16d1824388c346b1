package rest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// request is what a receiver got.
type request struct {
	header http.Header
	method string
	path   string
	body   []byte
	remote string
}

// events returns the events of a body, one or several.
func (r request) events(t testing.TB) []uplinktest.Arrival {
	var raw []json.RawMessage
	if r.body[0] != '[' {
		raw = append(raw, r.body)
	} else if err := json.Unmarshal(r.body, &raw); err != nil {
		t.Errorf("a batch that is no JSON: %v", err)
	}
	var all []uplinktest.Arrival
	for _, body := range raw {
		var e struct{ Source, ID string }
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("an event that is no JSON: %v", err)
		}
		all = append(all, uplinktest.Arrival{Source: e.Source, ID: e.ID, Body: body})
	}
	return all
}

// receiver is an HTTP server that takes every event whose request came whole,
// unless answer is set: that says what became of it.
type receiver struct {
	t    testing.TB
	addr string
	tls  *tls.Config
	// answer writes the answer to the nth request, from 1, and returns whether
	// its events are taken.
	answer func(n int, r request, w http.ResponseWriter) bool

	mu       sync.Mutex
	server   *http.Server
	ended    chan struct{}
	arrivals []uplinktest.Arrival
	requests []request
	had      map[string]string
}

var (
	_ uplinktest.Receiver   = (*receiver)(nil)
	_ uplinktest.Rememberer = (*receiver)(nil)
)

// Remember implements uplinktest.Rememberer.
func (r *receiver) Remember(m plant.MachineID, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.had[string(m)] = text
}

// cursor answers a request for what was last had of a machine.
func (r *receiver) cursor(w http.ResponseWriter, machine string) {
	r.mu.Lock()
	text := r.had[machine]
	r.mu.Unlock()
	if text == "" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = io.WriteString(w, text) // who asked may be gone
}

func newReceiver(t testing.TB, change ...func(*receiver)) *receiver {
	r := &receiver{t: t, addr: uplinktest.Address(t), had: map[string]string{}}
	for _, c := range change {
		c(r)
	}
	r.Start()
	t.Cleanup(r.Stop)
	return r
}

// answering starts a receiver with a script.
func answering(t testing.TB, answer func(n int, r request, w http.ResponseWriter) bool) *receiver {
	return newReceiver(t, func(r *receiver) { r.answer = answer })
}

func (r *receiver) Addr() string { return r.addr }

func (r *receiver) Arrivals() []uplinktest.Arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrivals)
}

func (r *receiver) seen() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

func (r *receiver) Start() {
	listener := listen(r.t, r.addr)
	if r.tls != nil {
		listener = tls.NewListener(listener, r.tls)
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan struct{})
	r.mu.Lock()
	r.server, r.ended = server, ended
	r.mu.Unlock()
	go func() {
		_ = server.Serve(listener) // it ends with Close
		close(ended)
	}()
}

// listen listens there, again after a restart.
func listen(t testing.TB, addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (r *receiver) Stop() {
	r.mu.Lock()
	server, ended := r.server, r.ended
	r.server = nil
	r.mu.Unlock()
	if server != nil {
		server.Close()
		<-ended
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if machine, ok := strings.CutPrefix(q.URL.Path, "/cursors/"); ok {
		r.cursor(w, machine)
		return
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // a part of a request is no event
	}
	got := request{header: q.Header, method: q.Method, path: q.URL.String(), body: body, remote: q.RemoteAddr}
	r.mu.Lock()
	r.requests = append(r.requests, got)
	n := len(r.requests)
	r.mu.Unlock()
	if r.answer != nil && !r.answer(n, got, w) {
		return
	}
	r.mu.Lock()
	r.arrivals = append(r.arrivals, got.events(r.t)...)
	r.mu.Unlock()
	if r.answer == nil {
		w.WriteHeader(http.StatusNoContent)
	}
}

const (
	// testTimeout is beyond what a busy computer takes for an answer.
	testTimeout = 10 * time.Second
	testMaxBody = 16 << 10
)

func testOptions(addr string) Options {
	o := defaults()
	o.URL = "http://" + addr + "/events"
	o.Timeout = config.Duration(testTimeout)
	o.MaxBody = testMaxBody
	return o
}

func openWith(t testing.TB, o Options) uplink.Sender {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	return openUnchecked(t, o)
}

// openUnchecked is for options that are warned of.
func openUnchecked(t testing.TB, o Options) uplink.Sender {
	t.Helper()
	return openRemembering(t, o, func(string) ([]byte, error) { return nil, nil })
}

// openRemembering is a start with what an earlier one left behind.
func openRemembering(t testing.TB, o Options, memory func(string) ([]byte, error)) uplink.Sender {
	t.Helper()
	p, err := plan("mes", o)
	if err != nil {
		t.Fatal(err)
	}
	s := p.Open(uplink.Env{Name: "mes", Gateway: "gw", Path: "/acme/lisbon/packing", Log: zap.NewNop(), Memory: memory})
	t.Cleanup(func() { s.Close() })
	return s
}

func subject(change func(*Options)) uplinktest.Subject {
	open := func(t testing.TB, addr string, ackTimeout time.Duration, change func(*Options)) uplink.Sender {
		o := testOptions(addr)
		o.Timeout, o.SendTimeout = config.Duration(ackTimeout), config.Duration(time.Minute)
		change(&o)
		return openWith(t, o)
	}
	return uplinktest.Subject{
		Receiver: func(t testing.TB) uplinktest.Receiver { return newReceiver(t) },
		Open: func(t testing.TB, addr string, ackTimeout time.Duration) uplink.Sender {
			return open(t, addr, ackTimeout, change)
		},
		OpenAsking: func(t testing.TB, addr string, ackTimeout time.Duration) uplink.Sender {
			return open(t, addr, ackTimeout, func(o *Options) {
				change(o)
				o.CursorURL = "http://" + addr + "/cursors/{machine}"
			})
		},
		TooLarge: testMaxBody,
	}
}

func TestConformanceOfSingleEvents(t *testing.T) {
	uplinktest.Run(t, subject(func(*Options) {}))
}

func TestConformanceOfBatches(t *testing.T) {
	uplinktest.Run(t, subject(func(o *Options) { o.Batch = 25 }))
}

// TestConformanceWithAnswersForEachEvent has a receiver that answers for each
// event, so that a cut answer is no answer.
func TestConformanceWithAnswersForEachEvent(t *testing.T) {
	s := subject(func(o *Options) { o.Batch, o.Results = 25, resultsRequired })
	s.Receiver = func(t testing.TB) uplinktest.Receiver {
		return answering(t, func(_ int, q request, w http.ResponseWriter) bool {
			var out bytes.Buffer
			for i, e := range q.events(t) {
				if i > 0 {
					out.WriteByte(',')
				}
				fmt.Fprintf(&out, `{"id":%q,"status":201}`, e.ID)
			}
			defer fmt.Fprintf(w, `{"results":[%s]}`, out.Bytes())
			w.Header().Set("Content-Type", "application/json")
			return true
		})
	}
	uplinktest.Run(t, s)
}

// delivered returns how many of n events, from the first, the results deliver.
func delivered(results []plant.Result, first plant.Sequence) int {
	n := 0
	for _, r := range results {
		if r.Status != plant.Delivered || r.First != first {
			break
		}
		n += int(r.Last-r.First) + 1
		first = r.Last + 1
	}
	return n
}
