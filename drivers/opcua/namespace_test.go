package opcua

import (
	"strings"
	"testing"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// A number for a namespace is doubtful, one warning a number; that of the server's
// own namespace and of the standard's never moves.
func TestNumbersOfNamespacesAreWarnedOf(t *testing.T) {
	s, faults := config.ParseSection("dut", "test.yaml", "driver: opcua\nendpoint: localhost\ntags:\n  a: ns=3;s=Line;1\n  b: {node: 'ns=2;i=7'}\n  c: ns=3;s=B\n  d: ns=1;s=Own\n  e: i=2258\n  f: nsu=urn:line;s=A\n")
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	_, faults = Kind.Check(s)
	if len(faults) != 2 || len(faults.Errors()) > 0 {
		t.Fatalf("%d faults: %v", len(faults), faults)
	}
	for i, want := range []string{"2 tags, of which this is the first, name their namespace by its number: ns=3 is", "the tag names its namespace by its number: ns=2 is"} {
		if !strings.HasPrefix(faults[i].Problem, want) || !strings.Contains(faults[i].Remedy, []string{"as in nsu=NAME;s=Line;1;", "as in nsu=NAME;i=7;"}[i]) ||
			!strings.Contains(faults[i].Remedy, "check --online") || faults[i].Line != 4+i {
			t.Errorf("%+v, want %q", faults[i], want)
		}
	}
}

// A server that answers says what is to be written instead of the numbers.
func TestInspectTellsTheNamesOfNamespaces(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\ntags: {made: ns=2;s=Line.Made, late: ns=2;s=Line.Late, state: i=2259, by-name: 'nsu="+plantsim.OPCUANamespace+";s=Line.Made'}\n", s.Addr())
	connect(t, d, 1)
	in, err := d.(drivers.Inspector).Inspect(t.Context(), nil)
	if err != nil || len(in.Doubts) != 1 {
		t.Fatalf("%+v, %v", in, err)
	}
	if n := in.Doubts[0]; !strings.HasPrefix(n.Text, "2 tags have ns=2, which is "+plantsim.OPCUANamespace+" now") ||
		!strings.Contains(n.Do, "write 'nsu="+plantsim.OPCUANamespace+";' instead of 'ns=2;' in the config, as in 'nsu="+plantsim.OPCUANamespace+";s=Line.Made'") {
		t.Errorf("%+v", n)
	}
}

// All namespaces that have moved are named, each once: who writes only the first
// one by its name leaves the others to what the gateway remembers.
func TestAllNamespacesThatMovedAreNamed(t *testing.T) {
	d, ok := openText(t, "driver: opcua\nendpoint: localhost\ntags: {a: ns=2;s=A, b: ns=3;s=B, c: ns=2;s=C, d: ns=4;s=D}\n", "").(*driver)
	if !ok {
		t.Fatal("no driver")
	}
	for tag, p := range map[plant.TagID]pin{"a": {"ns=2;s=A", "urn:a"}, "b": {"ns=3;s=B", "urn:b;1"}, "c": {"ns=2;s=C", "urn:a"}, "d": {"ns=4;s=D", "urn:d"}} {
		d.pins[tag] = p
	}
	s := &session{d: d, namespaces: []string{"", "urn:own", "urn:b;1", "urn:a", "urn:d"}}
	for i, p := range d.points {
		s.items = append(s.items, &item{point: p, handle: uint32(i + 1)})
	}
	s.resolve(s.items)
	want := "the namespace urn:a was number 2 and is number 3 now: write 'nsu=urn:a;' instead of 'ns=2;'; " +
		"the namespace urn:b;1 was number 3 and is number 2 now: write 'nsu=urn:b%3B1;' instead of 'ns=3;'; the gateway has followed"
	if got := strings.Join(d.Advice(), "\n"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A number in the config means the namespace that it meant when a node of it was
// first read: it is followed where it moves to, and nothing else is taken for it.
func TestNamespacesThatMove(t *testing.T) {
	const own, a, b = "urn:own", "urn:a", "urn:b"
	for _, c := range []struct {
		name string
		pins map[uint16]string
		node string
		now  []string
		want uint16
		err  string
	}{
		{"by name", nil, "nsu=urn:b;i=1", []string{"", own, a, b}, 3, ""},
		{"by name, gone", nil, "nsu=urn:c;i=1", []string{"", own, a}, 0, "no namespace urn:c; it has"},
		{"not read yet", map[uint16]string{}, "ns=2;i=1", []string{"", own, b}, 2, ""},
		{"as before", map[uint16]string{2: a}, "ns=2;i=1", []string{"", own, a, b}, 2, ""},
		{"one came in front", map[uint16]string{2: a}, "ns=2;i=1", []string{"", own, b, a}, 3, ""},
		{"the two have changed places", map[uint16]string{2: a, 3: b}, "ns=3;i=1", []string{"", own, b, a}, 2, ""},
		{"gone, and another is there", map[uint16]string{2: a, 3: b}, "ns=2;s=Made", []string{"", own, b}, 0, "namespace 2 was urn:a and is now urn:b: write nsu=urn:a; instead of ns=2;"},
		{"gone", map[uint16]string{3: b}, "ns=3;i=1", []string{"", own, a}, 0, "namespace 3 was urn:b and is gone"},
		{"beyond the list", map[uint16]string{}, "ns=7;i=1", []string{""}, 7, ""},
		{"the standard one", map[uint16]string{}, "i=2258", []string{""}, 0, ""},
	} {
		var n NodeID
		if err := n.UnmarshalText([]byte(c.node)); err != nil {
			t.Fatal(err)
		}
		got, err := placeOf(n, c.pins[n.Index], c.now)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %d, %v, want %d %q", c.name, got, err, c.want, c.err)
		}
	}
}

// A list of namespaces that changes ends the session; one that is not told does not.
func TestAListOfNamespacesThatChanges(t *testing.T) {
	s := &session{namespaces: []string{"", "urn:own", "urn:a"}}
	for _, c := range []struct {
		d    *ua.DataValue
		same bool
	}{
		{nil, true}, {&ua.DataValue{}, true}, {&ua.DataValue{Value: ua.MustVariant("x")}, true},
		{&ua.DataValue{Value: ua.MustVariant([]string{"", "urn:own", "urn:a"})}, true},
		{&ua.DataValue{Value: ua.MustVariant([]string{"", "urn:own", "urn:b", "urn:a"})}, false},
		{&ua.DataValue{Value: ua.MustVariant([]string{"", "urn:own"})}, false},
	} {
		if err := s.sameNamespaces(c.d); (err == nil) != c.same {
			t.Errorf("%+v: %v", c.d, err)
		}
	}
}
