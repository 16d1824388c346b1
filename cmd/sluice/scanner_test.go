package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// scannerPlant has two gates: the scanner of one waits for nobody, that of the
// other for its ACK.
const scannerPlant = `
site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: %s, quota: 64 MiB}
http: {listen: "127.0.0.1:0"}
devices:
  free: {driver: line, listen: "127.0.0.1:%s", pattern: '(?P<code>[A-Z0-9]{4,20})', tags: {code: code, n: sequence}}
  strict: {driver: line, listen: "127.0.0.1:%s", reply: '\x06', tags: {code: line, n: sequence, kept: taken}}
machines:
  GATE-1: {device: free, serial: {trigger: n, protocol: counter, serial: code}}
  GATE-2: {device: strict, serial: {trigger: n, ack: kept, protocol: counter, serial: code}}
uplinks:
  broker: {driver: mqtt, url: "tcp://%s"}
`

// scanBook notes the serial numbers of each machine as they arrive, and what was
// refused.
type scanBook struct {
	mu      sync.Mutex
	seen    map[string]bool
	serials map[string][]string
	alarms  []string
}

func (b *scanBook) publish(_ string, payload []byte) {
	var e struct {
		ID   string `json:"id"`
		Type string `json:"type"`
		Data struct {
			plant.Serial
			Machine string `json:"machine"`
			Name    string `json:"name"`
			Raised  bool   `json:"raised"`
		} `json:"data"`
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := json.Unmarshal(payload, &e); err != nil || b.seen[e.ID] {
		return
	}
	id, err := plant.ParseEventID(e.ID)
	if err != nil {
		return // what the gateway says of itself
	}
	b.seen[e.ID] = true
	machine := string(id.Machine)
	switch e.Type {
	case "dev.sluice.serial.v1":
		b.serials[machine] = append(b.serials[machine], e.Data.Serial.Serial)
	case "dev.sluice.alarm.v1", "dev.sluice.gap.v1":
		b.alarms = append(b.alarms, e.Type+" "+string(payload))
	}
}

func (b *scanBook) of(machine string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.serials[machine], " ")
}

// dialGate calls a gate until the gateway listens there.
func dialGate(t *testing.T, port string) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestScansArriveOnce binds scanners to a rule without a PLC: each scan is one
// event, also where a code is scanned twice, where a burst comes, and where the
// gateway is stopped and started between two scans of one code.
func TestScansArriveOnce(t *testing.T) {
	book := &scanBook{seen: map[string]bool{}, serials: map[string][]string{}}
	broker := plantsim.NewBroker(book.publish)
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Stop() })
	free, strict := freePort(t), freePort(t)
	config := writeConfig(t, fmt.Sprintf(scannerPlant, filepath.Join(t.TempDir(), "buffer"), free, strict, broker.Addr()))
	gateway := func() (stop func()) {
		p, faults := loadPlan(config, driverKinds, uplinkKinds)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		g := newGateway(p, zap.NewNop())
		g.grace = stopSlowly
		go func() { ended <- g.run(ctx) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	want := map[string][]string{}
	arrived := func() {
		t.Helper()
		for machine, codes := range want {
			all := strings.Join(codes, " ")
			for deadline := time.Now().Add(20 * time.Second); book.of(machine) != all; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: %q arrived, %q was scanned; %v", machine, book.of(machine), all, book.alarms)
				}
			}
		}
	}
	for round := range 3 {
		stop := gateway()
		one, two := dialGate(t, free), dialGate(t, strict)
		codes := []string{"SAME0001"} // as the newest before the gateway was stopped
		for i := range 30 {
			codes = append(codes, fmt.Sprintf("UNIT%d%02d", round, i/2))
		}
		codes = append(codes, "SAME0001")
		if _, err := one.Write([]byte(strings.Join(codes, "\r") + "\r")); err != nil {
			t.Fatal(err)
		}
		// One scan a start at first: it has the number of the one before.
		few := codes[:1+4*(round/2)]
		for _, code := range few {
			scanStrictly(t, two, code)
		}
		want["GATE-1"] = append(want["GATE-1"], codes...)
		want["GATE-2"] = append(want["GATE-2"], few...)
		arrived()
		stop()
	}
	book.mu.Lock()
	defer book.mu.Unlock()
	if len(book.alarms) > 0 {
		t.Errorf("all was scanned well, but: %v", book.alarms)
	}
}

// scanStrictly sends a code and waits for the ACK.
func scanStrictly(t *testing.T, c net.Conn, code string) {
	t.Helper()
	if _, err := c.Write([]byte(code + "\r")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	ack := make([]byte, 1)
	if _, err := c.Read(ack); err != nil || ack[0] != '\x06' {
		t.Fatalf("%s: the scanner got %q, %v", code, ack, err)
	}
}

// freePort returns a port that nobody else gets while the test runs.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := faultnet.KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	return port.Number()
}
