package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/firmware-notes/blocks"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/memlog"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// handoverCase is one protocol: its block, and what the machine's config says.
type handoverCase struct {
	name    string
	options plantsim.HandoverOptions
	config  string
	// quantity is its tag; gaps allows records that nobody read in
	// time, each named.
	quantity string
	gaps     bool
}

var handoverCases = []handoverCase{
	{"level", plantsim.HandoverOptions{Block: "SluiceLevel"}, "trigger: offer, ack: ack", "quantity", false},
	{"sequence", plantsim.HandoverOptions{Block: "SluiceSequence", Forgets: []string{"echo", "error"}}, "trigger: number, ack: echo, protocol: sequence", "quantity", false},
	{"counter", plantsim.HandoverOptions{Block: "SluiceCounter", Hold: 60 * time.Millisecond}, "trigger: number, protocol: counter", "quantity", true},
	{"counter with echo", plantsim.HandoverOptions{Block: "SluiceCounter", Hold: time.Hour, Wired: true}, "trigger: number, ack: echo, protocol: counter", "quantity", false},
	{"toggle", plantsim.HandoverOptions{Block: "SluiceToggle"}, "trigger: offer, ack: ack, protocol: toggle", "quantity", false},
	{"ring", plantsim.HandoverOptions{Block: "SluiceRing", Forgets: []string{"tail"}}, "trigger: number, ack: echo, protocol: ring, slots: 32", "quantity#", false},
}

// TestBlocksHandOverEachRecordOnce runs the function blocks that are given to PLC
// programmers, with the real drivers and the real rules, while the gateway dies
// at random commits and answers, the PLC restarts and the line is cut: what the
// block took is an event, once and in order, and what it lost is a gap.
func TestBlocksHandOverEachRecordOnce(t *testing.T) {
	for n, c := range handoverCases {
		for _, driver := range []string{"modbus", "opcua"} {
			t.Run(c.name+"/"+driver, func(t *testing.T) {
				t.Parallel()
				c.options.Dialect = []blocks.Dialect{blocks.S7, blocks.CODESYS}[n%2]
				newHandoverBed(t, c, driver, uint64(n)).run()
			})
		}
	}
}

// handoverBed is one PLC with its block, a line that can be cut, and a gateway
// that dies.
type handoverBed struct {
	t      *testing.T
	c      handoverCase
	plc    *plantsim.Handover
	proxy  *faultnet.Proxy
	plan   *plan
	log    *dyingLog
	random *rand.Rand
	next   uint32
	kills  int
}

func newHandoverBed(t *testing.T, c handoverCase, driver string, seed uint64) *handoverBed {
	t.Helper()
	b := &handoverBed{t: t, c: c, random: rand.New(rand.NewPCG(seed, 5)), log: &dyingLog{}}
	b.log.random = rand.New(rand.NewPCG(seed, 6))
	var addr string
	if driver == "modbus" {
		plc, server, err := plantsim.NewModbusHandover("127.0.0.1:0", c.options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Stop() })
		b.plc, addr = plc, server.Addr()
	} else {
		plc, server, err := plantsim.NewOPCUAHandover(c.options, plantsim.OPCUAOptions{Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		b.plc, addr = plc, server.Addr()
	}
	var err error
	if b.proxy, err = faultnet.New(addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.proxy.Close() })
	text := modbusHandoverText
	if driver == "opcua" {
		text = opcuaHandoverText(c.options.Block)
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "ENDPOINT", b.proxy.Addr()), "HANDSHAKE", c.config+", quantity: "+c.quantity)
	p, found := loadPlan(writeConfig(t, strings.ReplaceAll(text, "SLOTS", ringTags(driver))), driverKinds, uplinkKinds)
	if len(found.Errors()) > 0 {
		t.Fatal(found)
	}
	b.plan = p
	return b
}

const handoverMachine = `
machines:
  MIXER: {device: plc, dosing: {component: SUGAR, unit: g, lost: lost, HANDSHAKE}}
uplinks:
  hook: {driver: rest, url: "https://mes.example/"}
`

const modbusHandoverText = `
site: {enterprise: acme, site: lisbon, area: packing}
devices:
  plc:
    driver: modbus
    endpoint: ENDPOINT
    interval: 10ms
    timeout: 300ms
    tags:
      offer: coil:0
      ack: coil:1
      number: holding:0
      echo: holding:1
      lost: {address: "holding:4", type: uint32}
      quantity: {address: "holding:6", type: uint32}
SLOTS
` + handoverMachine

