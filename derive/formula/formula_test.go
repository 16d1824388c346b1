package formula

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// tags are what the expressions of the tests may name.
var tags = map[string]plant.Tag{
	"a": {ID: "a", Type: plant.TypeInt64}, "b": {ID: "b", Type: plant.TypeInt64}, "u": {ID: "u", Type: plant.TypeUint64},
	"f": {ID: "f", Type: plant.TypeFloat64}, "d": {ID: "d", Type: plant.TypeInt16, Scaled: true}, "p": {ID: "p", Type: plant.TypeBool},
	"s": {ID: "s", Type: plant.TypeString}, "x": {ID: "x"}, "gross weight": {ID: "gross weight", Type: plant.TypeInt16},
}

func resolve(path, name string) (rule.Input, error) {
	t, ok := tags[name]
	if !ok {
		return rule.Input{}, config.Unknown(path, "tag of press", name, []string{"a", "b"})
	}
	return rule.Input{Ref: plant.TagRef{Device: "press", Tag: t.ID}, Tag: t}, nil
}

func compiled(t testing.TB, text string) *Formula {
	t.Helper()
	f, err := Compile("v", text, resolve)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

// eval evaluates an expression for values by name.
func eval(f *Formula, values map[string]plant.Value) (plant.Value, Failure) {
	var in []plant.Value
	for _, i := range f.Inputs() {
		in = append(in, values[string(i.Ref.Tag)])
	}
	return f.Eval(in)
}

func decimal(text string) plant.Value {
	d, err := plant.ParseDecimal(text)
	if err != nil {
		panic(err)
	}
	return plant.ExactValue(d)
}

func TestEval(t *testing.T) {
	values := map[string]plant.Value{
		"a": plant.IntValue(7), "b": plant.IntValue(2), "u": plant.UintValue(math.MaxUint64), "f": plant.FloatValue(2.5), "d": decimal("1.5"),
		"p": plant.BoolValue(true), "s": plant.TextValue("RUN"), "x": plant.UintValue(5), "gross weight": plant.IntValue(40),
	}
	for text, want := range map[string]string{
		"a - b": "int 5", "a * b + 1": "int 15", "-a": "int -7", "a / b": "float 3.5", "div(a, b)": "int 3", "a % b": "int 1", "div(-a, b)": "int -3",
		"a + d": "exact 8.5", "d * d": "exact 2.25", "0.1 * a": "exact 0.7", "a + f": "float 9.5", "f - d": "float 1",
		"abs(b - a)": "int 5", "abs(-d)": "exact 1.5", "abs(-f)": "float 2.5", "min(a, b, d)": "exact 1.5", "max(a, b, f)": "int 7",
		"round(f)": "int 3", "round(d)": "int 2", "floor(-d)": "int -2", "ceil(d)": "int 2", "ceil(-d)": "int -1", "round(-d)": "int -2", "round(-f)": "int -3", "floor(f)": "int 2", "round(a)": "int 7",
		"a > b": "bool true", "a <= 7": "bool true", "a == 7.0": "bool true", "a != b": "bool true", "d < f": "bool true", "1 < b < a": "bool true",
		"p and a > b": "bool true", "not p or a < b": "bool false", "p ? a : b": "int 7", "a > 9 ? 1 : f": "float 2.5",
		`s == "RUN"`: "bool true", `s in ["IDLE", "RUN"]`: "bool true", "a in [3, 7]": "bool true", "a not in [3, 7.0]": "bool false", `p ? s : "x"`: "text RUN",
		"bit(a, 0)": "bool true", "bit(a, 3)": "bool false", "bit(u, 63)": "bool true", "u > a": "bool true", `tag("gross weight") - a`: "int 33", `tag("press/a") == a`: "refused",
		// an unknown type is looked at when it is read
		"x + a": "int 12", "x == 5": "bool true", "bit(x, 2)": "bool true",
		// what has no value
		"a / (b - 2)": "a division by zero", "a % (b - 2)": "a division by zero", "div(a, b - 2)": "a division by zero", "f / (f - 2.5)": "a division by zero",
		"u + 1": "a result does not fit 64 bits", "a * 9223372036854775807": "a result does not fit 64 bits", "d * 0.000000000000000001": "a result does not fit 64 bits",
		"bit(a, a * 10)": "there is no bit of that number", "bit(a, -b)": "there is no bit of that number", "x and p": "an operand is neither true nor false", `x == "5"`: "two operands cannot be compared",
		// only what is needed is worked out
		"p or a / (b - 2) > 1": "bool true", "p ? a : a % (b - 2)": "int 7",
	} {
		if want == "refused" {
			if _, err := Compile("v", text, resolve); err == nil {
				t.Errorf("%s was not refused", text)
			}
			continue
		}
		v, why := eval(compiled(t, text), values)
		got := why.String()
		if why == None {
			got = []string{"none", "bool", "int", "uint", "float", "exact", "text"}[v.Type()] + " " + v.Text()
		}
		if got != want {
			t.Errorf("%s = %s, want %s", text, got, want)
		}
	}
}

func TestResultIsTyped(t *testing.T) {
	for text, want := range map[string]plant.Tag{
		"a - b": {Type: plant.TypeInt64}, "a / b": {Type: plant.TypeFloat64, Scaled: true}, "a + d": {Type: plant.TypeFloat64, Scaled: true}, "a > 1": {Type: plant.TypeBool},
		`p ? s : ""`: {Type: plant.TypeString}, "x + 1": {Type: plant.TypeUnknown}, "round(f)": {Type: plant.TypeInt64}, "p ? a : b": {Type: plant.TypeInt64},
	} {
		got := compiled(t, text).Tag("v", "kg")
		if got.Type != want.Type || got.Scaled != want.Scaled || got.Unit != "kg" || got.ID != "v" {
			t.Errorf("%s: %+v", text, got)
		}
	}
	if got, want := compiled(t, " a  -\n b ").Tag("v", "").Address, "= a - b; press a int64; press b int64"; got != want {
		t.Errorf("bound to %q, want %q", got, want)
	}
}

// TestRefusals: what could take any time or memory, what is no expression, and
// what cannot be of the types of its tags, each named at its place.
func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "has 1 to 1000 characters, not 0",
		strings.Repeat("a+", 600):          "has 1 to 1000 characters, not 1200",
		strings.Repeat("a+", 150) + "a":    "more than 200 operands",
		"1 + 2":                            "it names no tag",
		"a +":                              "at character 3: unexpected token EOF",
		"a + c":                            "at character 5: unknown tag of press `c`",
		"a + s":                            "at character 5: this is a text, and + takes a number",
		"p + 1":                            "at character 1: this is true or false, and + takes a number",
		"a and p":                          "at character 1: this is a whole number, and and takes true or false",
		"not a":                            "takes true or false",
		"f % 2":                            "at character 1: this is a number, and % takes a whole number",
		"bit(f, 1)":                        "takes a whole number",
		`s < "x"`:                          "cannot be compared by <",
		"a == s":                           "a whole number and a text cannot be compared by ==",
		"p ? a : s":                        "a whole number in one case and a text in the other",
		"a in b":                           "what comes behind in is a list",
		"a in [b]":                         "the list holds constants",
		`a in ["x"]`:                       "the list holds constants",
		"a ** 2":                           "there is no **",
		"a ?? b":                           "there is no ??",
		"s + s":                            "this is a text, and + takes a number",
		`s matches "(a+)+$"`:               "there is no matches",
		`s contains "x"`:                   "there is no contains",
		"1..1000000":                       "there is no ..",
		"sum(1..1000000) + a":              "there is no function sum",
		"map([a], # * 2)":                  "there is no function map",
		"filter(1..100000000, # % 2 == 0)": "there is no function filter",
		`repeat("x", a)`:                   "there is no function repeat",
		"now()":                            "there is no function now",
		"len(s)":                           "there is no function len",
		"let y = a; y + y":                 "is not part of what an expression may hold",
		"a; b":                             "is not part of what an expression may hold",
		"{x: a}":                           "is not part of what an expression may hold",
		"[a, b]":                           "is not part of what an expression may hold",
		"nil":                              "is not part of what an expression may hold",
		"a.b":                              "there are no members",
		"s[0:1]":                           "is not part of what an expression may hold",
		"abs(a, b)":                        "abs does not take 2 arguments",
		"min(a)":                           "min does not take 1 arguments",
		"tag(a)":                           "the name of a tag is a text",
		`tag("gross")`:                     "unknown tag of press `gross`",
		"a + 1e300":                        "has too many digits",
		`"unclosed`:                        "at character",
		"a / 0":                            "at character 5: this is 0, and nothing can be divided by it",
		"a % (5 - 5)":                      "at character 8: this is 0, and nothing can be divided by it",
		"a + div(b, 0)":                    "at character 12: this is 0, and nothing can be divided by it",
		"p ? a : b / 0.0":                  "at character 13: this is 0, and nothing can be divided by it",
		"a + 1 / 0":                        "at character 9: this is 0",
		"a + 9223372036854775807 * 2":      "at character 25: this never has a value: a result does not fit 64 bits",
		"bit(a, 64)":                       "at character 8: there is no bit of that number",
		"bit(a, -1)":                       "there is no bit of that number",
	} {
		_, err := Compile("values.v", text, resolve)
		var field *config.FieldError
		if !errors.As(err, &field) || field.Path != "values.v" || !strings.Contains(field.Problem, want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

// TestWholeNumbersAreExact compares with numbers of any size.
func TestWholeNumbersAreExact(t *testing.T) {
	sum, difference, times := compiled(t, "a + b"), compiled(t, "a - b"), compiled(t, "a * b")
	number := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MinInt64 + 1, 1 << 31, -1 << 32}))
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		x, y := big.NewInt(a), big.NewInt(b)
		for f, want := range map[*Formula]*big.Int{sum: new(big.Int).Add(x, y), difference: new(big.Int).Sub(x, y), times: new(big.Int).Mul(x, y)} {
			v, why := f.Eval([]plant.Value{plant.IntValue(a), plant.IntValue(b)})
			got, _ := v.Int()
			if want.IsInt64() != (why == None) || why == None && got != want.Int64() || why != None && why != TooLarge {
				t.Fatalf("%s of %d and %d: %d, %s; want %s", f.text, a, b, got, why, want)
			}
		}
	})
}

