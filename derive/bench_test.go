package derive

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// wideModel is a machine of 1000 tags: two counters, a state, a reason, and
// process values.
func wideModel(tb testing.TB) (*Model, plant.Scan) {
	tb.Helper()
	o := Options{
		Device:    "press",
		Counter:   &counter.Options{Total: "t0", Scrap: config.Table[string]{Rows: []config.Row[string]{{Name: "SCRAP", Value: "t1"}}}, MaxRate: config.Rate{Count: 1e6, Per: time.Second}, Pieces: 1},
		StartStop: &startstop.Options{Running: startstop.Running{Tag: "t2"}, Reason: "t3"},
	}
	scan := plant.Scan{Device: "press", Received: base}
	var tags []plant.Tag
	for i := range 1000 {
		id := plant.TagID(fmt.Sprintf("t%d", i))
		tags = append(tags, plant.Tag{ID: id, Type: plant.TypeUint16})
		scan.Readings = append(scan.Readings, plant.Reading{Tag: id, Value: plant.IntValue(int64(i)), Quality: plant.Good})
		if i > 3 {
			o.Parameters.Rows = append(o.Parameters.Rows, config.Row[parameters.Parameter]{Name: fmt.Sprintf("P%d", i), Value: parameters.Parameter{Tag: string(id), Deadband: parameters.Deadband{Amount: 1}}})
		}
	}
	m, err := NewModel("PRESS-01", o, Catalog{"press": tags})
	if err != nil {
		tb.Fatal(err)
	}
	return m, scan
}

// BenchmarkStep is the hot path of a worker: steps on its own copy of the state.
func BenchmarkStep(b *testing.B) {
	b.Run("1000-tags-unchanged", func(b *testing.B) {
		m, scan := wideModel(b)
		s, _ := m.Step(State{}, &scan)
		r, out := run{m: m}, Output{}
		b.ReportAllocs()
		for b.Loop() {
			scan.Received = scan.Received.Add(time.Second)
			out.Events = out.Events[:0]
			r.reset()
			r.step(&s, &scan, &out)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/reading")
	})
	b.Run("counter-event", func(b *testing.B) {
		m, scan := wideModel(b)
		scan.Readings = scan.Readings[:3]
		s, _ := m.Step(State{}, &scan)
		r, out := run{m: m}, Output{}
		made := int64(0)
		b.ReportAllocs()
		for b.Loop() {
			made = (made + 1) % 65536
			scan.Readings[0].Value = plant.IntValue(made)
			scan.Received = scan.Received.Add(time.Second)
			out.Events = out.Events[:0]
			r.reset()
			r.step(&s, &scan, &out)
		}
	})
}

// BenchmarkCommit is what a worker does for one counter event besides the
// commit itself: copy the state, step, encode.
func BenchmarkCommit(b *testing.B) {
	m := pressModel(b)
	var current, work State
	m.fit(&current)
	r, out := run{m: m}, Output{}
	scan := plant.Scan{Device: "press", Received: base, Readings: []plant.Reading{
		{Tag: "made", Value: plant.UintValue(0), Quality: plant.Good}, {Tag: "run", Value: plant.BoolValue(true), Quality: plant.Good},
	}}
	made := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		made = (made + 1) % 65536
		scan.Readings[0].Value = plant.UintValue(made)
		scan.Received = scan.Received.Add(time.Second)
		work.copyFrom(&current)
		out.Events = out.Events[:0]
		r.reset()
		r.step(&work, &scan, &out)
		if _, err := m.Encode(&work); err != nil {
			b.Fatal(err)
		}
		current, work = work, current
	}
}

func BenchmarkOffer(b *testing.B) {
	m, scan := wideModel(b)
	box := newMailbox(m, 256)
	var spare []item
	b.ReportAllocs()
	for b.Loop() {
		box.offer(&scan)
		items := box.take(spare)
		box.recycle(items)
		spare = items[:0]
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/reading")
}

// TestUnchangedReadingsAllocateNothing keeps the hot path free of garbage.
func TestUnchangedReadingsAllocateNothing(t *testing.T) {
	m, scan := wideModel(t)
	s, _ := m.Step(State{}, &scan)
	r, out := run{m: m}, Output{}
	if n := testing.AllocsPerRun(100, func() {
		scan.Received = scan.Received.Add(time.Second)
		r.step(&s, &scan, &out)
	}); n != 0 {
		t.Errorf("%.0f allocations in a scan of 1000 unchanged readings", n)
	}
}
