package dosing

import "github.com/sluice-edge/sluice/derive/rule"

// restart begins a stretch at a weight that stands.
func (y *way) restart(w int64, at rule.Stamp) {
	p := point{w, at}
	*y = way{From: p, Slope: p, Chunk: p, Ext: p, Last: at}
}

// follow takes the newest weight on its way between two that stand: it measures
// how fast the hopper empties, and sees it rise while it is emptied.
func (r *Live) follow(s *LiveState, on bool) (changed bool) {
	b := &s.Batch
	y := &b.Way
	p := s.Last
	lapse := int64(0)
	if !y.Last.IsZero() {
		lapse = max(p.At.At-y.Last.At, 0)
	}
	y.Last = p.At
	if on {
		y.On += lapse
	}
	moved := magnitude(p.W-b.Ref) > r.noise
	if y.Up {
		if p.W > y.Ext.W {
			y.Ext, y.OnExt = p, y.On
		} else if y.Ext.W-p.W > r.noise {
			b.rise(r, y.Ext.W)
			y.turn(p)
		}
		return moved
	}
	if y.From.W-p.W <= r.noise {
		y.Slope, y.Chunk = p, p
	} else {
		y.Idle = false
	}
	if y.Chunk.W-p.W > r.noise && on {
		y.Chunk = p
		if fall, time := y.Slope.W-p.W, p.At.At-y.Slope.At.At; fall > 2*r.noise && time > 0 {
			b.Fall, b.Time = fall, time
		}
	}
	switch {
	case p.W < y.Ext.W:
		y.Ext, y.On = p, 0
	case p.W-y.Ext.W > r.noise:
		low := y.Ext
		y.Up, y.From, y.Ext, y.OnExt = true, low, p, y.On
	}
	return moved
}

// turn begins a stretch that falls from the highest weight of the last one.
func (y *way) turn(p point) {
	top := y.Ext
	*y = way{From: top, Slope: top, Chunk: top, Ext: p, Last: p.At}
}

// rise ends a stretch that rose to w: a refill, if it is no bump.
func (b *batchState) rise(r *Live, w int64) {
	y := &b.Way
	if !y.Up {
		return
	}
	y.Up = false
	rise := w - y.From.W
	if rise < r.least {
		return
	}
	if !y.Idle {
		rise += r.worth(b.Fall, y.OnExt, b.Time)
	}
	b.Refilled += rise
}
