package dosing

import "github.com/sluice-edge/sluice/derive/rule"

// What a vessel gained while nobody looked is known only as the difference of two
// weights. Up to the first moment at which both the weight and the component are
// read again, nothing is said of it; then back decides to which dose it belongs.
// Each dose that may hold or lack some of it says so.

// away notes that from now on nobody looks at the weight or at the component.
func (r *Live) away(s *LiveState) {
	g := &s.Gain
	if !g.Away {
		g.Away, g.Left = true, s.Last.W
	}
	g.Gap, g.PriorGap = true, g.Waits
}

// heard reports whether all inputs that of holds for were read well since nobody
// looked.
func (r *Live) heard(s *LiveState, of func(in *input) bool) bool {
	for i := range r.inputs {
		if s.Known&(1<<i) == 0 && of(&r.inputs[i]) {
			return false
		}
	}
	return true
}

func (in *input) weighs() bool { return in.role <= roleTotal }

func (in *input) names() bool {
	return in.role == roleGate || in.role == roleText && in.slot == slotComponent
}

// fallen tells what went in before the vessel was emptied while nobody looked.
func (r *Live) fallen(s *LiveState, out Sink) (changed bool) {
	g := &s.Gain
	if r.spilt(s, out) {
		return true
	}
	if !g.Have || g.Falling {
		return false
	}
	// Nobody saw it fall, so it fell from the last weight: of a component that went
	// in, all that is not there any more left.
	top, least := g.Seen[1], max(r.least, r.noise)
	if g.Active || g.Waits {
		least = r.noise
	} else {
		top = min(top, max(g.Seen[0], g.Top)+least) // it may be a splash
	}
	if r.heaped(g) {
		top = max(top, g.Peak)
	}
	if top = max(top, g.Top); top-s.Last.W <= least {
		return false
	}
	stood := top-g.Top <= r.noise
	if stood {
		top = g.Top
	}
	r.emptied(s, top, !stood, out)
	return true
}

// spilt tells what went in before the vessel was emptied, where the last weight
// before nobody looked was the first that showed it.
func (r *Live) spilt(s *LiveState, out Sink) (changed bool) {
	g := &s.Gain
	if !g.Have || g.Falling || !r.spilled(g, g.Seen[1]) {
		return false
	}
	r.spills(s, out)
	g.Low.W = min(g.Low.W, g.Seen[1])
	return true
}

// back ends a time in which nobody looked: what the vessel gained in it is of the
// component that was on when it began, else of the one that is on now. Where it
// was emptied meanwhile, it begins anew at what it holds now. all is false where
// the component still cannot be read and is taken to be what it was.
func (r *Live) back(s *LiveState, at rule.Stamp, all bool, out Sink) (changed bool) {
	g := &s.Gain
	if !g.Away || s.Zero.Left > 0 || !r.heard(s, (*input).weighs) || all && !r.heard(s, (*input).names) {
		return false
	}
	g.Away = false
	w := s.Last.W
	was, _ := r.text(&g.Words, slotComponent)
	now := r.component(s)
	if !all {
		now = ""
		if g.Active {
			now = was
		}
	}
	if (g.Falling || !g.Have) && !r.anew(s, now != "") {
		g.Active, g.Waits, g.PriorGap, g.Begun, g.Words = false, false, false, at, s.Words
		return true
	}
	stays := g.Active && now == was
	if g.Waits && g.Active {
		r.before(s, at, out)
	}
	switch {
	case g.Active && !stays:
		r.ends(s, w, at)
	case g.Waits && now != "" && w-g.Left >= r.least:
		// It had ended, and what came since is too much to have been in the air.
		r.after(s, g.Left, at, true, out)
	case g.Waits:
		g.At = w
	case g.Active || now == "":
	case !r.earlier(s, at, out) && g.Ref-w > r.noise:
		r.creep(s, w, at, out)
	}
	if !stays {
		g.Active, g.Begun, g.Words = now != "", at, s.Words
	}
	return true
}

// before tells of the component that ended before the one that is on: what the
// weight rose to since is of the latter.
func (r *Live) before(s *LiveState, at rule.Stamp, out Sink) {
	g := &s.Gain
	top, peak, high, until := g.Top, g.Peak, g.High, g.Until
	r.after(s, g.At, at, true, out)
	g.Parted = true
	g.Top = max(g.Top, top)
	if peak-g.Ref > max(r.least, r.noise) {
		g.Peak, g.High, g.Until = max(g.Peak, peak), high, until
	}
}

// earlier tells what had come when nobody looked any more, and nothing was on.
func (r *Live) earlier(s *LiveState, at rule.Stamp, out Sink) bool {
	g := &s.Gain
	if !g.Have || g.Falling || g.Left-g.Ref < r.least {
		return false
	}
	r.nobodys(s, g.Left, true, at, at, out)
	return true
}

// anew begins at what a vessel holds that was being emptied, or was never seen,
// when nobody looked; on says that a component goes in now. It reports false where
// the vessel is to be seen standing first.
func (r *Live) anew(s *LiveState, on bool) bool {
	g, w := &s.Gain, s.Last.W
	low := w
	if g.Falling {
		low = min(w, g.Low.W)
	}
	if !on && (!g.Have || w-low <= max(r.least, r.noise)) {
		return false
	}
	over := point{g.Ref, s.Last.At}
	if g.rough(low); g.Have {
		g.Over = over // it may be another zero that looked as if it were emptied
	} else {
		g.Have, g.Seen = true, [2]int64{w, w}
	}
	g.Falling, g.Waits, g.Left = false, false, low
	g.Active = g.Active && on
	return true
}
