package opcua

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

func TestDecode(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		name  string
		value any // nil: no value
		kind  plant.TagType
		scale string
		want  plant.Value
		cause string
	}{
		{"bool", true, 0, "", plant.BoolValue(true), ""},
		{"type as configured", int32(5), plant.TypeInt32, "", plant.IntValue(5), ""},
		{"type not as configured", uint32(5), plant.TypeInt32, "", plant.Value{}, "the node is of the type UInt32, the config says int32"},
		{"scaled", int16(-617), 0, "0.1", plant.ExactValue(plant.Decimal{Unscaled: -617, Scale: 1}), ""},
		{"too large to scale", uint64(math.MaxUint64), 0, "0.1", plant.Value{}, "too large"},
		{"too large after scaling", int64(math.MaxInt64), 0, "10", plant.Value{}, "too large"},
		{"scaled float", float32(2.5), 0, "2", plant.FloatValue(5), ""},
		{"not a number", math.NaN(), 0, "", plant.Value{}, "not a number"},
		{"infinite", float32(math.Inf(1)), 0, "", plant.Value{}, "not a number"},
		{"text", "AW1", plant.TypeString, "", plant.TextValue("AW1"), ""},
		{"text with what is behind its end", "AW1\x00\x00x", 0, "", plant.TextValue("AW1"), ""},
		{"text of another character set", "Gr\xfcn", 0, "", plant.Value{}, "UTF-8"},
		{"localized text", ua.NewLocalizedText("Läuft"), plant.TypeString, "", plant.TextValue("Läuft"), ""},
		{"qualified name", &ua.QualifiedName{NamespaceIndex: 2, Name: "x"}, 0, "", plant.TextValue("x"), ""},
		{"guid", ua.NewGUID("09087e75-8e5e-499b-954f-f2a9603db28a"), 0, "", plant.TextValue("09087E75-8E5E-499B-954F-F2A9603DB28A"), ""},
		{"time", at, 0, "", plant.TextValue("2026-03-01T11:00:00Z"), ""},
		{"status", ua.StatusBadTimeout, 0, "", plant.UintValue(uint64(ua.StatusBadTimeout)), ""},
		{"bytes", []byte{1, 2}, 0, "", plant.Value{}, "the node is of the type ByteString, which is not supported"},
		{"array", []int32{1}, 0, "", plant.Value{}, "array"},
		{"structure", ua.NewExtensionObject(&ua.ServerStatusDataType{}), 0, "", plant.Value{}, "structure"},
		{"unknown structure", &ua.ExtensionObject{TypeID: ua.NewTwoByteExpandedNodeID(9)}, 0, "", plant.Value{}, "structure"},
		{"nothing", nil, 0, "", plant.Value{}, "no value"},
	} {
		tag := Tag{Type: Type(c.kind)}
		if c.scale != "" {
			tag.Scale = new(config.Number)
			if err := tag.Scale.UnmarshalText([]byte(c.scale)); err != nil {
				t.Fatal(err)
			}
		}
		d := &ua.DataValue{Value: new(ua.Variant)}
		if c.value != nil {
			d.Value = ua.MustVariant(c.value)
		}
		it := &item{point: newPoint("x", tag, defaults())}
		r := it.reading(d)
		good := c.cause == ""
		if r.Value != c.want || (r.Quality == plant.Good) != good || good != (r.Cause == "") || !strings.Contains(r.Cause, c.cause) {
			t.Errorf("%s: %+v, want %v %q", c.name, r, c.want, c.cause)
		}
	}
	it := &item{point: newPoint("x", Tag{}, defaults())}
	if r := it.reading(nil); r.Quality != plant.Bad || r.Cause == "" {
		t.Errorf("%+v", r)
	}
	if r := it.reading(&ua.DataValue{Value: ua.MustVariant(true), ServerTimestamp: at}); !r.Source.Equal(at) {
		t.Errorf("without a source timestamp the time is %v", r.Source)
	}
}

