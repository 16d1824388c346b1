package plant

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// MaxScale is the largest number of digits after the point of a Decimal.
const MaxScale = 18

// ErrRange says that an exact result does not fit a Decimal.
var ErrRange = errors.New("the number does not fit an exact decimal")

// Decimal is an exact decimal number: Unscaled × 10^-Scale. Weights and scaled
// registers are Decimals, since binary fractions cannot hold 0.1.
type Decimal struct {
	Unscaled int64
	Scale    uint8
}

var pow10 = [MaxScale + 1]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// ParseDecimal reads a plain decimal number such as "-12.50". It keeps the
// digits after the point as written.
func ParseDecimal(s string) (Decimal, error) {
	digits := s
	if len(digits) > 0 && (digits[0] == '-' || digits[0] == '+') {
		digits = digits[1:]
	}
	whole, fraction, pointed := strings.Cut(digits, ".")
	if (whole == "" && fraction == "") || (pointed && fraction == "") || strings.Trim(whole+fraction, "0123456789") != "" {
		return Decimal{}, fmt.Errorf("plant: parse decimal %q: not a decimal number", s)
	}
	if len(fraction) > MaxScale {
		return Decimal{}, fmt.Errorf("plant: parse decimal %q: %w", s, ErrRange)
	}
	text := whole + fraction
	if s[0] == '-' {
		text = "-" + text
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return Decimal{}, fmt.Errorf("plant: parse decimal %q: %w", s, ErrRange)
	}
	return Decimal{Unscaled: n, Scale: uint8(len(fraction))}, nil
}

// DecimalOf returns the shortest decimal that reads back as the same float of so
// many bits, 32 or 64. What it has behind the place MaxScale is rounded: the
// difference of two doubles has more digits there than anything measures. The
// error is that of ParseDecimal for what is too large and for what is no number.
func DecimalOf(f float64, bits int) (Decimal, error) {
	text := strconv.FormatFloat(f, 'f', -1, bits)
	if _, fraction, _ := strings.Cut(text, "."); len(fraction) > MaxScale {
		text = strconv.FormatFloat(f, 'f', MaxScale, 64)
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return ParseDecimal(text)
}

// WholeDecimal returns n without digits after the point.
func WholeDecimal(n int64) Decimal { return Decimal{Unscaled: n} }

// Append appends d with exactly Scale digits after the point.
func (d Decimal) Append(dst []byte) []byte {
	if d.Scale == 0 {
		return strconv.AppendInt(dst, d.Unscaled, 10)
	}
	magnitude := uint64(d.Unscaled)
	if d.Unscaled < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude
	}
	unit := uint64(pow10[d.Scale])
	dst = strconv.AppendUint(dst, magnitude/unit, 10)
	dst = append(dst, '.')
	fraction := strconv.AppendUint(nil, magnitude%unit, 10)
	for range int(d.Scale) - len(fraction) {
		dst = append(dst, '0')
	}
	return append(dst, fraction...)
}

// String returns d with exactly Scale digits after the point.
func (d Decimal) String() string { return string(d.Append(nil)) }

// MarshalJSON writes d as a JSON number with its digits.
func (d Decimal) MarshalJSON() ([]byte, error) { return d.Append(nil), nil }

