// Package floor simulates a shop floor from a seed: lines that run in shifts,
// jam, slow down, change over and scrap, hoppers on noisy scales that dose, are
// refilled and emptied, and PLCs that lose power, with the truth of every piece,
// every stop and every gram beside it. It is pure: time is what the caller says,
// and the same seed gives the same plant. Tests of the rules read its tags by
// themselves; the simulated servers show them over a protocol.
package floor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Options describe a line. The zero value of a setting means its default.
type Options struct {
	Seed uint64
	// Start is when the simulation begins.
	Start time.Time
	// Cycle is the time of one cycle at full speed, Cavities how many pieces one
	// makes; 0 means 800 ms and 1.
	Cycle    time.Duration
	Cavities int
	// Bits is the width of the PLC's counters, 16 or 32; 0 means 16. First is what
	// they show in the beginning.
	Bits  int
	First uint32
	// Order is how many cycles an order has on average; 0 means 600, less than 0
	// that only Change ends one. Number is the first one's number; "" makes one.
	Order  int
	Number string
	// Keep says that the PLC keeps its counters over a loss of power, Standing
	// that the line stands at first, until Go.
	Keep, Standing bool
	// Jams, Slow and PowerCuts are how often a day each happens on average.
	Jams, Slow, PowerCuts float64
	// Scrap is the share of pieces that are scrap.
	Scrap float64
	// Shifts are when the line is manned, as hours of the day; none means always.
	Shifts [][2]int
}

// The codes of the PLC for why it stands.
const (
	CodeJam     = 11
	CodeStarved = 12
	CodeSetup   = 21
	CodeNoShift = 31
	CodeRestart = 41
	bootTime    = 20 * time.Second
	setupTime   = 4 * time.Minute
	forGood     = 100 * 365 * 24 * time.Hour
)

// Tags are what the PLC shows.
type Tags struct {
	// Total and Scrap are the counters, as wide as the PLC has them.
	Total, Scrap uint32
	Running      bool
	// Code says why the line stands, 0 while it runs.
	Code uint16
	// Order is the number of the order, empty between two.
	Order string
	// Speed is in cycles a minute, Temperature in degrees Celsius.
	Speed, Temperature float64
}

// Stop is a time in which the line stood.
type Stop struct {
	Began, Ended time.Time
	Code         uint16
	Order        string
}

// Made is what was made of an order; the empty one is what was made between
// orders, which is nothing.
type Made struct {
	Order       string
	Began       time.Time
	Good, Scrap int64
}

// Cut is a time in which the PLC had no power; Good and Scrap is what had been
// made by then.
type Cut struct {
	Began, Ended time.Time
	Good, Scrap  int64
}

// Truth is what really happened.
type Truth struct {
	Good, Scrap, Cycles int64
	// Changes is how often the line came to stand or to run.
	Changes int64
	Orders  []Made
	Stops   []Stop
	Cuts    []Cut
}

// Line is a simulated line. It is used from one goroutine.
type Line struct {
	o      Options
	random *rand.Rand
	now    time.Time
	tags   Tags
	truth  Truth
	// cycle is when the next cycle ends, while the line runs.
	cycle time.Time
	// left is how many cycles the order has left.
	left   int
	orders int
	// slowUntil, standUntil and darkUntil end what goes on; then is done when the
	// line may run again.
	slowUntil, standUntil, darkUntil time.Time
	then                             func()
	jam, slow, cut, shiftEnds        time.Time
}

// New returns a line that has an order and runs.
func New(o Options) *Line {
	if o.Cycle == 0 {
		o.Cycle = 800 * time.Millisecond
	}
	if o.Cavities == 0 {
		o.Cavities = 1
	}
	if o.Bits == 0 {
		o.Bits = 16
	}
	if o.Order == 0 {
		o.Order = 600
	}
	l := &Line{o: o, random: rand.New(rand.NewPCG(o.Seed, 0)), now: o.Start}
	l.tags.Total, l.tags.Scrap = l.wide(o.First), l.wide(o.First/50)
	l.jam, l.slow, l.cut = l.next(o.Jams), l.next(o.Slow), l.next(o.PowerCuts)
	l.tags.Temperature = 180
	l.begin()
	if o.Number != "" {
		l.Change(o.Number)
	}
	if o.Standing {
		l.stop(0, forGood, nil)
	} else {
		l.run()
	}
	l.truth.Changes = 0
	return l
}

