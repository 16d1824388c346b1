package plant_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

func drawTime(t *rapid.T, name string) time.Time {
	return time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, name)).UTC()
}

func drawHead(t *rapid.T) plant.Head {
	h := plant.Head{Machine: plant.MachineID(rapid.String().Draw(t, "machine")), Mode: plant.Production}
	if rapid.Bool().Draw(t, "order") {
		h.Order = &plant.Order{
			Number: rapid.String().Draw(t, "number"), Source: rapid.String().Draw(t, "source"), SKU: rapid.String().Draw(t, "sku"),
			ExternalID: rapid.String().Draw(t, "external"), Operation: rapid.String().Draw(t, "operation"),
			OperationExternalID: rapid.String().Draw(t, "operation external"), WorkCenter: rapid.String().Draw(t, "center"), Position: rapid.String().Draw(t, "position"),
		}
	}
	return h
}

func drawSeconds(t *rapid.T, name string) plant.Seconds {
	return plant.Seconds(rapid.Int64Range(0, 1e9).Draw(t, name) * int64(time.Millisecond))
}

// same reports whether hand-written JSON reads back as the value it was made
// of, and as encoding/json would have written it.
func same[T any](t *rapid.T, v T, written []byte) {
	var back T
	if err := json.Unmarshal(written, &back); err != nil {
		t.Fatalf("%v in %s", err, written)
	}
	if !reflect.DeepEqual(v, back) {
		t.Fatalf("%s\nreads back as %+v\nwant          %+v", written, back, v)
	}
	standard, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var a, b map[string]any
	if err := json.Unmarshal(standard, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(written, &b); err != nil {
		t.Fatal(err)
	}
	for key := range a {
		if _, ok := b[key]; !ok {
			t.Fatalf("%s has no %q", written, key)
		}
	}
	if len(a) != len(b) {
		t.Fatalf("%s\nand encoding/json: %s", written, standard)
	}
}

func TestHandWrittenJSONReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Int64Min(0)
		c := plant.Counter{
			Head: drawHead(t), Good: count.Draw(t, "good"), GoodDelta: count.Draw(t, "good delta"),
			Rework: count.Draw(t, "rework"), ReworkDelta: count.Draw(t, "rework delta"),
			From: drawTime(t, "from"), To: drawTime(t, "to"), Raw: rapid.Int64().Draw(t, "raw"),
			Gap: drawSeconds(t, "gap"), MicroStops: count.Draw(t, "micro-stops"), MicroSeconds: drawSeconds(t, "micro"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "codes") {
			c.Scrap = append(c.Scrap, plant.ScrapCount{Code: rapid.String().Draw(t, "code"), Quantity: count.Draw(t, "quantity"), Delta: count.Draw(t, "delta")})
		}
		for _, flag := range []*bool{&c.Reset, &c.Rollover, &c.LowerBound, &c.Ambiguous, &c.Unattributed, &c.Suspect, &c.Rebase} {
			*flag = rapid.Bool().Draw(t, "flag")
		}
		same(t, c, c.AppendJSON(nil))
		s := plant.StartStop{
			Head: drawHead(t), Running: rapid.IntRange(0, 1).Draw(t, "running"), StopID: rapid.Uint64().Draw(t, "stop"),
			Type: rapid.String().Draw(t, "type"), Reason: rapid.String().Draw(t, "reason"), ReasonName: rapid.String().Draw(t, "name"),
			Duration: drawSeconds(t, "duration"), Gap: drawSeconds(t, "gap"), MicroStops: count.Draw(t, "micro-stops"), MicroSeconds: drawSeconds(t, "micro"),
		}
		if rapid.Bool().Draw(t, "since") {
			s.Since = drawTime(t, "since at")
		}
		same(t, s, s.AppendJSON(nil))
	})
}

