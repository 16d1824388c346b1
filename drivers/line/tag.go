package line

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// The fields that every line has.
const (
	// fieldLine is the whole line.
	fieldLine = "line"
	// fieldSequence counts the lines since the gateway began, also those that
	// could not be read or had no place.
	fieldSequence = "sequence"
	// fieldTaken is written by the rules: the number of the newest line that they
	// have kept.
	fieldTaken = "taken"
	// fieldRefused counts what was no line as the config describes it, fieldDropped
	// the lines that had no place.
	fieldRefused = "refused"
	fieldDropped = "dropped"
	// fieldCallers is how many devices are connected now.
	fieldCallers = "callers"
)

// ownFields are the driver's own numbers: they are good while no line comes.
var ownFields = map[string]plant.TagType{
	fieldSequence: plant.TypeUint32, fieldTaken: plant.TypeUint32, fieldRefused: plant.TypeUint32,
	fieldDropped: plant.TypeUint32, fieldCallers: plant.TypeUint32,
}

// Tag is one field of a line as a config describes it: its name alone, or a
// mapping, or a row of a CSV file.
type Tag struct {
	Field string `yaml:"field,required"`
	// Type is string if not given.
	Type Type `yaml:"type"`
	// Is makes a bool of a text: it is true for one of these.
	Is []string `yaml:"is"`
	// Scale is what a number is multiplied by, exactly.
	Scale *config.Number `yaml:"scale"`
	// Unit is the unit of the value, for people; a weight of MT-SICS must have it.
	Unit string `yaml:"unit"`
}

// UnmarshalText reads a tag that is written as the name of its field alone.
func (t *Tag) UnmarshalText(b []byte) error {
	t.Field = string(b)
	return nil
}

// Validate reports everything that is wrong with the tag by itself.
func (t *Tag) Validate() error {
	var f faults
	kind := plant.TagType(t.Type)
	if len(t.Is) > 0 && t.Type != 0 && kind != plant.TypeBool {
		f.add("type", "`is` makes a bool of the text, not a "+kind.String(), "write bool or remove it")
	}
	if t.Scale != nil {
		switch {
		case t.Scale.IsZero():
			f.add("scale", "times 0 every value is the same", "write the factor from the number to the value, for example 0.01")
		case !kind.Numeric():
			f.add("scale", "only a number can be scaled", "write type: float64, or remove it")
		}
	}
	return errors.Join(f...)
}

// Type is the type of a tag; 0 if the config names none.
type Type plant.TagType

// UnmarshalText reads "string", "bool", "int16", …, "float64", or "number",
// which is the same.
func (t *Type) UnmarshalText(b []byte) error {
	name := strings.ToLower(strings.TrimSpace(string(b)))
	if name == "number" {
		name = plant.TypeFloat64.String()
	}
	kind, ok := plant.ParseTagType(name)
	if !ok {
		return config.Field("", fmt.Sprintf("`%s` is no type", b), "write string, bool, number, or a whole number such as uint32")
	}
	*t = Type(kind)
	return nil
}

// fields are the names that tags may use.
func (o *Options) fields() []string {
	names := []string{fieldLine, fieldSequence, fieldTaken, fieldRefused, fieldDropped}
	if o.Listen != "" {
		names = append(names, fieldCallers)
	}
	if o.Format == sics {
		names = append(names, sicsFields...)
	}
	if p := o.Pattern.re; p != nil {
		for _, group := range p.SubexpNames() {
			if group != "" {
				names = append(names, group)
			}
		}
	}
	return names
}

// point is one tag made ready.
type point struct {
	tag   plant.TagID
	field string
	kind  plant.TagType
	is    []string
	scale *plant.Decimal
	unit  string
	// own is set for a number of the driver, group for a named group of the
	// pattern, else 0.
	own   bool
	group int
}

