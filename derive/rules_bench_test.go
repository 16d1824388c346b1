package derive

import (
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// oneRule is a machine with one rule: what it is read, and what changes in round n
// so that the rule has something to tell.
type oneRule struct {
	config string
	change func(n int64, scan *plant.Scan) []plant.Input
}

// benchTags are the tags of the machines of oneRules.
var benchTags = []plant.Tag{
	{ID: "made", Type: plant.TypeUint32}, {ID: "bad", Type: plant.TypeUint32}, {ID: "run", Type: plant.TypeBool}, {ID: "code", Type: plant.TypeUint16},
	{ID: "temp", Type: plant.TypeFloat32}, {ID: "order", Type: plant.TypeString}, {ID: "sku", Type: plant.TypeString}, {ID: "lot", Type: plant.TypeString},
	{ID: "no", Type: plant.TypeUint32}, {ID: "kept", Type: plant.TypeUint32, Writable: true}, {ID: "qty", Type: plant.TypeInt32, Scaled: true, Unit: "kg"},
	{ID: "comp", Type: plant.TypeUint16}, {ID: "serial", Type: plant.TypeString}, {ID: "part", Type: plant.TypeString},
	{ID: "gross", Type: plant.TypeInt32, Scaled: true, Unit: "kg"}, {ID: "total", Type: plant.TypeUint32, Unit: "kg"}, {ID: "gate", Type: plant.TypeBool}, {ID: "stable", Type: plant.TypeBool},
}

// set gives a tag of a scan another value.
func set(scan *plant.Scan, tag plant.TagID, v plant.Value) {
	if i := slices.IndexFunc(scan.Readings, func(r plant.Reading) bool { return r.Tag == tag }); i >= 0 {
		scan.Readings[i].Value = v
	}
}

// texts are what a tag of text shows in turn.
var texts = [...]plant.Value{plant.TextValue("SN-000017  "), plant.TextValue("SN-000018  "), plant.TextValue("SN-000019  ")}

func number(tag plant.TagID) func(int64, *plant.Scan) []plant.Input {
	return func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, tag, plant.IntValue(n))
		return []plant.Input{scan}
	}
}

// offered is a scan that shows the next number, and its record.
func offered(rule string) func(int64, *plant.Scan) []plant.Input {
	record := &plant.Scan{Device: "press", Session: 1, Record: plant.RecordID("PRESS-01/" + rule)}
	return func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "no", plant.IntValue(n))
		set(scan, "serial", plant.TextValue("SN-"+strconv.FormatInt(n, 10)))
		set(scan, "part", plant.TextValue("P-"+strconv.FormatInt(n, 10)))
		record.Received, record.Readings = scan.Received, scan.Readings
		return []plant.Input{scan, record}
	}
}

var oneRules = map[string]oneRule{
	"counter": {"counter: {total: made, scrap: {BURR: bad}, max_rate: 100000/s, pieces: 1}", number("made")},
	"startstop": {"startstop: {running: run, reason: code}", func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "run", plant.BoolValue(n%2 == 0))
		return []plant.Input{scan}
	}},
	"reason": {"startstop: {running: {tag: code, values: [0]}, reason: made}", func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "made", plant.IntValue(n%100+1))
		return []plant.Input{scan}
	}},
	"parameters": {"parameters: {T: {tag: temp, deadband: 0.5}, M: made}", func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "temp", plant.FloatValue(float64(n%7)))
		return []plant.Input{scan}
	}},
	"order": {"order: {tag: order, sku: sku}", func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "order", texts[n%3])
		return []plant.Input{scan, scan}
	}},
	"mode": {"counter: {good: made, max_rate: 10/s}", func(n int64, scan *plant.Scan) []plant.Input {
		return []plant.Input{plant.ModeChange{At: scan.Received, Mode: [...]plant.Mode{plant.Setup, plant.Production}[n%2], By: "anna"}}
	}},
	"correction": {"counter: {good: made, max_rate: 10/s}", func(_ int64, scan *plant.Scan) []plant.Input {
		return []plant.Input{plant.Correction{At: scan.Received, Good: -1, Rework: 1, From: scan.Received.Add(-time.Minute), To: scan.Received, By: "anna"}}
	}},
	"dosing":      {"dosing: {trigger: no, ack: kept, protocol: sequence, component: {tag: comp, values: {1: SUGAR}}, quantity: qty, lot: lot}", offered("dosing")},
	"serial":      {"serial: {trigger: no, ack: kept, protocol: sequence, serial: serial, sku: {tag: sku}}", offered("serial")},
	"item_attach": {"item_attach: {trigger: no, ack: kept, protocol: sequence, serial: serial, item: {serial: part, sku: {tag: sku}}}", offered("item_attach")},
	"operation":   {"operation: {method: handshake, trigger: no, ack: kept, protocol: sequence, valid: made, serial: serial}", offered("operation")},
	"material": {"material: {HOPPER: {lot: lot, component: {tag: comp, values: {1: SUGAR}}, quantity: qty}}", func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "lot", texts[n%3])
		return []plant.Input{scan, scan}
	}},
	"totalizer": {"dosing: {method: totalizer, total: total, component: {tag: comp, values: {1: WATER}}, min_dose: 1 kg, max_rate: 100 kg/s, every: 2s, pause: 1s}", func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "total", plant.IntValue(n*5))
		return []plant.Input{scan}
	}},
	"continuous": {"dosing: {method: continuous, weight: gross, component: {tag: comp, values: {1: RESIN}}, min_dose: 200 g, every: 2s}", func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "gross", plant.ExactValue(plant.Decimal{Unscaled: 9e8 - n%200_000*2000, Scale: 3}))
		return []plant.Input{scan}
	}},
	"gain_in_weight": {"dosing: {method: gain_in_weight, weight: gross, component: {tag: comp, values: {1: SUGAR, 2: FLOUR}}, min_dose: 200 g, stable: stable}", func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "comp", plant.IntValue(1+n%2))
		set(scan, "gross", plant.ExactValue(plant.Decimal{Unscaled: n % 200_000 * 1000, Scale: 3}))
		return []plant.Input{scan}
	}},
	"batch_out": {"dosing: {method: batch_out, weight: gross, while: gate, component: {tag: comp, values: {1: SUGAR}}, min_dose: 200 g, stable: stable}", func(n int64, scan *plant.Scan) []plant.Input {
		set(scan, "gate", plant.BoolValue(n%3 == 0))
		set(scan, "gross", plant.ExactValue(plant.Decimal{Unscaled: 9e8 - (n+1)/3%200_000*2000, Scale: 3}))
		return []plant.Input{scan}
	}},
	"heartbeat": {"counter: {good: made, max_rate: 10/s}\nheartbeat: {tag: kept, every: 1h}", nil},
	"values":    {"values: {SUM: made + bad}\ncounter: {good: SUM, max_rate: 100000/s, pieces: 1}", number("made")},
}

