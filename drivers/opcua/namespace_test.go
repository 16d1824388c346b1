package opcua

import (
	"strings"
	"testing"

	"github.com/gopcua/opcua/ua"
)

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
