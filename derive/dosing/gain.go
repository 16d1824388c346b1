package dosing

import (
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// gainState is what is known of a vessel that components go into one after the
// other.
type gainState struct {
	// Ref is the weight up to which everything is booked, once Have; Top the newest
	// that stood since.
	Have bool  `json:"have,omitempty"`
	Ref  int64 `json:"ref,omitempty"`
	Top  int64 `json:"top,omitempty"`
	// Active is set while the component of Words goes in, since Begun.
	Active bool       `json:"on,omitempty"`
	Begun  rule.Stamp `json:"t0,omitzero"`
	Words  words      `json:"w,omitzero"`
	// Waits is set while the component before may still flow: it ended at Ended,
	// when the weight was At, Step more than at the look before. PriorGap says of its
	// dose what Gap says of this one.
	Waits    bool       `json:"wait,omitempty"`
	PriorGap bool       `json:"pgap,omitempty"`
	At       int64      `json:"at,omitempty"`
	Step     int64      `json:"step,omitempty"`
	Before   rule.Stamp `json:"b0,omitzero"`
	Ended    rule.Stamp `json:"b1,omitzero"`
	Prior    words      `json:"pw,omitzero"`
	// Falling is set while the vessel is emptied, down to Low so far.
	Falling bool  `json:"fall,omitempty"`
	Low     point `json:"low,omitzero"`
	// Gap is set while what goes in now, or with no component on what came since
	// Ref, goes back to a time when nobody looked. Away is set from such a time on
	// until both the weight and the component have been read again; Left is the
	// weight when it began.
	Gap  bool  `json:"gap,omitempty"`
	Away bool  `json:"away,omitempty"`
	Left int64 `json:"left,omitempty"`
	// Peak is the highest weight since the newest that stood, without having stood
	// itself. It was more than a dose above Ref first at High, and last not nearly
	// down again at Until. Seen are the two weights before the newest: one that
	// stands out is no peak.
	Peak  int64      `json:"peak,omitempty"`
	High  rule.Stamp `json:"th,omitzero"`
	Until rule.Stamp `json:"tu,omitzero"`
	Seen  [2]int64   `json:"seen,omitzero"`
	// Rough is set while Ref is a weight that never stood: a component began
	// before the vessel was seen to be empty.
	Rough bool `json:"rough,omitempty"`
	// Parted is set while Ref is the weight at a switch that had not stood: something
	// of the component before may count with this one.
	Parted bool `json:"part,omitempty"`
	// Cut is set while Ref is that of a dose of which a part was told at a new zero,
	// Unsure where some of it may be missing.
	Cut    bool `json:"cut,omitempty"`
	Unsure bool `json:"uns,omitempty"`
	// Over is Ref before a weight that never stood went below it, and when it did.
	Over point `json:"over,omitzero"`
	// Creep is what came while nothing was to come and is not told yet.
	Creep int64 `json:"creep,omitempty"`
}

func (g *gainState) shift(step time.Duration) {
	for _, at := range []*rule.Stamp{&g.Begun, &g.Before, &g.Ended, &g.High, &g.Until, &g.Low.At, &g.Over.At} {
		at.Shift(step)
	}
}

// component is what goes in now, as tags say it; empty for nothing.
func (r *Live) component(s *LiveState) string {
	if i := r.first(roleGate); i >= 0 && s.On&s.Known&(1<<i) == 0 {
		return ""
	}
	c, _ := r.text(&s.Words, slotComponent)
	if c == "0" {
		return ""
	}
	return c
}

// switched compares the component with the one that went in so far. sighted is
// false where nobody could tell until now which one it is.
func (r *Live) switched(s *LiveState, at rule.Stamp, sighted bool, out Sink) (changed bool) {
	g := &s.Gain
	if i := r.first(roleGate); i >= 0 && s.Known&(1<<i) == 0 {
		return false // nobody can tell
	}
	now := r.component(s)
	was, _ := r.text(&g.Words, slotComponent)
	if g.Active == (now != "") && (!g.Active || now == was) {
		return false
	}
	if g.Away {
		r.spilt(s, out)
	}
	g.Gap = g.Gap || !sighted && g.Active
	w, stands := r.steadyAt(s, at.At)
	switch {
	case g.Waits && g.Active:
		r.before(s, at, out)
	case g.Waits && stands:
		r.after(s, w, at, false, out)
	case g.Waits:
		// Nothing else came since it ended.
		r.after(s, s.Last.W, at, true, out)
	}
	if g.Active && (now == "" || s.Zero.Left == 0) {
		// Nobody can part it from the next where the zero changed just now.
		r.ends(s, s.Last.W, at)
		if stands && g.Have {
			// It had settled before the component was switched.
			airborne := magnitude(w-g.Ref) <= r.noise && at.At-g.Begun.At < r.settle
			g.At, g.Top, g.Peak = w, w, w
			if now != "" {
				r.after(s, w, at, false, out)
				g.Parted = g.Parted || airborne
			}
		}
	}
	switch {
	case now == "":
	case !g.Away:
		r.begins(s, at, sighted, out)
	case !g.Active && !g.Waits:
		r.earlier(s, at, out)
	}
	if !g.Active && !g.Waits {
		// How high it was before is nothing of what begins.
		g.Peak, g.High, g.Until = g.Top, rule.Stamp{}, rule.Stamp{}
	}
	g.Active, g.Begun, g.Words, g.Gap = now != "", at, s.Words, g.Away || !sighted
	return true
}

// ends has the dose of the component that was on until now wait for the weight to
// stand, which is w.
func (r *Live) ends(s *LiveState, w int64, at rule.Stamp) {
	g := &s.Gain
	g.Waits, g.Prior, g.PriorGap, g.Before, g.Ended, g.At, g.Step = true, g.Words, g.Gap, g.Begun, at, w, s.Last.W-s.Was[1]
}

// begins settles from which weight on a component goes in that follows no other.
func (r *Live) begins(s *LiveState, at rule.Stamp, sighted bool, out Sink) {
	g := &s.Gain
	switch {
	case g.Falling:
		// What the vessel holds now is what it was emptied to, as far as it is.
		g.rough(s.Last.W)
		g.Falling, g.Waits = false, false
	case !g.Have && s.Win.N > 0 && s.Zero.Left == 0:
		g.roughly(s.Last.W, s.Last.W)
	case !g.Have || g.Active || g.Waits || !sighted:
	default:
		w, stands := r.steadyAt(s, at.At)
		apart := stands
		switch {
		case stands:
		case g.Gap, magnitude(s.Last.W-g.Ref) <= r.noise:
			w = s.Last.W
		default:
			w, apart = r.apart(s, g.Ref, g.High, at)
			apart = apart && magnitude(w-g.Ref) > r.noise
		}
		switch {
		case !apart && !g.Gap:
			g.Rough = g.Rough || s.Last.W-g.Ref >= r.least
			return
		case w-g.Ref < r.least:
			r.creep(s, w, at, out)
		default:
			r.nobodys(s, w, !stands, at, at, out)
		}
		g.Rough = !stands && !g.Gap
	}
}

// creep books a change while no component was on: it belongs to none that goes in
// later. It is told as drift once it is as much as a dose.
func (r *Live) creep(s *LiveState, w int64, at rule.Stamp, out Sink) {
	g := &s.Gain
	g.Creep += w - g.Ref
	g.book(w)
	if magnitude(g.Creep) >= r.least {
		r.gainDrift(s, at, out)
	}
}

// gainDrift tells what crept, as of the component before.
func (r *Live) gainDrift(s *LiveState, at rule.Stamp, out Sink) {
	g := &s.Gain
	of := g.Words
	if text, _ := r.text(&of, slotComponent); text == "" || text == "0" {
		of = g.Prior
	}
	if text, _ := r.text(&of, slotComponent); text == "" || text == "0" {
		of = s.Words
	}
	ticks := g.Creep
	g.Creep = 0
	r.tell(&portion{ticks: ticks, at: at, drift: true, words: &of}, out)
}

// book takes w for the reference: all up to it is told.
func (g *gainState) book(w int64) {
	g.Ref, g.Top, g.Peak, g.Rough, g.Parted, g.Cut, g.Unsure, g.Over = w, w, w, false, false, false, false, point{}
	g.High, g.Until = rule.Stamp{}, rule.Stamp{}
	if g.Away {
		g.Left = w // what comes from now on came while nobody looked, too
	}
}

// rough takes a weight that never stood for the reference.
func (g *gainState) rough(w int64) {
	g.book(w)
	g.Rough = true
}

// roughly begins with a vessel of which no weight has stood; newest is its weight.
func (g *gainState) roughly(w, newest int64) {
	g.rough(w)
	g.Have, g.Seen = true, [2]int64{newest, newest}
}

// after tells of the component that ended: what the vessel gained up to w.
func (r *Live) after(s *LiveState, w int64, at rule.Stamp, estimated bool, out Sink) {
	g := &s.Gain
	unheard := g.PriorGap
	g.Waits, g.PriorGap = false, false
	if !g.Have {
		return
	}
	r.gained(s, w, &portion{at: at, begun: g.Before, ended: g.Ended, estimated: estimated, unheard: unheard, early: true, words: &g.Prior}, out)
}

// gained tells of a rise to w, and takes w for the reference.
func (r *Live) gained(s *LiveState, w int64, p *portion, out Sink) {
	g := &s.Gain
	rise := w - g.Ref
	if magnitude(rise) <= r.noise {
		if g.Rough && !p.estimated {
			g.book(w)
		}
		return
	}
	p.weighed = !p.estimated && !g.Rough && !g.Parted
	p.estimated, p.zeroed = !p.weighed || p.unheard, g.Unsure
	p.ticks, p.before, p.after = rise, g.Ref, w
	p.drift, p.early = rise < r.least, p.early && !g.Cut
	g.book(w)
	if rise > 0 {
		p.words.fill(&s.Words)
		r.weighed(s, p, out)
	}
}

// gainSample takes the newest weight of a vessel. seen is false for the first
// after a time in which nobody looked at it.
func (r *Live) gainSample(s *LiveState, seen bool, out Sink) (changed bool) {
	g := &s.Gain
	w := s.Last.W
	if !seen {
		changed = r.fallen(s, out)
	}
	changed = r.back(s, s.Last.At, true, out) || changed
	if !g.Have && g.Active && !g.Away && s.Zero.Left == 0 {
		g.roughly(w, w) // it was on before there was a weight
	}
	if g.Have && !g.Falling {
		changed = r.climb(s, w) || changed
		if g.Top-w > max(r.least, r.noise) || g.Seen[1] <= r.floor(g) && r.spilled(g, w) {
			changed = true
			r.spills(s, out)
		}
	} else if low := max(g.Seen[1], min(g.Seen[0], w)-max(r.least, r.noise)); g.Falling && low < g.Low.W {
		g.Low, changed = point{low, s.Last.At}, true
	}
	g.Seen = [2]int64{g.Seen[1], w}
	return r.gainStand(s, s.Last.At, out) || changed
}

// climb follows the weight of a vessel that is filled, to the highest that two
// weights side by side bear out.
func (r *Live) climb(s *LiveState, w int64) (changed bool) {
	g := &s.Gain
	tolerance := max(r.least, r.noise)
	if g.Rough && w < g.Ref && g.High.IsZero() {
		over := point{g.Ref, s.Last.At}
		g.rough(w) // the rest of what is emptied
		g.Over = over
	}
	if g.High.IsZero() {
		if w-g.Ref > tolerance {
			g.High, g.Until, changed = s.Last.At, s.Last.At, true
		}
		return changed
	}
	if peak := min(g.Seen[1], max(g.Seen[0], w)+tolerance); peak > g.Peak {
		g.Peak = peak
	}
	if w > r.floor(g) {
		g.Until = s.Last.At
	}
	return true
}

// floor is the weight under which a vessel that was filled is empty again, for all
// that the scale shows: a splash falls less than that.
func (r *Live) floor(g *gainState) int64 {
	return g.Ref + max(r.noise, (g.Peak-g.Ref)/4)
}

// spilled reports whether the vessel was emptied from a weight that never stood,
// down to what it held before.
func (r *Live) spilled(g *gainState, w int64) bool {
	return (g.Active || g.Waits || g.Gap) && magnitude(g.Top-g.Ref) <= r.noise && r.heaped(g) && w <= r.floor(g)
}

// heaped reports whether there was a weight above the newest that stood which is
// no splash: as much as a dose, for as long as a weight takes to stand.
func (r *Live) heaped(g *gainState) bool {
	return !g.High.IsZero() && g.Until.At-g.High.At >= r.steady && g.Peak-g.Top > max(r.least, r.noise)
}

// spills tells what went in before the vessel was emptied in full view.
func (r *Live) spills(s *LiveState, out Sink) {
	g := &s.Gain
	top, estimated := g.Top, false
	if r.heaped(g) {
		top, estimated = g.Peak, true
	}
	r.emptied(s, top, estimated, out)
}

// emptied tells what went in before the vessel was emptied, which is no dose. Up
// to a weight that never stood it is estimated.
func (r *Live) emptied(s *LiveState, top int64, estimated bool, out Sink) {
	g := &s.Gain
	at := s.Last.At
	if g.Waits && g.Active {
		r.after(s, g.At, at, true, out)
	}
	switch {
	case g.Waits:
		r.after(s, top, at, estimated, out)
	case g.Active:
		r.gained(s, top, &portion{at: at, begun: g.Begun, ended: at, estimated: estimated, unheard: g.Gap, words: &g.Words}, out)
	case top-g.Ref >= r.least:
		r.nobodys(s, top, estimated, at, at, out)
	case magnitude(top-g.Ref) > r.noise:
		r.creep(s, top, at, out)
	}
	g.Falling, g.Low, g.Gap = true, s.Last, g.Away
}

// refills reports whether the component that was on while the vessel was emptied
// went in again before it stood empty: the weight rose for longer than it takes
// to stand, which the recoil of a valve does not.
func (r *Live) refills(s *LiveState, w int64) bool {
	g := &s.Gain
	return g.Falling && (g.Active || g.Waits && g.Ended.At >= g.Low.At.At) &&
		w-g.Low.W > max(r.least, r.noise) && s.Win.Since.At-g.Low.At.At >= r.steady
}

// gainStand closes what a weight that stands says.
func (r *Live) gainStand(s *LiveState, at rule.Stamp, out Sink) (changed bool) {
	g := &s.Gain
	w, ok := r.steadyAt(s, at.At)
	if !ok || s.unsure(at) {
		return false
	}
	if g.Away {
		if g.Have && !g.Falling && at.At-s.Win.Since.At < int64(standTime) {
			// What another device says of the component may still be on its way.
			// Emptied before, the dose is up to here.
			changed = g.Top != w
			g.Top = w
			return changed
		}
		changed = r.back(s, at, false, out)
	}
	if g.Have && !g.Falling && r.spilled(g, w) {
		r.spills(s, out)
	}
	if r.refills(s, w) {
		g.Begun, g.Before = g.Low.At, g.Low.At
		g.rough(g.Low.W)
		g.Falling, changed = false, true
	}
	if !g.Have || g.Falling {
		g.book(w)
		g.Have, g.Falling, g.Waits, g.PriorGap, g.Seen = true, false, false, false, [2]int64{w, w}
		g.Gap = g.Gap && g.Active
		if g.Active {
			g.Begun = s.Win.Since
		}
		return true
	}
	switch {
	case g.Waits && at.At-g.Ended.At < r.settle && !g.Active:
	case g.Waits && g.Active && r.parted(s, w):
		// The next component flows already: they are parted where it was switched.
		r.after(s, g.At, at, true, out)
		g.Parted, changed = true, true
	case g.Waits:
		changed = true
		// As much as a dose behind the switch may be one of the next component.
		r.after(s, w, at, g.Active && w-g.At >= r.least, out)
	case !g.Active && w-g.Ref >= r.least:
		// Something came in and nobody says what.
		changed = true
		r.nobodys(s, w, false, s.Win.Since, at, out)
	case !g.Active && g.Ref-w > r.noise:
		changed = true
		r.creep(s, w, at, out)
	case g.Active && (g.Rough || g.Parted && at.At-g.Begun.At >= r.settle) && magnitude(w-g.Ref) <= r.noise:
		// It stands before anything comes.
		changed = true
		g.book(w)
	}
	g.Top, g.Peak = w, w
	if g.Gap && !g.Active && !g.Waits {
		// All that came in the gap is told: it says nothing of the next dose.
		changed, g.Gap = true, false
	}
	return changed
}

// parted reports whether the weight w stands too late to say how much of the
// component before the one that is on was still in the air, or rose by more than a
// dose and than that one brought between its last two looks. After a time in which
// nobody looked, all that was seen to come is of the one that was on.
func (r *Live) parted(s *LiveState, w int64) bool {
	g := &s.Gain
	rise := w - g.At
	return s.Win.Since.At-g.Ended.At >= r.settle || rise >= r.least && rise > max(g.Step, r.noise) || g.PriorGap && magnitude(rise) > r.noise
}

// nobodys tells of what came in while no component was said to.
func (r *Live) nobodys(s *LiveState, w int64, estimated bool, begun, at rule.Stamp, out Sink) {
	p := portion{at: at, begun: begun, ended: at, estimated: estimated, unheard: s.Gain.Gap, words: &words{Known: 1 << slotComponent}}
	r.gained(s, w, &p, out)
}

// gainAt returns when a silent subscription is as good as a weight that stands.
func (r *Live) gainAt(s *LiveState) int64 {
	g := &s.Gain
	still, known := g.Have && !g.Falling && !g.Waits, g.Ref
	if g.Active {
		known = g.Top
	}
	if s.Win.N == 0 || still && magnitude(s.Last.W-known) <= r.noise {
		return 0
	}
	at := r.silentAt(s)
	if g.Waits {
		at = max(at, g.Ended.At+r.settle)
	}
	if g.Away {
		at = max(at, s.Win.Since.At+int64(standTime))
	}
	if _, ok := r.steadyAt(s, at); !ok || still && !g.Active && w0(s, r) {
		return 0
	}
	return at
}

// w0 reports whether a weight that stands would change nothing: it is neither a
// rise that is a dose nor a fall.
func w0(s *LiveState, r *Live) bool {
	rise := s.Last.W - s.Gain.Ref
	return rise < r.least && rise >= -r.noise
}
