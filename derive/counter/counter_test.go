package counter

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// record keeps what a rule reports.
type record struct {
	reports []Report
	deltas  []int64
	alarms  []rule.Alarm

	corrections []Correction
}

func (r *record) Count(c Report) {
	r.reports = append(r.reports, c)
	r.deltas = append(r.deltas, c.Totals.Good-c.Reported.Good)
}
func (r *record) Correct(c Correction) { r.corrections = append(r.corrections, c) }
func (r *record) Alarm(a rule.Alarm)   { r.alarms = append(r.alarms, a) }

func newRule(t testing.TB, o Options, typ plant.TagType) *Rule {
	t.Helper()
	r, err := New(o, func(_, name string) (rule.Input, error) {
		return rule.Input{Ref: plant.TagRef{Device: "d", Tag: plant.TagID(name)}, Tag: plant.Tag{ID: plant.TagID(name), Type: typ}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func rate(n float64) config.Rate { return config.Rate{Count: n, Per: time.Second} }

// TestNumbersAtTheEdge: no pair of numbers makes a count go down or overflow.
func TestNumbersAtTheEdge(t *testing.T) {
	edges := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt32, math.MaxInt64 - 1, math.MaxInt64}
	for _, o := range []Options{{Good: "n", Pieces: 1}, {Good: "n", Pieces: 1, MaxRate: rate(1e300)}, {Good: "n", Pieces: 1, MaxRate: rate(10), ResetConfirm: 1}} {
		r := newRule(t, o, plant.TypeInt64)
		for _, a := range edges {
			for _, b := range edges {
				var s State
				r.Fit(&s)
				out := &record{}
				for i, raw := range []int64{a, b, b, b, b} {
					at := int64(i+1) * int64(time.Second)
					r.Observe(&s, []Reading{{At: rule.Stamp{At: at}, Raw: raw, Good: true}}, false, at, out)
				}
				for _, d := range out.deltas {
					if d < 0 {
						t.Errorf("from %d to %d: a delta of %d (limit %v)", a, b, d, o.MaxRate)
					}
				}
			}
		}
	}
}

// TestMarksNeverLosePieces: whatever boundaries are announced, taken back or
// reported, the deltas add up to the pieces.
func TestMarksNeverLosePieces(t *testing.T) {
	r := newRule(t, Options{Good: "n", MaxRate: rate(1000), Every: config.Duration(3 * time.Second)}, plant.TypeUint32)
	rapid.Check(t, func(t *rapid.T) {
		var s State
		r.Fit(&s)
		out := &record{}
		now, raw := int64(time.Second), int64(0)
		var marks []rule.Stamp
		read := func() {
			r.Observe(&s, []Reading{{At: rule.Stamp{At: now}, Raw: raw, Good: true}}, false, now, out)
		}
		read()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += int64(time.Second)
			raw += rapid.Int64Range(0, 5).Draw(t, "pieces")
			read()
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				marks = append(marks, rule.Stamp{At: now})
				r.Mark(&s, rule.Stamp{At: now}, now, out)
			case 1, 2:
				if len(marks) > 0 {
					i := rapid.IntRange(0, len(marks)-1).Draw(t, "mark")
					if rapid.Bool().Draw(t, "boundary") {
						r.FlushTo(&s, marks[i], now, out)
					} else {
						r.Unmark(&s, marks[i])
					}
					marks = append(marks[:i], marks[i+1:]...)
				}
			case 3:
				r.Flush(&s, now, out)
			}
			for _, rep := range out.reports {
				if rep.To.At < rep.From.At {
					t.Fatalf("interval from %d to %d", rep.From.At, rep.To.At)
				}
			}
		}
		r.Flush(&s, now, out)
		var sum int64
		for _, d := range out.deltas {
			sum += d
		}
		if sum != raw {
			t.Fatalf("%d pieces, deltas add up to %d", raw, sum)
		}
	})
}

// TestABoundaryCountsOnlyWhatWasBefore: the pieces after a mark are not in the
// report of its boundary, whatever is due meanwhile.
func TestABoundaryCountsOnlyWhatWasBefore(t *testing.T) {
	r := newRule(t, Options{Good: "n", MaxRate: rate(10), Pieces: 1}, plant.TypeUint32)
	var s State
	r.Fit(&s)
	out := &record{}
	at := func(sec int64) rule.Stamp { return rule.Stamp{At: sec * int64(time.Second)} }
	read := func(sec, raw int64) {
		r.Observe(&s, []Reading{{At: at(sec), Raw: raw, Good: true}}, false, at(sec).At, out)
	}
	read(1, 0)
	read(2, 3)
	r.Mark(&s, at(2), at(2).At, out)
	read(3, 5)
	read(4, 6)
	if n := len(out.reports); n != 1 || out.deltas[0] != 3 {
		t.Fatalf("before the boundary: deltas %v", out.deltas)
	}
	r.FlushTo(&s, at(2), at(4).At, out)
	r.Due(&s, at(4).At, out)
	if n := len(out.reports); n != 2 || out.deltas[1] != 3 || out.reports[1].From != at(2) {
		t.Fatalf("after the boundary: deltas %v", out.deltas)
	}
}
