package counter

import (
	"fmt"
	"math"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// verdict is what one reading means.
type verdict struct {
	pieces int64
	flags  Flags
	gap    time.Duration
	// since is when the number was read before.
	since   rule.Stamp
	changed bool
	// at is when what it counts was read, if not with the reading; rest says that
	// the reading counts more than that, and is to be judged once more.
	at   rule.Stamp
	rest bool
}

// judge tells pieces from noise. A drop, and a rise beyond what the machine can
// make, are believed only when the next readings agree.
func (r *Rule) judge(s *State, in *input, t *track, v *Reading, out Sink) verdict {
	if in.pulse {
		return signal(t, v)
	}
	if in.size != 0 && (v.Raw < in.low || v.Raw-in.low >= in.size) {
		return r.outside(in, t, v, out)
	}
	if t.Seen.IsZero() {
		t.Seen, t.Raw, t.Born, t.Reads = v.At, v.Raw, v.At, 1
		r.grown(in, t)
		d := verdict{since: v.At, changed: true}
		if r.zero && !s.Resumed && v.Raw > 0 {
			d.pieces = v.Raw
		}
		if in.full(v.Raw) {
			r.saturate(in, t, true, out)
			d.flags |= LowerBound | Saturated
		}
		return d
	}
	if t.Lost && t.Gap == 0 && v.At.At >= t.Seen.At {
		t.Gap = max(time.Duration(v.At.At-t.Seen.At), time.Millisecond)
	}
	rise := v.Raw >= t.Raw
	step := v.Raw - t.Raw
	if rise && step < 0 {
		step = math.MaxInt64
	}
	if rise && r.restarts(s, in, t, v) {
		r.hold(t, v, true)
		return verdict{changed: true}
	}
	elapsed := v.At.Since(t.Seen)
	if end := t.End; end.Good {
		t.End = Reading{}
		if end.Raw < v.Raw {
			d := r.accept(s, in, t, &end, end.Raw-t.Raw, 0, out)
			d.at, d.rest = end.At, true
			return d
		}
	}
	switch {
	case step == 0:
		held := t.Hold.N > 0 || t.Lost
		if !t.Born.IsZero() && in.shown(t.Raw) != 0 {
			t.Reads++
			r.grown(in, t)
		}
		d := r.accept(s, in, t, v, 0, 0, out)
		d.changed = d.changed || held
		return d
	case t.Recalled && rise && elapsed >= 0 && r.plausible(step, elapsed):
		r.clearAlarm(in, t, out)
		flags := Flags(0)
		if t.Doubtful || !r.limited {
			flags = Ambiguous
		}
		return r.accept(s, in, t, v, step, flags, out)
	case elapsed < 0 && rise:
		return r.accept(s, in, t, v, step, Suspect, out)
	case in.stuck(t, v):
	case rise && r.plausible(step, elapsed):
		r.clearAlarm(in, t, out)
		if t.resumes(v) && r.returned(t, v) {
			return r.takeBack(s, in, t, v, out)
		}
		return r.accept(s, in, t, v, step, 0, out)
	}
	if n, flags, ok := r.goesRound(s, in, t, v.Raw, elapsed); ok && in.role != good && in.role != total && r.hasTotal() {
		// The total that holds the same pieces is counted now: it does not wait.
		return r.accept(s, in, t, v, n, flags, out)
	}
	if !r.hold(t, v, !rise) {
		return verdict{changed: true}
	}
	if rise {
		return r.jumped(s, in, t, v, step, elapsed, out)
	}
	if first := t.Hold.after(v.Input); r.parts(in, t, &first, v) {
		d := r.dropped(s, in, t, &first, first.At.Since(t.Seen), out)
		d.at, d.rest = first.At, true
		return d
	}
	return r.dropped(s, in, t, v, elapsed, out)
}

// standTime is how long a reading that is not believed may stand alone until it
// is: a subscription says nothing more of a number that does not change.
const standTime = 30 * time.Second

// stand believes what was held and has stood for standTime.
func (r *Rule) stand(s *State, now int64, out Sink) {
	r.release(s, func(in *input, t *track, v *Reading) (verdict, bool) {
		if t.Lost || now-t.Hold.At.At < int64(standTime) {
			return verdict{}, false
		}
		v.At.At = now
		step, elapsed := v.Raw-t.Raw, v.At.Since(t.Seen)
		switch {
		case t.Hold.Drop:
			return r.dropped(s, in, t, v, elapsed, out), true
		case in.stuck(t, v):
			return r.ended(in, t, v, out), true
		case r.plausible(step, elapsed):
			return r.accept(s, in, t, v, step, 0, out), true
		default:
			return r.jumped(s, in, t, v, step, elapsed, out), true
		}
	})
}

// Believe counts the drops that are held and fit the range of their counter, or the
// next batch: at a boundary, since what was read before it would else be told behind
// it. Noise that fits them so well is rarer by far than a boundary beside a rollover;
// any other drop goes on waiting.
func (r *Rule) Believe(s *State, out Sink) (changed bool) {
	r.release(s, func(in *input, t *track, v *Reading) (verdict, bool) {
		n, flags, ok := r.goesRound(s, in, t, v.Raw, v.At.Since(t.Seen))
		if !ok || !t.Hold.Drop || !t.Hold.AfterAt.IsZero() || r.hand > 0 && in.role == good {
			return verdict{}, false
		}
		lost := t.Lost // held since before a gap that still lasts
		t.Lost, changed = false, true
		d := r.accept(s, in, t, v, n, flags, out)
		t.Lost = lost
		return d, true
	})
	return changed
}

// release books the readings that are held of which judge says so.
func (r *Rule) release(s *State, judge func(in *input, t *track, v *Reading) (d verdict, ok bool)) {
	var sum delta
	for i := range s.Tracks {
		// A scrap counter that is kept back waits for what becomes of good, which
		// comes first.
		in, t := &r.inputs[i], &s.Tracks[i]
		if t.Hold.N == 0 || !in.counts() {
			continue
		}
		v := Reading{Input: i, At: t.Hold.At, Raw: t.Hold.Raw, Good: true}
		if d, ok := judge(in, t, &v); ok {
			r.add(s, &sum, &v, &d)
		}
	}
	r.sumUp(s, &sum)
}

// sumUp books what verdicts add up to that are no scan's.
func (r *Rule) sumUp(s *State, sum *delta) {
	r.latch(s, sum)
	if sum.any {
		r.settle(s, sum)
	}
}

// grown ends the time in which the first number may turn out to be none: it was
// read as often as any other that is believed. A PLC that boots shows 0 for long.
func (r *Rule) grown(in *input, t *track) {
	if t.Reads >= r.confirm && in.shown(t.Raw) != 0 {
		t.Born, t.Reads = rule.Stamp{}, 0
	}
}

// plausible reports whether the machine can have made n pieces. One piece more
// than the rate gives is allowed, since readings fall anywhere in a cycle.
func (r *Rule) plausible(n, elapsed int64) bool {
	return !r.limited || n <= r.most(elapsed)
}

func (r *Rule) most(elapsed int64) int64 {
	n := math.Ceil(r.rate*time.Duration(max(elapsed, 0)).Seconds()) + 1
	if n >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n)
}

