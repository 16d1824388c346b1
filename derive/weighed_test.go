package derive

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

const scaleTags = `press/gross int32 scaled kg
press/pounds int32 scaled lb
press/raw float32
press/net int32 scaled kg
press/tare int32 scaled kg
plc/tare int32 scaled kg
press/gate bool
press/text string
press/ack bool
press/count uint32 kg
`

// TestFaultsOfAScale: each fault of a scale is named with its line, its path and
// a remedy.
func TestFaultsOfAScale(t *testing.T) {
	const good = "method: batch_out, weight: gross, while: gate, component: SUGAR, min_dose: 200 g"
	for _, c := range []struct{ dosing, want string }{
		{"method: batch-out", "m.yaml:2:18: M.dosing.method: unknown method `batch-out` — did you mean `batch_out`?"},
		{"method: batch_out, weight: gross, while: gate, component: SUGAR", "M.dosing.min_dose: required key `min_dose` is missing — add `min_dose:`; method: batch_out needs it"},
		{good + ", trigger: gate", "M.dosing.trigger: means nothing with method: batch_out — remove it, or write method: handshake"},
		{"trigger: gate, ack: ack, component: S, quantity: net, while: gate", "M.dosing.while: means nothing with method: handshake — remove it, or write method: "},
		{"trigger: gate, ack: ack, component: S", "M.dosing.quantity: required key `quantity` is missing"},
		{good + ", division: 150 g", "M.dosing.min_dose: 200 g is less than 2 divisions of the scale (150 g) — a weight is only known to a division: write at least twice as much"},
		{good + ", division: 20 g, stable: {band: 10 g}", "M.dosing.stable.band: 10 g is less than a division of the scale (20 g)"},
		{good + ", stable: {band: 150 g}", "M.dosing.stable.band: 150 g is more than half of min_dose (200 g)"},
		{good + ", stable: {tag: gate, band: 1 g}", "M.dosing.stable: more than one of tag, not and band is given"},
		{good + ", stable: {tag: gate, for: 1s}", "M.dosing.stable.for: there is no band that the weight must stay in"},
		{good + ", stable: gross", ""},
		{good + ", stable: raw", "M.dosing.stable: tag press/raw is of type float32, which is neither on nor off"},
		{good + ", unusable: [gate, text]", "M.dosing.unusable[1]: tag press/text is of type string, which is neither on nor off"},
		{good + ", aborted_below: 120", "M.dosing.aborted_below: 120 is no part of the target"},
		{good + ", weight_unit: g", "M.dosing.weight_unit: is g, but tag press/gross is in kg by the device's config — correct one of the two"},
		{good + ", weight_unit: stone", "M.dosing.weight_unit: is stone, but tag"},
		{good + ", weight_unit: {tag: text, values: {1: stone}}", "M.dosing.weight_unit.values.1: \"stone\" is no unit of weight — write mg, g, kg, t, oz or lb"},
		{good + ", unit: lb", "M.dosing.unit: a weight in kg is no exact number of lb — write unit: kg; the central system converts it"},
		{good + ", unit: {tag: text}", "M.dosing.unit: is a tag — write the unit that the events shall have"},
		{good + ", unit: bag", "M.dosing.unit: \"bag\" is no unit of weight"},
		{good + ", tolerance_minus: 1, tolerance_plus: 1", "M.dosing.target: is missing, but a tolerance is given"},
		{good + ", target: text", "M.dosing.target: tag press/text is of type string, which is no weight"},
		{"method: batch_out, weight: {net: net}, while: gate, component: SUGAR, min_dose: 200 g", "M.dosing.weight: only one of net and tare is given"},
		{"method: batch_out, weight: {net: net, tare: tare, gross: gross}, while: gate, component: SUGAR, min_dose: 200 g", "M.dosing.weight: gross and net are both given"},
		{"method: batch_out, weight: {net: net, tare: plc/tare}, while: gate, component: SUGAR, min_dose: 200 g", "M.dosing.weight.tare: tag plc/tare is on another device than the net weight, press/net — net and tare must be read in one request"},
		{"method: batch_out, weight: raw, while: gate, component: SUGAR, min_dose: 200 g", "M.dosing.weight_unit: nothing says in which unit tag press/raw is — write what the terminal shows, for example weight_unit: kg"},
		{"method: batch_out, weight: text, while: gate, component: SUGAR, min_dose: 200 g", "M.dosing.weight: tag press/text is of type string, which is no weight"},
		{"method: batch_out, weight: pounds, while: gate, component: SUGAR, min_dose: 200 g", "M.dosing.min_dose: 200 g is no exact number of lb, which the scale shows — write it in lb"},
		{"method: totalizer, total: count, component: SUGAR, min_dose: 5 kg", "M.dosing.max_rate: is missing, but the total in tag press/count begins again from 0 some day — write the most that can flow, for example max_rate: 5 kg/s"},
		{"method: totalizer, total: count, component: SUGAR, min_dose: 5 kg, max_rate: 5", "M.dosing.max_rate: `5` is no weight per time"},
		{"method: totalizer, total: count, component: SUGAR, min_dose: 5 kg, max_rate: 5 kg/s, division: 0.1 kg", "M.dosing.division: tag press/count counts whole kg — remove it, or write scale: at the device's tag"},
		{"method: totalizer, total: count, component: SUGAR, min_dose: 5 kg, max_rate: 5 kg/s, modulus: 1.5 kg", "M.dosing.modulus: 1.5 kg is no whole number of divisions"},
		{"method: totalizer, total: raw, weight_unit: kg, component: SUGAR, min_dose: 100 g", "warning: M.dosing.total: tag press/raw is a REAL (float32): above 419430.4 kg it cannot show min_dose (100 g) any more — let the PLC total in a DINT or LREAL"},
		{"method: totalizer, total: raw, weight_unit: kg, component: SUGAR, min_dose: 100 g, modulus: 400000 kg, max_rate: 1 kg/s", ""},
		{"method: gain_in_weight, weight: gross, component: OIL, min_dose: 5 kg", "M.dosing.component: nothing says when it goes in — name the tag that says which component goes in now, or the bit of its valve with while:"},
		{"method: continuous, weight: gross, component: OIL, min_dose: 5 kg, flow: raw", "M.dosing.flow_unit: \"\" is no weight per time — write what the tag shows, for example flow_unit: kg/h"},
		{"method: continuous, weight: gross, component: OIL, min_dose: 5 kg, flow: raw, flow_unit: g/h", "M.dosing.flow_unit: is in g, but the weight in kg"},
		{"method: continuous, weight: gross, component: OIL, min_dose: 5 kg, while: gate", "M.dosing.while: means nothing with method: continuous — remove it, or write method: batch_out or gain_in_weight"},
		{"method: totalizer, total: text, weight_unit: kg, component: SUGAR, min_dose: 100 g", "M.dosing.total: tag press/text is of type string, which is no weight"},
		{"method: batch_out, weight: gross, while: gate, component: SUGAR, min_dose: 200", "M.dosing.min_dose: `200` is no weight — write a number and a unit (mg, g, kg, t, oz, lb), for example 200 g"},
	} {
		section, faults := config.ParseSection("M", "m.yaml", "device: press\ndosing: {"+c.dosing+"}")
		var o Options
		faults = append(faults, section.Decode(&o)...)
		if len(faults.Errors()) == 0 {
			_, err := NewModel("M", o, catalog(t, scaleTags))
			faults = append(faults, section.Faults(err)...)
		}
		if c.want == "" {
			if len(faults) > 0 {
				t.Errorf("%s: %v", c.dosing, faults)
			}
			continue
		}
		if len(faults) == 0 || !strings.Contains(strings.ReplaceAll(fmt.Sprint(faults), "dosing[0]", "dosing"), c.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", c.dosing, faults, c.want)
		}
	}
}

