package balance

import (
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

var six = time.Date(2026, 7, 27, 6, 0, 0, 0, time.UTC)

// shift is from six to two.
var shift = Window{Machine: "M", Shift: "early", Begin: six, End: six.Add(8 * time.Hour)}

// stored are counter events, numbered by their key.
type stored []struct {
	seq plant.Sequence
	c   plant.Counter
}

func (s stored) events(t *testing.T) iter.Seq2[plant.Event, error] {
	return func(yield func(plant.Event, error) bool) {
		for _, one := range s {
			data, err := json.Marshal(one.c)
			if err != nil {
				t.Fatal(err)
			}
			if !yield(plant.Event{Kind: plant.KindCounter, Sequence: one.seq, Data: data}, nil) {
				return
			}
		}
	}
}

// made is a count of good pieces after so many minutes of the shift.
func made(minutes int, good, delta, raw int64) plant.Counter {
	return plant.Counter{Good: good, GoodDelta: delta, Raw: raw, To: six.Add(time.Duration(minutes) * time.Minute)}
}

func never(plant.Sequence) bool { return false }

func up(name string, settled plant.Sequence) Uplink {
	return Uplink{Name: name, Settled: settled, Dead: never, Dropped: never}
}

func compute(t *testing.T, events stored, counts string, first bool, bases Bases, gaps []plant.GapData, uplinks ...Uplink) Sheet {
	t.Helper()
	s, err := Compute(shift, counts, uplinks, first, bases, events.events(t), func() ([]plant.GapData, error) { return gaps, nil })
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Uplinks {
		if s.Uplinks[i].Sum() != s.Pieces {
			t.Errorf("%+v of %d pieces", s.Uplinks[i], s.Pieces)
		}
	}
	return s
}

// TestWindow: an event that ends with the shift belongs to it, one that ended
// before it began does not.
func TestWindow(t *testing.T) {
	events := stored{{1, made(-10, 100, 5, 100)}, {2, made(0, 103, 3, 103)}, {3, made(1, 110, 7, 110)}, {4, made(480, 112, 2, 112)}, {5, made(481, 120, 8, 120)}}
	s := compute(t, events, "total", true, Bases{}, nil, up("mes", 3))
	if s.Pieces != 9 || s.Uplinks[0].Accepted != 7 || s.Uplinks[0].Pending != 2 || !s.Balanced || *s.Device != (Device{Counts: "total", From: 103, To: 112, Moved: 9, Gateway: 9}) {
		t.Errorf("%+v %+v", s, s.Device)
	}
}

// TestDevice: what the PLC's number does is compared with what was counted of it.
func TestDevice(t *testing.T) {
	rollover, reset := made(2, 20, 10, 4), made(2, 20, 10, 3)
	rollover.Rollover, reset.Reset = true, true
	scrapped := made(2, 18, 8, 118)
	scrapped.Scrap = []plant.ScrapCount{{Code: "X", Quantity: 2, Delta: 2}}
	cycles := made(2, 20, 10, 105)
	cycles.Cycles, cycles.CyclesDelta = 10, 5
	for name, test := range map[string]struct {
		counts   string
		c        plant.Counter
		moved    int64
		through  int64
		balanced bool
	}{
		"as counted":  {"total", made(2, 20, 10, 110), 10, 0, true},
		"rollover":    {"total", rollover, 10, 10, true},
		"reset":       {"total", reset, 10, 10, true},
		"down":        {"total", made(2, 20, 10, 90), 10, 0, true},
		"of it scrap": {"good", scrapped, 18, 0, false},
		"cycles":      {"total", cycles, 5, 0, true},
		"not counted": {"total", made(2, 20, 10, 112), 12, 0, false},
	} {
		s := compute(t, stored{{1, made(-1, 10, 10, 100)}, {2, test.c}}, test.counts, true, Bases{}, nil)
		if d := s.Device; d == nil || d.Moved != test.moved || d.Through != test.through || s.Balanced != test.balanced {
			t.Errorf("%s: %+v, %+v", name, s, d)
		}
	}
	if s := compute(t, stored{{1, made(1, 1, 1, 1)}}, "", true, Bases{}, nil); s.Device != nil || !s.Balanced {
		t.Errorf("signals: %+v", s)
	}
}

// TestDoubts: an event that is in doubt says so, and so does a beginning that
// nobody knows.
func TestDoubts(t *testing.T) {
	for words, change := range map[string]func(*plant.Counter){
		"lower_bound": func(c *plant.Counter) { c.LowerBound = true }, "saturated": func(c *plant.Counter) { c.Saturated = true },
		"ambiguous": func(c *plant.Counter) { c.Ambiguous = true }, "suspect": func(c *plant.Counter) { c.Suspect = true },
		"across_shifts": func(c *plant.Counter) { c.AcrossShifts = true },
	} {
		c := made(1, 1, 1, 1)
		change(&c)
		if s := compute(t, stored{{1, c}}, "total", true, Bases{}, nil); len(s.Doubts) != 1 || !strings.Contains(s.Doubts[0], words) || s.Balanced {
			t.Errorf("%s: %+v", words, s)
		}
	}
	if s := compute(t, stored{{7, made(1, 50, 1, 50)}}, "total", false, Bases{}, nil); len(s.Doubts) != 1 || !strings.Contains(s.Doubts[0], "not kept") {
		t.Errorf("%+v", s)
	}
	if s := compute(t, stored{{1, made(-1, 50, 1, 50)}, {2, made(1, 3, 3, 53)}}, "total", true, Bases{}, nil); s.Balanced || !strings.Contains(strings.Join(s.Doubts, ";"), "began anew") {
		t.Errorf("%+v", s)
	}
}

// TestHoles: pieces of events that are gone are lost for those whom a gap event
// names, and were accepted by the others.
func TestHoles(t *testing.T) {
	events := stored{{1, made(1, 10, 10, 10)}, {2, made(2, 20, 10, 20)}, {6, made(6, 60, 10, 60)}}
	gap := plant.GapData{First: 3, Last: 5, Count: 3, Uplinks: []string{"mes"}, Kinds: map[plant.EventKind]uint64{plant.KindCounter: 3}}
	s := compute(t, events, "total", true, Bases{}, []plant.GapData{gap}, up("mes", 6), up("erp", 6))
	if s.Pieces != 60 || s.Lost != 30 || s.Uplinks[0].Gaps != 30 || s.Uplinks[1].Accepted != 60 || !s.Balanced {
		t.Errorf("%+v", s)
	}
	gap.Pieces = &plant.GapPieces{From: 30, To: 50, Count: 20} // the first of them had come
	if s := compute(t, events, "total", true, Bases{}, []plant.GapData{gap}, up("mes", 6)); s.Uplinks[0].Gaps != 20 || s.Uplinks[0].Accepted != 40 {
		t.Errorf("%+v", s.Uplinks)
	}
	if s := compute(t, events, "total", true, Bases{}, nil, up("mes", 6)); s.Uplinks[0].Gaps != 30 || s.Balanced || !strings.Contains(strings.Join(s.Doubts, ";"), "no gap event") {
		t.Errorf("%+v", s)
	}
	parameters := plant.GapData{First: 3, Last: 5, Count: 3, Kinds: map[plant.EventKind]uint64{plant.KindParameters: 3}}
	if s := compute(t, events, "total", true, Bases{}, []plant.GapData{parameters}, up("mes", 6)); s.Balanced {
		t.Errorf("a gap of parameters explains counts: %+v", s)
	}
}

// TestWhatIsStoredNoMore: with the counts of the beginning of shifts, a shift
// whose first events have gone, or all of them, adds up.
func TestWhatIsStoredNoMore(t *testing.T) {
	n := func(n int64) *int64 { return &n }
	gap := plant.GapData{First: 3, Last: 8, Uplinks: []string{"mes"}, Pieces: &plant.GapPieces{From: 130, To: 190, Count: 60}}
	erp := up("erp", 9)
	erp.Letters = []Letter{{Sequence: 4, To: six.Add(time.Hour), Pieces: 10}, {Sequence: 1, To: six.Add(-time.Hour), Pieces: 99}}
	erp.Given = []Letter{{Sequence: 5, To: six.Add(time.Hour), Pieces: 4}}
	s := compute(t, stored{{9, made(9, 200, 10, 200)}}, "total", false, Bases{Begin: n(100)}, []plant.GapData{gap}, up("mes", 9), erp)
	if s.Pieces != 100 || s.Lost != 90 || s.Uplinks[0] != (Line{Uplink: "mes", Accepted: 40, Gaps: 60}) || s.Uplinks[1] != (Line{Uplink: "erp", Accepted: 86, Dead: 10, Dropped: 4}) || !s.Balanced || s.Device.Through != 90 {
		t.Errorf("%+v %+v", s, s.Device)
	}
	s = compute(t, stored{{9, made(500, 200, 10, 200)}}, "total", false, Bases{Begin: n(100), End: n(150)}, []plant.GapData{gap}, up("mes", 9))
	if s.Pieces != 50 || s.Uplinks[0] != (Line{Uplink: "mes", Accepted: 30, Gaps: 20}) {
		t.Errorf("%+v", s)
	}
}

func TestReadersErrorsAreReturned(t *testing.T) {
	bad := errors.New("disk")
	broken := func(yield func(plant.Event, error) bool) { yield(plant.Event{}, bad) }
	if _, err := Compute(shift, "", nil, true, Bases{}, broken, nil); !errors.Is(err, bad) {
		t.Error(err)
	}
	events := stored{{1, made(1, 10, 10, 10)}, {6, made(6, 60, 10, 60)}}
	if _, err := Compute(shift, "", nil, true, Bases{}, events.events(t), func() ([]plant.GapData, error) { return nil, bad }); !errors.Is(err, bad) {
		t.Error(err)
	}
}

// TestAround: the event that passes the end of a counter may be a piece behind its
// number, and the one after it tells that piece; the sums are the same.
func TestAround(t *testing.T) {
	behind := made(2, 138, 38, 3)
	behind.Rollover = true
	s := compute(t, stored{{1, made(-1, 100, 100, 65500)}, {2, behind}, {3, made(3, 141, 3, 5)}}, "total", true, Bases{}, nil)
	if d := s.Device; !s.Balanced || d.Moved != 41 || d.Gateway != 41 || d.Through != 39 {
		t.Errorf("%+v, %+v", s, d)
	}
	for _, c := range []struct{ from, to, counted, want int64 }{
		{65500, 3, 38, 39}, {9_990, 5, 15, 15}, {4_294_967_290, 1, 7, 7}, {100, 4, 10, 10}, {65500, 3, 30, 30},
	} {
		if got := around(c.from, c.to, c.counted); got != c.want {
			t.Errorf("from %d to %d with %d counted: %d, want %d", c.from, c.to, c.counted, got, c.want)
		}
	}
}
