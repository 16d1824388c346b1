package floor

import (
	"math"
	"math/rand/v2"
	"time"
)

// HopperOptions describe a hopper on a scale with a gate below it. Weights are
// in grams. The zero value of a setting means its default.
type HopperOptions struct {
	Seed uint64
	// Start is when the simulation begins.
	Start time.Time
	// Full is where a refill ends, Low where the hopper asks for one; 0 means
	// 50 kg and 10 kg. It is full at first.
	Full, Low int64
	// Flow and Fill are what falls out of the gate and comes in by a refill, in
	// grams a second; 0 means 800 and 2500.
	Flow, Fill int64
	// Division is the step in which the scale shows its weight, Noise the standard
	// deviation of what it shows while nothing moves, five times that while
	// something does; 0 means 5 and a third of a division.
	Division int64
	Noise    float64
	// Dose is the mean of the doses; 0 means 2000. Every is the mean time between
	// two of them; 0 means that it only doses when Pour says so.
	Dose  int64
	Every time.Duration
	// Rest is how long nothing moves at first and after each move, so that the
	// weight can stand; 0 means 4 s.
	Rest time.Duration
	// Removals is how often a day somebody takes a sample out on average.
	Removals float64
}

// HopperTags are what the terminal and the PLC show.
type HopperTags struct {
	// Weight is the gross weight in grams, in whole divisions.
	Weight int64
	// Gate says that dosing is on.
	Gate bool
}

// MoveKind says what a Move was.
type MoveKind uint8

// What moves material.
const (
	Dosed MoveKind = iota
	Refilled
	Removed
)

// Move is material that went into the hopper or out of it.
type Move struct {
	Kind         MoveKind
	Began, Ended time.Time
	// Grams are positive whichever way they went.
	Grams int64
}

// Hopper is a simulated hopper. It is used from one goroutine.
type Hopper struct {
	o      HopperOptions
	random *rand.Rand
	now    time.Time
	// level is what was in it when the phase began.
	level  int64
	phase  phase
	queue  []phase
	moves  []Move
	sample time.Time // when a sample is next taken
}

// phase is a while in which material flows evenly, or rests.
type phase struct {
	began  time.Time
	length time.Duration
	grams  int64 // that come in by its end, below 0 out
	gate   bool
	// ends is the move that is over with this phase.
	ends *Move
}

const (
	tareWeight  = 12_345 // the empty hopper
	leadTime    = 300 * time.Millisecond
	afterFlow   = 400 * time.Millisecond
	sampleGrams = 600
)