// ruled is a machine of oneRules in its own round.
type ruled struct {
	run   run
	state State
	scan  plant.Scan
	out   Output
	round int64
	rule  oneRule
}

func newRuled(tb testing.TB, rule oneRule) *ruled {
	tb.Helper()
	section, faults := config.ParseSection("PRESS-01", "m.yaml", "device: press\n"+rule.config)
	var o Options
	faults = append(faults, section.Decode(&o)...)
	if len(faults.Errors()) > 0 {
		tb.Fatal(faults)
	}
	m, err := NewModel("PRESS-01", o, Catalog{"press": benchTags})
	if faulty(err) {
		tb.Fatal(section.Faults(err))
	}
	r := &ruled{run: run{m: m}, scan: plant.Scan{Device: "press", Session: 1, Received: base}, rule: rule}
	for _, t := range benchTags {
		if !slices.Contains(m.Tags(), plant.TagRef{Device: "press", Tag: t.ID}) {
			continue
		}
		v := plant.IntValue(1)
		switch {
		case t.Type == plant.TypeString:
			v = plant.TextValue("A-100 ")
		case t.Type == plant.TypeBool:
			v = plant.BoolValue(true)
		case t.Scaled:
			v = plant.ExactValue(plant.Decimal{Unscaled: 48_300, Scale: 3})
		case t.Type == plant.TypeFloat32:
			v = plant.FloatValue(20.5)
		}
		r.scan.Readings = append(r.scan.Readings, plant.Reading{Tag: t.ID, Value: v, Quality: plant.Good})
	}
	for range 20 {
		r.step(&r.scan)
	}
	return r
}

func (r *ruled) step(in plant.Input) (events int) {
	r.out.Events, r.out.Writes, r.out.Put, r.out.Delete = r.out.Events[:0], r.out.Writes[:0], r.out.Put[:0], r.out.Delete[:0]
	r.run.reset()
	r.run.step(&r.state, in, &r.out)
	return len(r.out.Events)
}

// unchanged is a scan in which nothing is new.
func (r *ruled) unchanged() {
	r.scan.Received = r.scan.Received.Add(time.Second)
	r.step(&r.scan)
}

// TestNoRuleAllocatesForNothing: an unchanged scan costs no rule any memory.
func TestNoRuleAllocatesForNothing(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(oneRules)) {
		r := newRuled(t, oneRules[name])
		if n := testing.AllocsPerRun(100, r.unchanged); n != 0 {
			t.Errorf("%s: %.0f allocations in an unchanged scan", name, n)
		}
		if events := len(r.out.Events); events != 0 {
			t.Errorf("%s: %d events of what has not changed", name, events)
		}
	}
}

// BenchmarkRules measures each rule by itself: what an unchanged reading costs,
// and each event the step that made it. Beside the mean it gives the least and
// the median, which a busy computer spoils less.
func BenchmarkRules(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(oneRules)) {
		b.Run(name+"/unchanged", func(b *testing.B) {
			const many = 200
			r := newRuled(b, oneRules[name])
			var took []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				started := time.Now()
				for range many {
					r.unchanged()
				}
				took = append(took, time.Since(started))
			}
			slices.Sort(took)
			per := float64(many * len(r.scan.Readings))
			b.ReportMetric(float64(took[0])/per, "ns/reading-least")
			b.ReportMetric(float64(took[len(took)/2])/per, "ns/reading-median")
		})
		if oneRules[name].change == nil {
			continue
		}
		b.Run(name+"/event", func(b *testing.B) {
			r := newRuled(b, oneRules[name])
			var took []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				r.round++
				r.scan.Received = r.scan.Received.Add(time.Second)
				for _, in := range r.rule.change(r.round+1, &r.scan) {
					started := time.Now()
					events := r.step(in)
					if d := time.Since(started); events > 0 && len(took) < 1<<16 {
						took = append(took, d/time.Duration(events))
					}
				}
			}
			if len(took) == 0 {
				if b.N > 100 {
					b.Fatal("no event in all rounds")
				}
				return
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[0]), "ns/event-least")
			b.ReportMetric(float64(took[len(took)/2]), "ns/event-median")
			b.ReportMetric(float64(len(took))/float64(min(b.N, 1<<16)), "events/round")
		})
	}
}