// Now is the time up to which the line was simulated.
func (l *Line) Now() time.Time { return l.now }

// Tags returns what the PLC shows, ok is false while it has no power or boots.
func (l *Line) Tags() (t Tags, ok bool) { return l.tags, !l.now.Before(l.darkUntil) }

// Truth returns what has happened so far; the last stop has no end while the
// line stands. The caller does not change it.
func (l *Line) Truth() *Truth { return &l.truth }

// Stand stops the line for good, so that what it made can be compared.
func (l *Line) Stand() {
	if l.tags.Running {
		l.stop(CodeNoShift, forGood, nil)
	}
	l.standUntil = l.now.Add(forGood)
	l.cut, l.jam, l.slow = l.standUntil, l.standUntil, l.standUntil
}

// Halt stops the line until Go, as somebody at its panel does; of one that
// stands already the code changes.
func (l *Line) Halt(code uint16) {
	if l.tags.Running {
		l.stop(code, forGood, nil)
		return
	}
	l.tags.Code = code
	l.standUntil, l.then = l.now.Add(forGood), nil
}

// Go ends a stop, whatever it was for.
func (l *Line) Go() {
	if !l.tags.Running {
		l.truth.Stops[len(l.truth.Stops)-1].Ended = l.now
		l.run()
	}
}

// Change puts the number of another order into the PLC.
func (l *Line) Change(order string) {
	if l.tags.Order == order {
		return
	}
	l.tags.Order = order
	if made := &l.truth.Orders[len(l.truth.Orders)-1]; made.Good+made.Scrap == 0 {
		made.Order, made.Began = order, l.now
		return
	}
	l.truth.Orders = append(l.truth.Orders, Made{Order: order, Began: l.now})
}

// Reset does to the counters what a loss of power does.
func (l *Line) Reset() {
	if !l.o.Keep {
		l.tags.Total, l.tags.Scrap = 0, 0
	}
}

// Advance simulates up to a time.
func (l *Line) Advance(to time.Time) {
	for {
		at, what := l.soonest()
		if at.After(to) {
			break
		}
		if at.After(l.now) {
			l.now = at
		}
		what()
	}
	l.now = to
}

// soonest returns what happens next.
func (l *Line) soonest() (at time.Time, what func()) {
	at, what = l.cut, l.powerCut
	sooner := func(t time.Time, do func()) {
		if t.Before(at) {
			at, what = t, do
		}
	}
	if !l.tags.Running {
		sooner(l.standUntil, l.resume)
		return at, what
	}
	sooner(l.cycle, l.endCycle)
	sooner(l.jam, func() {
		l.jam = l.next(l.o.Jams)
		code := uint16(CodeJam)
		if l.random.IntN(3) == 0 {
			code = CodeStarved
		}
		// Many are short, few are long.
		l.stop(code, time.Duration(float64(4*time.Second)*(1+l.random.ExpFloat64()*20)), nil)
	})
	sooner(l.slow, func() {
		l.slow = l.next(l.o.Slow)
		l.slowUntil = l.now.Add(time.Duration(l.random.IntN(30)+5) * time.Minute)
	})
	sooner(l.shiftEnds, func() { l.stop(CodeNoShift, 0, nil) })
	return at, what
}

// endCycle counts the pieces of a cycle and begins the next.
func (l *Line) endCycle() {
	scrap := 0
	for range l.o.Cavities {
		if l.random.Float64() < l.o.Scrap {
			scrap++
		}
	}
	l.truth.Cycles++
	l.truth.Scrap += int64(scrap)
	l.truth.Good += int64(l.o.Cavities - scrap)
	order := &l.truth.Orders[len(l.truth.Orders)-1]
	order.Scrap += int64(scrap)
	order.Good += int64(l.o.Cavities - scrap)
	l.tags.Total = l.wide(l.tags.Total + uint32(l.o.Cavities))
	l.tags.Scrap = l.wide(l.tags.Scrap + uint32(scrap))
	l.tags.Temperature += l.random.NormFloat64() * 0.3
	l.tags.Temperature += (180 - l.tags.Temperature) * 0.02
	l.left--
	if l.left <= 0 && l.o.Order > 0 {
		l.stop(CodeSetup, setupTime+time.Duration(l.random.IntN(300))*time.Second, l.begin)
		return
	}
	l.nextCycle()
}

