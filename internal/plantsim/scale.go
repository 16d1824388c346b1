package plantsim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// The registers of a Scale, zero-based. Numbers of two registers have the high
// word first (ABCD). The record begins at ScaleNumber and is ScaleRegisters
// long.
const (
	ScaleOffer uint16 = 0 // coil: a record is offered; written by the PLC
	ScaleAck   uint16 = 1 // coil: the record is kept; written by the gateway

	ScaleNumber    uint16 = 100 // holding, the PLC's number of the dose, 1…65535
	ScaleQuantity  uint16 = 101 // holding, int32, grams
	ScaleTarget    uint16 = 103 // holding, int32, grams
	ScaleEnded     uint16 = 105 // holding, uint32, seconds since 1970 UTC
	ScaleComponent uint16 = 107 // holding, 8 registers of text
	ScaleLot       uint16 = 115 // holding, 8 registers of text
	ScaleOrder     uint16 = 123 // holding, 8 registers of text
	ScaleUnit      uint16 = 131 // holding, 1 register of text

	ScaleRegisters = 32
)

// Dose is one dose as the scale weighed it.
type Dose struct {
	Component, Lot, Order string
	// Grams went in, Target grams were asked for.
	Grams, Target int32
}

// weighed is a Dose in the PLC's queue.
type weighed struct {
	Dose
	at time.Time
}

// ScaleOptions says what a Scale doses while it runs.
type ScaleOptions struct {
	// Pace is the number of doses per second in Run.
	Pace float64
	// Components are dosed one after the other; Order is what they are for.
	Components []string
	Order      string
	// Number is what the last dose before the first had.
	Number uint16
}

// Dosed is what a Scale has really done.
type Dosed struct {
	Doses int64
	// Weight is what went in, in kg.
	Weight plant.Decimal
	// Acknowledged counts records whose handshake is complete up to the
	// acknowledgement; Waiting are those that still wait for theirs.
	Acknowledged, Waiting int64
	// Violations counts acknowledgements while nothing was offered: a gateway
	// that acknowledges what it cannot know.
	Violations int64
}

// scalePhase is where the PLC's program stands.
type scalePhase uint8

const (
	scaleIdle     scalePhase = iota // offer low, ack low: the next record may be offered
	scaleOffered                    // offer high: waits for ack high
	scaleReleased                   // offer low again: waits for ack low
)

// Scale is a simulated dosing scale with its PLC: a real Modbus TCP server that
// hands over each dose by a level handshake, strictly by the book. It doses on
// while nobody acknowledges: what waits stands in the PLC's queue, which like
// the handshake survives a restart of the PLC, as retentive memory does. Its
// methods may be called from any goroutine.
type Scale struct {
	plc *Modbus
	o   ScaleOptions

	mu     sync.Mutex
	phase  scalePhase
	queue  []weighed
	number uint16
	made   int64
	grams  int64
	acked  int64
	broken int64
	ack    bool
	due    float64
}

// NewScale returns a scale with its PLC listening on addr ("127.0.0.1:0" for a
// free port).
func NewScale(addr string, o ScaleOptions) (*Scale, error) {
	plc, err := NewModbus(addr)
	if err != nil {
		return nil, err
	}
	return &Scale{plc: plc, o: o, number: o.Number}, nil
}

// PLC returns the scale's Modbus server.
func (s *Scale) PLC() *Modbus { return s.plc }

// Run lets the scale dose in real time until ctx ends.
func (s *Scale) Run(ctx context.Context) { inRealTime(ctx, 5*time.Millisecond, s.Advance) }

// Serve runs the PLC's program in real time until ctx ends, without dosing: what
// waits is handed over.
func (s *Scale) Serve(ctx context.Context) { each(ctx, 5*time.Millisecond, s.Cycle) }

// Advance lets the scale dose for d and then runs one cycle of the PLC.
func (s *Scale) Advance(d time.Duration) {
	s.mu.Lock()
	s.due += s.o.Pace * d.Seconds()
	doses := int(s.due)
	s.due -= float64(doses)
	made := s.made
	s.mu.Unlock()
	for i := range int64(doses) {
		n := made + i
		component := "WATER"
		if len(s.o.Components) > 0 {
			component = s.o.Components[n%int64(len(s.o.Components))]
		}
		// Targets and what they are missed by follow no random numbers, so that a
		// run can be repeated.
		target := int32(1000 + n%7*500)
		s.Dose(Dose{Component: component, Lot: fmt.Sprintf("L%04d", n/20), Order: s.o.Order, Grams: target + int32(n*13%41) - 20, Target: target})
	}
	s.Cycle()
}

// Dose weighs one dose and puts its record into the queue.
func (s *Scale) Dose(d Dose) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	s.grams += int64(d.Grams)
	s.queue = append(s.queue, weighed{d, time.Now()})
}

// Cycle runs the PLC's program once. In a PLC that is one scan, some
// milliseconds.
func (s *Scale) Cycle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plc.Update(func(b *Bank) {
		ack := b.Coil(ScaleAck)
		if ack && !s.ack && s.phase != scaleOffered {
			s.broken++
		}
		s.ack = ack
		switch {
		case s.phase == scaleOffered && ack:
			b.SetCoil(ScaleOffer, false)
			s.queue = s.queue[1:]
			s.acked++
			s.phase = scaleReleased
		case s.phase == scaleReleased && !ack:
			s.phase = scaleIdle
			s.next(b)
		case s.phase == scaleIdle && !ack:
			s.next(b)
		}
	})
}

// next puts the oldest record of the queue behind the trigger: first all of the
// record, then the trigger.
func (s *Scale) next(b *Bank) {
	if len(s.queue) == 0 {
		return
	}
	d := s.queue[0]
	if s.number++; s.number == 0 {
		s.number = 1
	}
	b.SetHolding(ScaleNumber, s.number)
	b.SetHolding(ScaleQuantity, uint16(uint32(d.Grams)>>16), uint16(d.Grams))
	b.SetHolding(ScaleTarget, uint16(uint32(d.Target)>>16), uint16(d.Target))
	ended := uint32(d.at.Unix())
	b.SetHolding(ScaleEnded, uint16(ended>>16), uint16(ended))
	b.SetHolding(ScaleComponent, words(d.Component, 8)...)
	b.SetHolding(ScaleLot, words(d.Lot, 8)...)
	b.SetHolding(ScaleOrder, words(d.Order, 8)...)
	b.SetHolding(ScaleUnit, words("kg", 1)...)
	b.SetCoil(ScaleOffer, true)
	s.phase = scaleOffered
}

// words returns text in registers, high byte first, padded with NUL.
func words(text string, count int) []uint16 {
	raw := make([]byte, 2*count)
	copy(raw, text)
	all := make([]uint16, count)
	for i := range all {
		all[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
	}
	return all
}

// Restart switches the PLC off for that long and on again: it answers nobody
// meanwhile. Queue, record and trigger are retentive, so a record that was
// offered is offered on. It blocks until the PLC is back or ctx ends.
func (s *Scale) Restart(ctx context.Context, off time.Duration) error {
	return switchOff(ctx, s.plc, off, func() {})
}

// Dosed returns what the scale has done so far.
func (s *Scale) Dosed() Dosed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Dosed{
		Doses: s.made, Weight: plant.Decimal{Unscaled: s.grams, Scale: 3},
		Acknowledged: s.acked, Waiting: int64(len(s.queue)), Violations: s.broken,
	}
}