// NewHopper returns a full hopper that rests.
func NewHopper(o HopperOptions) *Hopper {
	for _, d := range []struct {
		field *int64
		value int64
	}{{&o.Full, 50_000}, {&o.Low, 10_000}, {&o.Flow, 800}, {&o.Fill, 2500}, {&o.Division, 5}, {&o.Dose, 2000}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Rest == 0 {
		o.Rest = 4 * time.Second
	}
	if o.Noise == 0 {
		o.Noise = float64(o.Division) / 3
	}
	h := &Hopper{o: o, random: rand.New(rand.NewPCG(o.Seed, 2)), now: o.Start, level: o.Full}
	h.phase.began = o.Start
	h.sample = h.next(o.Removals)
	h.then(phase{length: h.o.Rest})
	return h
}

// Now is the time up to which the hopper was simulated.
func (h *Hopper) Now() time.Time { return h.now }

// Level is what is really in the hopper, in grams.
func (h *Hopper) Level() int64 { return int64(math.Round(h.inside())) }

// Moves returns what was moved so far and is over. The caller does not change it.
func (h *Hopper) Moves() []Move { return h.moves }

// Busy reports whether something moves, or rests after it has.
func (h *Hopper) Busy() bool { return h.phase.length > 0 || len(h.queue) > 0 }

// Tags returns what is shown. The noise is of the moment: who looks twice at
// one time sees the same.
func (h *Hopper) Tags() HopperTags {
	noise := h.o.Noise
	if h.phase.grams != 0 {
		noise *= 5
	}
	random := rand.New(rand.NewPCG(h.o.Seed, uint64(h.now.UnixMilli())))
	shown := (h.inside() + tareWeight + random.NormFloat64()*noise) / float64(h.o.Division)
	return HopperTags{Weight: int64(math.Round(shown)) * h.o.Division, Gate: h.phase.gate}
}

// inside returns the true weight of the material now.
func (h *Hopper) inside() float64 {
	if h.phase.length == 0 {
		return float64(h.level)
	}
	part := float64(h.now.Sub(h.phase.began)) / float64(h.phase.length)
	return float64(h.level) + part*float64(h.phase.grams)
}

// Stand ends what the hopper does by itself, after what goes on, so that what it
// moved can be compared.
func (h *Hopper) Stand() { h.o.Every = 0 }

// Pour doses so many grams, after what goes on.
func (h *Hopper) Pour(grams int64) {
	tail := grams / 40
	h.then(
		phase{length: leadTime, gate: true},
		phase{length: h.lasts(grams-tail, h.o.Flow), grams: tail - grams, gate: true},
		phase{length: afterFlow, grams: -tail, ends: &Move{Kind: Dosed, Grams: grams}},
		phase{length: h.o.Rest},
	)
}

// Refill fills the hopper up, after what goes on.
func (h *Hopper) Refill() {
	grams := h.o.Full - h.level - h.phase.grams
	for _, p := range h.queue {
		grams -= p.grams
	}
	if grams <= 0 {
		return
	}
	h.then(phase{length: h.lasts(grams, h.o.Fill), grams: grams, ends: &Move{Kind: Refilled, Grams: grams}}, phase{length: h.o.Rest})
}

// Remove takes so many grams out past the gate, after what goes on.
func (h *Hopper) Remove(grams int64) {
	h.then(phase{length: h.lasts(grams, h.o.Flow), grams: -grams, ends: &Move{Kind: Removed, Grams: grams}}, phase{length: h.o.Rest})
}

func (h *Hopper) lasts(grams, rate int64) time.Duration {
	return time.Duration(float64(grams) / float64(rate) * float64(time.Second))
}

func (h *Hopper) then(phases ...phase) {
	h.queue = append(h.queue, phases...)
	if h.phase.length == 0 {
		h.advancePhase()
	}
}

// Advance simulates up to a time.
func (h *Hopper) Advance(to time.Time) {
	for h.phase.length > 0 {
		ends := h.phase.began.Add(h.phase.length)
		if ends.After(to) {
			break
		}
		h.now = ends
		h.level += h.phase.grams
		if m := h.phase.ends; m != nil {
			m.Ended = ends
			h.moves = append(h.moves, *m)
		}
		h.phase = phase{began: ends}
		if len(h.queue) == 0 {
			h.plan()
		} else {
			h.advancePhase()
		}
	}
	h.now = to
}

// advancePhase begins the next phase of the queue. A move begins with the first
// phase of it that moves anything or opens the gate.
func (h *Hopper) advancePhase() {
	h.phase, h.queue = h.queue[0], h.queue[1:]
	h.phase.began = h.now
	for i := -1; i < len(h.queue); i++ {
		p := &h.phase
		if i >= 0 {
			p = &h.queue[i]
		}
		if p.ends != nil {
			if p.ends.Began.IsZero() && (h.phase.gate || h.phase.grams != 0) {
				p.ends.Began = h.now
			}
			return
		}
	}
}

// plan says what a hopper that rests does next by itself.
func (h *Hopper) plan() {
	if h.o.Every == 0 {
		return
	}
	h.then(phase{length: time.Duration((0.5 + h.random.Float64()) * float64(h.o.Every))})
	switch {
	case !h.now.Before(h.sample):
		h.sample = h.next(h.o.Removals)
		h.Remove(sampleGrams + h.random.Int64N(sampleGrams))
	case h.level < h.o.Low:
		h.Refill()
	default:
		h.Pour(h.o.Dose/2 + h.random.Int64N(h.o.Dose))
	}
}

func (h *Hopper) next(perDay float64) time.Time {
	return happens(h.random, h.o.Start, h.now, perDay)
}
