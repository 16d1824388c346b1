package plant

// Parts is a Value taken apart, for those who write values down: what of Bits,
// Scale and Text counts depends on Type. Bits are those of the whole number, of
// the float, of the unscaled decimal, or 0 and 1.
type Parts struct {
	Type  ValueType
	Scale uint8
	Bits  uint64
	Text  string
}

// Parts takes v apart.
func (v Value) Parts() Parts { return Parts{v.kind, v.scale, v.bits, v.text} }

// Value puts p together again; ok is false for what no Value is.
func (p Parts) Value() (v Value, ok bool) {
	switch {
	case p.Type > Text,
		p.Type != Text && p.Text != "",
		p.Type != Exact && p.Scale != 0 || p.Scale > MaxScale,
		(p.Type == None || p.Type == Text) && p.Bits != 0,
		p.Type == Bool && p.Bits > 1:
		return Value{}, false
	}
	return Value{kind: p.Type, scale: p.Scale, bits: p.Bits, text: p.Text}, true
}
