package dosing

// stoodBefore closes what the weight says where it is first seen standing in the very
// readings in which dosing goes on: a PLC opens the gate when the terminal says so.
func (r *Live) stoodBefore(s *LiveState, readings []Reading, weight *weighing, out Sink) (changed bool) {
	b := &s.Batch
	on, known := r.gateState(s)
	if !b.Have || b.Gated || b.Gap || on || !known || s.Zero.Left > 0 || !r.opens(s, readings) {
		return false
	}
	at := readings[0].At
	w, ok := r.steadyAt(s, at.At)
	if !ok || magnitude(b.Ref-w) <= r.noise || !r.usable(s, out) {
		return false
	}
	if r.byBit && weight.whole() && magnitude(weight.w-w) > r.noise {
		w = weight.w // the bit is that of this weight
	}
	return r.close(s, w, at, false, false, out)
}

// opens reports whether readings say that dosing goes on, and the scale has the same
// zero as before.
func (r *Live) opens(s *LiveState, readings []Reading) (opens bool) {
	for i := range readings {
		v := &readings[i]
		in := &r.inputs[v.Input]
		if !in.switches() || !v.Good {
			continue
		}
		on, ok := v.Value.Bool()
		if in.role == roleRebase && ok && on != (s.On&(1<<v.Input) != 0) {
			return false
		}
		opens = opens || in.role == roleGate && ok && on
	}
	return opens
}
