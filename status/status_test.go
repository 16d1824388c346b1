package status

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fixed is a Source with one answer.
type fixed Snapshot

func (f fixed) Snapshot() Snapshot { return Snapshot(f) }

var _ Source = fixed{}

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// plantAt is a plant in which one of everything is wrong.
func plantAt() Snapshot {
	running, stopped := true, false
	return Snapshot{
		At: noon, Gateway: "line-3", Version: "v0.1.0", Started: noon.Add(-3 * time.Hour), Ready: true,
		Devices: []drivers.Stats{
			{Device: "press-plc", Endpoint: "10.0.0.7:502", Since: noon.Add(-12 * time.Minute), Session: 1,
				LastError: "dial tcp 10.0.0.7:502: connect: connection refused", LastErrorAt: noon.Add(-2 * time.Second),
				Reads: 900, Errors: 40, Readings: 5400, BadReadings: 7, LastRead: noon.Add(-12 * time.Minute)},
			{Device: "filler-plc", Line: "hall", Unit: 3, LineShare: 0.31, LineUsed: time.Minute, Endpoint: "10.0.0.8:502", Connected: true, Since: noon.Add(-3 * time.Hour), Session: 1,
				Reads: 108000, Readings: 648000, BadReadings: 3, LastRead: noon.Add(-40 * time.Millisecond), ReadTime: 1200 * time.Microsecond,
				BadTags: map[plant.TagID]string{"bad": "exception 2 (illegal data address)"}},
			{Device: "line-plc", Endpoint: "opc.tcp://10.0.0.9:4840", Connected: true, Since: noon.Add(-3 * time.Hour), Session: 1, Subscribed: true,
				Reads: 12000, Readings: 36000, LastRead: noon.Add(-600 * time.Millisecond), LastValues: noon.Add(-4 * time.Minute)},
		},
		Machines: []derive.Stats{
			{Machine: "PRESS-01", Good: 41234, Scrap: 12, Running: &running, StateSince: noon.Add(-time.Hour), LastEvent: plant.KindCounter,
				LastEventTime: noon.Add(-12 * time.Minute), LastSequence: 812, Inputs: 900, Commits: 820,
				Events: map[plant.EventKind]uint64{plant.KindCounter: 800, plant.KindStartStop: 12}},
			{Machine: "FILLER-01", Good: 1234567, Scrap: 890, Running: &stopped, StateSince: noon.Add(-90 * time.Second), Reason: "31 jam",
				Order: "0012345", OrderContext: plant.Order{Number: "0012345", SKU: "BOX-7", Operation: "20"}, OrderOwner: "tags", Mode: plant.Maintenance, ModeSince: noon.Add(-time.Hour), ModeUntil: noon.Add(3 * time.Hour), ModeBy: "uid 1000 (ann)",
				Shift: "early", ShiftUntil: noon.Add(2 * time.Hour),
				LastEvent: plant.KindStartStop, LastEventTime: noon.Add(-90 * time.Second),
				LastSequence: 4711, Inputs: 108000, Commits: 5000, Problems: []derive.Problem{{Text: "the counter stands at its maximum", Remedy: "Compare with the machine's own display."}}},
		},
		Uplinks: []uplink.Stats{{Uplink: "broker", Endpoint: "tls://mes.example:8883", Breaker: "open", Since: noon.Add(-5 * time.Minute),
			Delivered: 5400, Retried: 12, LastDelivery: noon.Add(-5 * time.Minute),
			LastError: "read tcp: i/o timeout", LastErrorAt: noon.Add(-9 * time.Second)}},
		Buffer: buffer.Stats{Path: "/var/lib/sluice/buffer", Epoch: 0xabc, Commits: 5820, Groups: 5100, Events: 5523, LiveBytes: 2 << 20, DiskBytes: 9 << 20,
			FreeBytes: 40 << 30, Reserve: 64 << 20, Queues: []buffer.QueueStats{{Uplink: "broker", Backlog: 123, Oldest: noon.Add(-5 * time.Minute), DeadLetters: 2}}},
		Feeds: map[plant.MachineID][]plant.DeviceID{"PRESS-01": {"press-plc"}, "FILLER-01": {"filler-plc"}},
	}
}

