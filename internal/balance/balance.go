// Package balance shows for a machine and a shift where its pieces are: what the
// device has counted, what the gateway has recorded, and how much of that each
// uplink has accepted, still has to get, or will never get. It only adds up: it
// is pure, and what it is given is read by others.
package balance

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Window is a machine's shift on one day, or a day where it has none. Pieces of
// an event belong to it if their interval ends after Begin and not after End.
type Window struct {
	Machine    plant.MachineID `json:"machine"`
	Shift      string          `json:"shift,omitempty"`
	Begin, End time.Time       `json:"-"`
}

// Uplink is how far one receiver is.
type Uplink struct {
	Name string
	// Settled is the newest event that it has answered for; what lies behind waits.
	Settled plant.Sequence
	// Dead and Dropped report whether an event is a dead letter now, or was one
	// that somebody has given up.
	Dead, Dropped func(plant.Sequence) bool
	// Letters are its dead letters, Given those that somebody has given up: their
	// events may be stored no more.
	Letters, Given []Letter
}

// Bases are the cumulative counts of pieces, of any quality, with which the window
// begins and ends, where somebody has kept them; nil where not.
type Bases struct{ Begin, End *int64 }

// Letter is a dead letter of a counter event, or was one.
type Letter struct {
	Sequence plant.Sequence
	To       time.Time
	Pieces   int64
}

// Device is what the device's own counter did.
type Device struct {
	// Counts names what it counts: "total", "good", "scrap" or "rework"; Cycles is
	// set where one of its counts is several pieces.
	Counts string `json:"counts"`
	Cycles bool   `json:"cycles,omitempty"`
	// From and To are its numbers before the first and behind the last piece.
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Moved is by how much it moved in all; Through of it are those over a reset or
	// a rollover, where only the gateway's count says how many.
	Moved   int64 `json:"moved"`
	Through int64 `json:"through,omitempty"`
	// Gateway is what the gateway has counted of the same.
	Gateway int64 `json:"gateway"`
}

// Line is what one uplink has of the pieces; the numbers add up to Sheet.Pieces.
type Line struct {
	Uplink   string `json:"uplink"`
	Accepted int64  `json:"accepted"`
	Pending  int64  `json:"pending"`
	Dead     int64  `json:"dead"`
	// Dropped were dead letters that somebody has given up.
	Dropped int64 `json:"dropped"`
	// Gaps are those that will not come since their events are lost; gap events
	// name them.
	Gaps int64 `json:"gaps"`
}

// Sum is what a Line adds up to.
func (l *Line) Sum() int64 { return l.Accepted + l.Pending + l.Dead + l.Dropped + l.Gaps }

// Sheet is the balance of one Window.
type Sheet struct {
	Window
	// Device is nil where the machine has no counter with a number of its own, or
	// nothing was counted.
	Device *Device `json:"device,omitempty"`
	// Pieces are all that the gateway has counted: Good, Scrap and Rework.
	Pieces  int64  `json:"pieces"`
	Good    int64  `json:"good"`
	Scrap   int64  `json:"scrap"`
	Rework  int64  `json:"rework"`
	Uplinks []Line `json:"uplinks"`
	// Lost are pieces of events that are in the store no more.
	Lost int64 `json:"lost"`
	// Doubts say in plain words why a number is not exact; none if it is.
	Doubts []string `json:"doubts"`
	// Balanced is set if the device's count is the gateway's, and nothing is in
	// doubt. What each uplink has adds up in any case.
	Balanced bool `json:"balanced"`
}

// Compute adds up one window. counts names what the device's counter counts, empty
// for none with a number of its own. events are the stored ones of the machine,
// of kinds counter and gap at least, from before the window on to its end, and
// gaps those gap events behind it. first is set if the store holds the machine's
// events from the very first; bases make up for what it does not. An error is the
// reader's.
func Compute(w Window, counts string, uplinks []Uplink, first bool, bases Bases, events iter.Seq2[plant.Event, error], gaps func() ([]plant.GapData, error)) (Sheet, error) {
	s := sheet{Sheet: Sheet{Window: w, Uplinks: []Line{}, Doubts: []string{}}, uplinks: uplinks, counts: counts, whole: first, bases: bases, scrap: map[string]int64{}}
	for _, u := range uplinks {
		s.Uplinks = append(s.Uplinks, Line{Uplink: u.Name})
	}
	for e, err := range events {
		if err != nil {
			return s.Sheet, err
		}
		if e.Kind != plant.KindCounter {
			continue
		}
		var c plant.Counter
		if err := json.Unmarshal(e.Data, &c); err != nil {
			s.doubt("an event could not be read")
			continue
		}
		if c.To.After(w.End) {
			break
		}
		s.take(e.Sequence, &c)
	}
	if err := s.close(gaps); err != nil {
		return s.Sheet, err
	}
	return s.Sheet, nil
}

