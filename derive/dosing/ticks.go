package dosing

import (
	"math"
	"math/bits"
	"strconv"

	"github.com/sluice-edge/sluice/plant"
)

// Weights are kept as whole numbers of a small part of the scale's unit, a tick:
// finer than any division, and exact, so that sums lose nothing.

// digits is how many digits behind the point a tick of the unit is.
func digits(u plant.MassUnit) uint8 {
	switch u {
	case plant.Tonne:
		return 9
	case plant.Milligram:
		return 3
	default:
		return 6
	}
}

// toTicks returns a weight in ticks of so many digits, rounded to the tick. A
// 32-bit float is read as the shortest decimal that is the same float: 12.6, not
// 12.6000003814697. ok is false for text, for no number and for what is beyond
// any scale. It allocates nothing.
func toTicks(v plant.Value, t plant.TagType, places uint8) (n int64, ok bool) {
	if v.Type() == plant.Float {
		f, _ := v.Float()
		size := 64
		if t == plant.TypeFloat32 {
			size = 32
		}
		return floatTicks(f, size, places)
	}
	d, ok := v.Decimal()
	if !ok || v.Type() == plant.Bool {
		return 0, false
	}
	return decimalTicks(d, places)
}

// decimalTicks rounds half away from 0.
func decimalTicks(d plant.Decimal, places uint8) (n int64, ok bool) {
	if d.Scale <= places {
		wide, err := d.Rescale(places)
		return wide.Unscaled, err == nil
	}
	unit := int64(1)
	for range d.Scale - places {
		unit *= 10
	}
	return wholes(d.Unscaled, unit), true
}

func floatTicks(f float64, size int, places uint8) (n int64, ok bool) {
	if !(math.Abs(f) < 1e9) { // nor is a NaN
		return 0, false
	}
	var buffer [64]byte
	text := strconv.AppendFloat(buffer[:0], f, 'f', -1, size)
	negative := text[0] == '-'
	left, pointed, up := int(places), false, false
	for _, c := range text {
		switch {
		case c == '-':
		case c == '.':
			pointed = true
		case pointed && left == 0:
			up = c >= '5'
			left = -1
		case left < 0:
		default:
			n = n*10 + int64(c-'0')
			if pointed {
				left--
			}
		}
	}
	for ; left > 0; left-- {
		n *= 10
	}
	if up {
		n++
	}
	if negative {
		n = -n
	}
	return n, true
}

// share returns n × part ÷ whole for amounts and times that are not below 0,
// rounded down; 0 where whole is 0 or the result fits no tick.
func share(n, part, whole int64) int64 {
	if n <= 0 || part <= 0 || whole <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(n), uint64(part))
	if hi >= uint64(whole) {
		return 0
	}
	q, _ := bits.Div64(hi, lo, uint64(whole))
	if q > math.MaxInt64 {
		return 0
	}
	return int64(q)
}

// wholes returns n ÷ unit, rounded half away from 0.
func wholes(n, unit int64) int64 {
	whole, rest := n/unit, n%unit
	switch {
	case rest >= unit-unit/2:
		whole++
	case -rest >= unit-unit/2:
		whole--
	}
	return whole
}

// worth is share for an amount that is worked out: to a digit that the scale shows.
func (r *Live) worth(n, part, whole int64) int64 {
	return wholes(share(n, part, whole), r.grain) * r.grain
}

func magnitude(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

func sign(n int64) int64 {
	switch {
	case n > 0:
		return 1
	case n < 0:
		return -1
	}
	return 0
}
