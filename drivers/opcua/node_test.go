package opcua

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/plant"
)

// foreign is a node-opcua server in a process of its own.
type foreign struct {
	port, folder, script string
	cmd                  *exec.Cmd
	fingerprint          string
}

// newForeign starts the server of testdata/server.js, or skips the test where
// the npm package node-opcua is not there (NODE_PATH says where node looks).
func newForeign(t *testing.T, words ...string) *foreign {
	t.Helper()
	f := idleForeign(t, "server.js")
	f.start(t, words...)
	return f
}

// idleForeign is a server that is not started yet.
func idleForeign(t *testing.T, script string) *foreign {
	t.Helper()
	if testing.Short() {
		t.Skip("node-opcua takes seconds to start")
	}
	if err := exec.CommandContext(t.Context(), "node", "-e", "require.resolve('node-opcua')").Run(); err != nil {
		t.Skip("the npm package node-opcua is not installed where NODE_PATH says: ", err)
	}
	port, err := faultnet.KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	f := &foreign{port: port.Number(), folder: t.TempDir(), script: script}
	t.Cleanup(f.kill)
	return f
}

func (f *foreign) addr() string { return "127.0.0.1:" + f.port }

func (f *foreign) start(t *testing.T, more ...string) {
	t.Helper()
	f.cmd = exec.Command("node", append([]string{"testdata/" + f.script, f.port, f.folder}, more...)...)
	f.cmd.Stderr = os.Stderr
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(ready)
		for in := bufio.NewScanner(out); in.Scan(); {
			if text, ok := strings.CutPrefix(in.Text(), "ready "); ok {
				ready <- text
			} else if strings.HasPrefix(in.Text(), "failed ") {
				fmt.Fprintln(os.Stderr, in.Text())
			}
		}
	}()
	select {
	case text, ok := <-ready:
		if !ok {
			t.Fatal("the server did not start")
		}
		f.fingerprint = text
	case <-time.After(time.Minute):
		t.Fatal("the server did not start within a minute")
	}
}

func (f *foreign) kill() {
	if f.cmd != nil && f.cmd.Process != nil {
		_ = f.cmd.Process.Kill()
		_ = f.cmd.Wait()
	}
	f.cmd = nil
}

func foreignText(more string) string {
	text := "driver: opcua\nendpoint: opc.tcp://ENDPOINT\n" + more + "tags:\n  late: {node: nsu=urn:line;s=Line.Late, type: int16}\n  order: nsu=urn:line;s=Line.Order\n" +
		"  ready: nsu=urn:line;s=Line.Ready\n  ack: {node: nsu=urn:line;s=Line.Ack, writable: true}\n  status: i=2256\n" +
		"  state: {node: i=2256, member: State}\n  second: {node: nsu=urn:line;s=Line.Weights, member: '[1]'}\n  fourth: {node: nsu=urn:line;s=Line.Weights, member: '[3]'}\n"
	for i := range 120 {
		text += fmt.Sprintf("  v%d: nsu=urn:line;s=Line.V%d\n", i, i)
	}
	return text
}

// sink counts what comes and remembers states.
type sink struct {
	good   atomic.Uint64
	late   atomic.Int32 // 1 + the quality of "late"
	wrong  atomic.Uint64
	states chan plant.DeviceState
}

func (s *sink) Offer(in plant.Input) {
	switch in := in.(type) {
	case plant.DeviceState:
		s.states <- in
	case plant.Scan:
		for _, r := range in.Readings {
			switch {
			case r.Tag == "late":
				s.late.Store(1 + int32(r.Quality))
			case r.Tag == "order" && r.Quality == plant.Good && r.Value != plant.TextValue("AW1"):
				s.wrong.Add(1)
			case r.Quality == plant.Good && strings.HasPrefix(string(r.Tag), "v"):
				s.good.Add(1)
			}
		}
	}
}

func (s *sink) wait(t *testing.T, connected bool) plant.DeviceState {
	t.Helper()
	select {
	case d := <-s.states:
		if d.Connected != connected {
			t.Fatalf("%+v, want connected %v", d, connected)
		}
		return d
	case <-time.After(30 * time.Second):
		t.Fatalf("the device did not become connected=%v within 30 s", connected)
		return plant.DeviceState{}
	}
}

// flows waits for values of a session to go on.
func (s *sink) flows(t *testing.T) {
	t.Helper()
	from := s.good.Load()
	for deadline := time.Now().Add(patience); s.good.Load() < from+240; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d values in %v", s.good.Load()-from, patience)
		}
	}
}