// sheet is a Sheet while it is made.
type sheet struct {
	Sheet
	uplinks []Uplink
	counts  string
	bases   Bases
	// whole is set once it is known that nothing is left out at the beginning.
	whole bool

	// previous is the newest counter event so far, at seq; scrap has the newest
	// cumulative count of each code.
	previous *plant.Counter
	seq      plant.Sequence
	scrap    map[string]int64
	// holes are where events of the window are missing.
	holes []hole
}

// hole is what lies between two stored events and is not there: the pieces between
// two cumulative counts. after is 0 at the beginning of what is stored, before at
// its end.
type hole struct {
	after, before plant.Sequence
	from, to      int64
}

func (s *sheet) doubt(text string) {
	if !slices.Contains(s.Doubts, text) {
		s.Doubts = append(s.Doubts, text)
	}
}

// take adds one counter event.
func (s *sheet) take(seq plant.Sequence, c *plant.Counter) {
	inside := c.To.After(s.Begin)
	s.whole = s.whole || !inside
	scrap := int64(0)
	for i := range c.Scrap {
		scrap += c.Scrap[i].Delta
	}
	pieces := c.GoodDelta + scrap + c.ReworkDelta
	missing := s.missing(c)
	all, _ := c.Pieces()
	if begin := s.bases.Begin; inside && s.previous == nil && !s.whole && begin != nil {
		missing, s.whole = max(0, all-pieces-*begin), true
	}
	if inside {
		s.flags(c)
		s.Good, s.Scrap, s.Rework = s.Good+c.GoodDelta, s.Scrap+scrap, s.Rework+c.ReworkDelta
		s.Pieces += pieces
		for i := range s.uplinks {
			s.share(i, seq, pieces)
		}
		if missing > 0 {
			s.holes = append(s.holes, hole{s.seq, seq, all - pieces - missing, all - pieces})
			s.Lost += missing
			s.Pieces += missing
			if s.previous != nil && !s.previous.To.After(s.Begin) && s.bases.Begin == nil {
				s.doubt("events are missing over the beginning: of which shift their pieces are is not known")
			}
		}
		s.device(c, pieces, scrap, missing)
	}
	for i := range c.Scrap {
		s.scrap[c.Scrap[i].Code] = c.Scrap[i].Quantity
	}
	s.previous, s.seq = c, seq
}

// missing returns how many pieces lie between the event before and c, by the
// cumulative counts.
func (s *sheet) missing(c *plant.Counter) int64 {
	if s.previous == nil {
		return 0
	}
	n := c.Good - c.GoodDelta - s.previous.Good + c.Rework - c.ReworkDelta - s.previous.Rework
	for i := range c.Scrap {
		if was, known := s.scrap[c.Scrap[i].Code]; known {
			n += c.Scrap[i].Quantity - c.Scrap[i].Delta - was
		}
	}
	if n < 0 {
		if c.To.After(s.Begin) {
			s.doubt("the cumulative counts began anew: the state of the rules was lost")
		}
		return 0
	}
	return n
}

// flags says what an event says of itself.
func (s *sheet) flags(c *plant.Counter) {
	for _, f := range []struct {
		set  bool
		text string
	}{
		{c.LowerBound, "there were more pieces than anybody counted (lower_bound)"},
		{c.Saturated, "a counter of the device stood at its end (saturated)"},
		{c.Ambiguous, "the device's counter may have gone round unseen (ambiguous)"},
		{c.Suspect, "a change of the device's counter was larger than the machine can make (suspect)"},
		{c.AcrossShifts, "pieces of a time in which nobody looked lie over the end of a shift (across_shifts)"},
	} {
		if f.set {
			s.doubt(f.text)
		}
	}
}

// share gives the pieces of an event to the heap where they are for uplink i.
func (s *sheet) share(i int, seq plant.Sequence, pieces int64) {
	u, line := &s.uplinks[i], &s.Uplinks[i]
	switch {
	case u.Dead(seq):
		line.Dead += pieces
	case u.Dropped(seq):
		line.Dropped += pieces
	case seq <= u.Settled:
		line.Accepted += pieces
	default:
		line.Pending += pieces
	}
}

// device follows the device's own number.
func (s *sheet) device(c *plant.Counter, pieces, scrap, missing int64) {
	if s.counts == "" {
		return
	}
	counted := pieces
	switch {
	case c.CyclesDelta > 0 || c.Cycles > 0:
		counted = c.CyclesDelta
	case s.counts == "good":
		counted = c.GoodDelta
	case s.counts == "scrap":
		counted = scrap
	case s.counts == "rework":
		counted = c.ReworkDelta
	}
	if s.Device == nil {
		s.Device = &Device{Counts: s.counts, From: c.Raw - counted, Cycles: c.Cycles > 0}
		if s.previous != nil {
			s.Device.From = s.previous.Raw
		}
	}
	d := s.Device
	d.To = c.Raw
	d.Gateway += counted
	switch {
	case missing > 0 && s.previous == nil:
		d.Gateway, d.Moved, d.Through = d.Gateway+missing, d.Moved+missing, d.Through+missing
	case missing > 0 && s.counts == "total" && c.Cycles == 0:
		d.Gateway += missing
	case missing > 0:
		d.Gateway += abs(c.Raw-s.previous.Raw) - counted
	}
	if s.previous == nil || c.Reset || c.Rollover {
		moved := counted
		if s.previous != nil && c.Rollover && !c.Reset {
			moved = around(s.previous.Raw, c.Raw, counted)
		}
		d.Moved += moved
		if c.Reset || c.Rollover {
			d.Through += moved
		}
		return
	}
	d.Moved += abs(c.Raw - s.previous.Raw) // one that counts down falls
}

