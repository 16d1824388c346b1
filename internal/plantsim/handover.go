package plantsim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/firmware-notes/blocks"
	"github.com/sluice-edge/sluice/internal/plantsim/st"
)

// The registers of a Handover, zero-based; the numbers are unsigned, 32 bits with
// the high word first.
const (
	HandoverOffer uint16 = 0 // coil: offer, written by the PLC
	HandoverAck   uint16 = 1 // coil: ack, written by the gateway

	HandoverNumber uint16 = 0   // holding: number or head, written by the PLC
	HandoverEcho   uint16 = 1   // holding: echo or tail, written by the gateway
	HandoverError  uint16 = 2   // holding: error, written by the gateway
	HandoverLost   uint16 = 4   // holding, 2 registers
	HandoverRecord uint16 = 6   // holding, 16 registers: the record that is offered
	HandoverRing   uint16 = 100 // holding: the slots of a ring, 16 registers each
)

// handoverWords is the length of a record, handoverSlots that of a ring.
const (
	handoverWords = 16
	handoverSlots = 32
)

// HandoverOptions says which program a Handover runs.
type HandoverOptions struct {
	// Block is one of blocks.Names, Dialect the file that is run.
	Block   string
	Dialect blocks.Dialect
	// Hold is how long the counter block lets a record stand; 0 means as the block
	// says.
	Hold time.Duration
	// Wired tells the counter block that its echo is written.
	Wired bool
	// Forgets are tags that the gateway writes and that do not survive a restart
	// of the PLC: "ack", "echo", "tail" or "error".
	Forgets []string
}

// Handover is a simulated PLC whose program is a function block of
// firmware-notes, run as it is written, with its tags in the memory of a Modbus
// or an OPC UA server. Its methods may be called from any goroutine.
type Handover struct {
	o      HandoverOptions
	tags   handoverTags
	server interface {
		Start() error
		Stop() error
	}
	block *st.Block

	mu       sync.Mutex
	program  *st.Instance
	started  time.Time
	accepted int64
	failed   error
}

// handoverTags is where the block's tags lie.
type handoverTags interface {
	// update changes the memory in one piece, as a device does between two
	// requests.
	update(func(handoverMemory))
}

// handoverMemory is used only inside update.
type handoverMemory interface {
	get(tag string) int64
	set(tag string, value int64)
	setRecord(array string, words []int64)
}

// NewModbusHandover returns the PLC with a Modbus server on addr.
func NewModbusHandover(addr string, o HandoverOptions) (*Handover, *Modbus, error) {
	plc, err := NewModbus(addr)
	if err != nil {
		return nil, nil, err
	}
	h, err := newHandover(o, modbusHandover{plc}, plc)
	return h, plc, err
}

// NewOPCUAHandover returns the PLC with an OPC UA server; the tags are
// "Block.offer" and so on, the words of the record "Block.offered0" to 15 and
// those of a ring "Block.ring0" to 511.
func NewOPCUAHandover(o HandoverOptions, server OPCUAOptions) (*Handover, *OPCUA, error) {
	plc, err := NewOPCUA(server)
	if err != nil {
		return nil, nil, err
	}
	h, err := newHandover(o, opcuaHandover{plc}, plc)
	return h, plc, err
}

func newHandover(o HandoverOptions, tags handoverTags, server interface {
	Start() error
	Stop() error
}) (*Handover, error) {
	text, err := blocks.Source(o.Block, o.Dialect)
	if err != nil {
		return nil, err
	}
	block, err := st.Parse(text)
	if err != nil {
		return nil, err
	}
	h := &Handover{o: o, tags: tags, server: server, block: block, program: block.New(), started: time.Now()}
	tags.update(func(m handoverMemory) {
		for _, tag := range handoverAnswers {
			if h.has(tag) {
				m.set(tag, 0)
			}
		}
	})
	h.Cycle()
	return h, h.Err()
}

var (
	handoverAnswers = []string{"ack", "echo", "tail", "error"}
	// The trigger is published behind all else.
	handoverShown    = []string{"lost"}
	handoverTriggers = []string{"offer", "number", "head"}
)

func (h *Handover) has(tag string) bool {
	_, ok := h.block.Variable(tag)
	return ok
}

// Err returns what stopped the program, nil while it runs.
func (h *Handover) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// Put completes a record at the machine; missing words are 0. It reports whether
// the block had room for it: what it had not it counts as lost.
func (h *Handover) Put(words ...uint16) (accepted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	lost := h.program.Get("lost", 0)
	for i := range handoverWords {
		word := uint16(0)
		if i < len(words) {
			word = words[i]
		}
		h.program.Set("record", i, int64(word))
	}
	h.program.Set("put", 0, 1)
	h.cycle()
	h.program.Set("put", 0, 0)
	h.cycle()
	if accepted = h.program.Get("lost", 0) == lost && h.failed == nil; accepted {
		h.accepted++
	}
	return accepted
}

// Handed is what a Handover has done.
type Handed struct {
	// Accepted counts the records that the block took, Lost those that it had no
	// room for, Waiting those that are not answered yet.
	Accepted, Lost, Waiting int64
}

