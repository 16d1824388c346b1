package dosing

import "github.com/sluice-edge/sluice/derive/rule"

// window is a run of weights within the band.
type window struct {
	// N is how many. Its mean is that of the newer half at least: the weight was
	// still settling when the window began. Old and New add up, as their distance
	// from First, what it is made of: the weights up to the last power of two, and
	// those since.
	N     int        `json:"n,omitempty"`
	First int64      `json:"f,omitempty"`
	OldN  int        `json:"on,omitempty"`
	Old   int64      `json:"o,omitempty"`
	NewN  int        `json:"nn,omitempty"`
	New   int64      `json:"ns,omitempty"`
	Min   int64      `json:"lo,omitempty"`
	Max   int64      `json:"hi,omitempty"`
	Since rule.Stamp `json:"t,omitzero"`
	// Grain is the power of ten that divides all of them: finer than that the
	// terminal shows nothing.
	Grain int64 `json:"g,omitempty"`
}

// add takes a weight; one outside of the band begins anew.
func (w *window) add(v int64, at rule.Stamp, band int64) {
	if w.N == 0 || max(w.Max, v)-min(w.Min, v) > band {
		*w = window{First: v, Min: v, Max: v, Since: at, Grain: 1e9}
	}
	w.Min, w.Max = min(w.Min, v), max(w.Max, v)
	for w.Grain > 1 && v%w.Grain != 0 {
		w.Grain /= 10
	}
	w.N++
	w.NewN++
	w.New += v - w.First
	if w.N&(w.N-1) == 0 {
		w.OldN, w.Old, w.NewN, w.New = w.NewN, w.New, 0, 0
	}
}

// mean is the weight of the window, to the last digit of the terminal.
func (w *window) mean() int64 {
	n := int64(w.OldN+w.NewN) * max(w.Grain, 1)
	if n == 0 {
		return w.First
	}
	sum, half := w.Old+w.New, n/2
	if sum < 0 {
		half = -half
	}
	return w.First + (sum+half)/n*max(w.Grain, 1)
}

// steadyAt reports whether the weight stands at a time, by the terminal's bit or
// by the band, and at what.
func (r *Live) steadyAt(s *LiveState, now int64) (w int64, ok bool) {
	if s.Win.N == 0 {
		return 0, false
	}
	for i := range r.inputs {
		bit := uint64(1) << i
		switch r.inputs[i].role {
		case roleStable:
			return s.Last.W, s.Known&bit != 0 && s.On&bit != 0
		case roleMoving:
			return s.Last.W, s.Known&bit != 0 && s.On&bit == 0
		}
	}
	long := now - s.Win.Since.At
	return s.Win.mean(), s.Win.N > 1 && long >= r.steady || long >= max(r.steady, int64(standTime))
}

// silentAt returns when the newest weight stands if nothing else comes: with a
// subscription, silence says that it is the same.
func (r *Live) silentAt(s *LiveState) int64 {
	last := r.silence
	if !r.byBit || s.Zero.Left > 0 {
		last = max(r.steady, int64(standTime))
	}
	return max(s.Last.At.At+last, s.Said.At+r.silence)
}