// opcuaHandoverText names only the tags that the block has.
func opcuaHandoverText(block string) string {
	tags := map[string]string{
		"SluiceLevel": "offer ack", "SluiceToggle": "offer ack", "SluiceSequence": "number echo", "SluiceCounter": "number echo", "SluiceRing": "number echo",
	}[block]
	var b strings.Builder
	b.WriteString("\nsite: {enterprise: acme, site: lisbon, area: packing}\ndevices:\n  plc:\n    driver: opcua\n    endpoint: opc.tcp://ENDPOINT\n    channel: {policy: None, mode: None}\n    publishing: 50ms\n    timeout: 1s\n    tags:\n")
	const node = "      %s: {node: \"nsu=" + plantsim.OPCUANamespace + ";s=Block.%s\", type: %s}\n"
	for tag := range strings.FieldsSeq(tags) {
		name, typ := tag, "uint16"
		if tag == "offer" || tag == "ack" {
			typ = "bool"
		}
		if block == "SluiceRing" {
			name = map[string]string{"number": "head", "echo": "tail"}[tag]
		}
		fmt.Fprintf(&b, node, tag, name, typ)
	}
	fmt.Fprintf(&b, node, "lost", "lost", "uint32")
	if block == "SluiceRing" {
		b.WriteString("SLOTS\n")
	} else {
		fmt.Fprintf(&b, node, "quantity", "offered1", "uint16")
	}
	return b.String() + handoverMachine
}

// ringTags are the quantities in the slots of a ring.
func ringTags(driver string) string {
	var b strings.Builder
	for slot := range 32 {
		if driver == "modbus" {
			fmt.Fprintf(&b, "      quantity%d: {address: \"holding:%d\", type: uint32}\n", slot, int(plantsim.HandoverRing)+16*slot)
		} else {
			fmt.Fprintf(&b, "      quantity%d: {node: \"nsu=%s;s=Block.ring%d\", type: uint16}\n", slot, plantsim.OPCUANamespace, 16*slot+1)
		}
	}
	return b.String()
}

var errDied = errors.New("the gateway died")

// dyingLog keeps what was committed, and dies at random commits, before or after
// they are durable.
type dyingLog struct {
	mu     sync.Mutex
	random *rand.Rand
	memlog.Store
	// mortal says that it may die at all; dead that it did.
	mortal, dead bool
	died         chan struct{}
}

func (l *dyingLog) Load(_ context.Context, _ plant.MachineID, each func(plant.KV) error) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Store.Load(each)
}

func (l *dyingLog) Newest(_ context.Context, _ plant.MachineID, kind plant.EventKind, most int) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Store.Newest(kind, most), nil
}

func (l *dyingLog) Commit(_ context.Context, _ plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.dies()
	if l.dead && before {
		return 0, errDied
	}
	first := l.Apply(b)
	if l.dies() {
		return 0, errDied
	}
	return first, nil
}

// dies reports whether the gateway is dead, or dies now; l.mu is held.
func (l *dyingLog) dies() bool {
	if !l.dead && l.mortal && l.random.IntN(12) == 0 {
		l.dead = true
		close(l.died)
	}
	return l.dead
}

// dyingWriter dies at random before and after an answer is written.
type dyingWriter struct {
	log *dyingLog
	to  derive.Writer
}

func (w dyingWriter) Write(ctx context.Context, wr plant.Write) error {
	if w.ends() {
		return errDied
	}
	err := w.to.Write(ctx, wr)
	w.ends()
	return err
}

func (w dyingWriter) ends() bool {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return w.log.dies()
}

// live runs a gateway until it dies or until says so.
func (b *handoverBed) live(mortal bool, until func() bool) {
	b.t.Helper()
	b.log.mu.Lock()
	b.log.mortal, b.log.dead, b.log.died = mortal, false, make(chan struct{})
	died := b.log.died
	b.log.mu.Unlock()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	d := b.plan.Devices[0]
	driver := d.Plan.Open(drivers.Env{Name: d.Name, Log: zap.NewNop(), Records: b.plan.records(d.Name)})
	sink := new(lateSink)
	poller := drivers.NewPoller(d.Plan.PollerOptions(d.Name), driver, []drivers.Sink{sink}, zap.NewNop())
	worker := derive.NewWorker(b.plan.Machines[0], b.log, dyingWriter{b.log, poller}, derive.WorkerOptions{}, zap.NewNop())
	sink.to = worker
	var wg sync.WaitGroup
	wg.Go(func() { _ = poller.Run(ctx) })
	wg.Go(func() { _ = worker.Run(ctx) })
	for !until() {
		select {
		case <-died:
			b.kills++
			until = func() bool { return true }
		case <-time.After(2 * time.Millisecond):
		}
	}
	if mortal {
		b.log.mu.Lock()
		if !b.log.dead { // whatever the worker still says reaches nobody
			b.log.dead = true
			close(died)
			b.kills++
		}
		b.log.mu.Unlock()
	}
	cancel()
	wg.Wait()
}

// lateSink is a sink whose worker is made after it.
type lateSink struct{ to drivers.Sink }

func (s *lateSink) Offer(in plant.Input) { s.to.Offer(in) }

