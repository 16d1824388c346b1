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
			"downtime_type ": uplink.Amber, // default_type
			"machine ":       uplink.Amber, "waste ": uplink.Amber, "article ": uplink.Amber,
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

// TestPreflightLooksAtTheHistory: what downtimes, orders and productions name is
// known there, although no list has it.
func TestPreflightLooksAtTheHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := company()
		c.Orders = []fake.Order{{ID: 1, Code: "PO", Product: "P", Machines: []string{"M-2"}, RunningStatus: "started"}}
		c.Products = []fake.Product{{Code: "P", Operations: []fake.Operation{{Code: "cut"}, {Code: "press", Machines: []string{"M-4"}, Waste: []string{"BURR"}}}}}
		r := newRig(t, c)
		r.fake.OperatorStops("M-1", "Jam")
		used := []uplink.UsedCode{
			{Kind: plant.CodeMachine, Code: "press", Theirs: "M-1", Mapped: true}, {Kind: plant.CodeMachine, Code: "M-2", Theirs: "M-2"}, {Kind: plant.CodeMachine, Code: "M-3", Theirs: "M-3"}, {Kind: plant.CodeMachine, Code: "M-4", Theirs: "M-4"},
			{Kind: plant.CodeWaste, Code: "BURR", Theirs: "BURR"}, {Kind: plant.CodeWaste, Code: "CRACK", Theirs: "CRACK"},
			{Kind: plant.CodeDowntimeType, Code: "Jam", Theirs: "Jam", Machines: []plant.MachineID{"M-1"}}, {Kind: plant.CodeDowntimeType, Code: "jam", Theirs: "Jam", Machines: []plant.MachineID{"M-1", "M-2"}}, {Kind: plant.CodeDowntimeType, Code: "Waiting", Theirs: "Waiting"},
		}
		got := make(map[string]string)
		for _, f := range r.sender.Preflight(t.Context(), used) {
			got[f.What+" "+f.Code] = string(f.Level) + " " + f.Words
		}
		for what, want := range map[string]string{
			"machine press": `ok Prodsmart's newest records name "M-1"`, "machine M-2": `ok Prodsmart's newest records name "M-2"`, "machine ": "amber cannot be checked: M-3",
			"machine M-4": `ok Prodsmart's newest records name "M-4"`, "waste BURR": `ok Prodsmart's newest records name "BURR"`, "waste ": "amber cannot be checked: CRACK",
			"downtime_type Jam": `ok Prodsmart's newest records name "Jam"`,
			"downtime_type jam": `amber Prodsmart's newest records name "Jam"; whether it is assigned to M-2 cannot be checked`, "downtime_type ": "amber cannot be checked: Run, Waiting",
		} {
			if got[what] != want {
				t.Errorf("%s: %q, want %q", what, got[what], want)
			}
		}
		r.strict()
	})
}
