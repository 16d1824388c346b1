package parameters

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// minute is a rule with the figures of a minute.
func minute(t testing.TB) (*Rule, *State) {
	t.Helper()
	r, err := New(Options{Rows: []config.Row[Parameter]{{Name: "T", Value: Parameter{Tag: "t", Over: config.Duration(time.Minute)}}}},
		func(string, string) (rule.Input, error) {
			return rule.Input{Ref: plant.TagRef{Device: "d", Tag: "t"}, Tag: plant.Tag{ID: "t", Type: plant.TypeFloat64}}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	s := new(State)
	r.Fit(s)
	return r, s
}

const second = int64(time.Second)

func reading(at int64, v float64) *Reading {
	return &Reading{At: rule.Stamp{At: at}, Value: plant.FloatValue(v)}
}

// TestAGatewayThatStoodSawNothing: the end of an interval that is noticed long
// after it is that of a gateway that did not run, and the value is not taken to
// have held.
func TestAGatewayThatStoodSawNothing(t *testing.T) {
	for late, want := range map[int64]time.Duration{0: time.Minute, lateTime: time.Minute, lateTime + 1: 10 * time.Second} {
		r, s := minute(t)
		r.Observe(s, reading(60*second, 1), 60*second)
		r.Observe(s, reading(70*second, 5), 70*second)
		if r.Wake(s) != 120*second {
			t.Fatalf("wakes at %d", r.Wake(s))
		}
		values, _ := r.Collect(s, 120*second+late)
		if len(values) != 1 || time.Duration(values[0].Seconds) != want {
			t.Errorf("%d late: %+v", late, values)
		}
	}
}

// TestTheEndIsSeenByAReading: where no tick came at the end, the reading behind
// it ends the interval and belongs to the next.
func TestTheEndIsSeenByAReading(t *testing.T) {
	r, s := minute(t)
	r.Observe(s, reading(60*second, 1), 60*second)
	if !r.Observe(s, reading(121*second, 9), 121*second) {
		t.Fatal("nothing is due")
	}
	values, at := r.Collect(s, 121*second)
	if len(values) != 1 || string(values[0].Max) != "1" || values[0].Samples != 1 || at.At != 120*second || time.Duration(values[0].Seconds) != time.Minute {
		t.Fatalf("%+v at %d", values, at.At)
	}
	if values, _ = r.Collect(s, 180*second); len(values) != 1 || string(values[0].Min) != "1" || string(values[0].Max) != "9" {
		t.Fatalf("%+v", values)
	}
}

// TestMeanOfAnyValues: the mean lies between least and greatest, whatever they
// are, and what never changes is its own mean.
func TestMeanOfAnyValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, s := &Rule{inputs: []input{{over: time.Hour, report: reports}}}, &State{Tracks: []track{{Interval: &Interval{}}}}
		now := 3600 * second
		n := rapid.IntRange(1, 20).Draw(t, "values")
		low, high, area, seen := math.Inf(1), math.Inf(-1), 0.0, 0.0
		for range n {
			v := rapid.OneOf(rapid.Float64Range(-10, 10), rapid.SampledFrom([]float64{math.MaxFloat64, -math.MaxFloat64, 0, 20})).Draw(t, "value")
			held := rapid.Int64Range(1, 60).Draw(t, "held")
			r.Observe(s, reading(now, v), now)
			now += held * second
			low, high = min(low, v), max(high, v)
			area, seen = area+v*float64(held), seen+float64(held)
		}
		if !r.Close(s, now, now) {
			t.Fatal("nothing is due")
		}
		m := s.Tracks[0].Done
		if m.Seen != time.Duration(seen)*time.Second || m.N != int64(n) {
			t.Fatalf("%d values over %s, want %d over %gs", m.N, m.Seen, n, seen)
		}
		if got, _ := m.Min.Float(); got != low {
			t.Fatalf("least %g, want %g", got, low)
		}
		if got, _ := m.Max.Float(); got != high {
			t.Fatalf("greatest %g, want %g", got, high)
		}
		slack := 1e-9 * max(math.Abs(low), math.Abs(high))
		if m.Mean < low-slack || m.Mean > high+slack || math.IsNaN(m.Mean) {
			t.Fatalf("mean %g of %g to %g", m.Mean, low, high)
		}
		if low == high && m.Mean != low {
			t.Fatalf("mean %g of %g alone", m.Mean, low)
		}
		if want := area / seen; !math.IsInf(area, 0) && math.Abs(m.Mean-want) > 1e-9*max(1, math.Abs(low), math.Abs(high)) {
			t.Fatalf("mean %g, want %g", m.Mean, want)
		}
	})
}

// BenchmarkObserve is one reading of a value that does not change.
func BenchmarkObserve(b *testing.B) {
	r, s := minute(b)
	v, now := reading(0, 20.5), int64(0)
	b.ReportAllocs()
	for b.Loop() {
		now += second / 1000
		v.At.At = now
		if r.Observe(s, v, now) {
			r.Collect(s, now)
		}
	}
}
