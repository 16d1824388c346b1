package plant

import (
	"math"
	"strconv"
	"time"
)

// ValueType says what a Value holds.
type ValueType uint8

// The types of a Value.
const (
	None ValueType = iota
	Bool
	Int
	Uint
	Float
	Exact
	Text
)

// Value is what a tag said, without an interface, so that a reading costs no
// allocation. The zero Value holds nothing.
type Value struct {
	kind  ValueType
	scale uint8
	bits  uint64
	text  string
}

// BoolValue returns a Value that holds b.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: Bool, bits: 1}
	}
	return Value{kind: Bool}
}

// IntValue returns a Value that holds i.
func IntValue(i int64) Value { return Value{kind: Int, bits: uint64(i)} }

// UintValue returns a Value that holds u.
func UintValue(u uint64) Value { return Value{kind: Uint, bits: u} }

// FloatValue returns a Value that holds f. Drivers hand over NaN and infinities
// as readings of bad quality, not as values.
func FloatValue(f float64) Value { return Value{kind: Float, bits: math.Float64bits(f)} }

// ExactValue returns a Value that holds the decimal d, for example a register
// scaled by 0.1.
func ExactValue(d Decimal) Value {
	return Value{kind: Exact, bits: uint64(d.Unscaled), scale: d.Scale}
}

// TextValue returns a Value that holds s.
func TextValue(s string) Value { return Value{kind: Text, text: s} }

// Type says what v holds.
func (v Value) Type() ValueType { return v.kind }

// IsZero reports whether v holds nothing.
func (v Value) IsZero() bool { return v.kind == None }

// Bool returns v as a truth: a bool as it is, a number if it is not 0.
// ok is false for text and for nothing.
func (v Value) Bool() (b, ok bool) {
	switch v.kind {
	case Bool, Int, Uint, Exact:
		return v.bits != 0, true
	case Float:
		return math.Float64frombits(v.bits) != 0, true
	default:
		return false, false
	}
}

// Int returns v as a whole number; ok is false where that would lose something
// (a fraction, a number beyond int64) and for text. A bool is 0 or 1.
func (v Value) Int() (i int64, ok bool) {
	switch v.kind {
	case Bool, Int:
		return int64(v.bits), true
	case Uint:
		return int64(v.bits), v.bits <= math.MaxInt64
	case Float:
		f := math.Float64frombits(v.bits)
		if f != math.Trunc(f) || f < -1<<63 || f >= 1<<63 {
			return 0, false
		}
		return int64(f), true
	case Exact:
		return Decimal{Unscaled: int64(v.bits), Scale: v.scale}.Int()
	default:
		return 0, false
	}
}

// Float returns v as a floating-point number; ok is false for text and for
// nothing.
func (v Value) Float() (f float64, ok bool) {
	switch v.kind {
	case Bool, Int:
		return float64(int64(v.bits)), true
	case Uint:
		return float64(v.bits), true
	case Float:
		return math.Float64frombits(v.bits), true
	case Exact:
		return Decimal{Unscaled: int64(v.bits), Scale: v.scale}.Float(), true
	default:
		return 0, false
	}
}

// Decimal returns v as an exact decimal; a Float gives what DecimalOf makes of
// it. ok is false for text, for nothing, and for what does not fit.
func (v Value) Decimal() (d Decimal, ok bool) {
	switch v.kind {
	case Bool, Int:
		return Decimal{Unscaled: int64(v.bits)}, true
	case Uint:
		return Decimal{Unscaled: int64(v.bits)}, v.bits <= math.MaxInt64
	case Exact:
		return Decimal{Unscaled: int64(v.bits), Scale: v.scale}, true
	case Float:
		d, err := DecimalOf(math.Float64frombits(v.bits), 64)
		return d, err == nil
	default:
		return Decimal{}, false
	}
}

// Text returns v as a person would write it; text as it is.
func (v Value) Text() string {
	if v.kind == Text {
		return v.text
	}
	return string(v.Append(nil))
}

