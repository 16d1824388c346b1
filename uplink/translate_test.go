package uplink

import (
	"fmt"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
)

// named are the reasons of one machine.
type named struct {
	own   map[string]string
	names map[string]string
}

// DowntimeType implements Downtimes.
func (n named) DowntimeType(_ plant.MachineID, reason string) (string, bool) {
	if name, own := n.own[reason]; own {
		return name, true
	}
	return n.names[reason], false
}

// Own implements Downtimes.
func (n named) Own() bool { return len(n.own) > 0 }

// leaves returns every text in a JSON value, by where it is.
func leaves(t *testing.T, text []byte) map[string]any {
	t.Helper()
	found, err := schematest.Leaves(text)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestDowntimeTypesInCloudEvents: the machine's own table for the uplink comes first,
// then the uplink's, and without either the type stays as it was recorded.
func TestDowntimeTypesInCloudEvents(t *testing.T) {
	reasons := named{own: map[string]string{"21": "ER-WAIT", "": "ER-U"}, names: map[string]string{"21": "Waiting", "22": "Jam now"}}
	table := decoded(t, "{downtime_type: {Jam now: Stau, Jam then: Alt}}", "")
	stop := func(reason string) plant.Event {
		e := goldenEvents()["first"]
		e.Kind = plant.KindStartStop
		e.Data = []byte(`{"machine":"FILLER-01","mode":"production","order":{"number":"1","type":"Jam then"},"running":0,"stop_id":1,"type":"Jam then"}`)
		if reason != "" {
			e.Data = append(e.Data[:len(e.Data)-1], fmt.Sprintf(`, "reason" : %q }`, reason)...)
		}
		return e
	}
	for _, x := range []struct {
		name, reason, want string
		codes              *Codes
	}{
		{"no tables", "21", "Jam then", NewCodes(CodeTables{}, named{names: reasons.names})},
		{"nobody", "21", "Jam then", nil},
		{"the machine's own", "21", "ER-WAIT", NewCodes(CodeTables{}, reasons)},
		{"the machine's own before the uplink's", "21", "ER-WAIT", NewCodes(table, reasons)},
		{"no code", "", "ER-U", NewCodes(table, reasons)},
		{"not of the machine's own", "22", "Jam then", NewCodes(CodeTables{}, reasons)},
		{"the uplink's, by the type of now", "22", "Stau", NewCodes(table, reasons)},
		{"the uplink's, a code that the machine does not know", "99", "Alt", NewCodes(table, reasons)},
	} {
		t.Run(x.name, func(t *testing.T) {
			e := stop(x.reason)
			got := leaves(t, x.codes.AppendCloudEvent(nil, &e))
			if got["data.type"] != x.want || got["data.order.type"] != "Jam then" {
				t.Errorf("got %v, want %q", got, x.want)
			}
		})
	}
}

// TestCodesCountEvents: an event that is sent again, or holds a code twice, counts
// once.
func TestCodesCountEvents(t *testing.T) {
	c := NewCodes(decoded(t, "{waste: {A: B}}", ""), nil)
	e := goldenEvents()["first"]
	e.Data = []byte(`{"good":1,"scrap":[{"code":"W9","quantity":1},{"code":"A"},{"code":"W9"}]}`)
	for range 3 {
		_ = c.AppendCloudEvent(nil, &e)
	}
	other := e
	other.Machine = "FILLER-02"
	_ = c.AppendCloudEvent(nil, &other)
	e.Sequence++
	_ = c.AppendCloudEvent(nil, &e)
	unmapped, more := c.Unmapped()
	if len(unmapped) != 1 || more != 0 || unmapped[0].Code != "W9" || unmapped[0].Count != 3 {
		t.Errorf("got %+v and %d more, want W9 of three events", unmapped, more)
	}
}

// TestDataThatIsNoJSONGoesAsItIs: it is never recorded, but it would have to be
// seen.
func TestDataThatIsNoJSONGoesAsItIs(t *testing.T) {
	c := NewCodes(decoded(t, "{waste: {A: BBBBBBBBBBBB}}", ""), nil)
	for _, data := range []string{`{"scrap":[{"code":"A"},`, `{"scrap":[{"code":"A"}`, `{"scrap":[{"code":"A`, `{"scrap":[{"code":"A"}}`, `{"scrap" "A"}`, `{`, `[`, `x`, `"`, ` `, `{"a`, `{"a":`, `{"a":}`, `{1:2}`} {
		e := goldenEvents()["first"]
		e.Data = []byte(data)
		if got, want := c.AppendCloudEvent(nil, &e), AppendCloudEvent(nil, &e); string(got) != string(want) {
			t.Errorf("%s: got %s", data, got)
		}
	}
}

func BenchmarkTranslate(b *testing.B) {
	e := goldenEvents()["first"]
	e.Data = []byte(`{"machine":"FILLER-01","mode":"production","order":{"number":"0012345","sku":"A-1"},"good":1207,"good_delta":8,"scrap":[{"code":"code-1","quantity":31,"delta":1}],"from":"2026-03-29T00:59:50.000Z","to":"2026-03-29T00:59:59.007Z","raw":34455}`)
	for name, c := range map[string]*Codes{
		"none":  NewCodes(CodeTables{}, nil),
		"waste": NewCodes(CodeTables{Waste: config.Table[Code]{Rows: []config.Row[Code]{{Name: "code-1", Value: Code{Theirs: "4711"}}}}}, nil),
	} {
		b.Run(name, func(b *testing.B) {
			buffer := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				buffer = c.AppendCloudEvent(buffer[:0], &e)
			}
		})
	}
}
