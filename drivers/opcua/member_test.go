package opcua

import (
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

func TestMember(t *testing.T) {
	for _, text := range []string{"[0]", "Speed", "Axis[0].Position", "[1][2]", "a.b.c[3].d", "x y.z"} {
		var m Member
		if err := m.UnmarshalText([]byte(text)); err != nil || m.String() != text {
			t.Errorf("%s: %v, %v", text, m, err)
		}
	}
	for _, text := range []string{"", ".", ".a", "a.", "a..b", "[", "[]", "[x]", "[-1]", "[1", "[1]a", "a[1]b", "[99999999999]", "[+1]", strings.Repeat("[0]", 17)} {
		var m Member
		if err := m.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %v", text, m)
		}
	}
}

// cell is a layout with one member of every kind, and its bytes.
func cell() (*layout, []byte) {
	axis := &layout{name: "Axis", fields: []field{{name: "Position", built: ua.TypeIDDouble}, {name: "Homed", built: ua.TypeIDBoolean}}}
	l := &layout{name: "Cell", fields: []field{
		{name: "Made", built: ua.TypeIDUint32}, {name: "Order", built: ua.TypeIDString}, {name: "Axes", nested: axis, array: true},
		{name: "Temperatures", built: ua.TypeIDFloat, array: true}, {name: "Small", built: ua.TypeIDSByte}, {name: "At", built: ua.TypeIDDateTime},
		{name: "Any", built: ua.TypeIDVariant}, {name: "Long", built: ua.TypeIDInt64}, {name: "Words", built: ua.TypeIDUint16, array: true},
	}}
	buf := ua.NewBuffer(nil)
	buf.WriteUint32(4711)
	buf.WriteString("AW1")
	buf.WriteInt32(2)
	for _, position := range []float64{1.5, -2.5} {
		buf.WriteFloat64(position)
		buf.WriteBool(position > 0)
	}
	buf.WriteInt32(2)
	buf.WriteFloat32(20.5)
	buf.WriteFloat32(21)
	buf.WriteInt8(-3)
	buf.WriteTime(time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC))
	buf.WriteStruct(ua.MustVariant(uint16(9)))
	buf.WriteInt64(-1)
	buf.WriteInt32(-1)
	return l, buf.Bytes()
}

// A member of a structure is read by the server's description of it; whatever
// does not fit is bad, with what to do.
func TestMembersOfStructures(t *testing.T) {
	l, raw := cell()
	encoding := ua.NewNumericNodeID(4, 5001)
	known := layouts{byEncoding: map[string]*layout{encoding.String(): l}}
	vendor := func(raw []byte) *ua.ExtensionObject {
		return &ua.ExtensionObject{EncodingMask: ua.ExtensionObjectBinary, TypeID: &ua.ExpandedNodeID{NodeID: encoding}, Value: &body{raw}}
	}
	status := ua.NewExtensionObject(&ua.ServerStatusDataType{State: ua.ServerStateSuspended, SecondsTillShutdown: 5, BuildInfo: &ua.BuildInfo{ProductName: "x"}})
	for _, c := range []struct {
		value  any
		member string
		known  layouts
		want   plant.Value
		cause  string
	}{
		{vendor(raw), "Made", known, plant.UintValue(4711), ""},
		{vendor(raw), "Order", known, plant.TextValue("AW1"), ""},
		{vendor(raw), "Axes[1].Position", known, plant.FloatValue(-2.5), ""},
		{vendor(raw), "Axes[0].Homed", known, plant.BoolValue(true), ""},
		{vendor(raw), "Temperatures[1]", known, plant.FloatValue(21), ""},
		{vendor(raw), "Small", known, plant.IntValue(-3), ""},
		{vendor(raw), "At", known, plant.TextValue("2026-03-01T11:00:00Z"), ""},
		{vendor(raw), "Any", known, plant.UintValue(9), ""},
		{vendor(raw), "Long", known, plant.IntValue(-1), ""},
		{[]*ua.ExtensionObject{vendor(raw), vendor(raw)}, "[1].Made", known, plant.UintValue(4711), ""},
		{vendor(raw), "Axes[2].Position", known, plant.Value{}, "the array has 2 elements, counted from 0, so there is no [2]"},
		{vendor(raw), "Words[0]", known, plant.Value{}, "the array has 0 elements"},
		{vendor(raw), "made", known, plant.Value{}, "the structure has no member made; it has Made, Order, Axes"},
		{vendor(raw), "Made.x", known, plant.Value{}, "it is no structure"},
		{vendor(raw), "Made[0]", known, plant.Value{}, "it is no array"},
		{vendor(raw), "Axes", known, plant.Value{}, "the member is an array"},
		{vendor(raw), "Axes[0]", known, plant.Value{}, "the node is a structure"},
		{vendor(raw[:len(raw)-1]), "Made", known, plant.Value{}, "not as the server describes it"},
		{vendor(append(raw[:len(raw):len(raw)], 0)), "Made", known, plant.Value{}, "1 bytes are left"},
		{vendor(raw), "Made", layouts{}, plant.Value{}, "a structure of the unknown type ns=4;i=5001 (the server does not describe it): name the nodes of its members instead"},
		{&ua.ExtensionObject{TypeID: &ua.ExpandedNodeID{NodeID: encoding}}, "Made", layouts{problem: "it is too old"}, plant.Value{}, "(it is too old)"},
		{status, "State", layouts{}, plant.IntValue(3), ""},
		{status, "SecondsTillShutdown", layouts{}, plant.UintValue(5), ""},
		{status, "BuildInfo.ProductName", layouts{}, plant.TextValue("x"), ""},
		{status, "ShutdownReason", layouts{}, plant.Value{}, "no value there"},
		{status, "CurrentTime.wall", layouts{}, plant.Value{}, "it is no structure"},
		{[]int16{5, 6, 7}, "[2]", layouts{}, plant.IntValue(7), ""},
		{[]int16{5, 6, 7}, "[3]", layouts{}, plant.Value{}, "the array has 3 elements"},
		{[][]float64{{1, 2}, {3, 4}}, "[1][0]", layouts{}, plant.FloatValue(3), ""},
		{int16(5), "[0]", layouts{}, plant.Value{}, "it is no array"},
		{[]string{"a"}, "[0]", layouts{}, plant.TextValue("a"), ""},
	} {
		var tag Tag
		if err := tag.Member.UnmarshalText([]byte(c.member)); err != nil {
			t.Fatal(err)
		}
		it := &item{point: newPoint("x", tag, defaults()), known: c.known}
		r := it.reading(&ua.DataValue{Value: ua.MustVariant(c.value)})
		if r.Value != c.want || (r.Quality == plant.Good) != (c.cause == "") || !strings.Contains(r.Cause, c.cause) {
			t.Errorf("%s of %T: %+v, want %v %q", c.member, c.value, r, c.want, c.cause)
		}
	}
}

