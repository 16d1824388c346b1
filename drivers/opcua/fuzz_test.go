package opcua

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// fuzzed are tags of every way in which a value is read.
func fuzzed(tb testing.TB) (items []*item) {
	tb.Helper()
	l, _ := cell()
	known := layouts{byEncoding: map[string]*layout{ua.NewNumericNodeID(4, 5001).String(): l}}
	scale := new(config.Number)
	if err := scale.UnmarshalText([]byte("0.1")); err != nil {
		tb.Fatal(err)
	}
	tags := []Tag{{}, {Scale: scale}}
	for kind := plant.TypeBool; kind <= plant.TypeString; kind++ {
		tags = append(tags, Tag{Type: Type(kind)})
	}
	for _, member := range []string{"[0]", "[2]", "Made", "Axes[1].Position", "Temperatures[0]", "Any", "[0].Order", "State", "BuildInfo.ProductName"} {
		tags = append(tags, Tag{Member: Member{member}})
	}
	for _, tag := range tags {
		items = append(items, &item{point: newPoint("x", tag, defaults()), known: known})
	}
	return items
}

// decoded is what the library's codec makes of bytes that were skimmed, as all
// that comes from a server is.
func decoded(raw []byte) (d *ua.DataValue, ok bool) {
	d = new(ua.DataValue)
	if skimValue(raw, d) != nil {
		return nil, false
	}
	_, err := d.Decode(raw)
	return d, err == nil
}

// FuzzDataValue: whatever a server says of a node is a value that is good or
// uncertain and can be used, or none with a cause in words.
func FuzzDataValue(f *testing.F) {
	keepBodies(ua.NewNumericNodeID(4, 5001))
	items := fuzzed(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, ok := decoded(raw)
		if !ok {
			return
		}
		for _, it := range items {
			r := it.reading(d)
			number, isNumber := r.Value.Float()
			switch {
			case r.Quality == plant.Bad && (!r.Value.IsZero() || r.Cause == ""),
				r.Quality == plant.Good && (r.Value.IsZero() || r.Cause != ""),
				r.Quality == plant.Uncertain && (r.Value.IsZero() || r.Cause == ""),
				isNumber && (math.IsNaN(number) || math.IsInf(number, 0)),
				r.Quality == plant.Good && quality(d.Status) != plant.Good:
				t.Errorf("%s of %+v: %+v", it.tag, d, r)
			}
		}
	})
}

// FuzzStructure: a body is taken apart as described, to its last byte, or is not
// taken apart.
func FuzzStructure(f *testing.F) {
	l, raw := cell()
	f.Add(raw)
	for i := range raw {
		f.Add(raw[:i])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		eo := &ua.ExtensionObject{TypeID: &ua.ExpandedNodeID{NodeID: ua.NewNumericNodeID(4, 5001)}, Value: &body{raw}}
		x, problem := layouts{byEncoding: map[string]*layout{"ns=4;i=5001": l}}.open(eo)
		if (x == nil) != (problem != "") {
			t.Fatalf("%v, %q", x, problem)
		}
		if o, ok := x.(*object); ok && len(o.values) != len(l.fields) {
			t.Errorf("%d members, want %d", len(o.values), len(l.fields))
		}
	})
}

// TestFuzzCorpora: what once was interesting is kept.
func TestFuzzCorpora(t *testing.T) {
	for _, target := range []string{"FuzzDataValue", "FuzzNodeID"} {
		kept, err := os.ReadDir(filepath.Join("testdata", "fuzz", target))
		if err != nil || len(kept) < 60 {
			t.Errorf("%s: %d inputs are kept, want 60: %v", target, len(kept), err)
		}
	}
}
