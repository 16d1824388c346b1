package startstop

import (
	"fmt"
	"math"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// What happened while nobody looked: the PLC's own counters of stops say how many
// there were in a gap, and for how long the machine stood. What the rule saw
// itself is not counted again.

// Stops are the PLC's own counters.
type Stops struct {
	// Count is the tag of the number of stops so far.
	Count string `yaml:"count,required"`
	// Seconds is the tag of how long the machine has stood so far, in seconds.
	Seconds string `yaml:"seconds"`
	// CountedAt says when the PLC counts a stop and its seconds: as it goes, at
	// the "begin" (the default), or all at its "end".
	CountedAt string `yaml:"counted_at"`
}

// Validate checks what can be checked without the tags.
func (o *Stops) Validate() error {
	if o.CountedAt != "" && o.CountedAt != "begin" && o.CountedAt != atEnd {
		return config.Unknown("counted_at", "setting", o.CountedAt, []string{"begin", atEnd})
	}
	return nil
}

const atEnd = "end"

// stops are the checked counters.
type stops struct {
	count, seconds rule.Input
	atEnd          bool
}

func newStops(o *Options, resolve rule.Resolver) (*stops, error) {
	s := &stops{atEnd: o.Stops.CountedAt == atEnd}
	if o.Running.IdleAfter > 0 {
		return s, config.Field("stops", "a machine that is known by its pieces has no stops that a PLC could count alike", "remove stops:, or name the tag of the state with running:")
	}
	var err error
	if s.count, err = counting("stops.count", o.Stops.Count, resolve); err != nil || o.Stops.Seconds == "" {
		return s, err
	}
	s.seconds, err = counting("stops.seconds", o.Stops.Seconds, resolve)
	return s, err
}

func counting(path, name string, resolve rule.Resolver) (rule.Input, error) {
	in, err := resolve(path, name)
	if t := in.Tag.Type; err == nil && (t == plant.TypeBool || t == plant.TypeString) {
		err = config.Field(path, fmt.Sprintf("tag %s is of type %s, which does not count", in.Ref, t), "name the tag of a number")
	}
	return in, err
}

func (s *stops) hasSeconds() bool { return s.seconds.Ref.Tag != "" }

func (s *stops) binding() string {
	if s == nil {
		return ""
	}
	b := s.count.Binding()
	if s.hasSeconds() {
		b += " " + s.seconds.Binding()
	}
	return b
}

// size is how many values a counter has, 0 if nobody knows.
func size(in rule.Input) int64 {
	if bits := in.Tag.Type.Bits(); bits > 0 && bits < 64 && !in.Tag.Scaled {
		return 1 << bits
	}
	return 0
}

// meter is one of the counters.
type meter struct {
	// Raw is what it showed when somebody looked last; Known is set if it was read.
	Raw   int64 `json:"r,omitempty"`
	Known bool  `json:"k,omitempty"`
	// New is what it shows since, Fresh is set if it was read.
	New   int64 `json:"n,omitempty"`
	Fresh bool  `json:"f,omitempty"`
}

// rise is by how much the counter rose in the gap. atLeast is set after a reset,
// of which only what came after it is known. ok is false for what cannot be.
func (m *meter) rise(size, most int64) (n int64, atLeast, ok bool) {
	if !m.Known || !m.Fresh {
		return 0, false, false
	}
	n = m.New - m.Raw
	switch {
	case n >= 0 && n <= most:
		return n, false, true
	case n < 0 && size > 0 && n+size <= most: // over the end of its range
		return n + size, false, true
	case n < 0 && m.New >= 0 && m.New <= most:
		return m.New, true, true
	default:
		return 0, false, false
	}
}

// settle takes what the counter shows for what it showed when somebody looked.
func (m *meter) settle() {
	m.Raw, m.Known = m.New, m.Fresh
	m.New, m.Fresh = 0, false
}

// tally is what is known of the counters.
type tally struct {
	Binding string `json:"b,omitempty"`
	Count   meter  `json:"c,omitzero"`
	Seconds meter  `json:"s,omitzero"`
	// Edges are stops that the rule saw since Count was read, and Saw is how long it
	// saw the machine stand since Seconds was.
	Edges int64         `json:"e,omitempty"`
	Saw   time.Duration `json:"w,omitempty"`
	// Gap is set while nobody looks, and after that until the counters are read.
	Gap bool `json:"g,omitempty"`
	// Began is set while the first values after a (re)connect come in and the state
	// was among them: counters that come after it open no gap of their own.
	Began bool `json:"n,omitempty"`
	// Held is the first that was seen after the gap, while the counters are not
	// read yet.
	Held observation `json:"held,omitzero"`
	// Doubt is set if the counters of the last gap said what cannot be.
	Doubt bool `json:"doubt,omitempty"`
}

// holdTime is how long the first that is seen after a gap waits for the counters,
// which come in another answer of the device.
const holdTime = 5 * time.Second

// read takes a reading, in parts of so many to one.
func (m *meter) read(v *Reading, parts float64) {
	if f, ok := v.Value.Float(); v.Good && ok && !math.IsNaN(f) && math.Abs(f) < 1e15 {
		m.New, m.Fresh = int64(math.Round(f*parts)), true
	}
}

// heldUntil returns when what is held is used without the counters, 0 for never.
func (t *tally) heldUntil() int64 {
	if !t.Held.Known {
		return 0
	}
	return t.Held.Read.At + int64(holdTime)
}

// saw notes what the rule sees itself and the PLC counts: that is not missed.
func (r *Rule) saw(s *State, v *observation) {
	t, stood := &s.Stops, s.standing()
	if stood == v.Running && v.Running == r.stops.atEnd && !v.counted {
		t.Edges++
	}
	switch {
	case !stood || v.timed:
	case !r.stops.atEnd:
		t.Saw += max(time.Duration(v.Read.At-s.Seen.At), 0)
	case v.Running:
		t.Saw += max(time.Duration(v.At.At-s.began().At), 0)
	}
}

// began is when the stop began that is on.
func (s *State) began() rule.Stamp {
	if s.Running {
		return s.Change.At
	}
	return s.Since
}

// tallied takes the readings of the counters. After a gap it holds what is seen
// first until they are read too, tells what they say of the gap, and goes on: o is
// then used up.
func (r *Rule) tallied(s *State, readings []Reading, snapshot bool, o *observation, out Sink) (changed bool) {
	t := &s.Stops
	read := r.meters(s, readings)
	seen := o.Known || o.Missed
	if s.Known && (s.Lost || snapshot && (seen || read && !t.Began)) {
		t.Gap = true
	}
	if seen || read {
		t.Began = snapshot && (seen || t.Began)
	}
	if !t.Gap {
		if t.Count.Fresh {
			t.Edges, o.counted = 0, true
			t.Count.settle()
		}
		if t.Seconds.Fresh {
			t.Saw, o.timed = 0, true
			t.Seconds.settle()
		}
		return false
	}
	switch {
	case t.Held.Known && o.Known: // seen again, and the counters are still not there
		r.giveUp(s, out)
		o.Gap = 0
		return true
	case o.Known:
		t.Held = *o
	case !t.Held.Known:
		return false
	}
	o.Known = false
	if t.Count.Fresh && (t.Seconds.Fresh || !r.stops.hasSeconds()) {
		held := t.Held
		t.Held, t.Gap = observation{}, false
		r.tellMissed(s, &held, out)
		t.Count.settle()
		t.Seconds.settle()
		r.state(s, &held, out)
		t.Edges, t.Saw = 0, 0
	}
	return true
}

// meters reads the counters and reports whether there was one.
func (r *Rule) meters(s *State, readings []Reading) (read bool) {
	for i := range readings {
		switch v := &readings[i]; v.Role {
		case RoleStops:
			s.Stops.Count.read(v, 1)
			read = true
		case RoleStopSeconds:
			s.Stops.Seconds.read(v, 1000)
			read = true
		}
	}
	return read
}

// giveUp goes on without the counters: nobody knows what they showed when the
// machine was seen again.
func (r *Rule) giveUp(s *State, out Sink) {
	t := &s.Stops
	held := t.Held
	t.Held, t.Gap = observation{}, false
	t.Count, t.Seconds = meter{}, meter{}
	r.state(s, &held, out)
	t.Edges, t.Saw = 0, 0
}

// Missed is what the PLC's own counters say of a gap.
type Missed struct {
	// Stops began and ended within it.
	Stops int64
	// Stood is how long the machine stood in it, as far as no other event says so.
	Stood time.Duration
	// AtLeast is set if a counter began anew within the gap.
	AtLeast bool
	// Cut is set on the start that ends a stop which was on when the gap began:
	// Length is then how long it was seen, and the rest is in Stood.
	Cut    bool
	Length time.Duration
}

// tellMissed tells what the counters say of the gap before o, and gives o the
// true time where they say that.
func (r *Rule) tellMissed(s *State, o *observation, out Sink) {
	n, stood, m, ok := r.missed(s, o)
	if !ok {
		return
	}
	stands := !o.Running
	switch {
	case !stood && m.Stops == 0:
		if stands && m.Stood > 0 && !r.stops.atEnd { // the one stop, and how long it has been
			o.At.At, o.Exact = o.At.At-int64(m.Stood), true
		}
		return
	case stood && stands && n == 0:
		return // the same stop
	case stood && !stands && m.Stops == 0:
		if r.stops.hasSeconds() {
			o.At.At, o.Exact = s.Seen.At+int64(m.Stood), true
		}
		return
	case stood && !s.Running: // a stop that was told ended, and nobody saw when
		m.Cut, m.Length = true, max(time.Duration(s.Seen.At-s.Since.At), 0)
		s.Change = candidate{At: o.At, Gap: o.Gap, missed: m}
		r.believe(s, out)
		return
	case stood: // one that was not told yet
		r.cancel(s, o.At, s.Seen, out)
	case !s.Running: // a run that was not told yet, and others came after it
		r.believe(s, out)
	}
	out.StartStop(Event{At: o.Read, Running: true, Gap: o.Gap, Missed: m, Repeat: true})
}

// missed is what the counters say of the gap: n stops that were not seen, of
// which m.Stops lie within. stood is set if the machine stood when it began.
func (r *Rule) missed(s *State, o *observation) (n int64, stood bool, m Missed, ok bool) {
	t := &s.Stops
	stood = s.standing()
	if o.Gap <= 0 || !t.Count.Known {
		return 0, stood, m, false
	}
	// A stop a second is as many as there can be, and the counters may have been
	// read a little before the state was.
	most := int64((o.Gap + holdTime) / time.Second)
	n, m.AtLeast, ok = t.Count.rise(size(r.stops.count), most)
	n = max(n-t.Edges, 0)
	stoodFor, atLeast, sane := t.Seconds.rise(size(r.stops.seconds)*1000, (o.Gap + holdTime).Milliseconds())
	t.Doubt = !ok || r.stops.hasSeconds() && t.Seconds.Known && !sane
	if !ok {
		return 0, stood, m, false
	}
	m.AtLeast = m.AtLeast || atLeast
	m.Stood = max(time.Duration(stoodFor)*time.Millisecond-t.Saw, 0)
	m.Stops = n
	switch {
	case r.stops.atEnd && stood && n > 0: // the one that was on has ended
		m.Stops--
		m.Stood = max(m.Stood-time.Duration(s.Seen.At-s.began().At), 0)
	case !r.stops.atEnd && !o.Running && n > 0: // the one that is on has begun
		m.Stops--
	}
	m.Stood = min(m.Stood, o.Gap)
	return n, stood, m, true
}

// Doubtful reports whether the PLC's own counters said last what cannot be.
func (r *Rule) Doubtful(s *State) (count plant.TagRef, doubtful bool) {
	if r.stops == nil {
		return plant.TagRef{}, false
	}
	return r.stops.count.Ref, s.Stops.Doubt
}