// hold keeps a reading until enough agree; true means that they do. Readings
// agree if they go on from each other as a counter does.
func (r *Rule) hold(t *track, v *Reading, drop bool) bool {
	h := &t.Hold
	switch agrees := h.N > 0 && h.Drop == drop && r.goesOn(h, v); {
	case !agrees:
		*h = hold{N: 1, Drop: drop, First: v.Raw, FirstAt: v.At}
		if t.Lost {
			h.After, h.AfterAt = v.Raw, v.At
		}
	case h.Cut && h.AfterAt.IsZero():
		h.Before, h.BeforeAt, h.After, h.AfterAt = h.Raw, h.At, v.Raw, v.At
		fallthrough
	default:
		h.N++
	}
	h.Raw, h.At, h.Cut = v.Raw, v.At, false
	return h.N >= r.confirm
}

// goesOn reports whether a reading goes on from the one that is held.
func (r *Rule) goesOn(h *hold, v *Reading) bool {
	return v.Raw >= h.Raw && r.plausible(v.Raw-h.Raw, v.At.Since(h.At))
}

// dropped decides what a confirmed drop was: a correction by hand, a rollover, a
// reset, or none of them.
func (r *Rule) dropped(s *State, in *input, t *track, v *Reading, elapsed int64, out Sink) verdict {
	if in.down {
		return r.reloaded(s, in, t, v, elapsed, out)
	}
	if d, ok := r.corrected(s, in, t, v, elapsed, out); ok {
		return d
	}
	if n, flags, ok := r.goesRound(s, in, t, v.Raw, elapsed); ok {
		return r.accept(s, in, t, v, n, flags, out)
	}
	if r.limited && v.Raw >= 0 && v.Raw <= r.most(elapsed) && elapsed >= 0 {
		flags := Reset
		if t.Lost {
			flags |= LowerBound
		}
		before := prior{Raw: t.Raw, At: t.Seen, First: v.Raw, Since: v.At}
		d := r.accept(s, in, t, v, v.Raw, flags, out)
		t.Prior = before
		return d
	}
	return r.implausible(s, in, t, v, out)
}

