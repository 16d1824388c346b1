package dosing

import "github.com/sluice-edge/sluice/derive/rule"

// A subscription says of net and tare only what has changed, and of a new tare perhaps
// one before the other: it must never look like a dose.

// pairing is what is known of a weight that is read as net and tare.
type pairing struct {
	Net  int64 `json:"n,omitempty"`
	Tare int64 `json:"t,omitempty"`
	// Have has a bit for the role of each that was read well since nobody looked.
	Have uint8 `json:"h,omitempty"`
	// Waits has the bit of the one that came alone and may be of another tare than
	// the other: the next of the other says it, or silence that there is none.
	Waits uint8 `json:"w,omitempty"`
}

const bothParts = 1<<roleNet | 1<<roleTare

// pair completes a weight of which a scan says only net or only tare with what was
// last said of the other.
func (r *Live) pair(s *LiveState, w *weighing, net, tare int64) {
	p := &s.Pair
	if w.bad {
		p.Have, p.Waits = 0, 0
		return
	}
	alone := w.have
	if alone == 1<<roleTare && p.Have == bothParts && tare == p.Tare && p.Waits == 0 {
		w.asked = false // polled in a request of its own
		return
	}
	if alone&(1<<roleNet) != 0 {
		p.Net = net
	}
	if alone&(1<<roleTare) != 0 {
		p.Tare = tare
	}
	p.Have |= alone
	w.w = p.Net + p.Tare
	if p.Have != bothParts {
		return
	}
	step := magnitude(w.w - s.Last.W)
	sudden := step > r.fastest() || step > r.least && 2*magnitude(p.Net) < magnitude(s.Last.W-p.Tare)
	if alone == bothParts || p.Waits&^alone != 0 || alone == 1<<roleNet && p.Waits == 0 && !sudden {
		w.have, p.Waits = bothParts, 0
		return
	}
	p.Waits = alone
}

// waiting holds back a weight of which one part waits for the other.
func (s *LiveState) waiting(w int64, at rule.Stamp) {
	s.Held, s.Holds, s.Said = w, true, at
}
