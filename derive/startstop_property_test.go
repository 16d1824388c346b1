package derive

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// stopping is a machine that counts its own stops, with the truth beside it. Time
// goes by seconds.
type stopping struct {
	running bool
	stops   int64
	stood   int64
}

// second lets a second go by, in which the machine is what it is, and then
// changes it if asked to.
func (p *stopping) second(toggle bool) {
	if !p.running {
		p.stood++
	}
	if !toggle {
		return
	}
	if p.running = !p.running; !p.running {
		p.stops++
	}
}

// states plays a machine's states and collects its start/stop events.
type states struct {
	t         *rapid.T
	m         *Model
	state     State
	wake      time.Time
	now       time.Time
	committed []byte
	events    []plant.StartStop
	times     []time.Time
}

func newStates(t *rapid.T, o startstop.Options) *states {
	o.Running = startstop.Running{Tag: "run"}
	m, err := NewModel("PRESS-01", Options{Device: "press", StartStop: &o},
		Catalog{"press": {{ID: "run", Type: plant.TypeBool}, {ID: "stops", Type: plant.TypeUint16}, {ID: "stood", Type: plant.TypeUint32}}})
	if err != nil {
		t.Fatal(err)
	}
	return &states{t: t, m: m, now: base}
}

func (s *states) step(in plant.Input) {
	ticksBefore(in, &s.wake, s.one)
	s.one(in)
}

func (s *states) one(in plant.Input) {
	next, out := s.m.Step(s.state, in)
	s.state, s.wake = next, out.Wake
	for _, e := range out.Events {
		if e.Kind != plant.KindStartStop {
			continue
		}
		var p plant.StartStop
		if err := json.Unmarshal(e.Data, &p); err != nil {
			s.t.Fatal(err)
		}
		s.events, s.times = append(s.events, p), append(s.times, e.Time)
	}
	if len(out.Events) > 0 {
		s.commit()
	}
}

func (s *states) commit() {
	b, err := s.m.Encode(&s.state)
	if err != nil {
		s.t.Fatal(err)
	}
	s.committed = b
}

// look reads the machine. apart is set where its counters come in an answer of
// their own.
func (s *states) look(p *stopping, snapshot, apart bool) {
	scan := func(readings ...plant.Reading) {
		s.step(plant.Scan{Device: "press", Received: s.now, Snapshot: snapshot, Readings: readings})
	}
	run := plant.Reading{Tag: "run", Value: plant.BoolValue(p.running), Quality: plant.Good}
	stops := plant.Reading{Tag: "stops", Value: plant.IntValue((p.stops + 65530) % 65536), Quality: plant.Good}
	stood := plant.Reading{Tag: "stood", Value: plant.IntValue(p.stood), Quality: plant.Good}
	if apart {
		scan(run)
		scan(stops, stood)
	} else {
		scan(stops, run, stood)
	}
}

func (s *states) crash() {
	state, err := s.m.Decode(s.committed, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.state, s.wake = state, time.Time{}
}

// TestStopsAreToldOnceOrMissed: whatever is not seen while devices are lost and
// the gateway crashes, the stops that are told and those that are said to be
// missed are those of the PLC, and so are the seconds.
func TestStopsAreToldOnceOrMissed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStates(t, startstop.Options{Stops: &startstop.Stops{Count: "stops", Seconds: "stood"}})
		apart := rapid.Bool().Draw(t, "apart")
		p := &stopping{running: true}
		seconds := func(n int) {
			for range n {
				s.now = s.now.Add(time.Second)
				p.second(rapid.IntRange(0, 3).Draw(t, "toggle") == 0)
			}
		}
		s.look(p, true, apart)
		s.commit() // what the counters showed first
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			default:
				seconds(1)
				s.look(p, false, apart)
			case 8: // the device is away
				s.step(plant.DeviceState{At: s.now, Device: "press"})
				seconds(rapid.IntRange(1, 60).Draw(t, "away"))
				s.step(plant.DeviceState{At: s.now, Device: "press", Connected: true})
				s.look(p, true, apart)
			case 9: // the gateway is away, and has forgotten what it had not committed
				s.crash()
				seconds(rapid.IntRange(1, 60).Draw(t, "down"))
				s.look(p, true, apart)
			}
		}
		for range 2 {
			s.now = s.now.Add(time.Second)
			p.second(!p.running)
			s.look(p, false, apart)
		}
		s.check(p, apart)
	})
}

