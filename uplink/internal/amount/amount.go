// Package amount converts what was weighed into the units that central systems
// have their materials in, exactly or not at all.
package amount

import (
	"fmt"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Unit is the unit that a central system has one material in. Per is empty where
// Name is a unit of weight or what the event has itself; else one Per is Factor
// times Name.
type Unit struct {
	Name   string
	Factor plant.Decimal
	Per    string
}

// Validate returns the faults of u as config.FieldErrors, nil if there are none.
// key is what the config calls the name of the unit, whose who has it in it.
func (u Unit) Validate(key, whose string) error {
	_, weight := plant.ParseMassUnit(u.Name)
	switch {
	case u.Name == "":
		return config.Field(key, "it is empty", "write the unit that "+whose+" has this component in, for example kg")
	case u.Factor.IsZero() != (u.Per == ""):
		return config.Field("factor", "factor and per belong together, and one is missing", "write for example "+key+": bag, factor: 0.04, per: kg")
	case u.Factor.Unscaled < 0:
		return config.Field("factor", "it is below 0", "write how many of "+key+" one of per is")
	case !weight && u.Per == "":
		return config.Warn(key, fmt.Sprintf("%q is no unit of weight: only what comes in %q itself can be booked", u.Name, u.Name), "set factor and per, for example factor: 0.04, per: kg")
	}
	return nil
}

// Convert returns d, which is in the unit from, in u: exactly, or an error where
// nobody knows how or the result is no finite decimal (plant.ErrRange).
func (u Unit) Convert(d plant.Decimal, from string) (plant.Decimal, error) {
	if from == u.Name {
		return d, nil
	}
	if u.Per != "" {
		in, err := weigh(d, from, u.Per)
		if err != nil {
			return plant.Decimal{}, err
		}
		return in.Mul(u.Factor)
	}
	return weigh(d, from, u.Name)
}

// weigh converts between units of weight, or leaves a unit as it is.
func weigh(d plant.Decimal, unit, into string) (plant.Decimal, error) {
	if unit == into {
		return d, nil
	}
	from, ok := plant.ParseMassUnit(unit)
	to, alike := plant.ParseMassUnit(into)
	if !ok || !alike {
		return plant.Decimal{}, fmt.Errorf("nobody knows how many %s a %q is; set the unit, factor and per of the component", into, unit)
	}
	return from.Convert(d, to)
}
