package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/plant"
)

// mesOf is a receiver that keeps what it was sent.
type mesOf struct {
	*httptest.Server
	mu     sync.Mutex
	ids    []string
	refuse bool
}

func newMES(t *testing.T) *mesOf {
	m := &mesOf{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		events := []struct{ ID string }{{}}
		if err == nil && bytes.HasPrefix(body, []byte("[")) {
			err = json.Unmarshal(body, &events)
		} else if err == nil {
			err = json.Unmarshal(body, &events[0])
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if err != nil || m.refuse {
			http.Error(w, "unknown code", http.StatusUnprocessableEntity)
			return
		}
		for _, e := range events {
			m.ids = append(m.ids, e.ID)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mesOf) got() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.ids...)
}

// openStore opens the store of a stopped gateway's config; change may change how.
func openStore(t *testing.T, config string, change func(*buffer.Options)) *buffer.Buffer {
	t.Helper()
	p, faults := loadPlan(config, driverKinds, uplinkKinds)
	if errs := faults.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	o, err := storeOptions(p)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&o)
	}
	store, err := buffer.Open(t.Context(), o, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// storedPlant writes a config and a store with five events of PRESS-01.
func storedPlant(t *testing.T, mes string, more string) (config, folder string) {
	t.Helper()
	dir := t.TempDir()
	config, folder = filepath.Join(dir, "sluice.yaml"), filepath.Join(dir, "buffer")
	text := fmt.Sprintf(`
site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1, timezone: Europe/Lisbon}
buffer: {path: %s, quota: 64 MiB%s}
http: {listen: "127.0.0.1:0"}
devices:
  plc: {driver: modbus, endpoint: "127.0.0.1:1", tags: {made: "holding:0"}}
machines:
  PRESS-01: {device: plc, counter: {total: made, max_rate: 10/s}}
uplinks:
  mes: {driver: rest, url: %q}
`, folder, more, mes)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	store := openStore(t, config, nil)
	for i := range 5 {
		at := time.Date(2026, 7, 27, 12, i, 0, 0, time.UTC)
		e := plant.Event{Kind: plant.KindCounter, Version: 1, Time: at, TimeSource: plant.GatewayTime, Data: fmt.Appendf(nil, `{"machine":"PRESS-01","good":%d}`, i)}
		if _, err := store.Commit(t.Context(), "PRESS-01", plant.Batch{Events: []plant.Event{e}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return config, folder
}

// sluice runs a command line.
func sluice(t *testing.T, args ...string) (out, talk string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"--log-level", "error"}, args...), &o, &e)
	return o.String(), e.String(), code
}

// works runs a command line that must work, and returns its stdout.
func works(t *testing.T, args ...string) string {
	t.Helper()
	out, talk, code := sluice(t, args...)
	if code != 0 {
		t.Fatalf("%v: exit %d\n%s%s", args, code, out, talk)
	}
	return out
}

// stopSlowly is what a gateway in a test may take longer to stop: how slow the disk
// of a loaded computer is, is not what is tested.
const stopSlowly = time.Minute

// runGateway runs the gateway of a config until the test ends or stop is called.
func runGateway(t *testing.T, config string) (stop func()) {
	t.Helper()
	p, faults := loadPlan(config, driverKinds, uplinkKinds)
	if errs := faults.Errors(); len(errs) > 0 {
		t.Fatal(errs)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	g := newGateway(p, zaptest.NewLogger(t))
	g.grace = stopSlowly
	go func() { ended <- g.run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	socket := filepath.Join(string(p.Config.Buffer.Path), "admin.sock")
	awaitCLI(t, "the gateway's socket", func() bool {
		_, err := os.Stat(socket)
		return err == nil && g.ready.Load()
	})
	return stop
}

func awaitCLI(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestEventsOfAStoppedGateway(t *testing.T) {
	config, folder := storedPlant(t, "http://127.0.0.1:9/", "")
	out, talk, code := sluice(t, "events", "stats", "-c", config)
	if code != 0 || !strings.Contains(out, "PRESS-01  5       1      5") || !strings.Contains(talk, "the gateway is stopped") {
		t.Errorf("exit %d: %s%s", code, out, talk)
	}
	out = works(t, "events", "tail", "-c", config, "-n", "2")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[1], `2026-07-27 13:04:00.000  PRESS-01 5  counter  {"machine":"PRESS-01","good":4}`) {
		t.Errorf("tail: %q", lines)
	}
	var e cloudEvent
	if err := json.Unmarshal([]byte(works(t, "events", "show", "-c", config, "PRESS-01/3")), &e); err != nil || e.Sequence != "00000000000000000003" {
		t.Errorf("show: %+v, %v", e, err)
	}
	if again := works(t, "events", "show", "-c", config, "--json", e.ID); !strings.Contains(again, e.ID) {
		t.Errorf("show by id: %s", again)
	}
	// The plant's time: 13:01 in Lisbon is 12:01 UTC.
	out, talk, _ = sluice(t, "events", "export", "-c", config, "--from", "2026-07-27T13:01", "--to", "2026-07-27T12:03:00Z")
	if strings.Count(out, "\n") != 2 || !strings.Contains(talk, "2 events") {
		t.Errorf("export: %s%s", out, talk)
	}
	rows, err := csv.NewReader(strings.NewReader(works(t, "events", "export", "-c", config, "--format", "csv"))).ReadAll()
	if err != nil || len(rows) != 6 || rows[5][6] != `{"machine":"PRESS-01","good":4}` || rows[5][4] != strings.Replace(e.ID, "-3", "-5", 1) {
		t.Errorf("csv: %v, %v", rows, err)
	}
	file := filepath.Join(t.TempDir(), "events.jsonl")
	works(t, "events", "export", "-c", config, "-o", file)
	if data, err := os.ReadFile(file); err != nil || bytes.Count(data, []byte("\n")) != 5 {
		t.Errorf("export -o: %v", err)
	}
	if out := works(t, "audit", "verify", "-c", config); !strings.Contains(out, "0 entries") {
		t.Error(out)
	}
	if _, err := os.Stat(filepath.Join(folder, "admin.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a stopped gateway has a socket: %v", err)
	}
}

func TestEventsWrongUsage(t *testing.T) {
	config, folder := storedPlant(t, "http://127.0.0.1:9/", "")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"events", 2, "unknown flag -c"}, // it wants a command first
		{"events show PRESS-01", 2, "is no id"},
		{"events show PRESS-01/0", 2, "is no number"},
		{"events show PRESS-01/9", 1, "is not stored"},
		{"events show gw/PRESS-01/77-1", 2, "epoch-number"},
		{"events tail -m PRESS-02", 1, "unknown machine with events `PRESS-02` — did you mean `PRESS-01`?"},
		{"events export -k counters", 2, "unknown kind of event `counters` — did you mean `counter`?"},
		{"events export --from yesterday", 2, "is no moment"},
		{"events export --from 1h --to 2h", 2, "is not before"},
		{"events export -o " + filepath.Join(folder, "none", "x"), 1, "there is no folder "},
		{"events resend", 2, "missing flags: --uplink"},
		{"events resend --uplink erp", 1, "unknown uplink `erp` — choose from `mes`"},
		{"events jobs --cancel 3", 1, "no job 3"},
		{"events dead drop --uplink mes --all", 2, "missing flags: --reason"},
		{"events dead drop --uplink mes --reason x", 2, "name dead letters"},
		{"events dead drop --uplink mes --reason x --all PRESS-01/1", 2, "not two of them"},
		{"events dead drop --uplink mes --reason x PRESS-01/1 PRESS-02/1", 2, "one machine"},
		{"events dead retry --uplink mes PRESS-01/1", 1, "no dead letters"},
		{"events dead show --uplink mes PRESS-01/1", 1, "is no dead letter"},
	} {
		args := append(strings.Fields(c.args), "-c", config)
		out, talk, code := sluice(t, args...)
		if code != c.code || !strings.Contains(talk, c.want) || out != "" && c.code != 2 {
			t.Errorf("%s: exit %d, %q, %q", c.args, code, out, talk)
		}
	}
	if _, talk, code := sluice(t, "events", "stats", "-c", filepath.Join(folder, "none.yaml")); code != 2 || !strings.Contains(talk, "cannot be read") {
		t.Errorf("exit %d, %s", code, talk)
	}
	if err := os.RemoveAll(filepath.Join(folder, "store")); err != nil {
		t.Fatal(err)
	}
	if _, talk, code := sluice(t, "events", "stats", "-c", config); code != 1 || !strings.Contains(talk, "there is no store") {
		t.Errorf("exit %d, %s", code, talk)
	}
}

// A job that was begun while the gateway was stopped goes on when it runs; what
// is sent again has the ids that it had; the audit log tells all of it.
func TestEventsOfARunningGateway(t *testing.T) {
	mes := newMES(t)
	config, _ := storedPlant(t, mes.URL, "")
	if out := works(t, "events", "resend", "-c", config, "--uplink", "mes", "--from", "2026-07-27T12:03:00Z"); !strings.Contains(out, "job 1: it goes on when the gateway runs") {
		t.Error(out)
	}
	stop := runGateway(t, config)
	awaitCLI(t, "all events, two of them twice", func() bool { return len(mes.got()) == 7 })
	times := map[string]int{}
	for _, id := range mes.got() {
		times[id]++
	}
	if len(times) != 5 {
		t.Errorf("other ids than before: %v", times)
	}
	out, talk, code := sluice(t, "events", "jobs", "-c", config)
	if code != 0 || !strings.Contains(talk, "asking the running gateway") || !strings.Contains(out, "done") {
		t.Errorf("exit %d: %s%s", code, out, talk)
	}
	if _, talk, code := sluice(t, "run", "-c", config); code != 1 || !strings.Contains(talk, "another process has this store open") {
		t.Errorf("a second gateway: exit %d, %s", code, talk)
	}
	if out := works(t, "events", "stats", "-c", config, "--json"); !strings.Contains(out, `"backlog":0`) {
		t.Errorf("after the second gateway was refused the socket is %s", out)
	}
	stop()
	if out := works(t, "events", "stats", "-c", config, "--json"); !strings.Contains(out, `"backlog":0`) {
		t.Errorf("the store of the gateway that went on, opened again: %s", out)
	}
	out = works(t, "audit", "show", "-c", config)
	for _, want := range []string{"events.resend", "begun", "job.end"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	works(t, "audit", "verify", "-c", config)
}

// Refused events are retried when the receiver knows the code.
func TestDeadLettersOfARunningGateway(t *testing.T) {
	mes := newMES(t)
	mes.refuse = true
	config, folder := storedPlant(t, mes.URL, "")
	runGateway(t, config)
	awaitCLI(t, "four dead letters", func() bool {
		return strings.Count(works(t, "events", "dead", "list", "-c", config, "--json"), "unknown code") == 4
	})
	works(t, "events", "dead", "drop", "-c", config, "--uplink", "mes", "--reason", "made twice\nby hand", "PRESS-01/1")
	mes.mu.Lock()
	mes.refuse = false
	mes.mu.Unlock()
	works(t, "events", "dead", "retry", "-c", config, "--uplink", "mes", "--all")
	awaitCLI(t, "no dead letters", func() bool { return works(t, "events", "dead", "list", "-c", config) == "" })
	if out := works(t, "audit", "show", "-c", config); !strings.Contains(out, "dead.drop") || !strings.Contains(out, "made twice\uFFFDby hand") {
		t.Error(out)
	}
	log := filepath.Join(folder, "audit", "audit-000000000001.jsonl")
	data, err := os.ReadFile(log)
	if err == nil {
		err = os.WriteFile(log, bytes.Replace(data, []byte("PRESS-01"), []byte("PRESS-02"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, talk, code := sluice(t, "audit", "verify", "-c", config); code != 1 || !strings.Contains(talk, "audit-000000000001.jsonl:1: its hash does not match") {
		t.Errorf("exit %d: %s%s", code, out, talk)
	}
}

// Refused events beyond their bound go, and the audit log says which.
func TestRefusedEventsBeyondTheBoundAreAudited(t *testing.T) {
	mes := newMES(t)
	config, _ := storedPlant(t, mes.URL, ", dead_letters: 100")
	store := openStore(t, config, func(o *buffer.Options) { o.DeadLetters = 0 })
	q, err := store.Queue("old", func(plant.EventKind) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 110 {
		e := plant.Event{Kind: plant.KindAlarm, Version: 1, Time: time.Unix(int64(i), 0), TimeSource: plant.GatewayTime, Data: []byte(`{"machine":"PRESS-01"}`)}
		if _, err := store.Commit(t.Context(), "PRESS-01", plant.Batch{Events: []plant.Event{e}}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := q.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events, err := q.Peek(t.Context(), m, 0, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var results []plant.Result
	for _, e := range events {
		results = append(results, plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: errors.New("unknown code")})
	}
	if err := errors.Join(q.Settle(t.Context(), m, events[len(events)-1].Sequence, results), store.Close()); err != nil {
		t.Fatal(err)
	}
	runGateway(t, config)
	awaitCLI(t, "the audit log to tell what was given up", func() bool {
		out := works(t, "audit", "show", "-c", config)
		return strings.Contains(out, "dead.bound") && strings.Contains(out, "old PRESS-01") && strings.Contains(out, "17 dead letters given up, 1 to 17")
	})
	works(t, "audit", "verify", "-c", config)
}

// TestForgetAnUplinkThatIsGone types what the page says, at a stopped gateway
// and, over its socket, at a running one.
func TestForgetAnUplinkThatIsGone(t *testing.T) {
	for name, running := range map[string]bool{"stopped": false, "running": true} {
		t.Run(name, func(t *testing.T) {
			config, _ := storedPlant(t, "http://127.0.0.1:9/", "")
			claim(t, config, "old")
			if running {
				runGateway(t, config)
			}
			for _, c := range []struct{ name, want string }{{"mes", "is in the config"}, {"nobody", "unknown uplink of the store `nobody` — choose from `old`"}} {
				if _, talk, code := sluice(t, "uplink", "forget", c.name, "--reason", "gone", "-c", config); code != 1 || !strings.Contains(talk, c.want) {
					t.Errorf("forget %s: exit %d, %s", c.name, code, talk)
				}
			}
			if _, talk, code := sluice(t, "uplink", "forget", "old", "-c", config); code != 2 || !strings.Contains(talk, "--reason") {
				t.Errorf("without a reason: exit %d, %s", code, talk)
			}
			out, talk, code := sluice(t, append(hint(t, config, "old"), "-c", config)...)
			if code != 0 || !strings.Contains(out, "forgot uplink old: 5 events") || strings.Contains(talk, "asking the running gateway") != running {
				t.Errorf("exit %d: %s%s", code, out, talk)
			}
			if out := works(t, "events", "stats", "-c", config, "--json"); strings.Contains(out, "\"old\"") {
				t.Errorf("it is still there: %s", out)
			}
			if out := works(t, "audit", "show", "-c", config); !strings.Contains(out, "uplink.forget") || !strings.Contains(out, "reason: ...") {
				t.Errorf("the audit log: %s", out)
			}
		})
	}
}

// claim gives the store of a stopped gateway one more uplink.
func claim(t *testing.T, config, uplink string) {
	t.Helper()
	store := openStore(t, config, nil)
	if _, err := store.Queue(uplink, func(plant.EventKind) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// hint is the command line that the stats advise for an uplink that is gone.
func hint(t *testing.T, config, uplink string) (args []string) {
	t.Helper()
	out := works(t, "events", "stats", "-c", config, "--json")
	_, command, ok := strings.Cut(strings.ReplaceAll(out, `\"`, `"`), ": sluice ")
	if command, _, _ = strings.Cut(command, `",`); !ok {
		t.Fatalf("the stats name no command: %s", out)
	}
	for _, word := range strings.Fields(command) {
		args = append(args, strings.Trim(word, `"`))
	}
	return args
}

func TestWhen(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Lisbon")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 7, 27, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-07-27": "2026-07-26T23:00:00Z", "2026-07-27T14:00": "2026-07-27T13:00:00Z", "2026-07-27 14:00:30": "2026-07-27T13:00:30Z",
		"2026-07-27T14:00:00+05:00": "2026-07-27T09:00:00Z", "90m": "2026-07-27T10:30:00Z", "3d": "2026-07-24T12:00:00Z", "3 d": "2026-07-24T12:00:00Z", "1.5d": "2026-07-26T00:00:00Z", "1w": "2026-07-20T12:00:00Z", "0s": "2026-07-27T12:00:00Z",
	} {
		w := when{text: text}
		if got, err := w.at(now, zone); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "-3d", "1.5", "99999999d", "2026-13-01"} {
		if err := new(when).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
