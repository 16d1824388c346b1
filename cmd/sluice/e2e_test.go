//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
)

// e2eLines is the plant of the kill tests: 16-bit counters that roll over every
// few minutes, 32-bit ones, fast and slow.
var e2eLines = []plantsim.LineOptions{
	{Pace: 400, ScrapEvery: 17, Bits: 16, Total: 64_000},
	{Pace: 150, ScrapEvery: 29, Bits: 32},
	{Pace: 60, ScrapEvery: 7, Bits: 16, Total: 65_400},
	{Pace: 10, Bits: 32, Total: 1_000_000},
}

// e2eBed is a plant in another process, a receiver behind a fault proxy, and
// the built binary between them.
type e2eBed struct {
	t      *testing.T
	dir    string
	binary string
	env    []string
	plant  *plantProcess
	mes    *plantsim.MES
	broker *plantsim.Broker
	proxy  *faultnet.Proxy
	output lockedOutput
	kills  int
	loaded int // kills that hit while events were arriving
}

func newE2EBed(t *testing.T, binary string, env ...string) *e2eBed {
	t.Helper()
	b := newE2EBedOf(t, binary, plantSpec{Lines: e2eLines})
	b.env = env
	b.writeConfig()
	return b
}

// newE2EBedOf is a bed of that plant, still without a config.
func newE2EBedOf(t *testing.T, binary string, plant plantSpec) *e2eBed {
	t.Helper()
	b := &e2eBed{t: t, dir: t.TempDir(), binary: binary, mes: strictMES(t)}
	t.Cleanup(b.noRaces)
	b.plant = startPlant(t, plant)
	b.broker = plantsim.NewBroker(b.mes.Publish)
	if err := b.broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.broker.Stop() })
	proxy, err := faultnet.New(b.broker.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	b.proxy = proxy
	return b
}

// strictMES is a receiver that holds each event against its schema.
func strictMES(t *testing.T) *plantsim.MES {
	t.Helper()
	schemas, err := schematest.Load()
	if err != nil {
		t.Fatal(err)
	}
	mes := plantsim.NewMES()
	mes.Check(schemas.Check)
	return mes
}

// chaosEarly makes the gateway of the negative control.
const chaosEarly = "SLUICE_CHAOS_EARLY=1"

// noRaces fails the test for what the race detector found in the gateway.
func (b *e2eBed) noRaces() {
	if slices.Contains(b.env, chaosEarly) {
		return // it goes on with events whose memory the rules use again
	}
	if out := b.output.String(); strings.Contains(out, "DATA RACE") {
		b.t.Errorf("the gateway has data races:\n%s", out)
	}
}

func (b *e2eBed) config() string { return filepath.Join(b.dir, "sluice.yaml") }

func (b *e2eBed) writeConfig() {
	var y strings.Builder
	fmt.Fprintf(&y, "site: {enterprise: acme, site: lisbon, area: e2e, gateway: e2e}\n")
	fmt.Fprintf(&y, "buffer: {path: %s, quota: 512 MiB, keep: 1h}\nhttp: {listen: \"127.0.0.1:0\"}\n", filepath.Join(b.dir, "buffer"))
	fmt.Fprintf(&y, "uplinks:\n  mqtt: {driver: mqtt, url: tcp://%s, ack_timeout: 3s}\n", b.proxy.Addr())
	devices, machines := "devices:\n", "machines:\n"
	for i, o := range e2eLines {
		kind := "uint16"
		if o.Bits == 32 {
			kind = "uint32"
		}
		devices += fmt.Sprintf("  plc-%d:\n    driver: modbus\n    endpoint: %s\n    interval: 20ms\n    word_order: CDAB\n    tags:\n"+
			"      made: {address: \"holding:0\", type: %s}\n      scrap: {address: \"holding:2\", type: %s}\n      run: coil:0\n", i, b.plant.addrs[i], kind, kind)
		machines += fmt.Sprintf("  M-%d:\n    device: plc-%d\n    counter: {total: made, scrap: {S: scrap}, max_rate: %d/s, every: 50ms}\n"+
			"    startstop: {running: run, min_stop: 100ms}\n", i, i, int(o.Pace*4))
	}
	if err := os.WriteFile(b.config(), []byte(devices+machines+y.String()), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// start starts the gateway; the process is returned for the kill.
func (b *e2eBed) start() *exec.Cmd {
	b.t.Helper()
	cmd := exec.Command(b.binary, "--log-format", "json", "run", "--config", b.config())
	cmd.Env = append(os.Environ(), b.env...)
	cmd.Stdout, cmd.Stderr = &b.output, &b.output
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if cmd.ProcessState == nil { // the test failed before it ended the gateway
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}

// kill ends the gateway with SIGKILL and waits until the process is gone.
func (b *e2eBed) kill(cmd *exec.Cmd) {
	b.t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		b.t.Fatalf("the gateway had ended before its kill: %v\n%s", err, b.output.tail())
	}
	_ = cmd.Wait() // "signal: killed"
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		b.t.Fatalf("the gateway ended by itself: %v\n%s", cmd.ProcessState, b.output.tail())
	}
	b.kills++
}

// until polls for done; it fails the test with what when d is over.
func (b *e2eBed) until(d time.Duration, what string, done func() bool) {
	b.t.Helper()
	if !b.within(d, done) {
		b.t.Fatalf("%v are over: %s\n%s\n%s", d, what, b.report(), b.output.tail())
	}
}

func (b *e2eBed) within(d time.Duration, done func() bool) bool {
	deadline := time.Now().Add(d)
	for !done() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond) // the interval of the look, not a wait for luck
	}
	return true
}

