package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/plantsim"
)

// A server is listed as a tree, for programs, as a table, and as lines of a
// config that the gateway takes as they are.
func TestBrowse(t *testing.T) {
	s := startOPCUA(t, plantsim.OPCUAOptions{Circles: true, BrowsePage: 2, ReadOnly: []string{"FillerDB.Running"}})
	s.Update(func(n *plantsim.Nodes) {
		n.Set("FillerDB.Curve", []int16{1, 2})
		n.Set("ScaleDB.Total", uint32(7))
		n.Set("ScaleDB.Formula", "=1+1")
		n.Set("ScaleDB.Red\x1b[31m", "\x1b[31m")
		n.Set("ScaleDB.Below", int16(-5))
	})
	url := "opc.tcp://" + s.Addr()
	out, talk, code := command(t.Context(), "browse", url)
	contains(t, "tree", out, "FillerDB/", "Count/", "Total UInt32 4711 ns=2;s=FillerDB.Count.Total", "Order String ORD-1", "Weight Float 12.5", "(it is an array)")
	if code != 0 || talk != "" || strings.Contains(out, "Server") || strings.Contains(out, "Objects") {
		t.Errorf("%d, %q\n%s", code, talk, out)
	}

	out, _, code = command(t.Context(), "browse", url, "--json", "--filter", "filler")
	var all []browsed
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 {
		t.Fatal(err, code)
	}
	for _, n := range all {
		if !strings.HasPrefix(n.Path, "FillerDB") || n.Path == "FillerDB/Running" && (n.Writable || n.Value != true || n.Tag != "bool" || n.Quality != "good") {
			t.Errorf("%+v", n)
		}
	}
	if len(all) != 7 {
		t.Errorf("%d nodes: %+v", len(all), all)
	}

	out, _, _ = command(t.Context(), "browse", url, "--csv")
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 1+12 {
		t.Fatalf("%v, %d rows\n%s", err, len(rows), out)
	}
	contains(t, "csv", out, "ScaleDB/Formula,nsu="+plantsim.OPCUANamespace+";s=ScaleDB.Formula,String,'=1+1,good,true,", "Int16,-5,good")

	if strings.Contains(out, "\x1b") {
		t.Errorf("what a server calls its nodes reaches the terminal as it is: %q", out)
	}

	lines, _, _ := command(t.Context(), "browse", url, "--config-lines")
	contains(t, "config lines", lines, `Total: {node: "nsu=`+plantsim.OPCUANamespace+`;s=FillerDB.Count.Total", type: uint32}`, "ScaleDB_Total: {", "# FillerDB/Curve: it is an array")
	file := writeConfig(t, `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: `+t.TempDir()+`}
devices:
  filler-plc:
    driver: opcua
    endpoint: `+url+`
`+lines+`
machines: {FILLER-01: {device: filler-plc, counter: {total: Total, max_rate: 20/s}}}
uplinks: {broker: {driver: mqtt, url: "tcp://127.0.0.1:1883"}}
`)
	if out, talk, code := command(t.Context(), "read", "-c", file, "filler-plc"); code != 0 {
		t.Errorf("what was listed cannot be read: %d\n%s%s", code, out, talk)
	}
	out, _, code = command(t.Context(), "browse", "-c", file, "filler-plc", "--no-values", "--from", "ns=2;s=FillerDB.Count")
	contains(t, "a device of the config", out, "Bad UInt32 - ns=2;s=FillerDB.Count.Bad")
	if code != 0 || strings.Contains(out, "Order") || strings.Contains(out, "4711") {
		t.Errorf("%d\n%s", code, out)
	}
}