func wellPlant() Snapshot {
	s := plantAt()
	s.Devices[0].Connected = true
	s.Devices[1].BadTags = nil
	s.Machines[1].Problems = nil
	s.Uplinks[0].Breaker = "closed"
	s.Buffer.Queues = nil
	return s
}

func ask(t *testing.T, snap Snapshot, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	s := New(Options{Listen: "127.0.0.1:0"}, fixed(snap), zaptest.NewLogger(t))
	r := httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:8080"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func TestHealth(t *testing.T) {
	broken := wellPlant()
	broken.Buffer.Fault = "sync: input/output error"
	starting := wellPlant()
	starting.Ready, starting.Waiting = false, []string{"the machines load their states"}
	silent := starting
	silent.Waiting = nil
	for _, tt := range []struct {
		name, path string
		snap       Snapshot
		code       int
		words      string
	}{
		{"well", "/healthz", wellPlant(), 200, "ok"},
		{"a device and a broker away are healthy", "/healthz", plantAt(), 200, "ok"},
		{"starting is healthy", "/healthz", starting, 200, "ok"},
		{"latched buffer", "/healthz", broken, 503, "sync: input/output error"},
		{"well", "/readyz", wellPlant(), 200, "ready"},
		{"a device and a broker away are ready", "/readyz", plantAt(), 200, "ready"},
		{"starting", "/readyz", starting, 503, "the machines load their states"},
		{"starting without a reason", "/readyz", silent, 503, "starting"},
		{"latched buffer", "/readyz", broken, 503, "failed write"},
	} {
		t.Run(tt.path+" "+tt.name, func(t *testing.T) {
			w := ask(t, tt.snap, "GET", tt.path)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.words) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body, tt.code, tt.words)
			}
		})
	}
}

func TestMetricsLint(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(newCollector(fixed(plantAt()))); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	bounded := map[string]bool{"device": true, "line": true, "machine": true, "uplink": true, "kind": true, "version": true, "cause": true}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sluice_") {
			t.Errorf("%s does not begin with sluice_", f.GetName())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !bounded[l.GetName()] {
					t.Errorf("%s has the label %s, whose values are not bounded by the config", f.GetName(), l.GetName())
				}
			}
		}
	}
}

func TestMetricsValues(t *testing.T) {
	body := ask(t, plantAt(), "GET", "/metrics").Body.String()
	for _, line := range []string{
		`sluice_build_info{version="v0.1.0"} 1`,
		`sluice_ready 1`,
		`sluice_device_connected{device="filler-plc"} 1`,
		`sluice_device_connected{device="press-plc"} 0`,
		`sluice_device_read_duration_seconds{device="filler-plc"} 0.0012`,
		`sluice_machine_events_total{kind="counter",machine="PRESS-01"} 800`,
		`sluice_machine_events_total{kind="startstop",machine="PRESS-01"} 12`,
		`sluice_machine_good_pieces_total{machine="FILLER-01"} 1.234567e+06`,
		`sluice_machine_running{machine="FILLER-01"} 0`,
		`sluice_buffer_free_bytes 4.294967296e+10`,
		`sluice_uplink_backlog_events{uplink="broker"} 123`,
		`sluice_uplink_backlog_age_seconds{uplink="broker"} 300`,
		`sluice_uplink_breaker_state{uplink="broker"} 2`,
		`sluice_uplink_delivered_events_total{uplink="broker"} 5400`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("the metrics lack the line %s", line)
		}
	}
}

func TestMetricsOfBrokenNames(t *testing.T) {
	snap := plantAt()
	snap.Devices[0].Device = "press\xff\n\"}"
	w := ask(t, snap, "GET", "/metrics")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `device="press�\n\"}"`) {
		t.Errorf("got %d and no escaped label in:\n%s", w.Code, w.Body)
	}
	if !strings.Contains(w.Body.String(), "process_resident_memory_bytes") && !strings.Contains(w.Body.String(), "go_goroutines") {
		t.Error("the metrics of the process are missing")
	}
}