// firstLook waits until every machine was seen, still standing.
func (b *e2eBed) firstLook() {
	b.until(20*time.Second, "not every machine's first state has arrived", func() bool {
		return b.mes.Count(plant.KindStartStop) >= int64(len(e2eLines))
	})
}

// arrivals waits for new events, so that the kill that follows hits a gateway
// at work.
func (b *e2eBed) arrivals(d time.Duration, n uint64) {
	from := b.mes.Delivered()
	if b.within(d, func() bool { return b.mes.Delivered() >= from+n }) {
		b.loaded++
	}
}

// killUnderLoad kills the gateway n times while the plant works, with outages
// of the network, the broker and a PLC in between, then lets it run to the end.
func (b *e2eBed) killUnderLoad(n int, r *rand.Rand) {
	cmd := b.start()
	b.firstLook()
	b.plant.do("start", -1, 0)
	for i := range n {
		switch i % 5 {
		case 1: // the network is cut in the middle of the traffic
			b.proxy.Cut()
		case 2: // the broker is away when the kill comes: the backlog must survive it
			if err := b.broker.Stop(); err != nil {
				b.t.Fatal(err)
			}
		case 3:
			b.plant.do("stop", i%len(e2eLines), 7)
		case 4:
			b.plant.do("start", -1, 0)
		}
		if i%5 != 2 {
			b.arrivals(5*time.Second, uint64(r.IntN(40)))
		}
		time.Sleep(time.Duration(r.IntN(250)) * time.Millisecond) // the kill must hit at random
		b.kill(cmd)
		if err := b.broker.Start(); err != nil {
			b.t.Fatal(err)
		}
		cmd = b.start()
	}
	b.arrivals(20*time.Second, 1)
	b.plant.do("stop", -1, 9)
	b.settle(cmd)
}