// UnmarshalJSON reads a plain JSON number without losing a digit.
func (d *Decimal) UnmarshalJSON(b []byte) error {
	v, err := ParseDecimal(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// UnmarshalText reads a plain decimal number.
func (d *Decimal) UnmarshalText(b []byte) error { return d.UnmarshalJSON(b) }

// Float returns the nearest floating-point number.
func (d Decimal) Float() float64 { return float64(d.Unscaled) / float64(pow10[d.Scale]) }

// Int returns d as a whole number; ok is false if it has a fraction.
func (d Decimal) Int() (i int64, ok bool) {
	return d.Unscaled / pow10[d.Scale], d.Unscaled%pow10[d.Scale] == 0
}

// IsZero reports whether d is 0.
func (d Decimal) IsZero() bool { return d.Unscaled == 0 }

// Neg returns -d.
func (d Decimal) Neg() Decimal { return Decimal{Unscaled: -d.Unscaled, Scale: d.Scale} }

// Rescale returns d with scale digits after the point. It fails with ErrRange
// rather than round.
func (d Decimal) Rescale(scale uint8) (Decimal, error) {
	switch {
	case scale > MaxScale:
		return Decimal{}, ErrRange
	case scale >= d.Scale:
		n, ok := mul(d.Unscaled, pow10[scale-d.Scale])
		if !ok {
			return Decimal{}, ErrRange
		}
		return Decimal{Unscaled: n, Scale: scale}, nil
	default:
		unit := pow10[d.Scale-scale]
		if d.Unscaled%unit != 0 {
			return Decimal{}, ErrRange
		}
		return Decimal{Unscaled: d.Unscaled / unit, Scale: scale}, nil
	}
}

// Normal returns d without trailing zeros after the point.
func (d Decimal) Normal() Decimal {
	for d.Scale > 0 && d.Unscaled%10 == 0 {
		d.Unscaled /= 10
		d.Scale--
	}
	return d
}

// Add returns d + e exactly, or ErrRange.
func (d Decimal) Add(e Decimal) (Decimal, error) {
	scale := max(d.Scale, e.Scale)
	a, err := d.Rescale(scale)
	if err != nil {
		return Decimal{}, err
	}
	b, err := e.Rescale(scale)
	if err != nil {
		return Decimal{}, err
	}
	sum := a.Unscaled + b.Unscaled
	if (sum > a.Unscaled) != (b.Unscaled > 0) && b.Unscaled != 0 {
		return Decimal{}, ErrRange
	}
	return Decimal{Unscaled: sum, Scale: scale}, nil
}

// Sub returns d - e exactly, or ErrRange.
func (d Decimal) Sub(e Decimal) (Decimal, error) {
	if e.Unscaled == math.MinInt64 {
		return Decimal{}, ErrRange
	}
	return d.Add(e.Neg())
}

// Mul returns d × e exactly, or ErrRange.
func (d Decimal) Mul(e Decimal) (Decimal, error) {
	n, ok := mul(d.Unscaled, e.Unscaled)
	if !ok || d.Scale+e.Scale > MaxScale {
		a, b := d.Normal(), e.Normal()
		n, ok = mul(a.Unscaled, b.Unscaled)
		if !ok || a.Scale+b.Scale > MaxScale {
			return Decimal{}, ErrRange
		}
		return Decimal{Unscaled: n, Scale: a.Scale + b.Scale}, nil
	}
	return Decimal{Unscaled: n, Scale: d.Scale + e.Scale}, nil
}

// Quo returns the whole number n with d = n × e. It reports false where there is
// none, e is 0, or the digits do not fit.
func (d Decimal) Quo(e Decimal) (n int64, ok bool) {
	digits := max(d.Scale, e.Scale)
	over, err1 := d.Rescale(digits)
	under, err2 := e.Rescale(digits)
	if err1 != nil || err2 != nil || under.Unscaled == 0 || over.Unscaled%under.Unscaled != 0 {
		return 0, false
	}
	if over.Unscaled == math.MinInt64 && under.Unscaled == -1 {
		return 0, false
	}
	return over.Unscaled / under.Unscaled, true
}

// Cmp returns -1, 0 or +1 as d is less than, equal to or greater than e.
func (d Decimal) Cmp(e Decimal) int {
	dhi, dlo, dneg := widen(d.Unscaled, pow10[max(d.Scale, e.Scale)-d.Scale])
	ehi, elo, eneg := widen(e.Unscaled, pow10[max(d.Scale, e.Scale)-e.Scale])
	if dneg != eneg {
		if dneg {
			return -1
		}
		return 1
	}
	order := 0
	switch {
	case dhi != ehi:
		order = 1
		if dhi < ehi {
			order = -1
		}
	case dlo != elo:
		order = 1
		if dlo < elo {
			order = -1
		}
	}
	if dneg {
		order = -order
	}
	return order
}

func widen(n, factor int64) (hi, lo uint64, negative bool) {
	magnitude := uint64(n)
	if n < 0 {
		magnitude, negative = -magnitude, true
	}
	hi, lo = bits.Mul64(magnitude, uint64(factor))
	return hi, lo, negative
}

func mul(a, b int64) (product int64, ok bool) {
	hi, lo, negative := widen(a, 1)
	if hi != 0 {
		return 0, false
	}
	magnitude := uint64(b)
	if b < 0 {
		magnitude, negative = -magnitude, !negative
	}
	hi, lo = bits.Mul64(lo, magnitude)
	if hi != 0 {
		return 0, false
	}
	if negative {
		if lo > 1<<63 {
			return 0, false
		}
		return -int64(lo), true
	}
	if lo > math.MaxInt64 {
		return 0, false
	}
	return int64(lo), true
}
