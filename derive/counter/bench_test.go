package counter

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// silent takes reports and throws them away.
type silent struct{ reports int }

func (s *silent) Count(Report)       { s.reports++ }
func (s *silent) Correct(Correction) {}
func (s *silent) Alarm(rule.Alarm)   {}

// BenchmarkObserve is what one scan of one counter costs the rule: with nothing
// new, and with a piece that is reported.
func BenchmarkObserve(b *testing.B) {
	for name, so := range sorts() {
		so.options.Pieces, so.options.MaxRate = 1, rate(1e6)
		r, err := New(so.options, func(_, name string) (rule.Input, error) {
			return rule.Input{Ref: plant.TagRef{Device: "d", Tag: plant.TagID(name)}, Tag: plant.Tag{ID: plant.TagID(name), Type: so.types[name]}}, nil
		})
		if err != nil {
			b.Fatal(err)
		}
		for what, n := range map[string]int64{"unchanged": 0, "event": 1} {
			b.Run(name+"/"+what, func(b *testing.B) {
				if so.options.AtMax != "" && n > 0 {
					b.Skip("it stands at its highest number soon, and then says nothing")
				}
				var s State
				r.Fit(&s)
				d := &device{raw: map[string]int64{}, cavities: 4}
				out, now, readings := &silent{}, int64(time.Hour), make([]Reading, len(r.inputs))
				round := 0
				b.ReportAllocs()
				for b.Loop() {
					if n > 0 {
						round++
						so.made(d, int64(round%2)|1-b2i(so.signal), 0)
					}
					now += int64(time.Second)
					for i := range readings {
						readings[i] = Reading{Input: i, At: rule.Stamp{At: now}, Raw: d.raw[string(r.inputs[i].Ref.Tag)], Good: true}
					}
					r.Observe(&s, readings, false, now, out)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(readings)), "ns/reading")
			})
		}
	}
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// TestAScanAllocatesNothing, with or without pieces, for every sort of counter.
func TestAScanAllocatesNothing(t *testing.T) {
	for name, so := range sorts() {
		so.options.Pieces = 1
		r, err := New(so.options, func(_, name string) (rule.Input, error) {
			return rule.Input{Ref: plant.TagRef{Device: "d", Tag: plant.TagID(name)}, Tag: plant.Tag{ID: plant.TagID(name), Type: so.types[name]}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var s State
		r.Fit(&s)
		d := &device{raw: map[string]int64{"cav": 4}, cavities: 4}
		out, now, readings, round := &silent{}, int64(time.Hour), make([]Reading, len(r.inputs)), int64(0)
		if n := testing.AllocsPerRun(100, func() {
			round++
			so.made(d, round%2, 0)
			now += int64(time.Second)
			for i := range readings {
				readings[i] = Reading{Input: i, At: rule.Stamp{At: now}, Raw: d.raw[string(r.inputs[i].Ref.Tag)], Good: true}
			}
			r.Observe(&s, readings, false, now, out)
		}); n != 0 || out.reports < 40 {
			t.Errorf("%s: %.0f allocations in a scan, %d reports", name, n, out.reports)
		}
	}
}