// check compares what was told with the truth.
func (s *states) check(p *stopping, apart bool) {
	var stops, missed, id int64
	var stood time.Duration
	running := true
	for i, e := range s.events {
		now := e.Running == 1
		repeat := i > 0 && now == running
		switch {
		case repeat && (!now || e.MissedStops == 0):
			s.t.Fatalf("event %d tells nothing: %+v", i, e)
		case !now:
			stops++
			id++
		}
		if (!now || i > 0 && !repeat) && int64(e.StopID) != id {
			s.t.Fatalf("event %d has stop_id %d, want %d", i, e.StopID, id)
		}
		missed += e.MissedStops
		stood += time.Duration(e.Duration) + time.Duration(e.MissedSeconds)
		running = now
	}
	want := time.Duration(p.stood) * time.Second
	if stops+missed != p.stops || stood != want {
		s.t.Fatalf("%d stops told and %d missed of %d; %s of %s (apart %t)", stops, missed, p.stops, stood, want, apart)
	}
}

// TestDebounceOfAnyRun: the starts and stops that are told are those that last,
// by an account of its own of the same run; shorter stops are counted, and
// nothing is lost in between.
func TestDebounceOfAnyRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.SampledFrom([]int{0, 1, 3, 10})
		minStop, minRun := least.Draw(t, "min_stop"), least.Draw(t, "min_run")
		s := newStates(t, startstop.Options{
			MinStop: config.Duration(time.Duration(minStop) * time.Second), MinRun: config.Duration(time.Duration(minRun) * time.Second),
		})
		p := &stopping{running: rapid.Bool().Draw(t, "first")}
		s.look(p, true, false)
		want := account{running: p.running, min: map[bool]int{false: minStop, true: minRun}}
		for _, length := range rapid.SliceOfN(rapid.IntRange(1, 15), 1, 40).Draw(t, "lengths") {
			want.segment(p.running, length)
			for i := range length {
				s.now = s.now.Add(time.Second)
				p.second(i == length-1)
				s.look(p, false, false)
			}
			if rapid.IntRange(0, 9).Draw(t, "crash") == 0 {
				s.commit()
				s.crash()
				r := run{m: s.m, s: &s.state}
				s.wake = r.wake()
			}
		}
		// The last state stays.
		want.segment(p.running, 100)
		s.now = s.now.Add(100 * time.Second)
		s.look(p, false, false)
		var micro, stopped, ran time.Duration
		for i, e := range s.events {
			if i >= len(want.at) || s.times[i].Sub(base) != time.Duration(want.at[i])*time.Second || (e.Running == 1) != want.states[i] {
				t.Fatalf("events %+v at %v, want %+v", s.events, s.times, want)
			}
			micro += time.Duration(e.MicroSeconds)
			if i == 0 {
				continue
			}
			if length := s.times[i].Sub(s.times[i-1]); e.Running == 0 {
				ran += length
			} else if stopped += length; time.Duration(e.Duration) != length {
				t.Fatalf("a stop of %s is told as %v", length, time.Duration(e.Duration))
			}
		}
		if len(s.events) != len(want.at) {
			t.Fatalf("%d events, want %+v", len(s.events), want)
		}
		rest := s.now.Sub(s.times[len(s.times)-1])
		if total := s.now.Sub(base); ran+stopped+rest != total {
			t.Fatalf("ran %s, stood %s, and %s since: not %s", ran, stopped, rest, total)
		}
		micro += s.state.startstop.MicroLength
		if micro != time.Duration(want.micro)*time.Second {
			t.Fatalf("micro-stops of %s, want %ds", micro, want.micro)
		}
	})
}

// account is another way to the same: by whole stretches of running and
// standing, when their length is known.
type account struct {
	running bool
	min     map[bool]int
	now     int
	at      []int
	states  []bool
	micro   int
}

func (a *account) segment(running bool, length int) {
	switch {
	case len(a.at) == 0:
		a.at, a.states = append(a.at, 0), append(a.states, running)
	case running == a.running:
	case length >= a.min[running]:
		a.running = running
		a.at, a.states = append(a.at, a.now), append(a.states, running)
	case a.running:
		a.micro += length
	}
	a.now += length
}
