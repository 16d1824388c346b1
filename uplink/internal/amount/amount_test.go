package amount_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/internal/amount"
)

func decimal(t *testing.T, text string) plant.Decimal {
	t.Helper()
	d, err := plant.ParseDecimal(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestConvert: exactly, or not at all.
func TestConvert(t *testing.T) {
	bag := amount.Unit{Name: "bag", Factor: decimal(t, "0.04"), Per: "kg"}
	for _, c := range []struct {
		unit         amount.Unit
		amount, from string
		want         string
	}{
		{amount.Unit{Name: "kg"}, "1250", "g", "1.25"},
		{amount.Unit{Name: "kg"}, "0.1", "lb", "0.045359237"},
		{amount.Unit{Name: "pcs"}, "3", "pcs", "3"},
		{bag, "12500", "g", "0.5"},
		{bag, "2", "bag", "2"},
		{amount.Unit{Name: "m", Factor: decimal(t, "0.5"), Per: "turn"}, "7", "turn", "3.5"},
	} {
		got, err := c.unit.Convert(decimal(t, c.amount), c.from)
		if err != nil || got.Normal().String() != c.want {
			t.Errorf("%s %s is %s %s (%v), want %s", c.amount, c.from, got, c.unit.Name, err, c.want)
		}
	}
	if _, err := (amount.Unit{Name: "lb"}).Convert(decimal(t, "1"), "kg"); !errors.Is(err, plant.ErrRange) {
		t.Errorf("a kilogram is no finite number of pounds, and it says %v", err)
	}
	for _, u := range []amount.Unit{bag, {Name: "kg"}} {
		if _, err := u.Convert(decimal(t, "1"), "pcs"); err == nil || !strings.Contains(err.Error(), "nobody knows how many") {
			t.Errorf("pieces in %s: %v", u.Name, err)
		}
	}
}

// TestValidate says which key is wrong.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		unit    amount.Unit
		path    string
		warning bool
	}{
		{amount.Unit{Name: "kg"}, "", false},
		{amount.Unit{Name: "bag", Factor: decimal(t, "0.04"), Per: "kg"}, "", false},
		{amount.Unit{}, "unit", false},
		{amount.Unit{Name: "bag", Per: "kg"}, "factor", false},
		{amount.Unit{Name: "bag", Factor: decimal(t, "1")}, "factor", false},
		{amount.Unit{Name: "bag", Factor: decimal(t, "-1"), Per: "kg"}, "factor", false},
		{amount.Unit{Name: "pcs"}, "unit", true},
	} {
		err := c.unit.Validate("unit", "the receiver")
		if c.path == "" {
			if err != nil {
				t.Errorf("%+v: %v", c.unit, err)
			}
			continue
		}
		var field *config.FieldError
		if !errors.As(err, &field) || field.Path != c.path || field.Warning != c.warning {
			t.Errorf("%+v: %v", c.unit, err)
		}
	}
}
