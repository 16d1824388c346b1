package dosing

import "github.com/sluice-edge/sluice/derive/rule"

// A bit says that the scale has another zero, and the weights beside it may be of
// either: they come in other requests. What went on meanwhile is what the weights
// say but for the steps that differ most from the flow before, one for each time that
// a bit changed.

const (
	// zeroReadings is the number of weights after which one is sure to have the new
	// zero: that of the request with the bit may be from before it.
	zeroReadings = 2
	// slowReadings is how many readings more a scale may take to its new zero.
	slowReadings = 8
	// zeroSteps is how many weights are followed at most.
	zeroSteps = 24
)

// zeroing follows the weights from the last that is sure to have the old zero to
// the first that is sure to have the new.
type zeroing struct {
	// Left is how many weights are still to come since At, the time of the newest
	// bit; none where nothing is followed. More is how many were added.
	Left int `json:"n,omitempty"`
	More int `json:"m,omitempty"`
	// Unseen is the step in which nobody looked, counted from 1; none where all were
	// seen.
	Unseen int        `json:"u,omitempty"`
	At     rule.Stamp `json:"t,omitzero"`
	// Idle is set where nothing was dosed: the weight may come and leave.
	Idle bool `json:"i,omitempty"`
	// Bits is how often a bit changed since From, the last weight that is sure to
	// have the old zero. Before is the step to that.
	Bits   int   `json:"k,omitempty"`
	From   int64 `json:"f,omitempty"`
	Before int64 `json:"b,omitempty"`
	// Steps are the Count steps since From, and Last is the newest weight.
	Steps [zeroSteps]int64 `json:"x,omitzero"`
	Count int              `json:"c,omitempty"`
	Last  int64            `json:"l,omitempty"`
	// Since is when From was read, where nobody looked after it: Lapse after the
	// weight before it.
	Since rule.Stamp `json:"s,omitzero"`
	Lapse int64      `json:"p,omitempty"`
}

// damaged reports whether a decoded state cannot be followed.
func (z *zeroing) damaged() bool {
	return z.Left < 0 || z.Unseen < 0 || z.Count < 0 || z.Count >= zeroSteps
}

// step notes a weight.
func (z *zeroing) step(w int64) {
	z.Steps[z.Count] = w - z.Last
	z.Last = w
	z.Count++
}

// large reports whether a step is more than comes or leaves in a reading, by the
// one before the zero changed and by most.
func (z *zeroing) large(step, most int64) bool {
	return magnitude(step) > 2*magnitude(z.Before)+most
}

// goesOn reports whether the step i is of the same zero as the one before it, as
// with a scale that filters.
func (z *zeroing) goesOn(i int, most int64) bool {
	if i < 1 || i >= z.Count {
		return false
	}
	a, b := z.Steps[i-1], z.Steps[i]
	return z.large(a, most) && z.large(b, most) && (a > 0) == (b > 0) && 16*magnitude(b) > magnitude(a)
}

// trails reports whether the step i is the rest of the one before it, which is of a
// zero that the scale filters: less than it, but not by far. What comes or leaves while
// nothing is dosed goes the other way, begins with little, or does not die away.
func (z *zeroing) trails(i int, noise int64) bool {
	if !z.Idle || i >= z.Count {
		return false
	}
	a, b := z.Steps[i-1], z.Steps[i]
	return (a > 0) == (b > 0) && magnitude(b) <= max(magnitude(a)*15/16, noise/2) && 16*magnitude(b) > magnitude(a)
}

// swells reports whether the step i is no rest of a zero, since the next is more, or
// much more than the part that a filter leaves of each.
func (z *zeroing) swells(i int, noise int64) bool {
	if i+1 >= z.Count || magnitude(z.Steps[i+1]) <= noise {
		return false
	}
	before, step, after := float64(z.Steps[i-1]), float64(z.Steps[i]), float64(z.Steps[i+1])
	return after*step > 17*step*step/16 || after*before > 2*step*step
}

// add takes a weight, and reports whether it is the last that was to come.
func (z *zeroing) add(w, most, noise int64) (done bool) {
	if z.Left == 0 {
		return false
	}
	z.step(w)
	z.Left--
	newest := z.Count - 1
	switch {
	case z.More < slowReadings && (z.goesOn(newest, most) || z.Left == 0 && z.large(z.Steps[newest], most) && z.jumps(most) > z.Bits):
		// It is on its way, or the bit of this one is still to come.
		z.Left++
		z.More++
	case z.Left == 0 && z.Idle:
		if gone, _ := z.zeros(most, noise); gone[newest] {
			z.Left++ // the next says whether that was all
		}
	}
	if z.Count == zeroSteps {
		if z.Count--; !z.Idle || z.Left == 0 {
			z.Count, z.Left = zeroSteps, 0
		} else {
			z.Steps[newest-1] = z.Steps[newest] // both are of the zero
		}
	}
	return z.Left == 0
}

