package derive

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/plant"
)

// plc is a simulated 16-bit counter with the truth beside it.
type plc struct {
	raw  uint16
	made int64
}

func (p *plc) make(n int) {
	p.raw += uint16(n)
	p.made += int64(n)
}

// TestNoPieceIsLostOrCountedTwice runs a counter through rollovers, resets,
// noise, bad readings, losses and crashes. Within what can be known, all pieces
// are counted, once. The limits: a reset forgets what was made since the last
// reading, so the PLC stands while it is reset; a loss is shorter than it takes
// to go round; noise lasts for fewer readings than reset_confirm.
func TestNoPieceIsLostOrCountedTwice(t *testing.T) {
	m, err := NewModel("PRESS-01", Options{
		Device:  "press",
		Counter: &counter.Options{Good: "made", MaxRate: config.Rate{Count: 20, Per: time.Second}, Every: config.Duration(7 * time.Second)},
	}, Catalog{"press": {{ID: "made", Type: plant.TypeUint16}}})
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		sim := &plc{raw: uint16(rapid.SampledFrom([]int{0, 100, 65000, 65535, 33000}).Draw(t, "start"))}
		run := newCount(t, m)
		run.scan(int64(sim.raw), plant.Good, false)
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			default:
				run.wait(time.Second)
				sim.make(rapid.IntRange(0, 20).Draw(t, "pieces"))
				run.scan(int64(sim.raw), plant.Good, false)
			case 7: // noise for one or two readings
				for range rapid.IntRange(1, 2).Draw(t, "readings") {
					run.wait(time.Second)
					// What the machine can have made by now is no noise.
					run.scan(int64(sim.raw+uint16(rapid.IntRange(200, 65300).Draw(t, "noise"))), plant.Good, false)
				}
				// The true number comes back and stays, for as long as noise may
				// have looked like a beginning.
				run.settle(sim, 1)
			case 8: // a bad reading holds anything
				run.wait(time.Second)
				run.scan(int64(rapid.Uint16().Draw(t, "garbage")), plant.Bad, false)
			case 9: // the device is away, and the machine goes on
				run.step(plant.DeviceState{At: run.now, Device: "press"})
				away := rapid.IntRange(1, 600).Draw(t, "away")
				run.wait(time.Duration(away) * time.Second)
				sim.make(rapid.IntRange(0, 20*away).Draw(t, "pieces"))
				run.step(plant.DeviceState{At: run.now, Device: "press", Connected: true})
				run.scan(int64(sim.raw), plant.Good, true)
				run.settle(sim, 4)
			case 10: // a reset while the machine stands
				run.settle(sim, 4)
				// Below the most that a rollover could explain a reset cannot be told.
				if int(sim.raw) > 200 && int(sim.raw) < 65000 {
					sim.raw = 0
					run.settle(sim, 4)
				}
			case 11: // a crash: back to the last commit
				run.crash()
				run.wait(time.Second)
				run.scan(int64(sim.raw), plant.Good, true)
				run.settle(sim, 4)
			}
		}
		run.settle(sim, 5)
		run.step(plant.Stop{At: run.now})
		if run.sum != sim.made {
			t.Fatalf("%d pieces made, %d counted", sim.made, run.sum)
		}
	})
}

// ticksBefore makes the steps of the ticks that the rules want before an input,
// as a worker does; each step sets wake anew.
func ticksBefore(in plant.Input, wake *time.Time, step func(plant.Input)) {
	for !wake.IsZero() && !wake.After(in.When()) {
		at := *wake
		*wake = time.Time{}
		step(plant.Tick{At: at})
	}
}

// count plays a counter and sums what its events say.
type count struct {
	t         *rapid.T
	m         *Model
	state     State
	wake      time.Time
	now       time.Time
	committed []byte
	commitAt  time.Time
	sum, last int64
}

func newCount(t *rapid.T, m *Model) *count {
	c := &count{t: t, m: m, now: base}
	c.load(nil)
	return c
}

