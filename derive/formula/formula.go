// Package formula is an expression over the tags of a machine, for the values
// that no device has. It is written in the language of expr-lang/expr, of which
// it takes what has a bounded cost: arithmetic, comparisons, logic and a choice.
// It is typed when it is compiled. Evaluation is our own and not the library's,
// whose whole numbers wrap around without a word, divide into floats and cost
// memory each time: here they stay exact or fail, nothing is allocated, and what
// it costs is known from its length. It is pure: no clock, no chance, no state.
package formula

import (
	"strings"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// What bounds an expression, and so its cost.
const (
	// MaxLength is how many characters it may have, maxNodes how many operands
	// and operators.
	MaxLength = 1000
	maxNodes  = 200
)

// Formula is a compiled expression. It is immutable.
type Formula struct {
	text   string
	root   node
	typ    kind
	inputs []rule.Input
}

// Inputs are the tags that it reads, each once, in the order of their first use.
func (f *Formula) Inputs() []rule.Input { return f.inputs }

// Tag describes the result as a tag of that name. Its address is the expression
// with what its tags are bound to: state that was learned from one expression
// says nothing of another.
func (f *Formula) Tag(name plant.TagID, unit string) plant.Tag {
	var b strings.Builder
	b.WriteString("= ")
	b.WriteString(f.text)
	for _, in := range f.inputs {
		b.WriteString("; ")
		b.WriteString(in.Binding())
	}
	t := plant.Tag{ID: name, Unit: unit, Address: b.String()}
	switch f.typ {
	case truth:
		t.Type = plant.TypeBool
	case whole:
		t.Type = plant.TypeInt64
	case number:
		t.Type, t.Scaled = plant.TypeFloat64, true
	case text:
		t.Type = plant.TypeString
	}
	return t
}

// Eval returns what the expression is for values of its Inputs, in their order.
// Where it is nothing, why says so. It does not allocate.
func (f *Formula) Eval(values []plant.Value) (v plant.Value, why Failure) {
	return f.root.eval(values)
}

// Failure says why an expression has no value.
type Failure uint8

// The failures.
const (
	// None: it has a value.
	None Failure = iota
	// DividedByZero: a division, also by a remainder.
	DividedByZero
	// TooLarge: a result that does not fit 64 bits.
	TooLarge
	// NoNumber, NotWhole, NoTruth, NoText: an operand is not what it should be, of
	// a tag whose type the config does not say.
	NoNumber
	NotWhole
	NoTruth
	NotComparable
	// NoBit: the number of a bit that is not between 0 and 63.
	NoBit
	// Failures is how many there are.
	Failures
)

// String says it in plain words.
func (f Failure) String() string {
	switch f {
	case None:
		return ""
	case DividedByZero:
		return "a division by zero"
	case TooLarge:
		return "a result does not fit 64 bits"
	case NoNumber:
		return "an operand is no number"
	case NotWhole:
		return "an operand is no whole number"
	case NoTruth:
		return "an operand is neither true nor false"
	case NotComparable:
		return "two operands cannot be compared"
	default:
		return "there is no bit of that number"
	}
}

// kind is what an expression is, as far as is known before it is evaluated.
type kind uint8

const (
	// unknown is that of a tag whose type the config does not say.
	unknown kind = iota
	truth
	whole
	// number may have a fraction.
	number
	text
)

// String names a kind for people.
func (k kind) String() string {
	return [...]string{"a value of unknown type", "true or false", "a whole number", "a number", "a text"}[k]
}

// kindOf is what a tag holds.
func kindOf(t plant.Tag) kind {
	switch {
	case t.Type == plant.TypeUnknown:
		return unknown
	case t.Type == plant.TypeBool:
		return truth
	case t.Type == plant.TypeString:
		return text
	case t.Type.Bits() > 0 && !t.Scaled:
		return whole
	default:
		return number
	}
}
