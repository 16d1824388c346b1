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
	// when the weight was At.
	Waits  bool       `json:"wait,omitempty"`
	At     int64      `json:"at,omitempty"`
	Before rule.Stamp `json:"b0,omitzero"`
	Ended  rule.Stamp `json:"b1,omitzero"`
	Prior  words      `json:"pw,omitzero"`
	// Falling is set while the vessel is emptied.
	Falling bool `json:"fall,omitempty"`
	Gap     bool `json:"gap,omitempty"`
}

func (g *gainState) shift(step time.Duration) {
	for _, at := range []*rule.Stamp{&g.Begun, &g.Before, &g.Ended} {
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

// switched compares the component with the one that went in so far.
func (r *Live) switched(s *LiveState, at rule.Stamp, out Sink) (changed bool) {
	g := &s.Gain
	now := r.component(s)
	was, _ := r.text(&g.Words, slotComponent)
	if g.Active == (now != "") && (!g.Active || now == was) {
		return false
	}
	if g.Waits {
		w, estimated := g.At, true
		if stood, ok := r.steadyAt(s, at.At); ok && g.Gap {
			w, estimated = stood, false // it would have been told but for the gap
		}
		r.after(s, w, at, estimated, out)
	}
	if g.Active {
		g.Waits, g.Prior, g.Before, g.Ended, g.At = true, g.Words, g.Begun, at, s.Last.W
		if w, ok := r.steadyAt(s, at.At); ok && g.Have {
			// It had settled before the component was switched.
			g.At = w
			if now != "" {
				r.after(s, w, at, false, out)
				g.Gap = false
			}
		}
	}
	g.Active, g.Begun, g.Words = now != "", at, s.Words
	return true
}

// after tells of the component that ended: what the vessel gained up to w.
func (r *Live) after(s *LiveState, w int64, at rule.Stamp, estimated bool, out Sink) {
	g := &s.Gain
	g.Waits = false
	if !g.Have {
		return
	}
	r.gained(s, w, &portion{at: at, begun: g.Before, ended: g.Ended, estimated: estimated, early: true, words: &g.Prior}, out)
}

// gained tells of a rise to w, and takes w for the reference.
func (r *Live) gained(s *LiveState, w int64, p *portion, out Sink) {
	g := &s.Gain
	rise := w - g.Ref
	if magnitude(rise) <= r.noise {
		return
	}
	p.ticks, p.before, p.after, p.weighed, p.unheard = rise, g.Ref, w, !p.estimated, g.Gap
	p.drift = rise < r.least
	g.Ref, g.Top, g.Gap = w, w, false
	if rise > 0 {
		p.words.fill(&s.Words)
		r.tell(p, out)
	}
}

// gainSample takes the newest weight of a vessel.
func (r *Live) gainSample(s *LiveState, out Sink) (changed bool) {
	g := &s.Gain
	if g.Have && !g.Falling && g.Top-s.Last.W > max(r.least, r.noise) {
		changed = true
		r.emptied(s, out)
	}
	return r.gainStand(s, s.Last.At, out) || changed
}

// emptied tells what went in before the vessel was emptied, which is no dose.
func (r *Live) emptied(s *LiveState, out Sink) {
	g := &s.Gain
	switch {
	case g.Waits:
		r.after(s, g.Top, s.Last.At, false, out)
	case g.Active:
		r.gained(s, g.Top, &portion{at: s.Last.At, begun: g.Begun, ended: s.Last.At, words: &g.Words}, out)
	case g.Top-g.Ref >= r.least:
		r.nobodys(s, g.Top, s.Last.At, s.Last.At, out)
	}
	g.Falling = true
}

// gainStand closes what a weight that stands says.
func (r *Live) gainStand(s *LiveState, at rule.Stamp, out Sink) (changed bool) {
	g := &s.Gain
	w, ok := r.steadyAt(s, at.At)
	if !ok {
		return false
	}
	if g.Gap && g.Have && !g.Falling && at.At-s.Win.Since.At < int64(standTime) {
		// What another device says of the component may still be on its way. Emptied
		// before, the dose is up to here.
		changed = g.Top != w
		g.Top = w
		return changed
	}
	if !g.Have || g.Falling {
		changed = true
		g.Have, g.Falling, g.Gap, g.Ref, g.Top = true, false, false, w, w
		if g.Active {
			g.Begun = s.Win.Since
		}
		g.Waits = false
		return changed
	}
	switch {
	case g.Waits && at.At-g.Ended.At < r.settle && !g.Active:
	case g.Waits && g.Active && s.Win.Since.At-g.Ended.At >= r.settle:
		// The next component flows already: they are parted where it was switched.
		r.after(s, g.At, at, true, out)
		changed = true
	case g.Waits:
		changed = true
		r.after(s, w, at, false, out)
	case !g.Active && w-g.Ref >= r.least:
		// Something came in and nobody says what.
		changed = true
		r.nobodys(s, w, s.Win.Since, at, out)
	case !g.Active && g.Ref-w > r.noise:
		changed = true
		g.Ref = w
	}
	g.Top = w
	if g.Gap && !g.Active && !g.Waits {
		// All that came in the gap is told: it says nothing of the next dose.
		changed, g.Gap = true, false
	}
	return changed
}

// nobodys tells of what came in while no component was said to.
func (r *Live) nobodys(s *LiveState, w int64, begun, at rule.Stamp, out Sink) {
	r.gained(s, w, &portion{at: at, begun: begun, ended: at, words: &words{Known: 1 << slotComponent}}, out)
}

// gainAt returns when a silent subscription is as good as a weight that stands.
func (r *Live) gainAt(s *LiveState) int64 {
	g := &s.Gain
	if s.Win.N == 0 || g.Have && !g.Falling && !g.Waits && (g.Active || magnitude(s.Last.W-g.Ref) <= r.noise) {
		return 0
	}
	at := s.Last.At.At + max(r.steady, int64(standTime))
	if g.Waits {
		at = max(at, g.Ended.At+r.settle)
	}
	if g.Gap {
		at = max(at, s.Win.Since.At+int64(standTime))
	}
	if _, ok := r.steadyAt(s, at); !ok || g.Have && !g.Falling && !g.Waits && w0(s, r) {
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

// gainRebase begins anew with another zero.
func (r *Live) gainRebase(s *LiveState, at rule.Stamp, out Sink) {
	g := &s.Gain
	switch {
	case !g.Have:
	case g.Waits:
		r.after(s, s.Last.W, at, true, out)
	case g.Active:
		r.gained(s, s.Last.W, &portion{at: at, begun: g.Begun, ended: at, estimated: true, words: &g.Words}, out)
	}
	g.Have, g.Waits, g.Gap, s.Win = false, false, false, window{}
	g.Begun = at
}
