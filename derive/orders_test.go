package derive

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

func orderModel(t *testing.T, text string) *Model {
	t.Helper()
	section, faults := config.ParseSection("M", "m.yaml", text)
	var o Options
	if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
		t.Fatal(faults)
	}
	m, err := NewModel("M", o, Catalog{"plc": {{ID: "order", Type: plant.TypeString}, {ID: "sku", Type: plant.TypeString}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A state of a version that knew the number alone goes on: the order that was
// read once is read again, and the source that differed is remembered.
func TestAnOrderOfAnOlderVersion(t *testing.T) {
	m := orderModel(t, "device: plc\norder: {tag: order, sku: sku}")
	binding := m.order.binding()
	old := fmt.Sprintf(`{"v":1,"order":{"b":%q,"cur":{"number":"A1"},"since":{"t":1000000000},"next":"B1","n":1,"t":{"t":2000000000},"other":"erp"}}`, binding)
	s := decode(t, m, []byte(old))
	scan := func(at int64, number, sku string) plant.Scan {
		return plant.Scan{Device: "plc", Session: 1, Received: time.Unix(at, 0), Readings: []plant.Reading{
			{Tag: "order", Quality: plant.Good, Value: plant.TextValue(number)}, {Tag: "sku", Quality: plant.Good, Value: plant.TextValue(sku)},
		}}
	}
	s, out := m.Step(s, scan(3, "B1", ""))
	if len(out.Events) == 0 || out.Events[0].Kind != plant.KindOrder || out.Events[0].Time.Unix() != 2 {
		t.Fatalf("%+v", out.Events)
	}
	if s.order.Other != "" || len(s.order.Others) != 1 || s.order.Others[0].By != "erp" {
		t.Errorf("%+v", s.order)
	}
	if text := string(encode(t, m, &s)); strings.Contains(text, `"other":`) {
		t.Error(text)
	}
}

// What an owner says that makes no sense is refused before it is taken, so that
// whoever says it hears of it.
func TestOrdersThatAreRefused(t *testing.T) {
	m := orderModel(t, `{device: plc, order: {owner: api, pattern: '\d{4}'}}`)
	for want, in := range map[string]plant.OrderChange{
		"":                  {Order: plant.Order{Number: "1234", SKU: "BOX"}, Planned: plant.Decimal{Unscaled: 5}},
		"has no number":     {Order: plant.Order{SKU: "BOX"}},
		"without its":       {Completed: true},
		"less than nothing": {Order: plant.Order{Number: "1234"}, Planned: plant.Decimal{Unscaled: -5}},
		"by the pattern":    {Order: plant.Order{Number: "12345"}},
		"longer than 200":   {Order: plant.Order{Number: "1234", WorkCenter: strings.Repeat("x", 201)}},
		"its source":        {Order: plant.Order{Number: "1234", Source: strings.Repeat("x", 201)}},
	} {
		if err := m.accepts(in); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v, want %q", in, err, want)
		}
	}
	if err := m.accepts(plant.OrderChange{}); err != nil {
		t.Errorf("no order: %v", err)
	}
}

func TestModesThatAreRefused(t *testing.T) {
	m := orderModel(t, "{device: plc, order: order}")
	now := time.Unix(1000, 0)
	for want, in := range map[string]plant.ModeChange{
		"":                  {At: now, Mode: plant.Setup, Until: now.Add(time.Second)},
		"no mode":           {At: now, Mode: "lunch"},
		"which is past":     {At: now, Mode: plant.Setup, Until: now},
		"longer than 200 b": {At: now, Mode: plant.Setup, By: strings.Repeat("x", 201)},
	} {
		if err := m.accepts(in); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v, want %q", in, err, want)
		}
	}
}

// The word of many sources is bounded.
func TestSourcesAreBounded(t *testing.T) {
	m := orderModel(t, "{device: plc, order: {owner: api}}")
	s := decode(t, m, nil)
	for i := range 3 * maxOthers {
		s, _ = m.Step(s, plant.OrderChange{At: time.Unix(int64(i), 0), Order: plant.Order{Number: "1"}, From: "webhook", By: fmt.Sprint("source ", i)})
	}
	if n := len(s.order.Others); n != maxOthers {
		t.Errorf("%d sources are remembered", n)
	}
}
