package derive

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// hopper is a simulated hopper on a scale, with the truth beside it. Weights are
// whole grams. The scale is read on its own device, the gate on the PLC's.
type hopper struct {
	noise *rand.Rand
	// amplitude is that of the noise, in grams.
	amplitude int64
	// truth: what is in it and what came and went.
	mass, dosed, refilled, removed int64
	// what the terminal adds and takes.
	offset, tare int64
	zeroed       bool
	// pounds is set where the terminal shows pounds, to the thousandth.
	pounds bool
	// gate is what the PLC says; the valve follows a reading later. rate is in
	// grams per reading, inflow too.
	gate, valve  bool
	rate, inflow int64
	// component is the code of what goes in now.
	component int64
}

// flow lets half a second pass.
func (h *hopper) flow() {
	if h.valve {
		out := min(h.rate, h.mass)
		h.mass -= out
		h.dosed += out
	}
	h.mass += h.inflow
	h.refilled += h.inflow
	h.valve = h.gate
}

func (h *hopper) remove(grams int64) {
	grams = min(grams, h.mass)
	h.mass -= grams
	h.removed += grams
}

// weight is what the terminal shows of so many grams.
func (h *hopper) weight(grams int64) plant.Value {
	if h.pounds {
		grams = int64(math.Round(float64(grams) / 0.45359237))
	}
	return plant.ExactValue(plant.Decimal{Unscaled: grams, Scale: 3})
}

// show is what the terminal says now.
func (h *hopper) show(q plant.Quality) []plant.Reading {
	gross := h.mass + h.offset
	if h.amplitude > 0 {
		gross += h.noise.Int64N(2*h.amplitude+1) - h.amplitude
	}
	return []plant.Reading{
		{Tag: "net", Value: h.weight(gross - h.tare), Quality: q}, {Tag: "tare", Value: h.weight(h.tare), Quality: plant.Good},
		{Tag: "zeroed", Value: plant.BoolValue(h.zeroed), Quality: plant.Good},
	}
}

// scaleBook adds up what events say, in grams.
type scaleBook struct {
	dosed, refilled, removed, drift, doses, estimated int64
	// of is what was dosed of each component, with its drift.
	of map[string]int64
	// flagged is how many doses were.
	flagged int
}

func (b *scaleBook) take(e *plant.Event) error {
	var failed error
	n := func(d plant.Decimal) int64 {
		g, err := plant.Kilogram.Convert(d, plant.Gram)
		if err == nil && math.Abs(g.Float()) > 1e9 {
			err = fmt.Errorf("%s g: %s", g, e.Data)
		}
		failed = errors.Join(failed, err)
		return int64(math.Round(g.Float()))
	}
	switch e.Kind {
	case plant.KindDosing:
		var d plant.Dosing
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return err
		}
		if b.of == nil {
			b.of = map[string]int64{}
		}
		b.of[d.Component] += n(d.Quantity)
		if len(d.Flagged) > 0 {
			b.flagged++
		}
		if d.Drift {
			b.drift += n(d.Quantity)
			break
		}
		b.dosed += n(d.Quantity)
		b.doses++
		if d.Estimated {
			b.estimated++
		}
	case plant.KindRefill, plant.KindRemoval:
		var m plant.Movement
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return err
		}
		if e.Kind == plant.KindRefill {
			b.refilled += n(m.Quantity)
		} else {
			b.removed += n(m.Quantity)
		}
	}
	return failed
}

// weigher plays a hopper to a model, with crashes: the state goes back to the
// last commit, as a gateway's does.
type weigher struct {
	m         *Model
	h         *hopper
	state     State
	now       time.Time
	wake      time.Time
	committed []byte
	commitAt  time.Time
	book      scaleBook
	events    []plant.Event
	// once is set where each step is made once, and not again from a state that was
	// decoded.
	once    bool
	session uint64
	fresh   map[plant.DeviceID]bool
	fail    func(error)
}

func newWeigher(m *Model, h *hopper, fail func(error)) *weigher {
	w := &weigher{m: m, h: h, now: base, fail: fail, fresh: map[plant.DeviceID]bool{"press": true, "plc": true}}
	w.load(nil)
	return w
}

func (w *weigher) load(b []byte) {
	s, err := w.m.Decode(b, nil)
	if err != nil {
		w.fail(err)
	}
	s.GoOn()
	w.state = s
	r := run{m: w.m, s: &w.state}
	w.wake = r.wake()
	w.session++
	w.fresh["press"], w.fresh["plc"] = true, true
}

func (w *weigher) crash() { w.load(w.committed) }

// read lets half a second pass and reads what is there.
func (w *weigher) read(q plant.Quality, scale, plc bool) {
	w.now = w.now.Add(500 * time.Millisecond)
	w.h.flow()
	if plc {
		w.scan("plc", []plant.Reading{{Tag: "gate", Value: plant.BoolValue(w.h.gate), Quality: plant.Good}, {Tag: "comp", Value: plant.IntValue(w.h.component), Quality: plant.Good}})
	}
	if scale {
		w.scan("press", w.h.show(q))
	}
}

func (w *weigher) scan(d plant.DeviceID, readings []plant.Reading) {
	w.step(plant.Scan{Device: d, Session: w.session, Snapshot: w.fresh[d], Received: w.now, Readings: readings})
	w.fresh[d] = false
}

func (w *weigher) lost(d plant.DeviceID) {
	w.step(plant.DeviceState{At: w.now, Device: d})
	w.fresh[d] = true
}

func (w *weigher) step(in plant.Input) {
	ticksBefore(in, &w.wake, w.one)
	w.one(in)
}

func (w *weigher) one(in plant.Input) {
	if w.once {
		next, out := w.m.Step(w.state, in)
		w.took(next, out)
		return
	}
	// A state that went to the disk and back gives the same, byte for byte.
	b, err := w.m.Encode(&w.state)
	if err != nil {
		w.fail(err)
	}
	again, err := w.m.Decode(b, nil)
	if err != nil {
		w.fail(err)
	}
	next, out := w.m.Step(w.state, in)
	_, replayed := w.m.Step(again, in)
	if !reflect.DeepEqual(out.Events, replayed.Events) || !out.Wake.Equal(replayed.Wake) {
		w.fail(fmt.Errorf("reloaded before %+v: %+v, then %+v", in, replayed.Events, out.Events))
	}
	w.took(next, out)
}

// took goes on with what a step gave.
func (w *weigher) took(next State, out Output) {
	w.state, w.wake = next, out.Wake
	w.events = append(w.events, out.Events...)
	for i := range out.Events {
		if err := w.book.take(&out.Events[i]); err != nil {
			w.fail(err)
		}
	}
	w.commit(len(out.Events) > 0 || w.committed == nil)
}

// commit keeps the state, now or once a second.
func (w *weigher) commit(now bool) {
	if !now && w.now.Sub(w.commitAt) < time.Second {
		return
	}
	w.commitAt = w.now
	b, err := w.m.Encode(&w.state)
	if err != nil {
		w.fail(err)
	}
	w.committed = b
}

// rest lets the scale stand for n readings.
func (w *weigher) rest(n int) {
	for range n {
		w.read(plant.Good, true, true)
	}
}