// TestGolden keeps the page and the API document as they are read: a change of
// either is seen in the golden file. The names of the API are stable.
func TestGolden(t *testing.T) {
	for _, tt := range []struct{ path, file string }{
		{"/api/v1/status", "status.json"},
		{"/", "page.html"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			w := ask(t, plantAt(), "GET", tt.path)
			if w.Code != 200 {
				t.Fatalf("got %d: %s", w.Code, w.Body)
			}
			golden := filepath.Join("testdata", tt.file)
			if *update {
				if err := os.WriteFile(golden, w.Body.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.Body.String(); got != string(want) {
				t.Errorf("%s differs from %s (-update rewrites it):\n%s", tt.path, golden, got)
			}
		})
	}
}

// TestDocumented holds docs/api.md against what is served: each field of the
// JSON is described, and each metric that it names exists.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	snap := plantAt()
	snap.Uplinks[0].Problems = []uplink.Problem{{Machine: "PRESS-01", Kind: plant.KindCounter, Text: "no"}}
	snap.Buffer.Fault, snap.Buffer.FullReason = "fault", "reason"
	fields := regexp.MustCompile(`(?m)^ +"([a-z_]+)":`)
	for _, m := range fields.FindAllStringSubmatch(ask(t, snap, "GET", "/api/v1/status").Body.String(), -1) {
		name := m[1]
		if name == "counter" || name == "startstop" || name == "bad" {
			continue // keys of the plant, not of the API
		}
		if !strings.Contains(doc, "`"+name+"`") && !strings.Contains(doc, "`"+name+"[]`") && !strings.Contains(doc, "`"+name+"{") {
			t.Errorf("docs/api.md does not describe the field %s", name)
		}
	}
	served := ask(t, snap, "GET", "/metrics").Body.String()
	for _, name := range regexp.MustCompile(`sluice_[a-z_]+[a-z]`).FindAllString(doc, -1) {
		if !strings.Contains(served, "\n"+name+" ") && !strings.Contains(served, "\n"+name+"{") {
			t.Errorf("docs/api.md speaks of %s, which is not served", name)
		}
	}
}

func TestClockThatNobodyKeepsRightIsSaid(t *testing.T) {
	const words = "Nothing keeps the clock of this PC right"
	for _, uncertain := range []bool{false, true} {
		snap := wellPlant()
		snap.ClockUncertain = uncertain
		if page := ask(t, snap, http.MethodGet, "/").Body.String(); strings.Contains(page, words) != uncertain {
			t.Errorf("uncertain %v: the page says %q: %v", uncertain, words, !uncertain)
		}
		if doc := ask(t, snap, http.MethodGet, "/api/v1/status").Body.String(); !strings.Contains(doc, fmt.Sprintf(`"clock_uncertain": %v`, uncertain)) {
			t.Errorf("uncertain %v: the status does not say so:\n%s", uncertain, doc)
		}
	}
}

func TestEmptyStatusHasListsNotNull(t *testing.T) {
	w := ask(t, Snapshot{At: noon}, "GET", "/api/v1/status")
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"problems", "devices", "machines", "uplinks", "not_ready"} {
		if _, ok := doc[name].([]any); !ok {
			t.Errorf("%s is %v, want a list", name, doc[name])
		}
	}
}

func TestSchemas(t *testing.T) {
	want, ok := plant.Schema(plant.KindCounter, 1)
	if !ok {
		t.Fatal("plant has no schema of counter.v1")
	}
	w := ask(t, plantAt(), "GET", "/api/v1/schemas/counter.v1.json")
	if w.Code != 200 || w.Body.String() != string(want) || w.Header().Get("Content-Type") != "application/schema+json" {
		t.Errorf("got %d %s, %d bytes of %d", w.Code, w.Header().Get("Content-Type"), w.Body.Len(), len(want))
	}
	if other := ask(t, plantAt(), "GET", "/api/v1/schemas/counter/1"); other.Code != 200 || other.Body.String() != string(want) {
		t.Errorf("by kind and version: got %d, %d bytes", other.Code, other.Body.Len())
	}
	var list struct {
		Schemas []struct {
			Kind    plant.EventKind
			Version uint8
			ID      string
			Path    string
		}
	}
	if err := json.Unmarshal(ask(t, plantAt(), "GET", "/api/v1/schemas").Body.Bytes(), &list); err != nil || len(list.Schemas) < len(plant.EventKinds()) {
		t.Fatalf("%d schemas are listed: %v", len(list.Schemas), err)
	}
	for _, s := range list.Schemas {
		var doc struct {
			ID string `json:"$id"`
		}
		if err := json.Unmarshal(ask(t, plantAt(), "GET", s.Path).Body.Bytes(), &doc); err != nil || doc.ID != s.ID || s.ID != plant.SchemaURI(s.Kind, s.Version) {
			t.Errorf("%+v: %v, %s", s, err, doc.ID)
		}
	}
	for _, name := range []string{"counter/9", "counter/01", "counter/", "nothing/1", "counter/1/2", "counter.v9.json", "counter.v01.json", "counter.v+1.json", "counter.v256.json", "counter.json", "counter.v1", "nothing.v1.json", "..%2fschema.v1.json", ".v1.json", "COUNTER.v1.json"} {
		if w := ask(t, plantAt(), "GET", "/api/v1/schemas/"+name); w.Code != 404 {
			t.Errorf("%s: got %d, want 404", name, w.Code)
		}
	}
}

