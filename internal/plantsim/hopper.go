package plantsim

import (
	"context"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim/floor"
)

// The registers of a Hopper, zero-based.
const (
	HopperWeight uint16 = 0 // holding, int32, grams, gross, high word first (ABCD)
	HopperGate   uint16 = 2 // holding, 1 while the gate is open
)

// Hopper is a simulated hopper on a scale: a floor.Hopper behind a real Modbus
// TCP server. Nobody hands a dose over here: the weight falls while the gate is
// open. Its methods may be called from any goroutine.
type Hopper struct {
	plc *Modbus

	mu     sync.Mutex
	hopper *floor.Hopper
}

// NewHopper returns a hopper with its PLC listening on addr ("127.0.0.1:0" for a
// free port).
func NewHopper(addr string, o floor.HopperOptions) (*Hopper, error) {
	plc, err := NewModbus(addr)
	if err != nil {
		return nil, err
	}
	h := &Hopper{plc: plc, hopper: floor.NewHopper(o)}
	h.Advance(0)
	return h, nil
}

// PLC returns the hopper's Modbus server.
func (h *Hopper) PLC() *Modbus { return h.plc }

// Run lets material flow in real time until ctx ends, while somebody looks: the
// gate stands open for a second only, and what nobody could see nobody can tell.
func (h *Hopper) Run(ctx context.Context) {
	var reads uint64
	idle := 0
	inRealTime(ctx, runStep, func(d time.Duration) {
		if now := h.plc.Counts().Reads; now != reads {
			reads, idle = now, 0
		} else {
			idle++
		}
		if idle < lookedAt {
			h.Advance(min(d, lookedAt*runStep))
		}
	})
}

// Whoever reads within lookedAt steps of Run looks at the hopper.
const (
	runStep  = 20 * time.Millisecond
	lookedAt = 10
)

// Advance lets material flow for d.
func (h *Hopper) Advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hopper.Advance(h.hopper.Now().Add(d))
	tags := h.hopper.Tags()
	gate := uint16(0)
	if tags.Gate {
		gate = 1
	}
	h.plc.Update(func(b *Bank) {
		b.SetHolding(HopperWeight, uint16(tags.Weight>>16), uint16(tags.Weight), gate)
	})
}

// Do lets the hopper's program do something: Pour, Refill or Remove.
func (h *Hopper) Do(what func(*floor.Hopper)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	what(h.hopper)
}

// Busy reports whether something moves in the hopper, or rests after it has.
func (h *Hopper) Busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hopper.Busy()
}

// Moved returns what was moved so far.
func (h *Hopper) Moved() []floor.Move {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]floor.Move(nil), h.hopper.Moves()...)
}
