package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/render"
)

// leaves returns every text in a JSON value, by where it is.
func leaves(t *testing.T, text []byte) map[string]any {
	t.Helper()
	found, err := schematest.Leaves(text)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// everything is a table for each kind of code that has all texts of an event, and
// calls each by a name with characters that JSON escapes.
func everything(texts map[string]any) uplink.CodeTables {
	var t uplink.CodeTables
	tables := map[plant.CodeKind]*config.Table[uplink.Code]{
		plant.CodeMachine: &t.Machine, plant.CodeDowntimeType: &t.DowntimeType, plant.CodeWaste: &t.Waste, plant.CodeParameter: &t.Parameter,
		plant.CodeComponent: &t.Component, plant.CodeArticle: &t.Article, plant.CodeWorkCenter: &t.WorkCenter, plant.CodeOperation: &t.Operation,
	}
	for kind, table := range tables {
		seen := make(map[string]bool)
		for _, v := range texts {
			if ours, ok := v.(string); ok && !seen[ours] {
				seen[ours] = true
				table.Rows = append(table.Rows, config.Row[uplink.Code]{Name: ours, Value: uplink.Code{Theirs: theirs(kind, ours)}})
			}
		}
	}
	return t
}

func theirs(kind plant.CodeKind, ours string) string { return string(kind) + `: "é\ <` + ours + ">" }

// TestCloudEventsInTheWordsOfTheSystem: each code in the data of each kind is what
// the system calls it, nothing else is changed, and what comes out is still what the
// schema promises.
func TestCloudEventsInTheWordsOfTheSystem(t *testing.T) {
	schemas, err := schematest.Load()
	if err != nil {
		t.Fatal(err)
	}
	order := func(kind plant.EventKind, paths map[string]plant.CodeKind) map[string]plant.CodeKind {
		at := []string{"order"}
		if kind == plant.KindOrder {
			at = append(at, "previous", "next")
		}
		for _, order := range at {
			paths[order+".sku"], paths[order+".operation"], paths[order+".work_center"] = plant.CodeArticle, plant.CodeOperation, plant.CodeWorkCenter
		}
		return paths
	}
	of := map[plant.EventKind]map[string]plant.CodeKind{
		plant.KindCounter:    {"scrap[0].code": plant.CodeWaste, "scrap[1].code": plant.CodeWaste},
		plant.KindCorrection: {"code": plant.CodeWaste, "material.component": plant.CodeComponent},
		plant.KindStartStop:  {"type": plant.CodeDowntimeType},
		plant.KindReason:     {"type": plant.CodeDowntimeType},
		plant.KindParameters: {"parameters[0].code": plant.CodeParameter, "parameters[1].code": plant.CodeParameter},
		plant.KindOrder: {
			"totals.scrap[0].code": plant.CodeWaste, "totals.scrap[1].code": plant.CodeWaste,
			"doses[0].component": plant.CodeComponent, "doses[1].component": plant.CodeComponent,
		},
		plant.KindDosing:     {"component": plant.CodeComponent},
		plant.KindMaterial:   {"component": plant.CodeComponent},
		plant.KindRefill:     {"component": plant.CodeComponent},
		plant.KindRemoval:    {"component": plant.CodeComponent},
		plant.KindReceipt:    {"component": plant.CodeComponent},
		plant.KindSerial:     {"sku": plant.CodeArticle},
		plant.KindItemAttach: {"sku": plant.CodeArticle, "item.sku": plant.CodeComponent},
		plant.KindOperation:  {"sku": plant.CodeArticle, "routing_operation": plant.CodeOperation, "work_center": plant.CodeWorkCenter},
	}
	for _, kind := range plant.EventKinds() {
		for _, variant := range render.Variants() {
			t.Run(fmt.Sprintf("%s %s", kind, variant), func(t *testing.T) {
				e := render.Sample(kind, variant)
				recorded := slices.Clone(e.Data)
				want := leaves(t, e.Data)
				paths := of[kind]
				if paths == nil {
					paths = make(map[string]plant.CodeKind)
				}
				for path, code := range order(kind, maps.Clone(paths)) {
					ours, has := want[path]
					switch {
					case has:
						want[path] = theirs(code, ours.(string))
					case variant == render.Full:
						t.Errorf("a full event has no %s", path)
					}
				}
				c := uplink.NewCodes(everything(leaves(t, e.Data)), nil)
				out := c.AppendCloudEvent([]byte("before"), &e)
				var got struct{ Data json.RawMessage }
				if err := json.Unmarshal(out[len("before"):], &got); err != nil {
					t.Fatalf("%v in %s", err, out)
				}
				if found := leaves(t, got.Data); !maps.Equal(found, want) {
					t.Errorf("got  %v\nwant %v", found, want)
				}
				if err := schemas.Check(kind, e.Version, got.Data); err != nil {
					t.Error(err)
				}
				if !bytes.Equal(e.Data, recorded) {
					t.Errorf("the event itself was changed: %s", e.Data)
				}
				neutral := uplink.AppendCloudEvent(nil, &e)
				if head := neutral[:len(neutral)-1-len(e.Data)]; !bytes.HasPrefix(out[len("before"):], head) {
					t.Errorf("the attributes were changed: %s", out)
				}
				if again := c.AppendCloudEvent(nil, &e); !bytes.Equal(again, out[len("before"):]) {
					t.Error("the same event has other bytes at the second try")
				}
			})
		}
	}
}

// FuzzTranslate: whatever JSON an object is, all but the codes stays.
func FuzzTranslate(f *testing.F) {
	for _, kind := range plant.EventKinds() {
		for _, variant := range render.Variants() {
			e := render.Sample(kind, variant)
			f.Add(e.Data)
		}
	}
	c := uplink.NewCodes(uplink.CodeTables{Waste: scrapTable("code-1", "W\"1")}, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) || len(data) == 0 {
			return
		}
		e := render.Sample(plant.KindCounter, render.Full)
		e.Data = data
		out := c.AppendCloudEvent(nil, &e)
		if !json.Valid(out) {
			t.Fatalf("%s became %s", data, out)
		}
		if !bytes.Contains(data, []byte("scrap")) && !bytes.Contains(data, []byte(`\u`)) && !bytes.Equal(out, uplink.AppendCloudEvent(nil, &e)) {
			t.Fatalf("%s became %s", data, out)
		}
	})
}