// TestInert plants HTML in everything that comes from outside and looks for it
// unescaped.
func TestInert(t *testing.T) {
	for _, payload := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'><svg/onload=alert(1)>`, `</title><script>x</script>`,
		`<a href="javascript:alert(1)">`, `{{.Gateway}}<b>`, `<!--<script>`, `</dd></article><iframe src=//evil>`,
	} {
		snap := plantAt()
		snap.Gateway, snap.Version = payload, payload
		d, m, u := &snap.Devices[0], &snap.Machines[1], &snap.Uplinks[0]
		d.Device, d.LastError, d.Endpoint = plant.DeviceID(payload), payload, payload
		snap.Devices[1].BadTags = map[plant.TagID]string{plant.TagID(payload): payload}
		m.Machine, m.Reason, m.Order, m.Mode, m.ModeBy, m.Shift, m.Problems = plant.MachineID(payload), payload, payload, plant.Mode(payload), payload, payload, []derive.Problem{{Text: payload, Remedy: payload}}
		u.Uplink, u.LastError, u.Endpoint = payload, payload, payload
		m.OrderContext = plant.Order{Number: payload, SKU: payload, Operation: payload, WorkCenter: payload}
		snap.Feeds[m.Machine] = []plant.DeviceID{d.Device}
		snap.Buffer.Fault, snap.Buffer.Path, snap.Waiting, snap.Ready = payload, payload, []string{payload}, false
		body := ask(t, snap, "GET", "/").Body.String()
		if strings.Contains(body, payload) {
			t.Errorf("the page holds %s as it is", payload)
		}
		for _, tag := range []string{"<script", "<img", "<svg", "<iframe", "<b>", "<a href=\"javascript"} {
			if strings.Contains(body, tag) {
				t.Errorf("%s of %s is in the page", tag, payload)
			}
		}
		if json := ask(t, snap, "GET", "/api/v1/status"); strings.ContainsAny(json.Body.String(), "<>") {
			t.Errorf("%s is in the JSON as it is", payload)
		}
	}
}

func TestGuard(t *testing.T) {
	s := New(Options{Listen: "10.1.2.3:8080", Hosts: []string{"gateway.plant.example"}}, fixed(plantAt()), zaptest.NewLogger(t))
	for _, tt := range []struct {
		name, method, path, host string
		length                   int64
		code                     int
	}{
		{"page", "GET", "/", "127.0.0.1:8080", 0, 200},
		{"head", "HEAD", "/", "127.0.0.1", 0, 200},
		{"style", "GET", "/ui/style.css", "[::1]:8080", 0, 200},
		{"localhost", "GET", "/healthz", "LocalHost:1", 0, 200},
		{"loopback network", "GET", "/healthz", "127.8.9.1", 0, 200},
		{"listen host", "GET", "/healthz", "10.1.2.3:8080", 0, 200},
		{"named host", "GET", "/healthz", "gateway.plant.EXAMPLE.", 0, 200},
		{"other address", "GET", "/healthz", "10.1.2.4:8080", 0, 421},
		{"rebound name", "GET", "/healthz", "evil.example:8080", 0, 421},
		{"localhost as a part", "GET", "/healthz", "localhost.evil.example", 0, 421},
		{"no host", "GET", "/healthz", "", 0, 421},
		{"post", "POST", "/healthz", "localhost", 0, 405},
		{"put", "PUT", "/api/v1/status", "localhost", 0, 405},
		{"delete", "DELETE", "/", "localhost", 0, 405},
		{"trace", "TRACE", "/", "localhost", 0, 405},
		{"unknown path", "GET", "/nothing", "localhost", 0, 404},
		{"folder of the style", "GET", "/ui/", "localhost", 0, 404},
		{"template", "GET", "/ui/page.html", "localhost", 0, 404},
		{"path tricks", "GET", "//ui/../healthz", "localhost", 0, 307},
		{"large body", "GET", "/healthz", "localhost", maxBodyBytes + 1, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/", nil)
			r.URL.Path, r.Host, r.ContentLength = tt.path, tt.host, tt.length
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if w.Code != tt.code {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, tt.code)
			}
			checkHeaders(t, w.Header())
		})
	}
}