// What cannot be listed is said with what to do instead.
func TestBrowseWrong(t *testing.T) {
	m := startModbus(t)
	s := startOPCUA(t, plantsim.OPCUAOptions{})
	gone := startModbus(t)
	if err := gone.Stop(); err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, `site: {enterprise: acme, site: lisbon, area: packing, gateway: gw-1}
buffer: {path: `+t.TempDir()+`}
devices: {press-plc: {driver: modbus, endpoint: "`+m.Addr()+`", tags: {made: {address: "holding:0", type: uint32}}}}
machines: {PRESS-01: {device: press-plc, counter: {total: made, max_rate: 20/s}}}
uplinks: {broker: {driver: mqtt, url: "tcp://127.0.0.1:1883"}}
`)
	for _, x := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-c", file, "press-plc"}, 2, "sluice browse --modbus HOST --range holding:0-200"},
		{[]string{"-c", file}, 2, "name a device (press-plc)"},
		{[]string{"-c", file, "pres-plc"}, 2, "did you mean `press-plc`?"},
		{[]string{"http://10.0.0.5"}, 2, "write opc.tcp://host:4840"},
		{[]string{"opc.tcp://" + gone.Addr()}, 1, "nothing listens at this port"},
		{[]string{"opc.tcp://" + s.Addr(), "--from", "FillerDB"}, 1, "is no node id"},
		{[]string{"opc.tcp://" + s.Addr(), "--from", "ns=2;s=Nowhere"}, 1, "the server has no such node"},
		{[]string{"opc.tcp://" + s.Addr(), "--most", "3"}, 1, "raise --most"},
		{[]string{"opc.tcp://" + s.Addr(), "--filter", "nothing"}, 0, "look without --filter"},
		{[]string{"opc.tcp://" + s.Addr(), "--from", "ns=2;s=FillerDB.Order"}, 0, "nothing below ns=2;s=FillerDB.Order; if it is a variable, sluice read"},
		{[]string{"--modbus", m.Addr()}, 2, "--range holding:0-200"},
		{[]string{"--modbus", m.Addr(), "--range", "holding:5-1"}, 2, "ends before it begins"},
		{[]string{"--modbus", m.Addr(), "--range", "holding:0-4000"}, 2, "scan in parts"},
		{[]string{"--modbus", m.Addr(), "--range", "hold:0-4"}, 2, "is no range"},
		{[]string{"--modbus", gone.Addr(), "--range", "holding:0-4"}, 1, "nothing listens at this port"},
	} {
		out, talk, code := command(t.Context(), append([]string{"browse"}, x.args...)...)
		if code != x.code || !strings.Contains(talk, x.want) || strings.Contains(talk, "--filter") && !slices.Contains(x.args, "--filter") {
			t.Errorf("%q: %d\n%s%s\nwant %d, %q", x.args, code, out, talk, x.code, x.want)
		}
	}
}

// A scan finds what a Modbus device answers, also around holes, and writes
// nothing.
func TestBrowseScansRegisters(t *testing.T) {
	m := startModbus(t)
	m.Update(func(b *plantsim.Bank) { b.Fail(plantsim.Holding, 20, 21, plantsim.IllegalDataAddress) })
	out, talk, code := command(t.Context(), "browse", "--modbus", m.Addr(), "--range", "holding:0-40", "--range", "coil:0-3", "--json")
	var all []browsed
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 {
		t.Fatal(err, code, talk)
	}
	got := map[string]string{}
	for _, n := range all {
		got[n.Path] = fmt.Sprint(n.Value)
	}
	if len(all) != 41-2+4 || got["holding:1"] != "4711" || got["coil:3"] != "true" || got["holding:20"] != "" || got["holding:22"] != "0" {
		t.Errorf("%d addresses: %v", len(all), got)
	}
	contains(t, "scan", talk, "43 addresses answered, 2 did not")
	if w := m.Counts().Writes; w != 0 {
		t.Errorf("%d writes", w)
	}
}

func TestFiltered(t *testing.T) {
	var nodes []drivers.Node
	for _, path := range []string{"A", "A/B", "A/B/hit", "A/C", "D", "D/E", "hit", "hit/below"} {
		nodes = append(nodes, drivers.Node{Path: path, Depth: strings.Count(path, "/")})
	}
	var got []string
	for _, n := range filtered(nodes, "HIT") {
		got = append(got, n.Path)
	}
	if want := "A A/B A/B/hit hit hit/below"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// Names to paste say which node a tag is, also where two namespaces have the same
// names and where none of their letters can stand in a name.
func TestTagNames(t *testing.T) {
	taken := map[string]bool{}
	for _, c := range []struct{ path, address, want string }{
		{"Line/T1", "ns=2;s=T1", "T1"}, {"Line/T1", "ns=3;s=T1", "Line_T1"}, {"Line/T1", "ns=4;s=T1", "Line_T1_2"}, {"Line/T1", "ns=5;s=T1", "Line_T1_3"},
		{"Line/T2", "ns=2;s=T2", "T2"}, {"温度", "ns=2;i=1042", "node_1042"}, {"湿度", "ns=3;i=1042", "node_1042_2"}, {"温/度", "ns=3;s=温度", "tag"}, {"温/度", "ns=4;s=温度", "tag_2"},
		{"Ring/温度", "ns=2;s=odd.3", "node_odd_3"}, {"Line/" + strings.Repeat("x", 3000), "ns=2;i=1", strings.Repeat("x", 64)},
		{`DB "Line".Made`, `ns=3;s="Line"."Made"`, "DB_Line_Made"},
	} {
		if got := tagName(&drivers.Node{Path: c.path, Address: c.address}, taken); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.path, c.address, got, c.want)
		}
	}
}