// jumps is how often the weight went faster than it may by itself.
func (z *zeroing) jumps(most int64) (n int) {
	for i := range z.Count {
		if i != z.Unseen-1 && z.large(z.Steps[i], most) && !z.goesOn(i, most) {
			n++
		}
	}
	return n
}

// over reports whether the newest weight is sure to have the new zero at a time: it
// was seen to jump as often as a bit says, and nothing has come since for longer
// than a weight is late, as with a subscription.
func (z *zeroing) over(newest, at rule.Stamp, most int64) bool {
	return z.Left > 0 && z.Count >= z.Unseen && (z.Unseen > 0 || z.jumps(most) >= z.Bits) && at.At-max(z.At.At, newest.At) >= 2*sameTime
}

// zeros marks the steps that are of a zero, one for each time that a bit changed, and
// what goes on from them: those that differ most from the flow before; of what nobody
// saw only where no other is large. found is how many zeros that makes.
func (z *zeroing) zeros(most, noise int64) (gone [zeroSteps]bool, found int64) {
	for range min(z.Bits, z.Count) {
		jump := -1
		for i := range z.Count {
			if !gone[i] && i != z.Unseen-1 && (jump < 0 || magnitude(z.Steps[i]-z.Before) > magnitude(z.Steps[jump]-z.Before)) {
				jump = i
			}
		}
		if u := z.Unseen - 1; u >= 0 && u < z.Count && !gone[u] && (jump < 0 || !z.large(z.Steps[jump], most)) {
			jump = u
		}
		if jump < 0 {
			break
		}
		gone[jump] = true
		found++
		for i := jump; i != z.Unseen && z.goesOn(i, most); i-- {
			gone[i-1] = true
		}
		i := jump + 1
		for ; z.goesOn(i, most) || z.trails(i, noise); i++ {
			gone[i] = true
		}
		for k := jump + 1; z.Idle && k < i; k++ {
			if z.swells(k, noise) {
				clear(gone[k:i])
			}
		}
	}
	return gone, found
}

// fresh is the first weight after nobody looked, where the step to it is that of the
// zero.
func (z *zeroing) fresh(most, noise int64) (w int64, ok bool) {
	gone, _ := z.zeros(most, noise)
	if z.Unseen == 0 || z.Unseen > z.Count || !gone[z.Unseen-1] {
		return 0, false
	}
	w = z.Last
	for _, step := range z.Steps[z.Unseen:z.Count] {
		w -= step
	}
	return w, true
}

// went is what came (above 0) or left (below 0) while the zero changed, and was not
// told by the last weight before: what comes where toward is 1, what leaves where it is
// -1, both where it is 0. In the step of a zero it is pace, the lesser of what it was
// before and after. Against is what went the other way instead. In doubt are steps of
// which nobody knows whether they were of a zero: they are left out.
func (z *zeroing) went(toward, most, noise int64) (flow, pace, against int64, doubt bool) {
	gone, zeros := z.zeros(most, noise)
	steps := int64(0)
	for i := range z.Count {
		switch {
		case gone[i]:
			doubt = doubt || i == z.Unseen-1
		case i != z.Unseen-1 && z.large(z.Steps[i], most) && !z.alike(i, toward, &gone):
			doubt = true
		default:
			flow += z.Steps[i]
			steps++
		}
	}
	if toward == 0 {
		toward = sign(flow)
	}
	flow *= toward
	against, flow = max(-flow, 0), max(flow, 0)
	pace = min(max(z.Before*toward, 0), flow/max(steps, 1))
	return (flow + pace*zeros) * toward, pace * toward, against * -toward, doubt
}

// alike reports whether the large step i is that of a flow: another is not much
// less.
func (z *zeroing) alike(i int, toward int64, gone *[zeroSteps]bool) bool {
	if toward == 0 {
		toward = sign(z.Steps[i])
	}
	step := z.Steps[i] * toward
	for j := range z.Count {
		if j != i && !gone[j] && step > 0 && 2*z.Steps[j]*toward >= step {
			return true
		}
	}
	return false
}
