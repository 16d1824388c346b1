package dosing

// calmReadings is how many readings side by side are a rest.
const calmReadings = 3

// rests notes where the weight of a dose that has ended rests, and what it is when
// nothing should flow any more.
func (r *Live) rests(s *LiveState) {
	b := &s.Batch
	if !b.Gated || !b.Over.At.IsZero() {
		return
	}
	if s.Win.N >= calmReadings && s.Win.Max-s.Win.Min <= r.noise && s.Win.Since.At >= b.Switched.At {
		b.Calm = s.Last
	}
	if s.Last.At.At-b.Switched.At >= r.settle {
		b.Over = s.Last
	}
}

// rested is the weight up to which what fell to w is of the dose that has ended: what
// goes on falling after settle was taken out. Nobody knows where the one ended and
// the other began, but where it rested between; else all counts as dosed. Sure is
// false where that is in doubt.
func (r *Live) rested(b *batchState, w int64) (dosed int64, sure bool) {
	switch {
	case b.Over.At.IsZero() || b.Over.W-w < r.least:
		return w, true
	case b.Calm.At.IsZero() || b.Calm.W-w < r.least || b.Ref-b.Calm.W <= r.noise:
		return w, false
	default:
		return b.Calm.W, false
	}
}
