package floor

import (
	"reflect"
	"testing"
	"time"
)

var monday = time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)

// A week in two shifts: the same seed gives the same week however it is looked
// at, the books of the truth add up, and what is asked for happens.
func TestAWeek(t *testing.T) {
	o := Options{Seed: 7, Start: monday, Cavities: 4, Jams: 40, Slow: 3, PowerCuts: 1, Scrap: 0.02, Shifts: [][2]int{{6, 14}, {14, 22}}}
	a, b := New(o), New(o)
	a.Advance(monday.AddDate(0, 0, 7))
	for b.Now().Before(monday.AddDate(0, 0, 7)) {
		b.Advance(b.Now().Add(time.Minute))
	}
	if !reflect.DeepEqual(a.Truth(), b.Truth()) || a.tags != b.tags {
		t.Error("the same seed gave two weeks")
	}
	truth := a.Truth()
	var good, scrap int64
	for _, m := range truth.Orders {
		good, scrap = good+m.Good, scrap+m.Scrap
	}
	if good != truth.Good || scrap != truth.Scrap || good+scrap != 4*truth.Cycles {
		t.Errorf("orders have %d good and %d scrap, the line %d and %d in %d cycles", good, scrap, truth.Good, truth.Scrap, truth.Cycles)
	}
	if share := float64(scrap) / float64(good+scrap); share < 0.015 || share > 0.025 {
		t.Errorf("%.3f scrap", share)
	}
	seen := map[uint16]int{}
	end := monday
	for _, s := range truth.Stops {
		seen[s.Code]++
		if s.Began.Before(end) || !s.Ended.IsZero() && !s.Ended.After(s.Began) {
			t.Errorf("a stop from %s to %s, after one until %s", s.Began, s.Ended, end)
		}
		end = s.Ended
	}
	for _, code := range []uint16{CodeJam, CodeStarved, CodeSetup, CodeNoShift, CodeRestart} {
		if seen[code] == 0 {
			t.Errorf("no stop with code %d", code)
		}
	}
	if seen[CodeNoShift] < 5 || seen[CodeJam]+seen[CodeStarved] < 60 {
		t.Errorf("%v", seen)
	}
}

// A PLC that boots shows nothing, and then counters at 0 or those of before.
func TestPowerCut(t *testing.T) {
	for _, keep := range []bool{false, true} {
		l := New(Options{Seed: 3, Start: monday, First: 500, Keep: keep, PowerCuts: 20})
		for dark := false; ; {
			l.Advance(l.Now().Add(time.Second))
			tags, ok := l.Tags()
			if ok && dark {
				cut := l.Truth().Cuts[0]
				if want := map[bool]int64{true: 500 + cut.Good + cut.Scrap}[keep]; int64(tags.Total) != want || tags.Running {
					t.Errorf("keep %v: after the cut %+v, want %d", keep, tags, want)
				}
				break
			}
			dark = !ok
		}
		if n := len(l.Truth().Cuts); n != 1 {
			t.Errorf("%d cuts", n)
		}
	}
}

// A line that stands for good makes nothing more.
func TestStand(t *testing.T) {
	l := New(Options{Seed: 1, Start: monday, Jams: 100, PowerCuts: 10})
	l.Advance(monday.Add(time.Hour))
	l.Stand()
	cycles := l.Truth().Cycles
	l.Advance(monday.AddDate(0, 0, 3))
	if cycles == 0 || l.Truth().Cycles != cycles {
		t.Errorf("%d cycles, then %d", cycles, l.Truth().Cycles)
	}
}
