//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// Deadlines of the rig. They are generous: a loaded machine is no fault.
const (
	waitReady  = 60 * time.Second
	waitDrain  = 90 * time.Second
	waitSettle = 90 * time.Second
)

// bed is a plant, two receivers, and a gateway with its buffer between them. It
// belongs to one case.
type bed struct {
	dir    string
	buffer string // buffer.path
	binary string
	plant  *workshop
	sinks  *sinks
	judge  *oracle.Oracle
	config string
	limits string // further keys of buffer:
	uplink string // a further line of uplinks:
	text   string // another config altogether
	asks   string // further keys of the uplink to the broker
	tells  string // further keys of the uplink over HTTP
	// brokerAt and erpAt are where the gateway finds the receivers, ackTimeout how
	// long it waits for the broker's word.
	brokerAt, erpAt, ackTimeout string
	pace                        int // factor of the devices' intervals

	gateway *gateway
	starts  int

	loading sync.WaitGroup
	unload  context.CancelFunc
}

// newBed makes a bed in dir, with nothing running but the plant and the
// receivers. limits are further keys of the section buffer.
func newBed(dir, binary, limits string, o oracle.Options) (*bed, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &bed{dir: dir, buffer: filepath.Join(dir, "buffer"), binary: binary, config: filepath.Join(dir, "sluice.yaml"), limits: limits}
	var err error
	if b.plant, err = newWorkshop(dir); err != nil {
		return nil, err
	}
	if b.sinks, err = newSinks(dir); err != nil {
		b.plant.close()
		return nil, err
	}
	if o.Sinks == nil {
		o.Sinks = []string{broker, erp}
	}
	if o.DuplicatesPerStart == 0 {
		// Two windows of a batch for each machine, and what was delivered in the
		// time that a settled cursor may wait for its fsync.
		o.DuplicatesPerStart = 4*2*batchEvents + 400
	}
	b.brokerAt, b.erpAt, b.ackTimeout, b.pace = b.sinks.broker.Addr(), b.sinks.addr, "5s", 1
	b.judge = oracle.New(b.plant, o)
	b.sinks.tell(b.judge)
	return b, nil
}

// batchEvents is how many events an uplink has under way for a machine.
const batchEvents = 50

// writeConfig writes the config for the buffer as it is now.
func (b *bed) writeConfig() error {
	if b.text != "" {
		return os.WriteFile(b.config, []byte(b.text), 0o600)
	}
	var y strings.Builder
	y.WriteString(b.envelope())
	fmt.Fprintf(&y, "uplinks:\n  %s: {driver: mqtt, url: \"tcp://%s\", ack_timeout: %s, batch_events: %d%s}\n", broker, b.brokerAt, b.ackTimeout, batchEvents, b.asks)
	fmt.Fprintf(&y, "  %s: {driver: rest, url: \"http://%s/events\", batch_events: %d%s}\n", erp, b.erpAt, batchEvents, b.tells)
	y.WriteString(b.uplink)
	y.WriteString(b.countingDevices(10*b.pace, 20*b.pace))
	fmt.Fprintf(&y, `  mixer:
    driver: modbus
    endpoint: %s
    interval: %dms
    tags:
      offer: coil:0
      ack: coil:1
      number: holding:100
      quantity: {address: "holding:101", type: int32, scale: 0.001, unit: kg}
      component: {address: "holding:107", type: string, length: 8}
      lot: {address: "holding:115", type: string, length: 8}
      unit: {address: "holding:131", type: string, length: 1}
  oven:
    driver: modbus
    endpoint: %s
    interval: 50ms
    tags:
`, b.plant.mixer.PLC().Addr(), 10*b.pace, b.plant.oven.Addr())
	for i := range ovenTags {
		fmt.Fprintf(&y, "      t%02d: {address: \"holding:%d\", type: string, length: %d}\n", i, i*ovenRegisters, ovenRegisters)
	}
	y.WriteString(countingMachines)
	fmt.Fprintf(&y, `  %s:
    device: mixer
    dosing: {trigger: offer, ack: ack, number: number, component: {tag: component}, quantity: quantity, unit: {tag: unit}, lot: lot}
  %s:
    device: oven
    parameters:
`, mixer, oven)
	for i := range ovenTags {
		fmt.Fprintf(&y, "      P%02d: t%02d\n", i, i)
	}
	return os.WriteFile(b.config, []byte(y.String()), 0o600)
}

// envelope is the part of a config that is the same for all.
func (b *bed) envelope() string {
	return fmt.Sprintf(`site: {enterprise: acme, site: lisbon, area: rig, gateway: rig}
buffer: {path: %s, %s}
http: {listen: "127.0.0.1:0"}
`, b.buffer, b.limits)
}

