package formula

import (
	"math"
	"math/bits"

	"github.com/sluice-edge/sluice/plant"
)

// node is a part of an expression. eval does not allocate.
type node interface {
	eval(in []plant.Value) (plant.Value, Failure)
}

type (
	constant   struct{ v plant.Value }
	input      int
	not        struct{ of node }
	arithmetic struct {
		op   byte
		a, b node
	}
	logic struct {
		or   bool
		a, b node
	}
	comparison struct {
		op   string
		a, b node
	}
	member struct {
		of   node
		not  bool
		list []plant.Value
	}
	choice   struct{ cond, a, b node }
	function struct {
		name byte
		of   node
	}
	extreme struct {
		most bool
		a, b node
	}
	bit struct{ of, number node }
)

func (n constant) eval([]plant.Value) (plant.Value, Failure) { return n.v, None }
func (n input) eval(in []plant.Value) (plant.Value, Failure) { return in[n], None }

// isTrue returns a truth; a number is none here.
func isTrue(n node, in []plant.Value) (is bool, why Failure) {
	v, why := n.eval(in)
	if why != None {
		return false, why
	}
	if v.Type() != plant.Bool {
		return false, NoTruth
	}
	is, _ = v.Bool()
	return is, None
}

func (n not) eval(in []plant.Value) (plant.Value, Failure) {
	is, why := isTrue(n.of, in)
	return plant.BoolValue(!is), why
}

func (n logic) eval(in []plant.Value) (plant.Value, Failure) {
	is, why := isTrue(n.a, in)
	if why != None || is == n.or {
		return plant.BoolValue(is), why
	}
	is, why = isTrue(n.b, in)
	return plant.BoolValue(is), why
}

func (n choice) eval(in []plant.Value) (plant.Value, Failure) {
	is, why := isTrue(n.cond, in)
	switch {
	case why != None:
		return plant.Value{}, why
	case is:
		return n.a.eval(in)
	default:
		return n.b.eval(in)
	}
}

func both(a, b node, in []plant.Value) (va, vb plant.Value, why Failure) {
	if va, why = a.eval(in); why != None {
		return va, vb, why
	}
	vb, why = b.eval(in)
	return va, vb, why
}

// isWhole reports whether a value is a whole number by its type; a float is
// none, even one without a fraction.
func isWhole(v plant.Value) bool { return v.Type() == plant.Int || v.Type() == plant.Uint }

func isNumber(v plant.Value) bool {
	return isWhole(v) || v.Type() == plant.Float || v.Type() == plant.Exact
}

// numbers is both for operands that must be numbers.
func numbers(x, y node, in []plant.Value) (a, b plant.Value, why Failure) {
	a, b, why = both(x, y, in)
	if why == None && (!isNumber(a) || !isNumber(b)) {
		why = NoNumber
	}
	return a, b, why
}

func (n arithmetic) eval(in []plant.Value) (plant.Value, Failure) {
	a, b, why := numbers(n.a, n.b, in)
	switch {
	case why != None:
		return plant.Value{}, why
	case n.op == '/':
		return divide(a, b)
	case isWhole(a) && isWhole(b):
		x, ok := a.Int()
		y, ok2 := b.Int()
		if !ok || !ok2 {
			return plant.Value{}, TooLarge
		}
		return integers(n.op, x, y)
	case n.op == '%' || n.op == 'd':
		return plant.Value{}, NotWhole
	case a.Type() == plant.Float || b.Type() == plant.Float:
		return floats(n.op, a, b)
	}
	return decimals(n.op, a, b)
}

// divide is the quotient as a float: 7 / 2 is 3.5.
func divide(a, b plant.Value) (plant.Value, Failure) {
	x, _ := a.Float()
	y, _ := b.Float()
	if y == 0 {
		return plant.Value{}, DividedByZero
	}
	return finite(x / y)
}

func finite(f float64) (plant.Value, Failure) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return plant.Value{}, TooLarge
	}
	return plant.FloatValue(f), None
}

func integers(op byte, a, b int64) (plant.Value, Failure) {
	fail := None
	var r int64
	switch op {
	case '+':
		if r = a + b; (r > a) != (b > 0) && b != 0 {
			fail = TooLarge
		}
	case '-':
		if r = a - b; (r < a) != (b > 0) && b != 0 {
			fail = TooLarge
		}
	case '*':
		r, fail = product(a, b)
	default:
		switch {
		case b == 0:
			fail = DividedByZero
		case op == '%':
			r = a % b
		case a == math.MinInt64 && b == -1:
			fail = TooLarge
		default:
			r = a / b
		}
	}
	if fail != None {
		return plant.Value{}, fail
	}
	return plant.IntValue(r), None
}

func product(a, b int64) (int64, Failure) {
	size := func(n int64) uint64 {
		if n < 0 {
			return -uint64(n)
		}
		return uint64(n)
	}
	hi, lo := bits.Mul64(size(a), size(b))
	negative := (a < 0) != (b < 0)
	if hi != 0 || lo > math.MaxInt64 && !(negative && lo == 1<<63) {
		return 0, TooLarge
	}
	if negative {
		return int64(-lo), None
	}
	return int64(lo), None
}