// Changes of several tags come in the order of the device's time, those of one
// tag always as they were sent.
func TestInOrder(t *testing.T) {
	base := time.Unix(1000, 0)
	change := func(handle uint32, seconds int) sample {
		d := &ua.DataValue{}
		if seconds >= 0 {
			d.SourceTimestamp = base.Add(time.Duration(seconds) * time.Second)
		} else {
			d.ServerTimestamp = base // says when it was looked at, not when it happened
		}
		return sampleOf(handle, d)
	}
	for name, c := range map[string]struct {
		in   []sample
		want string
	}{
		"sorted over tags":          {[]sample{change(1, 1), change(1, 3), change(2, 2)}, "121"},
		"one value of each tag":     {[]sample{change(1, 9), change(2, 2)}, "12"},
		"a clock that runs back":    {[]sample{change(1, 3), change(1, 1), change(2, 2)}, "112"},
		"without a time":            {[]sample{change(1, 3), change(1, 4), change(2, -1)}, "112"},
		"equal times stay put":      {[]sample{change(2, 1), change(1, 1), change(1, 1)}, "211"},
		"one that says nothing":     {[]sample{change(2, 5), change(2, 6), change(1, 1), sampleOf(1, nil)}, "2211"},
		"a handle that nobody gave": {[]sample{change(2, 5), change(9, 1), change(2, 6), change(1, 1)}, "9122"},
	} {
		s := &session{items: []*item{{}, {}}}
		for range 2 { // of what was seen in one publish nothing is left in the next
			in := slices.Clone(c.in)
			s.inOrder(in)
			got := ""
			for _, n := range in {
				got += string(rune('0' + n.handle))
			}
			if got != c.want {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		}
	}
}

func TestSubscriptionParameters(t *testing.T) {
	for publishing, want := range map[time.Duration][2]uint32{
		200 * time.Millisecond: {5, 300}, 10 * time.Millisecond: {100, 6000}, 2 * time.Second: {1, 30}, time.Minute: {1, 3},
	} {
		o := defaults()
		o.Publishing = config.Duration(publishing)
		if got := [2]uint32{o.keepAlives(), o.lifetime()}; got != want {
			t.Errorf("%v: keep-alives and lifetime %v, want %v", publishing, got, want)
		}
	}
	for _, c := range []struct {
		publishing, sampling time.Duration
		want                 int
	}{
		{200 * time.Millisecond, 200 * time.Millisecond, 2}, {200 * time.Millisecond, 50 * time.Millisecond, 8},
		{200 * time.Millisecond, 60 * time.Millisecond, 8}, {time.Minute, time.Millisecond, maxQueue},
	} {
		if got := queueFor(c.publishing, c.sampling); got != c.want {
			t.Errorf("%v/%v: a queue of %d, want %d", c.publishing, c.sampling, got, c.want)
		}
	}
}

func TestServerState(t *testing.T) {
	if err := running(&ua.DataValue{Value: ua.MustVariant(int32(0))}); err != nil {
		t.Error(err)
	}
	for state, want := range map[int32]string{3: "is suspended (state 3)", 4: "is shutting down", 7: "is not running (state 7)", 99: "is not running"} {
		if err := running(&ua.DataValue{Value: ua.MustVariant(state)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", state, err)
		}
	}
	if err := running(&ua.DataValue{Value: new(ua.Variant), Status: ua.StatusBadNodeIDUnknown}); err != nil {
		t.Errorf("a server that does not tell its state: %v", err)
	}
	for want, d := range map[int]*ua.DataValue{chunk: nil, 50: {Value: ua.MustVariant(uint32(50))}} {
		if got := limit(d); got != want {
			t.Errorf("limit %d, want %d", got, want)
		}
	}
	if limit(&ua.DataValue{Value: ua.MustVariant(uint32(0))}) != chunk || limit(&ua.DataValue{Value: ua.MustVariant(uint32(1 << 31))}) != chunk {
		t.Error("0 or a huge limit is no limit of its own")
	}
}

// A type that the specification has is called by its name there.
func TestTypesHaveNames(t *testing.T) {
	for number, want := range map[ua.TypeID]string{ua.TypeIDVariant: "Variant", ua.TypeIDDataValue: "DataValue", ua.TypeIDDiagnosticInfo: "DiagnosticInfo", 26: "number 26"} {
		if got := typeName(number); got != want {
			t.Errorf("type %d is called %q, want %q", number, got, want)
		}
	}
}
