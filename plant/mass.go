package plant

import (
	"fmt"
	"strings"
)

// MassUnit is a unit of weight.
type MassUnit string

// The units of weight. A pound is the international avoirdupois pound of 1959,
// 0.45359237 kg exactly, and an ounce its sixteenth part; a t is 1000 kg.
const (
	Milligram MassUnit = "mg"
	Gram      MassUnit = "g"
	Kilogram  MassUnit = "kg"
	Tonne     MassUnit = "t"
	Ounce     MassUnit = "oz"
	Pound     MassUnit = "lb"
)

// ParseMassUnit reads a unit as terminals and people write it ("kg", "KG ",
// "lbs"); ok is false for anything else. It allocates nothing for a unit in
// lower case.
func ParseMassUnit(text string) (u MassUnit, ok bool) {
	switch u := MassUnit(strings.ToLower(strings.Trim(text, " \t\r\n\x00"))); u {
	case Milligram, Gram, Kilogram, Tonne, Ounce, Pound:
		return u, true
	case "lbs":
		return Pound, true
	default:
		return "", false
	}
}

// factor is how many of the family's smallest units u is, and which family: the
// metric one counts milligrams, the avoirdupois one ounces.
func (u MassUnit) factor() (n int64, metric bool) {
	switch u {
	case Gram:
		return 1e3, true
	case Kilogram:
		return 1e6, true
	case Tonne:
		return 1e9, true
	case Pound:
		return 16, false
	case Ounce:
		return 1, false
	default:
		return 1, true
	}
}

// milligrams is how many milligrams an ounce or a pound is. A pound is not taken
// for 16 ounces: that would need four digits more.
func (u MassUnit) milligrams() Decimal {
	if u == Pound {
		return Decimal{Unscaled: 45359237, Scale: 2}
	}
	return Decimal{Unscaled: 28349523125, Scale: 6}
}

// Exact reports whether every weight in u is a finite decimal in to: from ounces
// and pounds to the metric units it is, the other way it is not.
func (u MassUnit) Exact(to MassUnit) bool {
	_, from := u.factor()
	_, metric := to.factor()
	return metric || !from
}

// Convert returns d, which is in u, in the unit to: exactly, or ErrRange where
// the result is no finite decimal or does not fit.
func (u MassUnit) Convert(d Decimal, to MassUnit) (Decimal, error) {
	if u == to {
		return d, nil
	}
	if !u.Exact(to) {
		return Decimal{}, fmt.Errorf("plant: convert %s %s to %s: %w", d, u, to, ErrRange)
	}
	from, metric := u.factor()
	into, target := to.factor()
	if metric != target {
		in, err := d.Normal().Mul(u.milligrams())
		if err != nil {
			return Decimal{}, err
		}
		d, from = in.Normal(), 1
	}
	if from >= into {
		return d.Mul(Decimal{Unscaled: from / into})
	}
	return d.Normal().part(into / from)
}

// part returns d ÷ n, for an n that is a product of 2 and 5.
func (d Decimal) part(n int64) (Decimal, error) {
	for n > 1 {
		by, step := int64(5), int64(2) // a fifth is two tenths
		switch {
		case n%10 == 0:
			by, step = 10, 1
		case n%2 == 0:
			by, step = 2, 5
		}
		n /= by
		if d.Scale >= MaxScale {
			return Decimal{}, ErrRange
		}
		unscaled, ok := mul(d.Unscaled, step)
		if !ok {
			return Decimal{}, ErrRange
		}
		d = Decimal{Unscaled: unscaled, Scale: d.Scale + 1}.Normal()
	}
	return d, nil
}

// Mass is a weight with its unit, as a config writes it: "200 g", "0.5kg".
type Mass struct {
	Amount Decimal
	Unit   MassUnit
}

// UnmarshalText reads a number and a unit.
func (m *Mass) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	cut := strings.LastIndexAny(text, "0123456789. ") + 1
	d, err := ParseDecimal(strings.TrimSpace(text[:cut]))
	unit, ok := ParseMassUnit(text[cut:])
	if err != nil || !ok || d.Unscaled < 0 {
		return fmt.Errorf("`%s` is no weight — write a number and a unit (mg, g, kg, t, oz, lb), for example 200 g", text)
	}
	*m = Mass{Amount: d, Unit: unit}
	return nil
}

// IsZero reports whether m was not set.
func (m Mass) IsZero() bool { return m == Mass{} }

// String returns m as a config writes it.
func (m Mass) String() string { return m.Amount.String() + " " + string(m.Unit) }

// In returns m in another unit: exactly, or ErrRange.
func (m Mass) In(unit MassUnit) (Decimal, error) { return m.Unit.Convert(m.Amount, unit) }