// String implements fmt.Stringer.
func (v Value) String() string { return v.Text() }

// Append appends v as a person would write it: "true", "12", "3.5", the text
// itself.
func (v Value) Append(dst []byte) []byte {
	switch v.kind {
	case Bool:
		return strconv.AppendBool(dst, v.bits != 0)
	case Int:
		return strconv.AppendInt(dst, int64(v.bits), 10)
	case Uint:
		return strconv.AppendUint(dst, v.bits, 10)
	case Float:
		return strconv.AppendFloat(dst, math.Float64frombits(v.bits), 'g', -1, 64)
	case Exact:
		return Decimal{Unscaled: int64(v.bits), Scale: v.scale}.Append(dst)
	case Text:
		return append(dst, v.text...)
	default:
		return dst
	}
}

// Quality says how far a reading may be trusted, in the three levels of
// OPC UA's StatusCode severity (OPC 10000-4, 7.39).
type Quality uint8

// The qualities. Only a Good reading may become a count, a state or a dose.
const (
	Bad Quality = iota
	Uncertain
	Good
)

// String returns "bad", "uncertain" or "good".
func (q Quality) String() string {
	switch q {
	case Good:
		return "good"
	case Uncertain:
		return "uncertain"
	default:
		return "bad"
	}
}

// Reading is what one tag said.
type Reading struct {
	Tag     TagID
	Value   Value
	Quality Quality
	// Cause says in plain words why Quality is not Good; empty otherwise.
	Cause string
	// Source is the device's own time of the value, zero if it has none
	// (Modbus never has).
	Source time.Time
}

// TagType is the type of a tag at the device, before scaling. Rules use its
// width, for example to know where a counter rolls over.
type TagType uint8

// The tag types.
const (
	TypeUnknown TagType = iota
	TypeBool
	TypeInt8
	TypeUint8
	TypeInt16
	TypeUint16
	TypeInt32
	TypeUint32
	TypeInt64
	TypeUint64
	TypeFloat32
	TypeFloat64
	TypeString
)

var tagTypeNames = [...]string{"unknown", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "string"}

// String returns the type's name in a config, for example "uint16".
func (t TagType) String() string {
	if int(t) < len(tagTypeNames) {
		return tagTypeNames[t]
	}
	return "unknown"
}

// ParseTagType reads what String writes; ok is false for anything else.
func ParseTagType(s string) (t TagType, ok bool) {
	for i, name := range tagTypeNames {
		if i > 0 && name == s {
			return TagType(i), true
		}
	}
	return TypeUnknown, false
}

// Bits returns the width of a whole-number type, else 0.
func (t TagType) Bits() int {
	switch t {
	case TypeInt8, TypeUint8:
		return 8
	case TypeInt16, TypeUint16:
		return 16
	case TypeInt32, TypeUint32:
		return 32
	case TypeInt64, TypeUint64:
		return 64
	default:
		return 0
	}
}

// Signed reports whether t is a signed whole-number type.
func (t TagType) Signed() bool {
	return t == TypeInt8 || t == TypeInt16 || t == TypeInt32 || t == TypeInt64
}

// Numeric reports whether t holds numbers.
func (t TagType) Numeric() bool { return t >= TypeInt8 && t <= TypeFloat64 }

// Tag describes one tag of a checked device, for rules and for the page.
type Tag struct {
	ID   TagID
	Type TagType
	// Scaled is set when the value read is not the raw number of the device.
	Scaled bool
	// Unit is the unit as configured, for example "kg"; may be empty.
	Unit string
	// Address is the device's address in its canonical form, for people.
	Address string
	// Line says that the value is of a line of text that a device sends, such as a
	// scanner, and not of a PLC's memory.
	Line bool
	// Writable says that the config lets the gateway write it.
	Writable bool
	// Every is the longest time between two looks at the tag that the config
	// asks for, by the gateway or by a server that keeps what it saw; 0 where
	// nobody knows.
	Every time.Duration
}