// Optional members and unions say in front what is there.
func TestOptionalMembersAndUnions(t *testing.T) {
	fields := []field{{name: "A", built: ua.TypeIDByte}, {name: "B", built: ua.TypeIDByte, optional: true}, {name: "C", built: ua.TypeIDByte, optional: true}}
	with, union := &layout{kind: ua.StructureTypeStructureWithOptionalFields, fields: fields}, &layout{kind: ua.StructureTypeUnion, fields: fields}
	for _, c := range []struct {
		layout *layout
		raw    []byte
		member string
		want   any
		fails  bool
	}{
		{with, []byte{2, 0, 0, 0, 7, 9}, "A", byte(7), false},
		{with, []byte{2, 0, 0, 0, 7, 9}, "B", nil, false},
		{with, []byte{2, 0, 0, 0, 7, 9}, "C", byte(9), false},
		{with, []byte{3, 0, 0, 0, 7, 8}, "A", nil, true},
		{union, []byte{2, 0, 0, 0, 5}, "B", byte(5), false},
		{union, []byte{2, 0, 0, 0, 5}, "A", nil, false},
		{union, []byte{0, 0, 0, 0}, "A", nil, false},
		{union, []byte{4, 0, 0, 0, 5}, "A", nil, true},
		{union, []byte{255, 255, 255, 255, 5}, "A", nil, true},
	} {
		o, err := c.layout.decode(&parser{Buffer: ua.NewBuffer(c.raw), left: maxParts}, 0)
		if (err != nil) != c.fails {
			t.Errorf("%v: %v", c.raw, err)
			continue
		}
		if err != nil {
			continue
		}
		if got, problem := o.member(c.member); got != c.want || problem != "" {
			t.Errorf("%v, %s: %v, %s, want %v", c.raw, c.member, got, problem, c.want)
		}
	}
}

// A description that holds itself, or that makes much of nothing, ends.
func TestHostileDescriptions(t *testing.T) {
	ring := &layout{}
	ring.fields = []field{{name: "next", nested: ring}}
	wide := &layout{}
	for range 8 {
		next := &layout{}
		for range 2000 {
			next.fields = append(next.fields, field{name: "x", nested: wide})
		}
		wide = next
	}
	for _, l := range []*layout{ring, wide, {fields: []field{{name: "a", nested: &layout{}, array: true}}}} {
		if _, err := l.decode(&parser{Buffer: ua.NewBuffer([]byte{255, 255, 255, 127, 0, 0}), left: maxParts}, 0); err == nil {
			t.Error("it was taken apart")
		}
	}
}

// Elements of an array in a real server, by subscription and by polling, beside
// one that is not there.
func TestElementsOfAnArray(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	s.Set("Line.Signed", []int16{5, 6})
	for _, mode := range []string{"publishing", "poll"} {
		d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\n"+mode+": 50ms\ntags:\n  second: {node: ns=2;s=Line.Signed, member: '[1]', type: int16}\n  third: {node: ns=2;s=Line.Signed, member: '[2]'}\n", s.Addr())
		connect(t, d, 1)
		got := map[plant.TagID]plant.Reading{}
		until(t, d, "both", func(s plant.Scan) bool {
			for _, r := range s.Readings {
				got[r.Tag] = r
			}
			return len(got) == 2
		})
		if r := got["second"]; r.Value != plant.IntValue(6) || r.Quality != plant.Good {
			t.Errorf("%s: %+v", mode, r)
		}
		if r := got["third"]; r.Quality != plant.Bad || !strings.Contains(r.Cause, "the array has 2 elements") {
			t.Errorf("%s: %+v", mode, r)
		}
		_ = d.Close()
	}
}