// TestADoseIsWrittenAsByEncodingJSON, to the last byte, but for <, > and &, which
// need no escape outside of a web page.
func TestADoseIsWrittenAsByEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return rapid.StringMatching(`[ -%'-;=?-~éÜ\n]{0,6}`).Draw(t, name) }
		amount := func(name string) plant.Decimal {
			return plant.Decimal{Unscaled: rapid.Int64().Draw(t, name), Scale: rapid.Uint8Range(0, 18).Draw(t, "scale")}
		}
		maybe := func(name string) *plant.Decimal {
			if rapid.Bool().Draw(t, name+" known") {
				d := amount(name)
				return &d
			}
			return nil
		}
		at := func(name string) time.Time {
			switch rapid.IntRange(0, 3).Draw(t, name) {
			case 0:
				return time.Time{}
			case 1:
				return time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), 0).UTC()
			case 2:
				return time.Unix(0, rapid.Int64Range(0, 4e18).Draw(t, "ns")).In(time.FixedZone("", 3600))
			default:
				return drawTime(t, "ms")
			}
		}
		d := plant.Dosing{
			Head: plant.Head{Machine: "M1", Mode: plant.Production, Order: &plant.Order{Number: text("number"), SKU: text("sku")}}, Component: text("component"), Quantity: amount("quantity"), Unit: text("unit"), Target: maybe("target"), Deviation: maybe("deviation"),
			Status: text("status"), Purpose: text("purpose"), Started: at("started"), Ended: at("ended"), Recipe: text("recipe"), Batch: text("batch"),
			ProcessUnit: text("unit"), Phase: text("phase"), Scale: text("scale"), Method: text("method"), Dose: text("dose"), Location: text("location"), Gap: drawSeconds(t, "gap"),
		}
		if rapid.Bool().Draw(t, "tolerance") {
			in := rapid.Bool().Draw(t, "in")
			d.Tolerance, d.InTolerance = &plant.Tolerance{Minus: amount("minus"), Plus: amount("plus"), Unit: text("unit")}, &in
			d.Weights = &plant.Weights{Before: amount("before"), After: amount("after")}
		}
		for range rapid.IntRange(0, 3).Draw(t, "lots") {
			d.Lots = append(d.Lots, plant.DosedLot{Lot: text("lot"), Quantity: amount("of it")})
			d.Flagged = append(d.Flagged, text("flag"))
		}
		for _, flag := range []*bool{&d.Estimated, &d.Drift, &d.Reset, &d.Rollover, &d.LowerBound, &d.Ambiguous, &d.Suspect} {
			*flag = rapid.Bool().Draw(t, "flag")
		}
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(d.AppendJSON(nil)); got != string(want) {
			t.Fatalf("%s\nencoding/json: %s", got, want)
		}
	})
}

// TestUnitsAreWrittenAsByEncodingJSON, as doses are.
func TestUnitsAreWrittenAsByEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string { return rapid.StringMatching(`[ -%'-;=?-~éÜ\n\x00]{0,6}`).Draw(t, name) }
		head := plant.Head{Machine: "M1", Mode: plant.Production, Order: &plant.Order{Number: text("number")}}
		s := plant.Serial{
			Head: head, Action: text("action"), Serial: text("serial"), OldSerial: text("old"), SKU: text("sku"), Station: text("station"),
			Pass: rapid.IntRange(-1, 1<<40).Draw(t, "pass"),
		}
		a := plant.ItemAttach{
			Head: head, Action: text("action"), SKU: text("sku"), Serial: text("serial"), AttachID: rapid.Uint64().Draw(t, "id"),
			Item: plant.AttachedItem{SKU: text("item"), Unit: text("unit"), Serial: text("serial"), Order: text("order"), Lot: text("lot")},
		}
		if rapid.Bool().Draw(t, "quantity") {
			a.Item.Quantity = &plant.Decimal{Unscaled: rapid.Int64().Draw(t, "unscaled"), Scale: rapid.Uint8Range(0, 18).Draw(t, "scale")}
		}
		for range rapid.IntRange(0, 3).Draw(t, "flags") {
			s.Flagged, a.Flagged = append(s.Flagged, text("flag")), append(a.Flagged, text("flag"))
		}
		for _, c := range []struct {
			in  any
			got []byte
		}{{s, s.AppendJSON(nil)}, {a, a.AppendJSON(nil)}} {
			want, err := json.Marshal(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(c.got) != string(want) {
				t.Fatalf("%s\nencoding/json: %s", c.got, want)
			}
		}
	})
}

