package plant_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

func TestMassIsConvertedExactly(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"1 lb", "kg", "0.45359237"}, {"100 lb", "kg", "45.359237"}, {"2204.5 lb", "t", "0.99994437966500"},
		{"1 oz", "g", "28.349523125"}, {"31.187077 lb", "kg", "14.14622016980249"}, {"200000.000001 lb", "g", "90718474.00045359237"}, {"1 lb", "oz", "16"}, {"3 oz", "lb", "0.1875"}, {"0.5 lb", "g", "226.796185"},
		{"200 g", "kg", "0.2"}, {"12.5 kg", "g", "12500"}, {"1.25 t", "kg", "1250"}, {"7 mg", "kg", "0.000007"},
		{"0.07 kg", "mg", "70000"}, {"-0 kg", "t", "0"},
	} {
		var m plant.Mass
		if err := m.UnmarshalText([]byte(c.from)); err != nil {
			t.Fatal(err)
		}
		got, err := m.In(plant.MassUnit(c.to))
		want, _ := plant.ParseDecimal(c.want)
		if err != nil || got.Cmp(want) != 0 {
			t.Errorf("%s is %s %s, want %s: %v", c.from, got, c.to, c.want, err)
		}
	}
	for _, pair := range [][2]plant.MassUnit{{"kg", "lb"}, {"g", "oz"}} {
		if _, err := pair[0].Convert(plant.WholeDecimal(1), pair[1]); !errors.Is(err, plant.ErrRange) {
			t.Errorf("1 %s in %s: %v", pair[0], pair[1], err)
		}
	}
}

// TestMassThereAndBack: between units whose conversion is exact both ways
// nothing is lost, and sums stay sums.
func TestMassThereAndBack(t *testing.T) {
	units := []plant.MassUnit{plant.Milligram, plant.Gram, plant.Kilogram, plant.Tonne, plant.Ounce, plant.Pound}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SampledFrom(units).Draw(t, "from"), rapid.SampledFrom(units).Draw(t, "to")
		draw := func(name string) plant.Decimal {
			return plant.Decimal{Unscaled: rapid.Int64Range(-1e7, 1e7).Draw(t, name), Scale: uint8(rapid.IntRange(0, 3).Draw(t, name+" scale"))}
		}
		x, y := draw("x"), draw("y")
		if !a.Exact(b) {
			return
		}
		there, err := a.Convert(x, b)
		if err != nil {
			return // beyond what a Decimal holds
		}
		if b.Exact(a) {
			if back, err := b.Convert(there, a); err != nil || back.Cmp(x) != 0 {
				t.Fatalf("%s %s is %s %s, and that %s: %v", x, a, there, b, back, err)
			}
		}
		other, err := a.Convert(y, b)
		sum, err2 := x.Add(y)
		if err != nil || err2 != nil {
			return
		}
		whole, err := a.Convert(sum, b)
		parts, err2 := there.Add(other)
		if err == nil && err2 == nil && whole.Cmp(parts) != 0 {
			t.Fatalf("%s + %s %s is %s %s, not %s", x, y, a, parts, b, whole)
		}
	})
}

func TestMassIsRead(t *testing.T) {
	for text, want := range map[string]string{"200 g": "200 g", "0.5kg": "0.5 kg", " 3 LBS ": "3 lb", "12.50 t": "12.50 t"} {
		var m plant.Mass
		if err := m.UnmarshalText([]byte(text)); err != nil || m.String() != want {
			t.Errorf("%q is %s: %v", text, m, err)
		}
	}
	for _, text := range []string{"", "200", "g", "-1 g", "1,5 kg", "1 st", "1 kg kg"} {
		var m plant.Mass
		if err := m.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %s", text, m)
		}
	}
}

// Quo is what writes use to find the raw number of a scaled tag.
func TestQuo(t *testing.T) {
	for _, c := range []struct {
		of, by string
		n      int64
		ok     bool
	}{
		{"12.5", "0.1", 125, true},
		{"-12.50", "0.25", -50, true},
		{"12.5", "-2.5", -5, true},
		{"0", "0.001", 0, true},
		{"700", "7", 100, true},
		{"1", "3", 0, false},
		{"12.55", "0.1", 0, false},
		{"1", "0", 0, false},
		{"9223372036854775807", "0.1", 0, false},
		{"-9223372036854775808", "1", math.MinInt64, true},
		{"-9223372036854775808", "-1", 0, false},
	} {
		of, err1 := plant.ParseDecimal(c.of)
		by, err2 := plant.ParseDecimal(c.by)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if n, ok := of.Quo(by); n != c.n || ok != c.ok {
			t.Errorf("%s ÷ %s = %d, %v: expected %d, %v", c.of, c.by, n, ok, c.n, c.ok)
		}
	}
}