// settle waits until nothing new arrives and everything has, then ends the
// gateway in order.
func (b *e2eBed) settle(cmd *exec.Cmd) {
	b.within(30*time.Second, func() bool { return len(b.differences()) == 0 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatalf("stop the gateway: %v\n%s", err, b.output.tail())
	}
	begin := time.Now()
	if err := cmd.Wait(); err != nil {
		b.t.Errorf("the gateway did not end in order: %v\n%s", err, b.output.tail())
	}
	if took := time.Since(begin); took > 10*time.Second {
		b.t.Errorf("SIGTERM took %v, 10 s are promised", took)
	}
}

// differences is the oracle: what the plant made against what the receiver has,
// machine by machine, and what the receiver found wrong with the streams.
func (b *e2eBed) differences() (wrong []string) {
	for i, made := range b.plant.do("made", -1, 0) {
		if got := b.mes.Pieces(plant.MachineID(fmt.Sprintf("M-%d", i))); got != made.Pieces {
			wrong = append(wrong, fmt.Sprintf("M-%d: made %d, arrived %d (%+d)", i, made.Pieces, got, got-made.Pieces))
		}
	}
	return append(wrong, b.mes.Violations()...)
}

// report prints the comparison.
func (b *e2eBed) report() string {
	var s strings.Builder
	for i, made := range b.plant.do("made", -1, 0) {
		fmt.Fprintf(&s, "M-%d  made %6d  arrived %6d\n", i, made.Pieces, b.mes.Pieces(plant.MachineID(fmt.Sprintf("M-%d", i))))
	}
	fmt.Fprintf(&s, "%d SIGKILLs (%d while events were arriving), %d events, %d duplicates recognised, %d violations\n",
		b.kills, b.loaded, b.mes.Delivered(), b.mes.Duplicates(), len(b.mes.Violations()))
	return s.String()
}

// TestE2EKill kills the built binary under load: every piece at the PLCs is at
// the receiver exactly once.
func TestE2EKill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	b := newE2EBed(t, buildSluice(t))
	b.killUnderLoad(25, rand.New(rand.NewPCG(seed, 1)))
	wrong := b.differences()
	t.Logf("seed %d\n%s", seed, b.report())
	if len(wrong) > 0 {
		t.Errorf("made and arrived differ:\n%s", strings.Join(wrong, "\n"))
	}
	if b.kills < 20 || b.loaded < b.kills/2 {
		t.Errorf("%d kills, %d of them under load: too few to prove anything", b.kills, b.loaded)
	}
	if b.mes.Duplicates() == 0 {
		t.Error("25 kills led to no re-sent event: the kills did not hit between delivery and settle")
	}
}

// TestE2ENegativeControl shows that the oracle can fail: a gateway that
// forwards before the commit must be caught by it.
func TestE2ENegativeControl(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	b := newE2EBed(t, buildSluice(t, "-tags", "chaos"), "SLUICE_FAIL=commit.early=on")
	b.killUnderLoad(8, rand.New(rand.NewPCG(seed, 2)))
	wrong := b.differences()
	t.Logf("seed %d\n%sthe oracle says:\n%s", seed, b.report(), strings.Join(wrong, "\n"))
	if len(wrong) == 0 {
		t.Error("a gateway that acknowledges and forwards before the commit was not caught: the oracle is blind")
	}
}

// TestE2ENoChaosInRelease keeps the failpoints and their switches out of the
// normal build.
func TestE2ENoChaosInRelease(t *testing.T) {
	binary, err := os.ReadFile(buildSluice(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range []string{"SLUICE_FAIL", "failpoint", "accept tap", "commit.early", "batch.beforeCommit", "commit.before"} {
		if bytes.Contains(binary, []byte(trace)) {
			t.Errorf("the release binary holds %q of the failpoints", trace)
		}
	}
	chaos, err := os.ReadFile(buildSluice(t, "-tags", "chaos"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(chaos, []byte("SLUICE_FAIL")) {
		t.Error("the chaos binary does not hold SLUICE_FAIL either: the search is blind")
	}
}

// TestE2ESecondProcess starts a second gateway on the same buffer: it must
// refuse, and the first one must not notice.
func TestE2ESecondProcess(t *testing.T) {
	b := newE2EBed(t, buildSluice(t))
	cmd := b.start()
	b.firstLook()
	second := b.start()
	if err := second.Wait(); err == nil || second.ProcessState.ExitCode() == 0 {
		t.Error("a second process opened the same buffer")
	}
	if out := b.output.tail(); !strings.Contains(out, filepath.Join(b.dir, "buffer")) {
		t.Errorf("the refusal does not name the folder:\n%s", out)
	}
	b.plant.do("start", -1, 0)
	b.arrivals(10*time.Second, 5)
	b.plant.do("stop", -1, 9)
	b.settle(cmd)
	if wrong := b.differences(); len(wrong) > 0 {
		t.Errorf("made and arrived differ:\n%s", strings.Join(wrong, "\n"))
	}
}

var built sync.Map // build arguments → func() (path, error)

// buildSluice builds the binary once per set of arguments; a test binary with
// the race detector builds one with it.
func buildSluice(t *testing.T, args ...string) string {
	t.Helper()
	if raceDetector {
		args = append([]string{"-race"}, args...)
	}
	once, _ := built.LoadOrStore(strings.Join(args, " "), sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "sluice-e2e-")
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, "sluice")
		out, err := exec.Command("go", append(append([]string{"build", "-o", path}, args...), ".")...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
		return path, nil
	}))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