// FuzzCompile: no text makes the compiler or the evaluation panic, and what is
// compiled gives the same each time.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{"a - b", `p ? a : b * 0.1`, `s in ["x", "y"] and not p`, "min(a, b, abs(f)) / div(u, 2) % 3", `tag("gross weight") >= 1 < 2`, "a..b", "map(1..9, # + a)", "((((((a))))))", "- - -a", "a in [1,2] or bit(x, 3)", "let q = 1; q"} {
		f.Add(seed)
	}
	values := []plant.Value{plant.IntValue(math.MinInt64), plant.IntValue(-1), plant.UintValue(math.MaxUint64), plant.FloatValue(math.MaxFloat64), decimal("-9223372036854775807"), plant.BoolValue(true), plant.TextValue("x"), {}}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Compile("v", text, resolve)
		if err != nil {
			var field *config.FieldError
			if !errors.As(err, &field) || field.Problem == "" {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		for first := range values {
			in := make([]plant.Value, len(c.Inputs()))
			for i := range in {
				in[i] = values[(first+i)%len(values)]
			}
			v, why := c.Eval(in)
			if again, whyAgain := c.Eval(in); again != v || whyAgain != why {
				t.Fatalf("%q gave %v, then %v", text, v, again)
			}
			if d, is := v.Float(); why == None && is && (math.IsNaN(d) || math.IsInf(d, 0)) {
				t.Fatalf("%q gave %v", text, v)
			}
		}
	})
}

func TestEvalAllocatesNothing(t *testing.T) {
	f := compiled(t, `p and s == "RUN" ? abs(a - b) * 2 : round(d * 10) + max(a, div(b, 2), f)`)
	in := []plant.Value{plant.BoolValue(false), plant.TextValue("RUN"), plant.IntValue(3), plant.IntValue(9), decimal("1.25"), plant.FloatValue(2)}
	if n := testing.AllocsPerRun(100, func() { f.Eval(in) }); n != 0 {
		t.Errorf("%.0f allocations", n)
	}
}

func BenchmarkEval(b *testing.B) {
	for _, text := range []string{"a - b", `bit(a, 3) and b in [3, 6]`, "(a - b) * 0.1 + d", strings.Repeat("a+", 99) + "b"} {
		f := compiled(b, text)
		in := make([]plant.Value, len(f.Inputs()))
		for i := range in {
			in[i] = plant.IntValue(int64(i) + 8)
		}
		name := text
		if len(name) > 40 {
			name = "200 operands and operators"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Eval(in)
			}
		})
	}
}