// TestForeignServer measures what docs/adr/0009 says: a cut, a kill and restart,
// a node that is missing, a freeze.
func TestForeignServer(t *testing.T) {
	f := newForeign(t)
	proxy, err := faultnet.New(f.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	p := checkPlan(t, foreignText(""), proxy.Addr())
	driver := p.Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()})
	values := &sink{states: make(chan plant.DeviceState, 100)}
	poller := drivers.NewPoller(p.PollerOptions(driverstest.Device), driver, []drivers.Sink{values}, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = poller.Run(ctx) }()
	defer func() { cancel(); <-done }()
	values.wait(t, true)
	values.flows(t)
	if q := values.late.Load(); q != 1+int32(plant.Good) {
		t.Errorf("late has the quality %d", q-1)
	}
	if cause := poller.Stats().BadTags["status"]; !strings.Contains(cause, "structure") {
		t.Errorf("a structure: %q", cause)
	}

	start := time.Now()
	proxy.Cut()
	values.wait(t, false)
	values.wait(t, true)
	t.Logf("cut → back after %v", time.Since(start).Round(time.Millisecond))
	values.flows(t)

	f.kill()
	values.wait(t, false)
	f.start(t)
	start = time.Now()
	values.wait(t, true)
	t.Logf("kill and restart → back %v after the server was up", time.Since(start).Round(time.Millisecond))
	values.flows(t)

	f.kill()
	values.wait(t, false)
	f.start(t, "without")
	values.wait(t, true)
	values.flows(t)
	if q := values.late.Load(); q != 1+int32(plant.Bad) {
		t.Errorf("a missing node has the quality %d", q-1)
	}
	t.Logf("missing node → %q, the others go on", poller.Stats().BadTags["late"])

	start = time.Now()
	proxy.Stall()
	values.wait(t, false)
	t.Logf("freeze → noticed after %v", time.Since(start).Round(time.Millisecond))
	proxy.Pass()
	start = time.Now()
	values.wait(t, true)
	t.Logf("freeze → back %v after its end", time.Since(start).Round(time.Millisecond))
	values.flows(t)
}

// Security, records and writes against a server that nobody here wrote.
func TestForeignServerSecured(t *testing.T) {
	f := newForeign(t)
	t.Setenv("OPCUA_PASSWORD", "s3cret")
	certs, keys := writeFiles(t, newCertificate(t, "urn:sluice:test", -time.Hour, 365*24*time.Hour))
	record := plant.Record{ID: "r", Device: driverstest.Device, Trigger: "ready", On: plant.WhileHigh, Fields: []plant.TagID{"v0", "order"}, Writes: []plant.TagID{"ack"}}
	for _, security := range []string{
		"",
		"login: {user: gateway, password: env:OPCUA_PASSWORD}\nallow_insecure: true\n",
		"channel: {policy: Basic256Sha256, mode: Sign}\nlogin: {user: gateway, password: env:OPCUA_PASSWORD}\n",
		"channel: {policy: Basic256Sha256, mode: SignAndEncrypt}\n",
		"channel: {policy: Basic256Sha256, mode: SignAndEncrypt}\nlogin: {user: gateway, password: env:OPCUA_PASSWORD}\npoll: 100ms\n",
	} {
		if strings.Contains(security, "Basic256") {
			security += "cert: " + certs["PEM"] + "\nkey: " + keys["PKCS#8 PEM"] + "\nserver_sha256: " + f.fingerprint + "\n"
		}
		d := openText(t, foreignText(security), f.addr(), record)
		start := time.Now()
		if err := d.Connect(t.Context(), 1); err != nil {
			t.Errorf("%s: %v", security, err)
			continue
		}
		t.Logf("connected in %v: %s", time.Since(start).Round(time.Millisecond), strings.SplitN(security, "\n", 2)[0])
		scan := until(t, d, "record", ofRecord("r"))
		if order, _ := find(scan, "order"); order.Value != plant.TextValue("AW1") {
			t.Errorf("%+v", scan)
		}
		if err := d.Write(t.Context(), plant.Write{Session: 1, Tag: "ack", Value: plant.IntValue(5)}); err != nil {
			t.Errorf("%s: %v", security, err)
		}
		until(t, d, "ack", func(s plant.Scan) bool { r, ok := find(s, "ack"); return ok && r.Value == plant.UintValue(5) })
		if err := d.Write(t.Context(), plant.Write{Session: 1, Tag: "ack", Value: plant.IntValue(0)}); err != nil {
			t.Errorf("%s: %v", security, err)
		}
		d.Close()
	}
}