func TestAppendTimeIsRFC3339(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := drawTime(t, "at")
		if got, want := string(plant.AppendTime(nil, at)), at.Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func TestSecondsKeepMilliseconds(t *testing.T) {
	for in, want := range map[plant.Seconds]string{
		0: "0", plant.Seconds(time.Second): "1", plant.Seconds(1500 * time.Millisecond): "1.5",
		plant.Seconds(time.Millisecond): "0.001", plant.Seconds(-2050 * time.Millisecond): "-2.05", plant.Seconds(time.Hour): "3600",
	} {
		b, err := json.Marshal(in)
		if err != nil || string(b) != want {
			t.Errorf("%d: %s %v, want %s", in, b, err, want)
		}
		var back plant.Seconds
		if err := json.Unmarshal(b, &back); err != nil || back != in {
			t.Errorf("%s reads back as %d: %v", b, back, err)
		}
	}
	var s plant.Seconds
	if err := json.Unmarshal([]byte(`"1s"`), &s); err == nil {
		t.Error("text was read as seconds")
	}
}

// TestEverySchemaHoldsItsPayload: the fields of a payload and the properties of
// its schema are the same, so that neither is forgotten when the other grows.
func TestEverySchemaHoldsItsPayload(t *testing.T) {
	for kind, payload := range map[plant.EventKind]any{
		plant.KindCounter: plant.Counter{}, plant.KindStartStop: plant.StartStop{}, plant.KindReason: plant.Reason{},
		plant.KindParameters: plant.Parameters{}, plant.KindOrder: plant.OrderEvent{}, plant.KindGap: plant.GapData{},
		plant.KindAlarm: plant.Alarm{}, plant.KindObserved: plant.Observed{}, plant.KindDosing: plant.Dosing{},
		plant.KindSerial: plant.Serial{}, plant.KindItemAttach: plant.ItemAttach{}, plant.KindOperation: plant.Operation{},
		plant.KindMaterial: plant.Material{}, plant.KindRefill: plant.Movement{}, plant.KindRemoval: plant.Movement{}, plant.KindReceipt: plant.Movement{}, plant.KindMode: plant.ModeEvent{},
		plant.KindCorrection: plant.CorrectionEvent{},
	} {
		text, ok := plant.Schema(kind, 1)
		if !ok {
			t.Errorf("%s has no schema", kind)
			continue
		}
		var schema struct {
			ID         string                     `json:"$id"`
			Required   []string                   `json:"required"`
			Properties map[string]json.RawMessage `json:"properties"`
		}
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		if schema.ID != plant.SchemaURI(kind, 1) {
			t.Errorf("%s: id %s", kind, schema.ID)
		}
		fields := map[string]bool{}
		jsonFields(reflect.TypeOf(payload), fields)
		for name := range fields {
			if _, ok := schema.Properties[name]; !ok {
				t.Errorf("%s: the schema has no %q", kind, name)
			}
		}
		for name := range schema.Properties {
			if !fields[name] {
				t.Errorf("%s: the payload has no %q", kind, name)
			}
		}
	}
	if _, ok := plant.Schema(plant.KindCounter, 99); ok {
		t.Error("a schema of a version that does not exist")
	}
}

func jsonFields(typ reflect.Type, into map[string]bool) {
	for f := range typ.Fields() {
		if f.Anonymous {
			jsonFields(f.Type, into)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		into[name] = true
	}
}

func BenchmarkCounterJSON(b *testing.B) {
	c := plant.Counter{
		Head: plant.Head{Machine: "FILLER-01", Mode: plant.Production, Order: &plant.Order{Number: "0012345"}},
		Good: 123456, GoodDelta: 3, Scrap: []plant.ScrapCount{{Code: "SCRAP", Quantity: 12}}, From: time.Now(), To: time.Now(), Raw: 4711,
	}
	var buffer []byte
	b.ReportAllocs()
	for b.Loop() {
		buffer = c.AppendJSON(buffer[:0])
	}
}

func TestParseEventID(t *testing.T) {
	id := plant.EventID{Gateway: "gw-1", Machine: "FILLER-01", Epoch: 0x9f3a0000000000c1, Sequence: 1234567}
	if back, err := plant.ParseEventID(id.String()); err != nil || back != id {
		t.Errorf("%s reads back as %v, %v", id, back, err)
	}
	for _, bad := range []string{"", "gw-1/M1", "gw-1/M1/12", "gw-1//9f3a0000000000c1-1", "/M1/9f3a0000000000c1-1", "gw/M1/9f3a-1", "gw/M1/9f3a0000000000c1-0", "gw/M1/9f3a0000000000c1--1", "gw/M1/zzzz0000000000c1-1"} {
		if _, err := plant.ParseEventID(bad); err == nil {
			t.Errorf("%q is an id", bad)
		}
	}
}