// scaleModel is a machine with one scale of a method.
func scaleModel(tb testing.TB, dosing string) *Model {
	tb.Helper()
	section, faults := config.ParseSection("PRESS-01", "m.yaml", "device: press\ndosing: {"+dosing+"}")
	var o Options
	faults = append(faults, section.Decode(&o)...)
	if len(faults.Errors()) > 0 {
		tb.Fatal(faults)
	}
	m, err := NewModel("PRESS-01", o, Catalog{"press": {
		{ID: "gross", Type: plant.TypeFloat32, Unit: "kg"}, {ID: "gate", Type: plant.TypeBool}, {ID: "stable", Type: plant.TypeBool},
		{ID: "comp", Type: plant.TypeUint16}, {ID: "total", Type: plant.TypeFloat32, Unit: "kg"},
	}})
	if err != nil {
		tb.Fatal(section.Faults(err))
	}
	return m
}

var scaleMethods = map[string]string{
	"totalizer":      "method: totalizer, total: total, component: {tag: comp, values: {1: WATER}}, min_dose: 1 kg, modulus: 100000 kg, max_rate: 10 kg/s",
	"continuous":     "method: continuous, weight: gross, component: {tag: comp, values: {1: RESIN}}, min_dose: 200 g",
	"gain_in_weight": "method: gain_in_weight, weight: gross, component: {tag: comp, values: {1: SUGAR}}, min_dose: 200 g, stable: stable",
	"batch_out":      "method: batch_out, weight: gross, while: gate, component: {tag: comp, values: {1: SUGAR}}, min_dose: 200 g, stable: stable",
}

func scaleScan() plant.Scan {
	return plant.Scan{Device: "press", Received: base, Readings: []plant.Reading{
		{Tag: "gross", Value: plant.FloatValue(float64(float32(48.3))), Quality: plant.Good}, {Tag: "gate", Value: plant.BoolValue(false), Quality: plant.Good},
		{Tag: "stable", Value: plant.BoolValue(true), Quality: plant.Good}, {Tag: "comp", Value: plant.IntValue(1), Quality: plant.Good},
		{Tag: "total", Value: plant.FloatValue(4711), Quality: plant.Good},
	}}
}

// TestScalesAllocateNothing: a scale that shows what it did costs no memory.
func TestScalesAllocateNothing(t *testing.T) {
	for method, config := range scaleMethods {
		m, scan := scaleModel(t, config), scaleScan()
		s, _ := m.Step(State{}, &scan)
		r, out := run{m: m}, Output{}
		step := func() {
			scan.Received = scan.Received.Add(time.Second)
			out.Events = out.Events[:0]
			r.step(&s, &scan, &out)
		}
		for range 100 {
			step()
		}
		if n := testing.AllocsPerRun(100, step); n != 0 {
			t.Errorf("%s: %.0f allocations in an unchanged scan", method, n)
		}
	}
}

func BenchmarkScale(b *testing.B) {
	for method, config := range scaleMethods {
		b.Run(method, func(b *testing.B) {
			m, scan := scaleModel(b, config), scaleScan()
			s, _ := m.Step(State{}, &scan)
			r, out := run{m: m}, Output{}
			b.ReportAllocs()
			for b.Loop() {
				scan.Received = scan.Received.Add(time.Second)
				out.Events = out.Events[:0]
				r.reset()
				r.step(&s, &scan, &out)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(scan.Readings)), "ns/reading")
		})
	}
}
