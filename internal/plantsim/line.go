package plantsim

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim/floor"
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
	// Seed is that of the line's floor.Line: it scatters cycles, scrap and
	// temperature.
	Seed uint64
	// Pace is the number of pieces per second while the line runs at full speed.
	Pace float64
	// ScrapEvery makes on average each n-th piece scrap; 0 for none.
	ScrapEvery int64
	// Bits is the width of the PLC's counters: 16 or 32.
	Bits int
	// Total is where the PLC's counter stands at first.
	Total uint32
	// Order is the number that the line starts with.
	Order string
}

// line returns the standing line of these options.
func (o LineOptions) line() *floor.Line {
	f := floor.Options{
		Seed: o.Seed, Start: time.Now(), Cycle: time.Duration(float64(time.Second) / o.Pace),
		Bits: o.Bits, First: o.Total, Order: -1, Number: o.Order, Standing: true,
	}
	if o.ScrapEvery > 0 {
		f.Scrap = 1 / float64(o.ScrapEvery)
	}
	return floor.New(f)
}

// Made is what a Line has really done, as a person beside it would count.
type Made struct {
	// Pieces are good and scrap together.
	Pieces, Scrap int64
	// Changes counts how often the line started or stopped.
	Changes int64
}

func made(l *floor.Line) Made {
	t := l.Truth()
	return Made{Pieces: t.Good + t.Scrap, Scrap: t.Scrap, Changes: t.Changes}
}

// Line is a simulated production line with its PLC: a floor.Line behind a real
// Modbus TCP server, whose registers count pieces, roll over, and begin at 0
// when the PLC is restarted. It starts, stops and changes over as its caller
// says. Its methods may be called from any goroutine.
type Line struct {
	plc *Modbus

	mu   sync.Mutex
	line *floor.Line
}

// NewLine returns a stopped line with its PLC listening on addr
// ("127.0.0.1:0" for a free port).
func NewLine(addr string, o LineOptions) (*Line, error) {
	plc, err := NewModbus(addr)
	if err != nil {
		return nil, err
	}
	l := &Line{plc: plc, line: o.line()}
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
	was, _ := l.line.Tags()
	l.line.Advance(l.line.Now().Add(d))
	if is, _ := l.line.Tags(); is != was {
		l.show()
	}
}

// Start lets the line run.
func (l *Line) Start() { l.do((*floor.Line).Go) }

// Stop halts the line for the reason code.
func (l *Line) Stop(code uint16) { l.do(func(f *floor.Line) { f.Halt(code) }) }

// SetOrder puts another order number into the PLC.
func (l *Line) SetOrder(number string) { l.do(func(f *floor.Line) { f.Change(number) }) }

// Restart switches the PLC off for that long and on again: it answers nobody
// meanwhile, and its counters begin at 0. The line must be stopped, as a real
// one is without its PLC. It blocks until the PLC is back or ctx ends.
func (l *Line) Restart(ctx context.Context, off time.Duration) error {
	return switchOff(ctx, l.plc, off, func() { l.do((*floor.Line).Reset) })
}

// Made returns what the line has done so far.
func (l *Line) Made() Made {
	l.mu.Lock()
	defer l.mu.Unlock()
	return made(l.line)
}

// do lets somebody at the line's panel do something.
func (l *Line) do(what func(*floor.Line)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what(l.line)
	l.show()
}

// show writes the state into the PLC's registers, all of them at once.
func (l *Line) show() {
	tags, _ := l.line.Tags()
	state := StateStopped
	if tags.Running {
		state = StateRunning
	}
	l.plc.Update(func(b *Bank) {
		b.SetHolding(LineTotal, uint16(tags.Total), uint16(tags.Total>>16))
		b.SetHolding(LineScrap, uint16(tags.Scrap), uint16(tags.Scrap>>16))
		b.SetHolding(LineState, state, tags.Code)
		b.SetHolding(LineTemperature, uint16(math.Round(tags.Temperature*10)))
		b.SetHolding(LineOrder, words(tags.Order, orderRegisters)...)
		b.SetCoil(LineRunning, tags.Running)
	})
}