func (l *Line) nextCycle() {
	length := float64(l.o.Cycle)
	if l.now.Before(l.slowUntil) {
		length *= 1.6
	}
	length *= 1 + 0.05*l.random.Float64()
	l.cycle = l.now.Add(time.Duration(length))
	l.tags.Speed = float64(time.Minute) / length
}

// stop stops the line for a time; 0 is until the next shift. After that then is
// done and the line runs.
func (l *Line) stop(code uint16, length time.Duration, then func()) {
	l.tags.Running, l.tags.Code, l.tags.Speed = false, code, 0
	l.truth.Changes++
	l.truth.Stops = append(l.truth.Stops, Stop{Began: l.now, Code: code, Order: l.tags.Order})
	l.standUntil, l.then = l.now.Add(length), then
	if length == 0 {
		l.standUntil = l.beginOfShift()
	}
}

// resume ends a stop.
func (l *Line) resume() {
	if then := l.then; then != nil {
		l.then = nil
		then()
		// The new order stands for a moment before the line runs.
		l.standUntil = l.now.Add(30 * time.Second)
		return
	}
	if begin := l.beginOfShift(); begin.After(l.now) {
		l.standUntil = begin
		return
	}
	l.truth.Stops[len(l.truth.Stops)-1].Ended = l.now
	l.run()
}

func (l *Line) run() {
	l.tags.Running, l.tags.Code = true, 0
	l.truth.Changes++
	l.shiftEnds = l.endOfShift()
	// Nothing jams or slows down that stands.
	if l.jam.Before(l.now) {
		l.jam = l.next(l.o.Jams)
	}
	if l.slow.Before(l.now) {
		l.slow = l.next(l.o.Slow)
	}
	l.nextCycle()
}

// begin begins an order.
func (l *Line) begin() {
	l.orders++
	if l.o.Order > 0 {
		l.left = l.o.Order/2 + l.random.IntN(l.o.Order)
	}
	l.tags.Order = fmt.Sprintf("%07d", 4711000+l.orders)
	l.truth.Orders = append(l.truth.Orders, Made{Order: l.tags.Order, Began: l.now})
}

// powerCut takes the power from PLC and line. The line stands; the PLC boots
// with its counters at 0, or as they were if it keeps them.
func (l *Line) powerCut() {
	l.cut = l.next(l.o.PowerCuts)
	l.darkUntil = l.now.Add(time.Duration(l.random.IntN(120))*time.Second + bootTime)
	l.truth.Cuts = append(l.truth.Cuts, Cut{Began: l.now, Ended: l.darkUntil, Good: l.truth.Good, Scrap: l.truth.Scrap})
	l.Reset()
	again := l.darkUntil.Add(time.Minute)
	if l.tags.Running {
		l.stop(CodeRestart, again.Sub(l.now), nil)
	} else if l.standUntil.Before(again) {
		l.standUntil = again
	}
}

// next draws when something happens that happens so often a day.
func (l *Line) next(perDay float64) time.Time { return happens(l.random, l.o.Start, l.now, perDay) }

// happens draws when something happens after now that happens so often a day; 0
// is never.
func happens(random *rand.Rand, start, now time.Time, perDay float64) time.Time {
	if perDay <= 0 {
		return start.AddDate(200, 0, 0)
	}
	return now.Add(time.Duration(random.ExpFloat64()/perDay*float64(24*time.Hour)) + time.Minute)
}

// manned reports whether the line has a shift at an hour.
func (l *Line) manned(t time.Time) bool {
	return len(l.o.Shifts) == 0 || slices.ContainsFunc(l.o.Shifts, func(s [2]int) bool { return t.Hour() >= s[0] && t.Hour() < s[1] })
}

// beginOfShift returns now if the line is manned, else when it is next.
func (l *Line) beginOfShift() time.Time {
	t := l.now
	for !l.manned(t) {
		t = t.Truncate(time.Hour).Add(time.Hour)
	}
	return t
}

// endOfShift returns when the line is next unmanned.
func (l *Line) endOfShift() time.Time {
	if len(l.o.Shifts) == 0 {
		return l.o.Start.AddDate(200, 0, 0)
	}
	t := l.now
	for l.manned(t) {
		t = t.Truncate(time.Hour).Add(time.Hour)
	}
	return t
}

// wide cuts a count to the width of the PLC's counters.
func (l *Line) wide(n uint32) uint32 {
	if l.o.Bits == 16 {
		return n & 0xFFFF
	}
	return n
}
