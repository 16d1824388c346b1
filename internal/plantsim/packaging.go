package plantsim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim/floor"
)

// The nodes of a Packaging line, all in OPCUANamespace.
const (
	PackagingMade    = "Line.Made"     // UInt16, boxes since the counter's start, good and scrap
	PackagingScrap   = "Line.Scrap"    // UInt16
	PackagingRunning = "Line.Running"  // Boolean
	PackagingCode    = "Line.StopCode" // UInt16, why the line stands
	PackagingOrder   = "Line.Order"    // String

	PackagingSerialOffer = "Serial.Offer"  // Boolean, written by the PLC
	PackagingSerialAck   = "Serial.Ack"    // Boolean, written by the gateway
	PackagingSerial      = "Serial.Number" // String
	PackagingSKU         = "Serial.SKU"    // String

	PackagingAttachOffer    = "Attach.Offer"    // Boolean, written by the PLC
	PackagingAttachAck      = "Attach.Ack"      // Boolean, written by the gateway
	PackagingAttachParent   = "Attach.Parent"   // String, the box
	PackagingAttachSKU      = "Attach.SKU"      // String, what went into it
	PackagingAttachSerial   = "Attach.Serial"   // String
	PackagingAttachQuantity = "Attach.Quantity" // Int32
)

// PackagingOptions says how a Packaging line works.
type PackagingOptions struct {
	// Addr is where its OPC UA server listens.
	Addr string
	// Seed, Pace and ScrapEvery are those of LineOptions.
	Seed       uint64
	Pace       float64
	ScrapEvery int64
	// SerialEvery gives each n-th good box a serial number and attaches an item to
	// it; 0 for none.
	SerialEvery int64
	// Made is where the PLC's 16-bit counter stands at first.
	Made uint16
	// Order is the number that the line works on.
	Order string
}

// Packed is what a Packaging line has really done.
type Packed struct {
	Made
	// Serials and Attaches are the records that its PLC has made; Waiting are
	// those of them not acknowledged yet.
	Serials, Attaches, Waiting int64
}

// Packaging is a simulated packaging line with its PLC: a floor.Line behind a
// real OPC UA server that counts boxes and hands over serial numbers and attached items by level
// handshakes. What waits for an acknowledgement stands in the PLC's retentive
// queue; the line never waits for it. Its methods may be called from any
// goroutine.
type Packaging struct {
	plc *OPCUA
	o   PackagingOptions

	mu     sync.Mutex
	line   *floor.Line
	serial handover
	attach handover
	// numbered is how many boxes have a serial number.
	numbered int64
}

// handover is the PLC's side of a level handshake with its queue.
type handover struct {
	offer, ack string
	queue      []map[string]any
	phase      scalePhase
}

// NewPackaging returns a stopped line whose PLC listens.
func NewPackaging(o PackagingOptions) (*Packaging, error) {
	plc, err := NewOPCUA(OPCUAOptions{Addr: o.Addr})
	if err != nil {
		return nil, err
	}
	p := &Packaging{
		plc: plc, o: o,
		line:   LineOptions{Seed: o.Seed, Pace: o.Pace, ScrapEvery: o.ScrapEvery, Bits: 16, Total: uint32(o.Made), Order: o.Order}.line(),
		serial: handover{offer: PackagingSerialOffer, ack: PackagingSerialAck},
		attach: handover{offer: PackagingAttachOffer, ack: PackagingAttachAck},
	}
	plc.Update(func(n *Nodes) {
		n.Set(PackagingOrder, o.Order)
		for _, name := range []string{PackagingSerialOffer, PackagingSerialAck, PackagingAttachOffer, PackagingAttachAck} {
			n.Set(name, false)
		}
		for _, name := range []string{PackagingSerial, PackagingSKU, PackagingAttachParent, PackagingAttachSKU, PackagingAttachSerial} {
			n.Set(name, "")
		}
		n.Set(PackagingAttachQuantity, int32(0))
		p.show(n)
	})
	return p, nil
}

// PLC returns the line's OPC UA server.
func (p *Packaging) PLC() *OPCUA { return p.plc }

// Run lets the line work in real time until ctx ends.
func (p *Packaging) Run(ctx context.Context) { inRealTime(ctx, 10*time.Millisecond, p.Advance) }

// Advance lets the line work for d and runs one cycle of the PLC.
func (p *Packaging) Advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line.Advance(p.line.Now().Add(d))
	for p.o.SerialEvery > 0 && p.line.Truth().Good >= (p.numbered+1)*p.o.SerialEvery {
		p.number()
	}
	p.plc.Update(func(n *Nodes) {
		p.show(n)
		p.serial.cycle(n)
		p.attach.cycle(n)
	})
}

// number gives a box a serial number.
func (p *Packaging) number() {
	p.numbered++
	box := fmt.Sprintf("BOX-%07d", p.numbered)
	p.serial.queue = append(p.serial.queue, map[string]any{PackagingSerial: box, PackagingSKU: "BOX-12"})
	p.attach.queue = append(p.attach.queue, map[string]any{
		PackagingAttachParent: box, PackagingAttachSKU: "PUMP-3",
		PackagingAttachSerial: fmt.Sprintf("PUMP-%07d", p.numbered), PackagingAttachQuantity: int32(1),
	})
}

// cycle runs the handshake by the book: record, offer up, ack up, offer down,
// ack down.
func (h *handover) cycle(n *Nodes) {
	ack, _ := n.Get(h.ack).(bool)
	switch {
	case h.phase == scaleIdle && !ack && len(h.queue) > 0:
		for name, value := range h.queue[0] {
			n.Set(name, value)
		}
		n.Set(h.offer, true)
		h.phase = scaleOffered
	case h.phase == scaleOffered && ack:
		h.queue = h.queue[1:]
		n.Set(h.offer, false)
		h.phase = scaleReleased
	case h.phase == scaleReleased && !ack:
		h.phase = scaleIdle
	}
}

// show writes counters and state into the nodes.
func (p *Packaging) show(n *Nodes) {
	set := func(name string, value any) {
		if n.Get(name) != value {
			n.Set(name, value)
		}
	}
	tags, _ := p.line.Tags()
	set(PackagingMade, uint16(tags.Total))
	set(PackagingScrap, uint16(tags.Scrap))
	set(PackagingRunning, tags.Running)
	set(PackagingCode, tags.Code)
}

// Start lets the line run.
func (p *Packaging) Start() { p.do((*floor.Line).Go) }

// Stop halts the line for the reason code.
func (p *Packaging) Stop(code uint16) { p.do(func(f *floor.Line) { f.Halt(code) }) }

// do lets somebody at the line's panel do something.
func (p *Packaging) do(what func(*floor.Line)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what(p.line)
	p.plc.Update(p.show)
}

// Restart switches the PLC off for that long and on again: it answers nobody
// meanwhile, and its counters begin at 0; the queues are retentive. The line
// must be stopped. It blocks until the PLC is back or ctx ends.
func (p *Packaging) Restart(ctx context.Context, off time.Duration) error {
	return switchOff(ctx, p.plc, off, func() { p.do((*floor.Line).Reset) })
}

// Packed returns what the line has done so far.
func (p *Packaging) Packed() Packed {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Packed{
		Made: made(p.line), Serials: p.numbered, Attaches: p.numbered,
		Waiting: int64(len(p.serial.queue) + len(p.attach.queue)),
	}
}