func checkHeaders(t *testing.T, got http.Header) {
	t.Helper()
	for _, h := range headers {
		if v := got.Values(h[0]); len(v) != 1 || v[0] != h[1] {
			t.Errorf("header %s is %q, want %q", h[0], v, h[1])
		}
	}
	for _, name := range []string{"Server", "X-Powered-By"} {
		if got.Get(name) != "" {
			t.Errorf("header %s tells the version: %q", name, got.Get(name))
		}
	}
}

func TestListenEverywhereTakesAddressesButNoNames(t *testing.T) {
	s := New(Options{Listen: "0.0.0.0:8080"}, fixed(plantAt()), zaptest.NewLogger(t))
	allowed := s.allowedHosts()
	if !allowed("192.168.1.5:8080") || !allowed("[fe80::1]:8080") {
		t.Error("an IP address is refused")
	}
	if allowed("evil.example:8080") {
		t.Error("a name is accepted")
	}
}

type panicking struct{}

func (panicking) Snapshot() Snapshot { panic("boom") }

func TestPanicIsA500WithoutAStack(t *testing.T) {
	s := New(Options{Listen: "127.0.0.1:0"}, panicking{}, zaptest.NewLogger(t))
	r := httptest.NewRequest(http.MethodGet, "/healthz", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if w.Code != 500 || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	checkHeaders(t, w.Header())
}

// run starts a real server and stops it when the test ends.
func run(t *testing.T, source Source) (addr string, stop func()) {
	t.Helper()
	s := New(Options{Listen: "127.0.0.1:0"}, source, zaptest.NewLogger(t))
	addr, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	}
	t.Cleanup(stop)
	return addr, stop
}

func TestRealServer(t *testing.T) {
	addr, stop := run(t, fixed(plantAt()))
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/api/v1/status", "/ui/style.css", "/nothing"} {
		resp, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		checkHeaders(t, resp.Header)
	}
	client.CloseIdleConnections()
	stop()
	if c, err := net.Dial("tcp", addr); err == nil {
		t.Error("the socket is open after Run returned")
		_ = c.Close()
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	addr, _ := run(t, fixed(wellPlant()))
	idle := make([]net.Conn, maxConnections)
	for i := range idle {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle[i] = c
	}
	late, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if _, err := io.WriteString(late, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// All slots are held by connections that say nothing; the header time-out
	// frees them, and no earlier may the late one be answered.
	began := time.Now()
	if err := late.SetDeadline(began.Add(4 * headerTimeout)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(late).ReadString('\n')
	if err != nil || !strings.Contains(line, "200") {
		t.Fatalf("got %q, %v", line, err)
	}
	if waited := time.Since(began); waited < headerTimeout/2 {
		t.Errorf("connection %d was answered after %s, while %d others were open", maxConnections+1, waited, maxConnections)
	}
}

func TestListenTwiceOnOneAddressFails(t *testing.T) {
	addr, _ := run(t, fixed(wellPlant()))
	s := New(Options{Listen: addr}, fixed(wellPlant()), zaptest.NewLogger(t))
	if _, err := s.Listen(); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v, want an error that names %s", err, addr)
	}
}

func TestClose(t *testing.T) {
	s := New(Options{Listen: "127.0.0.1:0"}, fixed(wellPlant()), zaptest.NewLogger(t))
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run without Listen returned nil")
	}
	if _, err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("Run returned %v after Close", err)
	}
	if _, err := s.Listen(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen after Close returned %v", err)
	}
}
