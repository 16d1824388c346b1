package derive

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// waysToRun are machines whose state is told in each of the ways, and a scan of
// each in which nothing changes.
func waysToRun(tb testing.TB) map[string]*still {
	limit, over := 12.0, config.Duration(time.Hour)
	ways := map[string]Options{
		"truth":     {StartStop: &startstop.Options{Running: startstop.Running{Tag: "run"}, Reason: "code", ReasonBefore: over}},
		"values":    {StartStop: &startstop.Options{Running: startstop.Running{Tag: "state", Values: []string{"3", "6"}}}},
		"threshold": {StartStop: &startstop.Options{Running: startstop.Running{Tag: "speed", Above: &limit}}},
		"packml":    {StartStop: &startstop.Options{Running: startstop.Running{PackML: &startstop.PackML{State: "state", Mode: "mode"}}}},
		"names":     {StartStop: &startstop.Options{Running: startstop.Running{PackML: &startstop.PackML{State: "name", Mode: "mode"}}}},
		"stops":     {StartStop: &startstop.Options{Running: startstop.Running{Tag: "run"}, Stops: &startstop.Stops{Count: "state", Seconds: "made"}}},
		"idle": {
			StartStop: &startstop.Options{Running: startstop.Running{IdleAfter: config.Duration(time.Second)}},
			Counter:   &counter.Options{Good: "made", MaxRate: config.Rate{Count: 1, Per: time.Second}},
		},
		"interval": {Parameters: parameters.Options{Rows: []config.Row[parameters.Parameter]{{Name: "S", Value: parameters.Parameter{Tag: "speed", Over: 100000 * over}}}}},
	}
	tags := []plant.Tag{
		{ID: "run", Type: plant.TypeBool}, {ID: "code", Type: plant.TypeUint16}, {ID: "state", Type: plant.TypeInt32}, {ID: "mode", Type: plant.TypeInt32},
		{ID: "speed", Type: plant.TypeFloat32}, {ID: "name", Type: plant.TypeString}, {ID: "made", Type: plant.TypeUint32},
	}
	values := map[plant.TagID]plant.Value{
		"run": plant.BoolValue(true), "code": plant.IntValue(7), "state": plant.IntValue(6), "mode": plant.IntValue(1),
		"speed": plant.FloatValue(20.5), "name": plant.TextValue("EXECUTE "), "made": plant.IntValue(1000),
	}
	all := make(map[string]*still)
	for name, o := range ways {
		o.Device = "press"
		m, err := NewModel("PRESS-01", o, Catalog{"press": tags})
		if err != nil {
			tb.Fatal(err)
		}
		s := &still{run: run{m: m}, scan: plant.Scan{Device: "press", Received: base}}
		for _, ref := range m.Tags() {
			s.scan.Readings = append(s.scan.Readings, plant.Reading{Tag: ref.Tag, Value: values[ref.Tag], Quality: plant.Good})
		}
		for range 5 { // until it is known that it runs, or stands
			s.again()
		}
		all[name] = s
	}
	return all
}

// still is a machine of which nothing changes.
type still struct {
	run   run
	state State
	scan  plant.Scan
	out   Output
}

func (s *still) again() {
	s.scan.Received = s.scan.Received.Add(time.Second)
	s.out.Events = s.out.Events[:0]
	s.run.reset()
	s.run.step(&s.state, &s.scan, &s.out)
}

// TestNoWayToRunAllocates: a reading that changes nothing costs no memory, however
// the state is told.
func TestNoWayToRunAllocates(t *testing.T) {
	for name, s := range waysToRun(t) {
		if n := testing.AllocsPerRun(100, s.again); n != 0 {
			t.Errorf("%s: %.0f allocations in an unchanged scan", name, n)
		}
		if len(s.out.Events) != 0 {
			t.Errorf("%s: %d events of what has not changed", name, len(s.out.Events))
		}
	}
}

func BenchmarkUnchanged(b *testing.B) {
	for name, s := range waysToRun(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.again()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(s.scan.Readings)), "ns/reading")
		})
	}
}