// countingDevices begins the devices with the two that count, asked at such
// intervals in milliseconds.
func (b *bed) countingDevices(pressEvery, lineEvery int) string {
	return fmt.Sprintf(`devices:
  press:
    driver: modbus
    endpoint: %s
    interval: %dms
    tags: {made: {address: "holding:0", type: uint16}}
  line:
    driver: modbus
    endpoint: %s
    interval: %dms
    word_order: CDAB
    tags: {made: {address: "holding:0", type: uint32}, scrap: {address: "holding:2", type: uint32}}
`, b.plant.press.Addr(), pressEvery, b.plant.line.Addr(), lineEvery)
}

// countingMachines begins the machines with theirs.
const countingMachines = `machines:
  ` + press + `:
    device: press
    counter: {total: made, max_rate: 4000/s, baseline: zero, pieces: 1}
  ` + line + `:
    device: line
    counter: {total: made, scrap: {S: scrap}, max_rate: 4000/s, baseline: zero, pieces: 1}
`

// start starts the gateway with entries of SLUICE_FAIL.
func (b *bed) start(fail ...string) error {
	return b.launch(launch{fail: fail})
}

func (b *bed) launch(l launch) error {
	if err := b.writeConfig(); err != nil {
		return err
	}
	l.config, l.output = b.config, filepath.Join(b.dir, "gateway.log")
	if l.binary == "" {
		l.binary = b.binary
	}
	var err error
	b.gateway, err = l.start(b.judge)
	b.starts++
	return err
}

// until looks for done until it holds. It ends early with an error when the
// gateway is gone.
func (b *bed) until(d time.Duration, what string, done func() bool) error {
	for deadline := time.Now().Add(d); !done(); pause(3 * time.Millisecond) {
		if b.gateway != nil && b.gateway.over() {
			if done() {
				return nil
			}
			return fmt.Errorf("%s: the gateway ended by itself, %v:\n%s", what, b.gateway.cmd.ProcessState, b.gateway.tail())
		}
		if time.Now().After(deadline) {
			err := fmt.Errorf("%s: not within %v\n%s", what, d, b.tail())
			if b.gateway != nil {
				b.gateway.signal(syscall.SIGQUIT) // its log then has what every goroutine waits for
				b.gateway.wait(10 * time.Second)
			}
			return err
		}
	}
	return nil
}

func (b *bed) tail() string {
	if b.gateway == nil {
		return ""
	}
	return b.gateway.tail()
}

// accepting waits until the gateway has accepted n events since its start.
func (b *bed) accepting(n int64) error {
	return b.until(waitReady, "recording has not begun", func() bool { return b.gateway.tapped.Load() >= n })
}

// drainedAtRest stops the plant until what was accepted is accounted for, so that
// a loaded machine can catch up.
func (b *bed) drainedAtRest() error {
	b.rest()
	err := b.drained()
	b.work()
	return err
}

// work lets the plant make what the cases of the network need: events that are
// seldom long.
func (b *bed) work() { b.load(2 * time.Second) }

// working starts a gateway and lets the plant work.
func (b *bed) working() error {
	if err := b.start(); err != nil {
		return err
	}
	b.work()
	return b.accepting(50)
}

// drained waits until what was accepted so far is accounted for.
func (b *bed) drained() error {
	return b.until(waitDrain, "what was accepted does not arrive", func() bool { return b.judge.Violated() || b.judge.Drained() })
}

// load lets the plant work in the background until rest; texts is how often the
// oven has new ones, 0 for never.
func (b *bed) load(texts time.Duration) {
	b.rest()
	ctx, cancel := context.WithCancel(context.Background())
	b.unload = cancel
	b.loading.Go(func() { b.plant.load(ctx, texts) })
}

// rest stops the plant.
func (b *bed) rest() {
	if b.unload != nil {
		b.unload()
		b.loading.Wait()
		b.unload = nil
	}
	b.plant.freeze(0)
}

// settle lets the gateway, which is running, deliver everything, stops it in
// order, and returns what the oracle says.
func (b *bed) settle() error { return b.settleWithin(waitSettle) }

// settleShort is settle for a control: what it waits for will not come.
func (b *bed) settleShort() error { return b.settleWithin(8 * time.Second) }

func (b *bed) settleWithin(d time.Duration) error {
	b.rest()
	b.plant.freeze(20) // counts that come after a loss show whether the totals are right
	err := b.until(d, "the plant stands, and what it made has not arrived", func() bool {
		return b.judge.Violated() || b.plant.stands() && b.judge.Settled()
	})
	if wrong := append(b.judge.Judge(), b.plant.violations()...); len(wrong) > 0 {
		return &violationError{wrong, err}
	}
	if err != nil {
		return err
	}
	return b.gateway.stop()
}

// violationError is what the oracle found.
type violationError struct {
	wrong []string
	cause error
}

// Error implements error.
func (e *violationError) Error() string {
	text := fmt.Sprintf("the oracle says:\n  %s", strings.Join(e.wrong, "\n  "))
	if e.cause != nil {
		text += "\n" + e.cause.Error()
	}
	return text
}

// close ends everything; the folder stays.
func (b *bed) close() {
	if b.gateway != nil {
		b.gateway.kill()
	}
	b.rest()
	b.sinks.close()
	b.plant.close()
}