// lag is by how many pieces the count of one event may lie beside the number that
// the event ends with: what was made while its order or its scrap was read.
const lag = 2

// around returns how far a number has moved that began anew at the end of its type
// or of its digits: exactly if it is plain where that end is, else as was counted.
func around(from, to, counted int64) int64 {
	for bits := 8; bits <= 32; bits++ {
		if end := int64(1) << bits; abs(counted-(to-from+end)) <= lag {
			return to - from + end
		}
	}
	for end := int64(100); end <= 1e12; end *= 10 {
		if abs(counted-(to-from+end)) <= lag {
			return to - from + end
		}
	}
	return counted
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// close shares out the pieces of missing events and says whether all is well.
func (s *sheet) close(gaps func() ([]plant.GapData, error)) error {
	s.end()
	if len(s.holes) > 0 {
		told, err := gaps()
		if err != nil {
			return err
		}
		for _, h := range s.holes {
			s.fill(h, told)
		}
	}
	if !s.whole {
		s.doubt("the events before are not kept any more, so pieces at the beginning are left out here")
	}
	if d := s.Device; d != nil && d.Moved != d.Gateway {
		s.doubt(fmt.Sprintf("the device's counter moved by %d, and %d of it were counted", d.Moved, d.Gateway))
	}
	s.Balanced = len(s.Doubts) == 0
	return nil
}

// end finds pieces of the window behind all that is stored of it.
func (s *sheet) end() {
	begin, end := s.bases.Begin, s.bases.End
	if s.Pieces > 0 || begin == nil || end == nil || *end <= *begin {
		return
	}
	s.holes = append(s.holes, hole{from: *begin, to: *end})
	s.Lost, s.Pieces, s.whole = *end-*begin, *end-*begin, true
}

// fill shares out the pieces of one hole: those of events that an uplink lost are
// named by gap events, the others it had before they went.
func (s *sheet) fill(h hole, told []plant.GapData) {
	pieces := h.to - h.from
	for i := range s.uplinks {
		u, line := &s.uplinks[i], &s.Uplinks[i]
		gone, explained := s.gone(h, u.Name, told)
		if !explained && h.after > 0 {
			s.doubt(fmt.Sprintf("%d pieces are missing behind event %d, and no gap event is kept that says why", pieces, uint64(h.after)))
			gone = pieces
		}
		dead := min(s.within(h, u.Letters), pieces-gone)
		given := min(s.within(h, u.Given), pieces-gone-dead)
		line.Gaps, line.Dead, line.Dropped, line.Accepted = line.Gaps+gone, line.Dead+dead, line.Dropped+given, line.Accepted+pieces-gone-dead-given
	}
}

// within returns the pieces of those letters whose events are in a hole of the
// window.
func (s *sheet) within(h hole, letters []Letter) (n int64) {
	for _, l := range letters {
		if l.Sequence > h.after && (h.before == 0 || l.Sequence < h.before) && l.To.After(s.Begin) && !l.To.After(s.End) {
			n += l.Pieces
		}
	}
	return n
}

// gone returns how many pieces of a hole an uplink will not get, and whether a gap
// event speaks of the hole at all.
func (s *sheet) gone(h hole, uplink string, told []plant.GapData) (n int64, explained bool) {
	for i := range told {
		g := &told[i]
		overlaps := g.Last > h.after && (h.before == 0 || g.First < h.before)
		if p := g.Pieces; p != nil {
			overlaps = p.From < h.to && h.from < p.To
		}
		if !overlaps || g.Cause == plant.GapRefused || g.Kinds != nil && g.Kinds[plant.KindCounter] == 0 {
			continue
		}
		explained = true
		if g.Delivered || len(g.Uplinks) > 0 && !slices.Contains(g.Uplinks, uplink) {
			continue
		}
		if g.Pieces == nil {
			return h.to - h.from, true // nothing of it may be taken for delivered
		}
		if g.Pieces.Count < g.Pieces.To-g.Pieces.From {
			s.doubt("events were lost in several parts: which of them arrived in between is not known")
		}
		n += min(h.to, g.Pieces.To) - max(h.from, g.Pieces.From)
	}
	return min(n, h.to-h.from), explained
}