// through is how many pieces lie between the last believed number and a lower one
// that is held, where the counter has gone round in between or begun its next batch;
// ok is false where it does neither.
func (r *Rule) through(s *State, in *input, t *track, raw int64) (n int64, flags Flags, ok bool) {
	if in.down {
		made, lower := r.madeOfBatch(s, t, raw)
		return max(-t.Raw, 0) + made, Rollover | lower, true
	}
	return raw - t.Raw + in.size, Rollover, in.wraps()
}

// goesRound is through for a number that the machine can have come to since the last
// believed one.
func (r *Rule) goesRound(s *State, in *input, t *track, raw, elapsed int64) (n int64, flags Flags, ok bool) {
	if raw >= t.Raw {
		return 0, 0, false
	}
	n, flags, ok = r.through(s, in, t, raw)
	return n, flags, ok && r.plausible(n, elapsed)
}

// implausible begins anew at a number that nothing explains.
func (r *Rule) implausible(s *State, in *input, t *track, v *Reading, out Sink) verdict {
	what := "fell"
	if in.down {
		what = "rose"
	}
	r.raise(in, t, out, fmt.Sprintf("%s from %d to %d, which is neither a rollover nor a reset: nothing was counted", what, in.shown(t.Raw), in.shown(v.Raw)),
		"compare the counts with the machine; where pieces are missing, correct them in the central system")
	return r.accept(s, in, t, v, 0, Reset|Suspect, out)
}

