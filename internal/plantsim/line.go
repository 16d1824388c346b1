package plantsim

import (
	"context"
	"sync"
	"time"
)

// The registers of a Line, zero-based. Counters are two registers, low word
// first (CDAB); a 16-bit counter leaves the second one 0.
const (
	LineTotal       uint16 = 0  // holding, pieces since the counter's start, good and scrap
	LineScrap       uint16 = 2  // holding, scrapped pieces
	LineState       uint16 = 4  // holding, StateStopped or StateRunning
	LineStopCode    uint16 = 5  // holding, why the line stands; 0 while it runs
	LineTemperature uint16 = 6  // holding, int16, tenths of a degree Celsius
	LineOrder       uint16 = 10 // holding, 8 registers of text
	LineRunning     uint16 = 0  // coil
)

// Values of the LineState register.
const (
	StateStopped uint16 = 1
	StateRunning uint16 = 3
)

const orderRegisters = 8

// LineOptions says how a Line works.
type LineOptions struct {
	// Pace is the number of pieces per second while the line runs.
	Pace float64
	// ScrapEvery makes each n-th piece scrap; 0 for none.
	ScrapEvery int64
	// Bits is the width of the PLC's counters: 16 or 32.
	Bits int
	// Total is where the PLC's counter stands at first.
	Total uint32
	// Order is the number that the line starts with.
	Order string
}

// Made is what a Line has really done, as a person beside it would count.
type Made struct {
	// Pieces are good and scrap together.
	Pieces, Scrap int64
	// Changes counts how often the line started or stopped.
	Changes int64
}

// Line is a simulated production line with its PLC: a real Modbus TCP server
// whose registers count pieces, roll over, and begin at 0 when the PLC is
// restarted. Its methods may be called from any goroutine.
type Line struct {
	plc *Modbus
	o   LineOptions

	mu      sync.Mutex
	running bool
	code    uint16
	order   string
	total   uint32
	scrap   uint32
	made    Made
	due     float64
}

// NewLine returns a stopped line with its PLC listening on addr
// ("127.0.0.1:0" for a free port).
func NewLine(addr string, o LineOptions) (*Line, error) {
	plc, err := NewModbus(addr)
	if err != nil {
		return nil, err
	}
	l := &Line{plc: plc, o: o, total: o.Total, order: o.Order}
	l.show()
	return l, nil
}

// PLC returns the line's Modbus server.
func (l *Line) PLC() *Modbus { return l.plc }

// Run lets the line work in real time until ctx ends.
func (l *Line) Run(ctx context.Context) { inRealTime(ctx, 5*time.Millisecond, l.Advance) }

// Advance lets the line work for d.
func (l *Line) Advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running {
		return
	}
	l.due += l.o.Pace * d.Seconds()
	pieces := int64(l.due)
	l.due -= float64(pieces)
	for range pieces {
		l.made.Pieces++
		l.total = l.count(l.total)
		if l.o.ScrapEvery > 0 && l.made.Pieces%l.o.ScrapEvery == 0 {
			l.made.Scrap++
			l.scrap = l.count(l.scrap)
		}
	}
	if pieces > 0 {
		l.show()
	}
}

// Start lets the line run.
func (l *Line) Start() { l.set(true, 0) }

// Stop halts the line for the reason code.
func (l *Line) Stop(code uint16) { l.set(false, code) }

// SetOrder puts another order number into the PLC.
func (l *Line) SetOrder(number string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.order = number
	l.show()
}

// Restart switches the PLC off for that long and on again: it answers nobody
// meanwhile, and its counters begin at 0. The line must be stopped, as a real
// one is without its PLC. It blocks until the PLC is back or ctx ends.
func (l *Line) Restart(ctx context.Context, off time.Duration) error {
	if err := l.plc.Stop(); err != nil {
		return err
	}
	l.mu.Lock()
	l.total, l.scrap = 0, 0
	l.show()
	l.mu.Unlock()
	timer := time.NewTimer(off)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return l.plc.Start()
}

// Made returns what the line has done so far.
func (l *Line) Made() Made {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made
}

func (l *Line) set(running bool, code uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running != running {
		l.made.Changes++
	}
	l.running, l.code = running, code
	l.show()
}

func (l *Line) count(n uint32) uint32 {
	n++
	if l.o.Bits == 16 {
		n &= 0xffff
	}
	return n
}

// show writes the state into the PLC's registers, all of them at once.
func (l *Line) show() {
	state := StateStopped
	if l.running {
		state = StateRunning
	}
	text := make([]byte, 2*orderRegisters)
	copy(text, l.order)
	l.plc.Update(func(b *Bank) {
		b.SetHolding(LineTotal, uint16(l.total), uint16(l.total>>16))
		b.SetHolding(LineScrap, uint16(l.scrap), uint16(l.scrap>>16))
		b.SetHolding(LineState, state, l.code)
		b.SetHolding(LineTemperature, uint16(613+l.made.Pieces%40))
		for i := range orderRegisters {
			b.SetHolding(LineOrder+uint16(i), uint16(text[2*i])<<8|uint16(text[2*i+1]))
		}
		b.SetCoil(LineRunning, l.running)
	})
}