func (c *count) load(b []byte) {
	s, err := c.m.Decode(b, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.state = s
}

func (c *count) wait(d time.Duration) { c.now = c.now.Add(d) }

func (c *count) scan(raw int64, q plant.Quality, snapshot bool) {
	c.step(plant.Scan{Device: "press", Received: c.now, Snapshot: snapshot, Readings: []plant.Reading{{Tag: "made", Value: plant.IntValue(raw), Quality: q}}})
}

// settle lets the machine stand for n readings.
func (c *count) settle(sim *plc, n int) {
	for range n {
		c.wait(time.Second)
		c.scan(int64(sim.raw), plant.Good, false)
	}
}

func (c *count) crash() { c.load(c.committed) }

func (c *count) step(in plant.Input) {
	ticksBefore(in, &c.wake, c.one)
	c.one(in)
}

func (c *count) one(in plant.Input) {
	next, out := c.m.Step(c.state, in)
	c.state, c.wake = next, out.Wake
	for _, e := range out.Events {
		if e.Kind != plant.KindCounter {
			continue
		}
		var p plant.Counter
		if err := json.Unmarshal(e.Data, &p); err != nil {
			c.t.Fatal(err)
		}
		if p.GoodDelta < 0 || p.Good != c.last+p.GoodDelta {
			c.t.Fatalf("count went from %d to %d with a delta of %d", c.last, p.Good, p.GoodDelta)
		}
		if p.To.Before(p.From) {
			c.t.Fatalf("interval from %s to %s", p.From, p.To)
		}
		c.last, c.sum = p.Good, c.sum+p.GoodDelta
	}
	// Events are committed with their state; state alone is, now and then.
	if len(out.Events) > 0 || c.committed == nil || c.now.Sub(c.commitAt) >= 3*time.Second {
		c.commitAt = c.now
		b, err := c.m.Encode(&c.state)
		if err != nil {
			c.t.Fatal(err)
		}
		c.committed = b
	}
}

// TestDecodeRefusesWhatItDoesNotKnow: a damaged or newer state is an error, not
// a panic and not a fresh start.
func TestDecodeRefusesWhatItDoesNotKnow(t *testing.T) {
	m := pressModel(t)
	for _, b := range []string{"", "{", "null", "[]", `{"v":2}`, `{"v":0}`, `{"v":1,"counter":{"in":7}}`} {
		if _, err := m.Decode([]byte(b), nil); err == nil {
			t.Errorf("%q was accepted", b)
		}
	}
	if _, err := m.Decode([]byte(`{"v":1,"counter":{"in":[],"rep":{"s":[1,2]},"codes":["A"]}}`), nil); err != nil {
		t.Errorf("state of other tags: %v", err)
	}
}

func FuzzDecodeState(f *testing.F) {
	m, err := NewModel("PRESS-01", Options{Device: "press", Counter: &counter.Options{Total: "made", MaxRate: config.Rate{Count: 1, Per: time.Second}}},
		Catalog{"press": {{ID: "made", Type: plant.TypeUint16}}})
	if err != nil {
		f.Fatal(err)
	}
	s, _ := m.Step(State{}, plant.Scan{Device: "press", Received: base, Readings: []plant.Reading{{Tag: "made", Value: plant.IntValue(3), Quality: plant.Good}}})
	seed, err := m.Encode(&s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"v":1,"counter":{"in":[{"b":"press made uint16"}],"codes":["X"],"now":{"c":{"s":[1]}},"rep":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := m.Decode(b, nil)
		if err != nil {
			return
		}
		for i := range 5 {
			var out Output
			s, out = m.Step(s, plant.Scan{Device: "press", Received: base.Add(time.Duration(i) * time.Second), Readings: []plant.Reading{{Tag: "made", Value: plant.IntValue(int64(i)), Quality: plant.Good}}})
			for _, e := range out.Events {
				if !json.Valid(e.Data) {
					t.Fatal(fmt.Errorf("event %s", e.Data))
				}
			}
		}
	})
}
