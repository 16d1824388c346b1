package startstop

import (
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
)

// A machine that is known by its pieces stands when none has come for so long.
// The stop lasts from the last piece to the next: when in between the machine
// began to move nobody knows, and a subscription is silent until then.

// made takes a total and reports whether it shows a new piece. A total that fell
// goes on from where it is; one that is back where it was, after a PLC showed
// something else for a while, is no piece.
func (g *signal) made(raw int64) bool {
	before, fell := g.Raw, g.Fell
	g.Raw = raw
	switch {
	case raw < before:
		g.Fell = max(before, fell)
		return false
	case raw == before:
		return false
	case fell != 0 && raw >= fell:
		g.Fell = 0
		return raw > fell
	default:
		return true
	}
}

// pieces takes a reading of the total.
func (r *Rule) pieces(s *State, v *Reading, snapshot bool, o *observation) {
	g := &s.Signal
	raw, whole := v.Value.Int()
	if !v.Good || !whole {
		o.Missed = true
		return
	}
	o.Read = v.At
	if g.Piece.IsZero() {
		g.Raw, g.Piece, s.Seen, s.Lost = raw, v.At, v.At, false
		return
	}
	made := g.made(raw)
	switch {
	case made:
		o.At, o.Running, o.Known = v.At, true, true
		g.Piece, g.PieceGap = v.At, r.gap(s, v.At, snapshot)
		o.Gap = g.PieceGap
	case s.Known:
		o.At, o.Running, o.Known = v.At, !s.standing(), true
	default:
		s.Seen, s.Lost = v.At, false
	}
}

// idles returns that the machine stands, once no piece has come for long enough.
func (r *Rule) idles(s *State, now int64) (o observation, ok bool) {
	at := r.idleAt(s)
	if at == 0 || now < at {
		return o, false
	}
	g := &s.Signal
	return observation{At: g.Piece, Read: s.Seen, Known: true, Gap: g.PieceGap}, true
}

// idleAt returns when a machine without another piece stands, 0 for not at all:
// it stands already, or nobody looks.
func (r *Rule) idleAt(s *State) int64 {
	if r.source.idle == 0 || s.Lost || s.Signal.Piece.IsZero() || s.Known && s.standing() {
		return 0
	}
	return s.Signal.Piece.At + int64(r.source.idle)
}

// gap is how long nobody had looked when a reading came.
func (r *Rule) gap(s *State, at rule.Stamp, snapshot bool) time.Duration {
	if !s.Lost && !snapshot || s.Seen.IsZero() {
		return 0
	}
	return max(time.Duration(at.At-s.Seen.At), 0)
}

// Own reports whether the state comes from the pieces of the machine's own
// counter: the caller then hands over its total as the reading of RoleState.
func (r *Rule) Own() bool { return r.source.own }

// Counted returns the total that was handed over last.
func (r *Rule) Counted(s *State) (total int64, ok bool) {
	return s.Signal.Raw, r.source.own && !s.Signal.Piece.IsZero() && !s.Lost
}

// Starts reports whether a piece in the next reading begins a run: the piece
// belongs to that. It is false for a machine that runs, and where pieces say
// nothing of that.
func (r *Rule) Starts(s *State) bool {
	return r.source.own && !s.Seen.IsZero() && !s.Lost && (!s.Known || s.standing())
}