// Handed returns what the block has done so far.
func (h *Handover) Handed() Handed {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Handed{Accepted: h.accepted, Lost: h.program.Get("lost", 0), Waiting: h.program.Get("waiting", 0)}
}

// Cycle runs the program once.
func (h *Handover) Cycle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cycle()
}

// Serve runs the program in real time until ctx ends.
func (h *Handover) Serve(ctx context.Context) { each(ctx, 3*time.Millisecond, h.Cycle) }

// cycle reads the inputs, runs the block, and shows what it says: the trigger in
// a piece of its own behind the record, since a request may be answered in
// between.
func (h *Handover) cycle() {
	if h.failed != nil {
		return
	}
	h.tags.update(func(m handoverMemory) {
		for _, tag := range handoverAnswers {
			if h.has(tag) {
				h.program.Set(tag, 0, m.get(tag))
			}
		}
	})
	if h.has("hold") && h.o.Hold > 0 {
		h.program.Set("hold", 0, h.o.Hold.Milliseconds())
	}
	if h.has("wired") && h.o.Wired {
		h.program.Set("wired", 0, 1)
	}
	if err := h.program.Cycle(time.Since(h.started).Milliseconds()); err != nil {
		h.failed = fmt.Errorf("plantsim: %s: %w", h.o.Block, err)
		return
	}
	h.tags.update(func(m handoverMemory) {
		for _, array := range []string{"offered", "ring"} {
			v, ok := h.block.Variable(array)
			if !ok {
				continue
			}
			words := make([]int64, v.Size)
			for i := range words {
				words[i] = h.program.Get(array, i)
			}
			m.setRecord(array, words)
		}
		h.show(m, handoverShown)
	})
	h.tags.update(func(m handoverMemory) { h.show(m, handoverTriggers) })
}

func (h *Handover) show(m handoverMemory, tags []string) {
	for _, tag := range tags {
		if h.has(tag) {
			m.set(tag, h.program.Get(tag, 0))
		}
	}
}

// Restart switches the PLC off and on again: it answers nobody for that long,
// and what is not RETAIN is as after the download. It blocks until the PLC is
// back or ctx ends; its server answers before its program has run.
func (h *Handover) Restart(ctx context.Context, off time.Duration) error {
	return switchOff(ctx, h.server, off, func() {
		h.mu.Lock()
		h.program.Restart()
		h.tags.update(func(m handoverMemory) {
			for _, tag := range h.o.Forgets {
				if h.has(tag) {
					m.set(tag, 0)
				}
			}
		})
		h.mu.Unlock()
	})
}

// modbusHandover lays the tags out as the constants say.
type modbusHandover struct{ plc *Modbus }

func (t modbusHandover) update(change func(handoverMemory)) {
	t.plc.Update(func(b *Bank) { change(modbusTags{b}) })
}

type modbusTags struct{ bank *Bank }

func (m modbusTags) get(tag string) int64 {
	switch tag {
	case "ack":
		if m.bank.Coil(HandoverAck) {
			return 1
		}
		return 0
	case "error":
		return int64(m.bank.Holding(HandoverError))
	default:
		return int64(m.bank.Holding(HandoverEcho))
	}
}

func (m modbusTags) set(tag string, value int64) {
	switch tag {
	case "offer":
		m.bank.SetCoil(HandoverOffer, value != 0)
	case "ack":
		m.bank.SetCoil(HandoverAck, value != 0)
	case "error":
		m.bank.SetHolding(HandoverError, uint16(value))
	case "lost":
		m.bank.SetHolding(HandoverLost, uint16(value>>16), uint16(value))
	case "number", "head":
		m.bank.SetHolding(HandoverNumber, uint16(value))
	default:
		m.bank.SetHolding(HandoverEcho, uint16(value))
	}
}

func (m modbusTags) setRecord(array string, words []int64) {
	at := HandoverRecord
	if array == "ring" {
		at = HandoverRing
	}
	for i, w := range words {
		m.bank.SetHolding(at+uint16(i), uint16(w))
	}
}

// opcuaHandover gives each tag a node.
type opcuaHandover struct{ plc *OPCUA }

func (t opcuaHandover) update(change func(handoverMemory)) {
	t.plc.Update(func(n *Nodes) { change(opcuaTags{n}) })
}

type opcuaTags struct{ nodes *Nodes }

func (o opcuaTags) get(tag string) int64 {
	switch v := o.nodes.Get("Block." + tag).(type) {
	case bool:
		if v {
			return 1
		}
	case uint16:
		return int64(v)
	}
	return 0
}

func (o opcuaTags) set(tag string, value int64) {
	switch tag {
	case "offer", "ack":
		o.put(tag, value != 0)
	case "lost":
		o.put(tag, uint32(value))
	default:
		o.put(tag, uint16(value))
	}
}

// put changes only what is new, so that nothing is reported that did not change.
func (o opcuaTags) put(tag string, value any) {
	if name := "Block." + tag; o.nodes.Get(name) != value {
		o.nodes.Set(name, value)
	}
}

func (o opcuaTags) setRecord(array string, words []int64) {
	for i, w := range words {
		o.put(fmt.Sprintf("%s%d", array, i), uint16(w))
	}
}