func floats(op byte, a, b plant.Value) (plant.Value, Failure) {
	x, _ := a.Float()
	y, _ := b.Float()
	switch op {
	case '+':
		return finite(x + y)
	case '-':
		return finite(x - y)
	default:
		return finite(x * y)
	}
}

func decimals(op byte, a, b plant.Value) (plant.Value, Failure) {
	x, ok := a.Decimal()
	y, ok2 := b.Decimal()
	if !ok || !ok2 {
		return plant.Value{}, TooLarge
	}
	var r plant.Decimal
	var err error
	switch op {
	case '+':
		r, err = x.Add(y)
	case '-':
		r, err = x.Sub(y)
	default:
		r, err = x.Mul(y)
	}
	if err != nil {
		return plant.Value{}, TooLarge
	}
	return plant.ExactValue(r), None
}

// compare orders two values; only equal says something for texts and truths.
func compare(a, b plant.Value) (order int, why Failure) {
	switch {
	case isNumber(a) && isNumber(b):
		if a.Type() != plant.Float && b.Type() != plant.Float {
			x, ok := a.Decimal()
			y, ok2 := b.Decimal()
			if ok && ok2 {
				return x.Cmp(y), None
			}
		}
		x, _ := a.Float()
		y, _ := b.Float()
		switch {
		case x < y:
			return -1, None
		case x > y:
			return 1, None
		}
		return 0, None
	case a.Type() != b.Type() || a.IsZero():
		return 0, NotComparable
	case a == b:
		return 0, None
	}
	return 1, None
}

func (n comparison) eval(in []plant.Value) (plant.Value, Failure) {
	a, b, why := both(n.a, n.b, in)
	if why != None {
		return plant.Value{}, why
	}
	order, why := compare(a, b)
	var is bool
	switch n.op {
	case "==":
		is = order == 0
	case "!=":
		is = order != 0
	default:
		if !isNumber(a) || !isNumber(b) {
			return plant.Value{}, NoNumber
		}
		is = order < 0 && n.op[0] == '<' || order > 0 && n.op[0] == '>' || order == 0 && len(n.op) == 2
	}
	return plant.BoolValue(is), why
}

func (n member) eval(in []plant.Value) (plant.Value, Failure) {
	v, why := n.of.eval(in)
	if why != None {
		return plant.Value{}, why
	}
	for i := range n.list {
		order, why := compare(v, n.list[i])
		if why != None {
			return plant.Value{}, why
		}
		if order == 0 {
			return plant.BoolValue(!n.not), None
		}
	}
	return plant.BoolValue(n.not), None
}

func (n extreme) eval(in []plant.Value) (plant.Value, Failure) {
	a, b, why := numbers(n.a, n.b, in)
	if why != None {
		return plant.Value{}, why
	}
	if order, _ := compare(a, b); order < 0 == n.most && order != 0 {
		return b, None
	}
	return a, None
}

func (n bit) eval(in []plant.Value) (plant.Value, Failure) {
	v, number, why := both(n.of, n.number, in)
	at, ok := number.Int()
	switch {
	case why != None:
		return plant.Value{}, why
	case !isWhole(v) || !isWhole(number):
		return plant.Value{}, NotWhole
	case !ok || at < 0 || at > 63:
		return plant.Value{}, NoBit
	}
	return plant.BoolValue(v.Parts().Bits>>uint(at)&1 == 1), None
}

func (n function) eval(in []plant.Value) (plant.Value, Failure) {
	v, why := n.of.eval(in)
	switch {
	case why != None:
		return plant.Value{}, why
	case !isNumber(v):
		return plant.Value{}, NoNumber
	case n.name == 'a':
		return absolute(v)
	case isWhole(v):
		return v, None
	case v.Type() == plant.Exact:
		d, _ := v.Decimal()
		return plant.IntValue(roundDecimal(n.name, d)), None
	}
	f, _ := v.Float()
	switch n.name {
	case 'r':
		f = math.Round(f)
	case 'f':
		f = math.Floor(f)
	default:
		f = math.Ceil(f)
	}
	if f < -1<<63 || f >= 1<<63 {
		return plant.Value{}, TooLarge
	}
	return plant.IntValue(int64(f)), None
}

func absolute(v plant.Value) (plant.Value, Failure) {
	if v.Type() == plant.Float {
		f, _ := v.Float()
		return plant.FloatValue(math.Abs(f)), None
	}
	zero := plant.IntValue(0)
	if order, _ := compare(v, zero); order >= 0 {
		return v, None
	}
	if n, ok := v.Int(); ok && isWhole(v) {
		return integers('-', 0, n)
	}
	return decimals('-', zero, v)
}

// roundDecimal rounds exactly: r to the nearest, halves away from zero; f down; c
// up.
func roundDecimal(how byte, d plant.Decimal) int64 {
	unit := int64(1)
	for range d.Scale {
		unit *= 10
	}
	q, rest := d.Unscaled/unit, d.Unscaled%unit
	switch {
	case how == 'f' && rest < 0, how == 'r' && rest <= -(unit-unit/2) && rest != 0:
		return q - 1
	case how == 'c' && rest > 0, how == 'r' && rest >= unit-unit/2 && rest != 0:
		return q + 1
	}
	return q
}
