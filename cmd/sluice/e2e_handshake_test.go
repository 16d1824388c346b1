//go:build e2e

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// handshakePoints are those that seams_kill_chaos.go knows; a name that it does
// not know is never passed, which fails the test.
var handshakePoints = []string{"handshake.triggerSeen", "handshake.recordRead", "handshake.beforeCommit", "handshake.afterCommit", "ack.afterWrite", "ack.afterRelease"}

// TestE2EHandshakes kills the built binary at each step in the life of a
// handshake record, several times each: every dose, serial number and attach
// that the PLCs handed over is at the receiver, once, and nothing was
// acknowledged that had not been offered.
func TestE2EHandshakes(t *testing.T) {
	b := newHandshakeBed(t, buildSluice(t, "-tags", "chaos"))
	cmd := b.start()
	b.within(20*time.Second, func() bool { return b.mes.Count(plant.KindStartStop) >= 1 })
	b.kill(cmd)
	b.plant.do("start", -1, 0)
	for round := range 2 {
		for _, point := range handshakePoints {
			for range 3 {
				b.plant.do("dose", -1, 0)
			}
			b.env = []string{fmt.Sprintf("SLUICE_FAIL=%s=%d:kill", point, round+1)}
			cmd := b.start()
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case <-ended:
				if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
					t.Fatalf("%s: the gateway ended by itself: %v\n%s", point, cmd.ProcessState, b.output.tail())
				}
				b.kills++
			case <-time.After(20 * time.Second):
				_ = cmd.Process.Kill()
				<-ended
				t.Fatalf("%s was never passed\n%+v\n%s", point, b.plant.ask("made", -1, 0), b.output.tail())
			}
		}
	}
	b.env = nil
	cmd = b.start()
	b.plant.do("dose", -1, 0)
	b.until(20*time.Second, "serial numbers do not arrive", func() bool { return b.mes.Count(plant.KindSerial) >= 10 })
	b.plant.do("stop", -1, 9)
	b.within(30*time.Second, func() bool { return len(b.handshakeDifferences()) == 0 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop the gateway: %v\n%s", err, b.output.tail())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the gateway did not end in order: %v\n%s", err, b.output.tail())
	}
	made := b.plant.ask("made", -1, 0)
	t.Logf("%d SIGKILLs in handshakes; doses %d → %d, serials %d → %d, attaches %d → %d, boxes %d → %d, %d duplicates recognised",
		b.kills, made.Dosed.Doses, b.mes.Count(plant.KindDosing), made.Packed.Serials, b.mes.Count(plant.KindSerial),
		made.Packed.Attaches, b.mes.Count(plant.KindItemAttach), made.Packed.Pieces, b.mes.Pieces("PACKER"), b.mes.Duplicates())
	if wrong := b.handshakeDifferences(); len(wrong) > 0 {
		t.Errorf("made and arrived differ:\n%s", strings.Join(wrong, "\n"))
	}
	if b.kills < 2*len(handshakePoints)+1 {
		t.Errorf("%d kills, want one at each point twice", b.kills)
	}
}

// handshakeDifferences is the oracle, record by record.
func (b *e2eBed) handshakeDifferences() (wrong []string) {
	made := b.plant.ask("made", -1, 0)
	for _, c := range []struct {
		what          string
		made, arrived int64
	}{
		{"doses", made.Dosed.Doses, b.mes.Count(plant.KindDosing)},
		{"serials", made.Packed.Serials, b.mes.Count(plant.KindSerial)},
		{"attaches", made.Packed.Attaches, b.mes.Count(plant.KindItemAttach)},
		{"boxes", made.Packed.Pieces, b.mes.Pieces("PACKER")},
		{"doses that wait", 0, made.Dosed.Waiting},
		{"records that wait", 0, made.Packed.Waiting},
		{"acknowledgements of nothing", 0, made.Dosed.Violations},
	} {
		if c.made != c.arrived {
			wrong = append(wrong, fmt.Sprintf("%s: made %d, arrived %d", c.what, c.made, c.arrived))
		}
	}
	return append(wrong, b.mes.Violations()...)
}

// newHandshakeBed is a bed with a scale and a packing line.
func newHandshakeBed(t *testing.T, binary string) *e2eBed {
	t.Helper()
	b := newE2EBedOf(t, binary, plantSpec{
		Scale:  &plantsim.ScaleOptions{},
		Packer: &plantsim.PackagingOptions{Addr: "127.0.0.1:0", Pace: 40, SerialEvery: 5},
	})
	const ns = "nsu=" + plantsim.OPCUANamespace + ";s="
	text := fmt.Sprintf(`site: {enterprise: acme, site: lisbon, area: e2e, gateway: e2e}
buffer: {path: %s, quota: 512 MiB, keep: 1h}
http: {listen: "127.0.0.1:0"}
uplinks:
  mqtt: {driver: mqtt, url: "tcp://%s", ack_timeout: 3s}
devices:
  scale:
    driver: modbus
    endpoint: %s
    interval: 20ms
    tags:
      offer: coil:0
      ack: coil:1
      number: holding:100
      quantity: {address: "holding:101", type: int32}
      component: {address: "holding:107", type: string, length: 8}
      lot: {address: "holding:115", type: string, length: 8}
      unit: {address: "holding:131", type: string, length: 1}
  line:
    driver: opcua
    endpoint: opc.tcp://%s
    channel: {policy: None, mode: None}
    publishing: 50ms
    tags:
      made: {node: "%[5]sLine.Made", type: uint16, queue: 1}
      run: {node: "%[5]sLine.Running", type: bool}
      serial_offer: {node: "%[5]sSerial.Offer", type: bool}
      serial_ack: {node: "%[5]sSerial.Ack", type: bool}
      serial: {node: "%[5]sSerial.Number", type: string}
      attach_offer: {node: "%[5]sAttach.Offer", type: bool}
      attach_ack: {node: "%[5]sAttach.Ack", type: bool}
      parent: {node: "%[5]sAttach.Parent", type: string}
      item: {node: "%[5]sAttach.Serial", type: string}
machines:
  MIXER:
    device: scale
    dosing: {trigger: offer, ack: ack, number: number, component: {tag: component}, quantity: quantity, unit: {tag: unit}, lot: lot}
  PACKER:
    device: line
    counter: {total: made, max_rate: 200/s, every: 100ms}
    startstop: {running: run, min_stop: 100ms}
    serial: {trigger: serial_offer, ack: serial_ack, serial: serial, sku: BOX-12}
    item_attach: {trigger: attach_offer, ack: attach_ack, serial: parent, item: {sku: PUMP-3, serial: item}}
`, filepath.Join(b.dir, "buffer"), b.proxy.Addr(), b.plant.hello.Scale, b.plant.hello.Packer, ns)
	if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}
