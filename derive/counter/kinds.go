package counter

import (
	"fmt"
	"math"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// signal counts the rises of a signal. What it did while nobody looked is not
// known: there were at least no pieces.
func signal(t *track, v *Reading) verdict {
	level := int64(0)
	if v.Raw != 0 {
		level = 1
	}
	d := verdict{since: t.Seen, changed: t.Seen.IsZero() || t.Lost || level != t.Raw}
	switch {
	case t.Seen.IsZero():
	case t.Lost:
		d.flags, d.gap = LowerBound, max(time.Duration(v.At.At-t.Seen.At), time.Millisecond)
	case level > t.Raw:
		d.pieces = 1
	}
	t.Seen, t.Raw, t.Lost = v.At, level, false
	return d
}

// wraps reports whether the counter begins again behind its highest number.
func (in *input) wraps() bool { return in.size != 0 && !in.saturates }

// full reports whether the counter can count no further.
func (in *input) full(raw int64) bool { return in.saturates && raw == in.low+in.size-1 }

// saturate notes that a counter has come to its end, or that it counts again.
func (r *Rule) saturate(in *input, t *track, full bool, out Sink) {
	t.Full = full
	a := rule.Alarm{Name: "counter_saturated:" + in.name, Raised: full, Text: "the counter " + in.Ref.String() + " counts again"}
	if full {
		a.Text = fmt.Sprintf("the counter %s stands at its highest number, %d: what is made now is not counted", in.Ref, in.low+in.size-1)
		a.Remedy = "reset the counter in the PLC; the pieces made until then are missing, so correct them in the central system"
	}
	out.Alarm(a)
}

// saturated marks what is reported while a counter can count no further.
func (r *Rule) saturated(s *State) Flags {
	for i := range s.Tracks {
		if s.Tracks[i].Full {
			return Saturated | LowerBound
		}
	}
	return 0
}

// reloaded decides what a confirmed rise of a counter was that counts down: the
// next batch, after one that was complete or given up. All raw numbers are below
// 0.
func (r *Rule) reloaded(s *State, in *input, t *track, v *Reading, elapsed int64, out Sink) verdict {
	n, flags, round := r.goesRound(s, in, t, v.Raw, elapsed)
	made, lower := r.madeOfBatch(s, t, v.Raw)
	switch {
	case elapsed < 0:
	case round:
		return r.accept(s, in, t, v, n, flags, out)
	case r.plausible(made, elapsed):
		if t.Lost {
			lower = LowerBound
		}
		return r.accept(s, in, t, v, made, Reset|lower, out)
	}
	return r.implausible(s, in, t, v, out)
}

// madeOfBatch is what was made of the batch that a held number belongs to. Where
// nobody knows how many it has, its first number seen is taken for that.
func (r *Rule) madeOfBatch(s *State, t *track, raw int64) (n int64, lower Flags) {
	full := r.size(s)
	if first := -t.Hold.First; full < first {
		full, lower = first, LowerBound
	}
	return full + raw, lower
}

// size returns how many pieces a batch has, 0 if nobody knows.
func (r *Rule) size(s *State) int64 {
	if r.preset >= 0 {
		return s.Tracks[r.preset].Raw
	}
	return r.batch
}

// round returns after how many counts a counter shows the same number again, 0
// if it does not or nobody knows.
func (r *Rule) round(s *State, in *input) int64 {
	switch {
	case in.down:
		return r.size(s)
	case in.wraps():
		return in.size
	default:
		return 0
	}
}

// saveParts is how many times the time of the last reading is saved while a counter
// goes round once at max_rate, and saveLeast how far apart two of them are.
const (
	saveParts = 8
	saveLeast = int64(time.Second)
)

// saves reports whether the time of a reading is to be saved though nothing was
// counted: after a crash the gap would look long enough for the counter to have gone
// round. Whoever keeps the state saves times that moved once a minute anyway.
func (r *Rule) saves(s *State, in *input, t *track) bool {
	round := r.round(s, in)
	if round == 0 || !r.limited {
		return false
	}
	every := float64(round) / r.rate / saveParts // s
	if every >= time.Minute.Seconds() {
		return false
	}
	if since := t.Seen.At - t.Saved; 0 <= since && since < max(int64(every*float64(time.Second)), saveLeast) {
		return false
	}
	t.Saved = t.Seen.At
	return true
}

// stuck reports whether a counter that counts down still shows the 0 to which it
// cannot have come.
func (in *input) stuck(t *track, v *Reading) bool {
	return in.down && v.Raw == 0 && t.Hold.N > 0 && !t.Hold.Drop
}

// ended does not believe a counter that fell to 0 faster than the machine can
// make pieces, as long as it stays there: a PLC that boots shows that.
func (r *Rule) ended(in *input, t *track, v *Reading, out Sink) verdict {
	r.raise(in, t, out, fmt.Sprintf("fell from %d to 0, more than max_rate allows: that is not believed until it counts on", in.shown(t.Raw)),
		"compare the counts with the machine, and max_rate with what it can make")
	t.Hold.At = v.At
	return verdict{changed: true}
}

// cast returns how many pieces so many counts of the main counter are. It must
// be asked once for each scan with counts, before the scan's own number of
// pieces per cycle is taken: a cycle has the number with which it began.
func (r *Rule) cast(s *State, counts int64) int64 {
	switch {
	case r.cavity < 0 && r.cavities == 0:
		return counts
	case r.cavity < 0:
		return times(counts, r.cavities)
	case s.Tracks[r.cavity].Seen.IsZero():
		s.Uncast += counts
		return 0
	default:
		return times(counts, s.Tracks[r.cavity].Raw)
	}
}

// cycles reports whether a count of the device is a cycle and no piece.
func (r *Rule) cycles() bool { return r.cavity >= 0 || r.cavities != 0 }

// times is the product, or the largest number.
func times(a, b int64) int64 {
	if b != 0 && a > math.MaxInt64/4/b {
		return math.MaxInt64 / 4
	}
	return a * b
}

// set takes the scan's number of pieces per cycle. It reports the flags of what
// was counted in the same scan: of several cycles nobody knows which had the new
// number, nor of one that may have begun unseen behind the change.
func (r *Rule) set(s *State, v *Reading, sum *delta) (changed bool, flags Flags) {
	t := &s.Tracks[v.Input]
	if v.Raw < 0 || v.Raw > maxPerCycle {
		return false, 0
	}
	doubt := sum.counts > 1 || sum.counts == 1 && (sum.unseen || t.Lost)
	if doubt && !t.Seen.IsZero() && t.Raw != v.Raw {
		flags = Ambiguous
	}
	return t.keep(v), flags
}

// keep takes a number that does not count, and reports whether it is another one.
func (t *track) keep(v *Reading) (changed bool) {
	changed = t.Seen.IsZero() || t.Lost || t.Raw != v.Raw
	t.Seen, t.Raw, t.Lost = v.At, v.Raw, false
	return changed
}

// batchSize takes the scan's number of pieces of a batch, ahead of its counts: the
// request that shows the next batch may show its size, too.
func (r *Rule) batchSize(s *State, readings []Reading) (changed bool) {
	for i := range readings {
		if v := &readings[i]; v.Input == r.preset && v.Good && v.Raw >= 0 && v.Raw <= maxReload {
			changed = s.Tracks[r.preset].keep(v) || changed
		}
	}
	return changed
}

// settings takes the scan's number of pieces per cycle, behind its counts. Cycles
// of which nobody knew the number get the first one.
func (r *Rule) settings(s *State, readings []Reading, sum *delta) (changed bool) {
	r.latch(s, sum)
	for i := range readings {
		v := &readings[i]
		if !v.Good || v.Input != r.cavity {
			continue
		}
		if r.waits(s) {
			s.Tracks[v.Input].Hold = hold{N: 1, Raw: v.Raw, At: v.At}
			changed = changed || v.Raw != s.Tracks[v.Input].Raw
			continue
		}
		c, flags := r.set(s, v, sum)
		changed = changed || c
		s.Now.Flags |= flags
		if s.Uncast == 0 || s.Tracks[r.cavity].Seen.IsZero() {
			continue
		}
		d := verdict{flags: Ambiguous, since: v.At}
		late := times(s.Uncast, v.Raw)
		if r.hasTotal() {
			sum.total += late
		} else {
			sum.good += late
		}
		s.Uncast, sum.any = 0, true
		r.span(s, &d, v.At)
	}
	return changed
}

// waits reports whether cycles were read that are not believed yet, or nobody sees
// whether there are any: they keep the number of pieces with which they began.
func (r *Rule) waits(s *State) bool {
	main := &s.Tracks[0]
	return (main.Hold.N > 0 || main.Lost) && !s.Tracks[r.cavity].Seen.IsZero()
}

// latch takes the number of pieces per cycle that waited for what became of the
// cycles before it.
func (r *Rule) latch(s *State, sum *delta) {
	if r.cavity < 0 || r.waits(s) || s.Tracks[r.cavity].Hold.N == 0 {
		return
	}
	t := &s.Tracks[r.cavity]
	v := Reading{Input: r.cavity, At: t.Hold.At, Raw: t.Hold.Raw}
	t.Hold = hold{}
	_, flags := r.set(s, &v, sum)
	s.Now.Flags |= flags
}
