package prodsmart

import (
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestPreflight: a component must be there, in its unit, and not be consumed by a
// bill of materials as well; what has no list is said in amber.
func TestPreflight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := company()
		c.Products = []fake.Product{
			{Code: "SUGAR", UoM: "kg"}, {Code: "FLOUR", UoM: "t"}, {Code: "SALT", UoM: "kg"},
			{Code: "CAKE", UoM: "pcs", Components: []fake.Component{{Product: "SUGAR", Quantity: 1}}}, {Code: "BREAD", UoM: "pcs"},
		}
		r := newRig(t, c, func(o *Options) {
			m := Movements{}
			m.fill()
			for _, name := range []string{"SUGAR", "FLOUR", "SALT", "YEAST"} {
				m.Components.Rows = append(m.Components.Rows, config.Row[Component]{Name: name, Value: Component{UoM: "kg"}})
			}
			o.Movements = &m
		})
		used := []uplink.UsedCode{
			{Kind: plant.CodeMachine, Code: "M-1", Theirs: "M-1", Mapped: true},
			{Kind: plant.CodeMachine, Code: "M-2", Theirs: "M-2", Mapped: true},
			{Kind: plant.CodeDowntimeType, Code: "jam", Theirs: "Jam", Mapped: true},
			{Kind: plant.CodeWaste, Code: "BURR", Theirs: "BURR", Mapped: true},
			{Kind: plant.CodeArticle, Code: "cake", Theirs: "CAKE", Mapped: true},
			{Kind: plant.CodeArticle, Code: "BREAD", Theirs: "BREAD", Mapped: true},
			{Kind: plant.CodeArticle, Code: "PIE", Theirs: "PIE", Mapped: true},
		}
		r.deliver(r.event("M-1", plant.KindStartStop, `{"running":0,"type":"Jam","stop_id":1}`))
		got := make(map[string]uplink.Level)
		for _, f := range r.sender.Preflight(t.Context(), used) {
			got[f.What+" "+f.Code] = f.Level
			if f.Words == "" || f.Level != uplink.OK && f.Remedy == "" {
				t.Errorf("no words or no remedy: %+v", f)
			}
		}
		want := map[string]uplink.Level{
			"machine M-1": uplink.OK, "downtime_type jam": uplink.OK, // there have been such downtimes
			"machine ": uplink.Amber, "waste ": uplink.Amber, "article ": uplink.Amber,
			"component SUGAR": uplink.OK, "component FLOUR": uplink.Red, "component SALT": uplink.OK, "component YEAST": uplink.Red,
			"article cake": uplink.Red, "article BREAD": uplink.OK, "article PIE": uplink.Red,
		}
		for what, level := range want {
			if got[what] != level {
				t.Errorf("%s is %q, want %q", what, got[what], level)
			}
		}
		if len(got) != len(want) {
			t.Errorf("got %v", got)
		}
		// Nothing was changed there, and a Prodsmart that is away is amber.
		r.strict()
		r.fake.Faults.Add(central.Answered(503, "").Always())
		for _, f := range r.sender.Preflight(t.Context(), used[5:6]) {
			if f.Level != uplink.Amber {
				t.Errorf("an outage is %+v", f)
			}
		}
	})
}