// Arrays and structures by their parts, a vendor's own one among them, against a
// server that describes it, and one that has only a dictionary of types.
func TestForeignServerMembers(t *testing.T) {
	f := newForeign(t, "scales")
	for _, mode := range []string{"publishing: 100ms\n", "poll: 100ms\n", "publishing: 50ms\n"} {
		if strings.Contains(mode, " 50ms") {
			f.kill()
			f.start(t, "scales", "old")
		}
		d := openText(t, foreignText(mode)+"  net: {node: nsu=urn:line;s=Line.Weight, member: Net, type: float64}\n  tare: {node: nsu=urn:line;s=Line.Weight, member: Tare}\n"+
			"  gross: {node: nsu=urn:line;s=Line.Total, member: Gross}\n  none: {node: nsu=urn:line;s=Line.Total, member: Brutto}\n", f.addr())
		connect(t, d, 1)
		got := map[plant.TagID]plant.Reading{}
		defer func() {
			if t.Failed() {
				t.Log(got["gross"], got["net"], got["none"], got["tare"], got["fourth"])
			}
		}()
		until(t, d, "members", func(s plant.Scan) bool {
			for _, r := range s.Readings {
				got[r.Tag] = r
			}
			return len(got) == 132
		})
		for tag, want := range map[plant.TagID]plant.Value{
			"state": plant.IntValue(0), "second": plant.FloatValue(2.5), "net": plant.FloatValue(10.25), "tare": plant.FloatValue(2.25), "gross": plant.FloatValue(12.5),
		} {
			if r := got[tag]; r.Value != want || r.Quality != plant.Good {
				t.Errorf("%s%s = %v (%v %s), want %v", mode, tag, r.Value, r.Quality, r.Cause, want)
			}
		}
		if r := got["none"]; r.Quality != plant.Bad || !strings.Contains(r.Cause, "no member Brutto; it has Gross, Net, Tare") {
			t.Errorf("%+v", r)
		}
		if r := got["fourth"]; r.Quality != plant.Bad || !strings.Contains(r.Cause, "the array has 3 elements") {
			t.Errorf("%+v", r)
		}
		if err := d.Write(t.Context(), plant.Write{Session: 1, Tag: "ack", Value: plant.IntValue(0)}); err != nil {
			t.Error(err)
		}
		_ = d.Close()
	}
}

// A server that is stopped with SIGSTOP is noticed, and read again soon after it
// goes on; one that comes back after a restart has its namespaces in another
// order and keeps to limits that it does not name. Its clock is wrong.
func TestForeignServerChanges(t *testing.T) {
	f := newForeign(t, "skewed")
	text := strings.ReplaceAll(foreignText(""), "nsu=urn:line", "ns=2") // a number, as most people write it
	p := checkPlan(t, text, f.addr())
	driver := p.Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()})
	values := &sink{states: make(chan plant.DeviceState, 1000)}
	poller := drivers.NewPoller(p.PollerOptions(driverstest.Device), driver, []drivers.Sink{values}, zap.NewNop())
	runPoller(t, poller)
	values.wait(t, true)
	values.flows(t)

	start := time.Now()
	if err := f.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	values.wait(t, false)
	noticed := time.Since(start)
	time.Sleep(5 * time.Second) // a wait that grew would have grown by now
	if err := f.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	values.wait(t, true)
	t.Logf("SIGSTOP: noticed after %v → back %v after SIGCONT", noticed.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	if noticed > 10*time.Second { // 6 s are asked for, of a computer that does nothing else
		t.Errorf("a frozen server was noticed after %v", noticed)
	}
	values.flows(t)

	f.kill()
	values.wait(t, false)
	f.start(t, "moved", "unnamed", "skewed") // it takes seconds
	start = time.Now()
	values.wait(t, true)
	t.Logf("restarted, namespace moved, limits not named (BadTooManyOperations, learned from) → back %v after the server was up", time.Since(start).Round(time.Millisecond))
	values.flows(t)
	if n := values.wrong.Load(); n > 0 {
		t.Errorf("%d values of another node", n)
	}
	st := poller.Stats()
	if said := strings.Join(st.Advice, "; "); !strings.Contains(said, "urn:line was number 2 and is number 3 now") {
		t.Errorf("the page says %q", said)
	}
	for deadline := time.Now().Add(60 * time.Second); !poller.Stats().ClockWrong; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("an hour of skew was not noticed: %+v", poller.Stats().ClockOffset)
		}
	}
	t.Logf("clock skew of an hour → %v", poller.Stats().ClockOffset.Round(time.Millisecond))
}

var sessions = flag.Int("opcua.sessions", 200, "how many sessions TestForeignServerManySessions has; 1000 take about a minute")

// Many sessions in a row, each third cut, leave nothing here, and nothing at a
// server that has one session for all: the next one ends what was cut.
func TestForeignServerManySessions(t *testing.T) {
	f := newForeign(t, "single")
	text := "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 20ms\ntags: {made: nsu=urn:line;s=Line.V0, order: nsu=urn:line;s=Line.Order}\n"
	leavesNothing(t, f.addr(), text, "order", uint64(*sessions))
}