func newPoints(o *Options) []point {
	points := make([]point, len(o.Tags.Rows))
	for i, row := range o.Tags.Rows {
		t := row.Value
		at := &points[i]
		*at = point{tag: plant.TagID(row.Name), field: t.Field, kind: plant.TagType(t.Type), is: t.Is, unit: t.Unit}
		kind, own := ownFields[t.Field]
		switch at.own = own; {
		case own:
			at.kind = kind
		case len(t.Is) > 0:
			at.kind = plant.TypeBool
		case at.kind == plant.TypeUnknown:
			at.kind = plant.TypeString
			if o.Format == sics {
				at.kind = sicsType(t.Field)
			}
		}
		if t.Scale != nil {
			at.scale = &t.Scale.Decimal
		}
		if p := o.Pattern.re; p != nil && !own && t.Field != fieldLine {
			at.group = p.SubexpIndex(t.Field)
		}
	}
	return points
}

// tagOf describes the tag to the rules and the page.
func (p *point) tagOf(o *Options) plant.Tag {
	t := plant.Tag{ID: p.tag, Type: p.kind, Scaled: p.scale != nil || p.kind == plant.TypeFloat64, Unit: p.unit, Address: p.field, Line: true}
	if o.Poll != "" {
		t.Every = o.Interval.Std()
	}
	return t
}

// read makes the value of a text; why is empty if it could.
func (p *point) read(text, decimal string) (v plant.Value, why string) {
	switch {
	case len(p.is) > 0:
		return plant.BoolValue(slices.Contains(p.is, strings.TrimSpace(text))), ""
	case p.kind == plant.TypeString:
		return plant.TextValue(strings.Trim(text, " \x00")), ""
	case p.kind == plant.TypeBool:
		switch strings.TrimSpace(text) {
		case "1":
			return plant.BoolValue(true), ""
		case "0":
			return plant.BoolValue(false), ""
		}
		return v, fmt.Sprintf("%s is neither 1 nor 0: name the texts that mean yes in is:", shown(text))
	}
	d, why := number(text, decimal)
	if why != "" {
		return v, why
	}
	if p.scale != nil {
		scaled, err := d.Mul(*p.scale)
		if err != nil {
			return v, fmt.Sprintf("the number %s is too large to be scaled", d)
		}
		return plant.ExactValue(scaled), ""
	}
	if p.kind.Bits() == 0 {
		return plant.ExactValue(d), ""
	}
	return whole(d, p.kind)
}

// number reads a decimal number with its sign, which may stand apart: scales
// write "-   12.50".
func number(text, decimal string) (d plant.Decimal, why string) {
	digits := strings.TrimSpace(text)
	if digits == "" {
		return d, "there is nothing where a number should be"
	}
	if sign := digits[0]; sign == '-' || sign == '+' {
		digits = string(sign) + strings.TrimLeft(digits[1:], " ")
	}
	if decimal == "," {
		if strings.Contains(digits, ".") {
			return d, fmt.Sprintf("%s has a point, but the config says decimal: \",\"", shown(text))
		}
		digits = strings.Replace(digits, ",", ".", 1)
	} else if strings.Contains(digits, ",") {
		return d, fmt.Sprintf("%s has a comma: if it is the decimal sign, write decimal: \",\"", shown(text))
	}
	d, err := plant.ParseDecimal(digits)
	if err != nil {
		return d, shown(text) + " is no number"
	}
	return d, ""
}

// whole makes a whole number of so many bits of d.
func whole(d plant.Decimal, kind plant.TagType) (v plant.Value, why string) {
	i, ok := d.Int()
	bits := kind.Bits()
	switch {
	case !ok:
		return v, fmt.Sprintf("%s is no whole number: write type: number", d)
	case kind.Signed():
		if shift := 64 - bits; i<<shift>>shift != i {
			return v, fmt.Sprintf("%s does not fit %s", d, kind)
		}
		return plant.IntValue(i), ""
	case i < 0 || bits < 64 && i>>bits != 0:
		return v, fmt.Sprintf("%s does not fit %s", d, kind)
	default:
		return plant.UintValue(uint64(i)), ""
	}
}
