package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

var updateMatrix = flag.Bool("update-matrix", false, "rewrite the table of docs/uplinks.md")

// The table of docs/uplinks.md stands between these two lines.
const (
	matrixBegin = "<!-- the table is checked by TestMatrixOfKinds; go test ./cmd/sluice -run Matrix -update-matrix writes it -->\n"
	matrixEnd   = "<!-- end of the table -->\n"
)

// dialects are the uplinks of the table: the least that each can be configured
// with, and those with everything that is opt-in.
var dialects = []struct {
	name, least string
	all         []string
}{
	{"mqtt", `{driver: mqtt, url: "tcp://mes.example:1883"}`, nil},
	{"rest", `{driver: rest, url: "https://mes.example/events"}`, nil},
	{"prodsmart", `{driver: prodsmart, api_key: env:MATRIX_KEY, api_secret: env:MATRIX_KEY, default_type: Run}`, []string{`{driver: prodsmart, api_key: env:MATRIX_KEY, api_secret: env:MATRIX_KEY, default_type: Run,
    as_parameters: {order: O, mode: M, correction: C, gap: G, observed: B, alarm: A},
    movements: {kinds: [dosing, refill, removal], components: {SUGAR: {uom: kg}}}}`,
		`{driver: prodsmart, api_key: env:MATRIX_KEY, api_secret: env:MATRIX_KEY, default_type: Run, stock: {master: true, components: {SUGAR: kg}}}`}},
	{"nextplus", `{driver: nextplus, work_order_source: SAP, device: "https://erp.example/device", item_attach: "https://erp.example/attach", operation: "https://erp.example/operation"}`, []string{
		`{driver: nextplus, work_order_source: SAP, item_attach: "https://erp.example/attach", doses: {components: {SUGAR: kg}}}`,
		`{driver: nextplus, work_order_source: SAP, item_attach: "https://erp.example/attach", doses: {kinds: [refill, removal], components: {SUGAR: kg}}}`,
	}},
}

// carriesOf is what an uplink of that config carries.
func carriesOf(t *testing.T, section string) func(plant.EventKind) bool {
	t.Helper()
	text := "site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}\nuplinks:\n  one: " + section + "\n"
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, faults := config.Load(file)
	if errs := faults.Errors(); len(errs) > 0 || len(c.Uplinks) != 1 {
		t.Fatal(errs)
	}
	kind, _, ok := lookup(c.Uplinks[0], uplinkKinds)
	if !ok {
		t.Fatal("no such driver")
	}
	var p uplink.Plan
	p, faults = kind.Check(c.Uplinks[0])
	if errs := faults.Errors(); len(errs) > 0 {
		t.Fatal(section, errs)
	}
	return p.Carries
}

// TestMatrixOfKinds: docs/uplinks.md says of each kind of event which dialect
// carries it, and every dialect of the binary is in it.
func TestMatrixOfKinds(t *testing.T) {
	t.Setenv("MATRIX_KEY", "k")
	var head, rule strings.Builder
	head.WriteString("| kind |")
	rule.WriteString("|---|")
	columns := make([]map[plant.EventKind]string, len(dialects))
	for i, d := range dialects {
		head.WriteString(" [`" + d.name + "`](config.md#driver-" + d.name + ") |")
		rule.WriteString("---|")
		least := carriesOf(t, d.least)
		var all []func(plant.EventKind) bool
		for _, section := range d.all {
			all = append(all, carriesOf(t, section))
		}
		columns[i] = map[plant.EventKind]string{}
		for _, k := range plant.EventKinds() {
			switch {
			case least(k):
				columns[i][k] = "yes"
			case slices.ContainsFunc(all, func(carries func(plant.EventKind) bool) bool { return carries(k) }):
				columns[i][k] = "opt-in"
			default:
				columns[i][k] = "–"
			}
		}
	}
	table := head.String() + "\n" + rule.String() + "\n"
	for _, k := range plant.EventKinds() {
		table += "| `" + string(k) + "` |"
		for i := range dialects {
			table += " " + columns[i][k] + " |"
		}
		table += "\n"
	}
	path := filepath.Join("..", "..", "docs", "uplinks.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), matrixBegin)
	old, after, ends := strings.Cut(rest, matrixEnd)
	if !ok || !ends {
		t.Fatalf("%s has no place for the table", path)
	}
	if *updateMatrix {
		if err := os.WriteFile(path, []byte(before+matrixBegin+table+matrixEnd+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != table {
		t.Errorf("docs/uplinks.md says\n%s\nand the dialects carry\n%s", old, table)
	}
	for _, name := range uplinkKinds.Names() {
		if !strings.Contains(head.String(), "`"+name+"`") {
			t.Errorf("the dialect %s is not in the table", name)
		}
	}
}