// run makes records for a while, with all that can go wrong, and then compares.
func (b *handoverBed) run() {
	ctx, cancel := context.WithCancel(b.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.plc.Serve(ctx) })
	// What the PLC has lost before anybody looked is told by nobody, so there is
	// one record at first, and the gateway does not die before it has it.
	b.put()
	first := time.Now().Add(60 * time.Second)
	b.live(false, func() bool { return b.log.looked() || time.Now().After(first) })
	random := rand.New(rand.NewPCG(b.random.Uint64(), 9))
	wg.Go(func() { b.make(ctx, random) })
	// On a busy machine it takes longer until there is something to compare.
	began := time.Now()
	for few := true; few && time.Since(began) < 30*time.Second || time.Since(began) < 2500*time.Millisecond; {
		few = b.plc.Handed().Accepted < 20 || b.kills < 3
		life := time.Now().Add(time.Duration(100+b.random.IntN(500)) * time.Millisecond)
		b.live(true, func() bool { return time.Now().After(life) })
	}
	cancel()
	wg.Wait()
	b.proxy.Pass()
	cycling, stop := context.WithCancel(b.t.Context())
	wg.Go(func() { b.plc.Serve(cycling) })
	deadline := time.Now().Add(60 * time.Second)
	b.live(false, func() bool {
		missed, _ := b.arrived()
		return len(missed) == 0 && b.plc.Handed().Waiting == 0 || time.Now().After(deadline)
	})
	stop()
	wg.Wait()
	if err := b.plc.Err(); err != nil {
		b.t.Fatal(err)
	}
	wrong, events := b.arrived()
	h := b.plc.Handed()
	b.t.Logf("%d records put, %d taken by the block, %d lost by it; %d events, %d deaths", b.next, h.Accepted, h.Lost, events, b.kills)
	if len(wrong) > 0 || h.Waiting > 0 {
		b.t.Errorf("%d wait; %s", h.Waiting, strings.Join(wrong, "; "))
	}
	if h.Accepted < 20 || b.kills < 3 {
		b.t.Errorf("%d records, %d deaths: too few to say anything", h.Accepted, b.kills)
	}
}

// make puts records until ctx ends, and now and then cuts the line or the power.
func (b *handoverBed) make(ctx context.Context, random *rand.Rand) {
	for ctx.Err() == nil {
		b.put()
		switch random.IntN(60) {
		case 0:
			b.proxy.Cut()
		case 1:
			b.proxy.Refuse()
			// How long nobody gets through is what this is about.
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
			b.proxy.Pass()
		case 2:
			if err := b.plc.Restart(ctx, time.Duration(random.IntN(80))*time.Millisecond); err != nil && ctx.Err() == nil {
				b.t.Error(err)
			}
		}
		// The machine's own pace.
		time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
	}
}

func (b *handoverBed) put() {
	b.next++
	b.plc.Put(uint16(b.next>>16), uint16(b.next), uint16(^b.next))
}

// looked reports whether the PLC's count of lost records was committed, from
// which on all that it loses is told.
func (l *dyingLog) looked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.Events) > 0 && bytes.Contains(l.State, []byte(`"lk":true`))
}

// arrived compares the events with what the block took. The numbers of the
// records go up by one for each Put, also for those that the block lost.
func (b *handoverBed) arrived() (wrong []string, events int) {
	b.log.mu.Lock()
	all := slices.Clone(b.log.Events)
	b.log.mu.Unlock()
	last, missing := int64(0), uint64(0)
	for _, e := range all {
		switch e.Kind {
		case plant.KindDosing:
			var d plant.Dosing
			if err := json.Unmarshal(e.Data, &d); err != nil {
				b.t.Fatal(err)
			}
			events++
			n, _ := d.Quantity.Int()
			if n <= last {
				wrong = append(wrong, fmt.Sprintf("record %d came behind %d", n, last))
			}
			if len(d.Flagged) > 0 {
				wrong = append(wrong, string(e.Data))
			}
			last = n
		case plant.KindGap:
			var g plant.GapData
			if err := json.Unmarshal(e.Data, &g); err != nil {
				b.t.Fatal(err)
			}
			missing += g.Count
			if g.Count == 0 {
				wrong = append(wrong, string(e.Data))
			}
		case plant.KindAlarm:
			wrong = append(wrong, string(e.Data))
		}
	}
	h := b.plc.Handed()
	if !b.c.gaps && (int64(events) != h.Accepted || missing != uint64(h.Lost)) {
		wrong = append(wrong, fmt.Sprintf("%d records taken by the block, %d events; %d lost by it, %d told", h.Accepted, events, h.Lost, missing))
	}
	if b.c.gaps && uint64(events)+missing != uint64(h.Accepted+h.Lost) {
		wrong = append(wrong, fmt.Sprintf("%d records, %d events and %d told missing", h.Accepted+h.Lost, events, missing))
	}
	return wrong, events
}