// jumped books a rise that the next readings have confirmed.
func (r *Rule) jumped(s *State, in *input, t *track, v *Reading, step, elapsed int64, out Sink) verdict {
	switch {
	case in.down && v.Raw == 0:
		return r.ended(in, t, v, out)
	case t.Recalled:
		r.raise(in, t, out, fmt.Sprintf("went from %d to %d since the newest count that is left, which is more than max_rate allows: nothing was counted", in.shown(t.Raw), in.shown(v.Raw)),
			"compare the counts with the machine, and whether the config names another counter than it did; where pieces are missing, correct them in the central system")
		return r.accept(s, in, t, v, 0, Suspect, out)
	case !t.Prior.At.IsZero() && r.returned(t, v):
		return r.takeBack(s, in, t, v, out)
	case !t.Born.IsZero() && v.At.At-t.Born.At <= int64(bootTime) && !r.zero:
		why := "the first number was not read often enough to be believed"
		if in.shown(t.Raw) == 0 {
			why = "a PLC shows 0 while it boots"
		}
		r.raise(in, t, out, fmt.Sprintf("showed %d at first and %d after it: %s, so counting begins with the second", in.shown(t.Raw), in.shown(t.Hold.First), why),
			"compare the counts with the machine, and max_rate with what it can make")
		return r.accept(s, in, t, v, v.Raw-t.Hold.First, Suspect, out)
	}
	what := "it was counted"
	if !r.keep {
		what = "it was not counted"
	}
	way := "rose"
	if in.down {
		way = "fell"
	}
	r.raise(in, t, out, fmt.Sprintf("%s by %d within %s, more than max_rate allows: %s", way, step, time.Duration(elapsed).Round(time.Millisecond), what),
		"compare the counts with the machine, and max_rate with what it can make")
	if !r.keep {
		step = 0
	}
	return r.accept(s, in, t, v, step, Suspect, out)
}

// bootTime is how long a PLC may show 0 while it boots for its old number to be
// known again where a rise to it is plausible for pieces, too.
const bootTime = time.Minute

// priorTime is how long a number from before a reset is remembered at all.
const priorTime = time.Hour

// resumes reports whether nothing was counted between a reset, a moment ago,
// and v.
func (t *track) resumes(v *Reading) bool {
	p := &t.Prior
	return !p.At.IsZero() && !t.Lost && t.Raw == p.First && v.At.At-p.Since.At <= int64(bootTime)
}

// returned reports whether v goes on from the number before the last reset as
// if there had been none.
func (r *Rule) returned(t *track, v *Reading) bool {
	return v.Raw >= t.Prior.Raw && r.plausible(v.Raw-t.Prior.Raw, v.At.Since(t.Prior.At))
}

// takeBack undoes a reset that was none: a PLC that showed 0 while it booted has
// its number again. What was counted since is part of it.
func (r *Rule) takeBack(s *State, in *input, t *track, v *Reading, out Sink) verdict {
	d := r.accept(s, in, t, v, max(v.Raw-t.Prior.Raw-t.Raw, 0), 0, out)
	d.changed = true
	return d
}

// outside refuses a number that the counter cannot show.
func (r *Rule) outside(in *input, t *track, v *Reading, out Sink) verdict {
	changed := !t.Alarm
	r.raise(in, t, out, fmt.Sprintf("shows %d, outside of its range %d to %d", v.Raw, in.low, in.low+in.size-1),
		"correct modulus (of scrap and rework: scrap_modulus): it is the number of values that the counter has")
	return verdict{changed: changed}
}

// accept believes a reading.
func (r *Rule) accept(s *State, in *input, t *track, v *Reading, pieces int64, flags Flags, out Sink) verdict {
	if full := in.full(v.Raw); full != t.Full {
		r.saturate(in, t, full, out)
		flags |= LowerBound | Saturated
	}
	d := verdict{pieces: pieces, flags: flags, since: t.Seen, changed: pieces != 0 || flags != 0}
	if t.Lost {
		if round := r.round(s, in); round != 0 && r.rate*t.Gap.Seconds() >= float64(round) {
			d.flags |= Ambiguous
		}
		if pieces != 0 || d.flags != 0 {
			d.gap = t.Gap
		}
		if pieces != 0 {
			d.flags |= Unseen
		}
		d.changed = true
	}
	if v.Raw >= t.Prior.Raw || v.At.At-t.Prior.Since.At > int64(priorTime) {
		t.Prior = prior{}
	}
	if v.Raw != t.Raw {
		t.Born, t.Reads = rule.Stamp{}, 0
	}
	t.Seen, t.Raw, t.Lost, t.Gap, t.Hold = v.At, v.Raw, false, 0, hold{}
	t.Recalled, t.Doubtful = false, false
	return d
}
