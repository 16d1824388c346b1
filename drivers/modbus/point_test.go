package modbus

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

func number(s string) *config.Number {
	d, err := plant.ParseDecimal(s)
	if err != nil {
		panic(err)
	}
	return &config.Number{Decimal: d}
}

func at(address string) Address {
	a, err := ParseAddress(address)
	if err != nil {
		panic(err)
	}
	return a
}

// 305419896 is 0x12345678.
func TestWordOrders(t *testing.T) {
	for order, raw := range map[WordOrder][]byte{
		ABCD: {0x12, 0x34, 0x56, 0x78}, CDAB: {0x56, 0x78, 0x12, 0x34},
		BADC: {0x34, 0x12, 0x78, 0x56}, DCBA: {0x78, 0x56, 0x34, 0x12},
	} {
		p := newPoint("x", Tag{Address: at("holding:0"), Type: Type(plant.TypeUint32)}, order)
		if v, cause := p.decode(raw); v != plant.UintValue(305419896) || cause != "" {
			t.Errorf("%v: % x = %v %s, want 305419896", order, raw, v, cause)
		}
	}
	eight := map[WordOrder][]byte{
		ABCD: {1, 2, 3, 4, 5, 6, 7, 8}, CDAB: {7, 8, 5, 6, 3, 4, 1, 2},
		BADC: {2, 1, 4, 3, 6, 5, 8, 7}, DCBA: {8, 7, 6, 5, 4, 3, 2, 1},
	}
	for order, raw := range eight {
		if got := order.join(raw); got != 0x0102030405060708 {
			t.Errorf("%v: % x = %#x", order, raw, got)
		}
		if got := order.split(0x0102030405060708, 4); !bytes.Equal(got, raw) {
			t.Errorf("%v: split % x, want % x", order, got, raw)
		}
	}
}

func TestDecode(t *testing.T) {
	text := func(n int) Tag { return Tag{Address: at("holding:0"), Type: Type(plant.TypeString), Length: n} }
	typed := func(k plant.TagType) Tag { return Tag{Address: at("holding:0"), Type: Type(k)} }
	scaled := func(k plant.TagType, scale, offset string) Tag {
		tag := typed(k)
		tag.Scale, tag.Offset = number(scale), number(offset)
		return tag
	}
	exact := func(s string) plant.Value { return plant.ExactValue(number(s).Decimal) }
	for _, c := range []struct {
		name  string
		tag   Tag
		order WordOrder
		raw   string
		want  plant.Value
		cause string
	}{
		{"int16", typed(plant.TypeInt16), 0, "\x80\x00", plant.IntValue(math.MinInt16), ""},
		{"uint16", typed(plant.TypeUint16), 0, "\x80\x00", plant.UintValue(0x8000), ""},
		{"uint16 byte swapped", typed(plant.TypeUint16), BADC, "\x00\x80", plant.UintValue(0x8000), ""},
		{"int32", typed(plant.TypeInt32), 0, "\xFF\xFF\xFF\xFE", plant.IntValue(-2), ""},
		{"int64", typed(plant.TypeInt64), 0, "\x80\x00\x00\x00\x00\x00\x00\x00", plant.IntValue(math.MinInt64), ""},
		{"uint64", typed(plant.TypeUint64), 0, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", plant.UintValue(math.MaxUint64), ""},
		{"bool of a register", typed(plant.TypeBool), 0, "\x01\x00", plant.BoolValue(true), ""},
		{"bit", Tag{Address: at("holding:0.8")}, 0, "\x01\x00", plant.BoolValue(true), ""},
		{"bit of a byte-swapped register", Tag{Address: at("holding:0.0")}, BADC, "\x01\x00", plant.BoolValue(true), ""},
		{"float32", typed(plant.TypeFloat32), 0, "\x41\x4A\x00\x00", plant.FloatValue(12.625), ""},
		{"NaN", typed(plant.TypeFloat32), 0, "\x7F\xC0\x00\x00", plant.Value{}, "not a number (registers hold 0x7FC00000)"},
		{"infinity", typed(plant.TypeFloat64), 0, "\xFF\xF0\x00\x00\x00\x00\x00\x00", plant.Value{}, "not a number"},
		{"scaled float", scaled(plant.TypeFloat32, "2", "0.5"), 0, "\x41\x4A\x00\x00", plant.FloatValue(25.75), ""},
		{"scaled to infinity", scaled(plant.TypeFloat64, "10", "0"), 0, "\x7F\xEF\xFF\xFF\xFF\xFF\xFF\xFF", plant.Value{}, "too large"},
		{"scaled", scaled(plant.TypeInt16, "0.1", "0"), 0, "\x00\x01", exact("0.1"), ""},
		{"scaled below", scaled(plant.TypeInt16, "0.001", "-40"), 0, "\xFF\xFF", exact("-40.001"), ""},
		{"too large to scale", scaled(plant.TypeUint64, "0.1", "0"), 0, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", plant.Value{}, "too large"},
		{"scaled beyond", scaled(plant.TypeInt64, "10", "0"), 0, "\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", plant.Value{}, "too large"},
		{"text", text(3), 0, "AB-12\x00", plant.TextValue("AB-12"), ""},
		{"text of padding", text(2), 0, "    ", plant.TextValue(""), ""},
		{"text of nothing", text(2), 0, "\x00\x00\x00\x00", plant.TextValue(""), ""},
		{"text with rubbish behind its end", text(3), 0, "A\x00\x01\x02BC", plant.TextValue("A"), ""},
		{"Latin-1", text(2), 0, "\xC4\xD6\xFC\xDF", plant.TextValue("ÄÖüß"), ""},
		{"byte swapped text", text(2), BADC, "BADC", plant.TextValue("ABCD"), ""},
		{"word swapped text stays", text(2), CDAB, "ABCD", plant.TextValue("ABCD"), ""},
		{"control character", text(2), 0, "A\x02BC", plant.Value{}, "byte 2 of the text is 0x02"},
		{"C1 control", text(2), 0, "AB\x85C", plant.Value{}, "byte 3 of the text is 0x85"},
		{"memory never written as text", text(2), 0, "\xFF\xFE\xFF\xFF", plant.Value{}, "no character"},
		{"umlauts", text(2), 0, "gr\xFC\xDF", plant.TextValue("grüß"), ""},
		{"numbers as text", text(2), 0, "\xFF\xFF\x12\x34", plant.Value{}, "no character"},
	} {
		p := newPoint("x", c.tag, c.order)
		for range 2 { // the second time from the memory of the last text
			v, cause := p.decode([]byte(c.raw))
			if v != c.want || !strings.HasPrefix(cause, c.cause) && !strings.Contains(cause, c.cause) || (cause == "") != (c.cause == "") {
				t.Errorf("%s: %v, %q; want %v, %q", c.name, v, cause, c.want, c.cause)
			}
		}
	}
}

func TestEncodeIsTheReverseOfDecode(t *testing.T) {
	for _, kind := range []plant.TagType{plant.TypeInt16, plant.TypeUint16, plant.TypeInt32, plant.TypeUint32, plant.TypeInt64, plant.TypeUint64, plant.TypeFloat32, plant.TypeFloat64} {
		for order := ABCD; order <= DCBA; order++ {
			p := newPoint("x", Tag{Address: at("holding:0"), Type: Type(kind)}, order)
			if err := quick.Check(func(b [8]byte) bool {
				raw := b[:2*p.width]
				v, cause := p.decode(raw)
				if cause != "" {
					return true // NaN has many forms
				}
				back, err := p.encode(v)
				return err == nil && bytes.Equal(back, raw)
			}, nil); err != nil {
				t.Errorf("%v %v: %v", kind, order, err)
			}
		}
	}
	p := newPoint("x", Tag{Address: at("holding:0"), Type: Type(plant.TypeInt16), Scale: number("0.05"), Offset: number("-40")}, ABCD)
	for raw := math.MinInt16; raw <= math.MaxInt16; raw++ {
		v, cause := p.decode(ABCD.split(uint64(raw), 1))
		back, err := p.encode(v)
		if cause != "" || err != nil || int16(ABCD.join(back)) != int16(raw) {
			t.Fatalf("%d becomes %v becomes % x, %v", raw, v, back, err)
		}
	}
}

func TestEncodeRefusesWhatDoesNotFit(t *testing.T) {
	typed := func(k plant.TagType) Tag { return Tag{Address: at("holding:0"), Type: Type(k), Length: 2} }
	scaled := Tag{Address: at("holding:0"), Type: Type(plant.TypeInt16), Scale: number("0.1")}
	for _, c := range []struct {
		tag   Tag
		value plant.Value
	}{
		{typed(plant.TypeInt16), plant.IntValue(math.MaxInt16 + 1)},
		{typed(plant.TypeInt16), plant.IntValue(math.MinInt16 - 1)},
		{typed(plant.TypeUint16), plant.IntValue(-1)},
		{typed(plant.TypeUint16), plant.IntValue(65536)},
		{typed(plant.TypeUint64), plant.IntValue(-1)},
		{typed(plant.TypeInt64), plant.UintValue(math.MaxUint64)},
		{typed(plant.TypeInt32), plant.FloatValue(1.5)},
		{typed(plant.TypeInt32), plant.TextValue("7")},
		{typed(plant.TypeFloat32), plant.FloatValue(1e300)},
		{typed(plant.TypeFloat32), plant.TextValue("x")},
		{typed(plant.TypeBool), plant.TextValue("true")},
		{typed(plant.TypeString), plant.TextValue("ABCDE")},
		{typed(plant.TypeString), plant.TextValue("€")},
		{typed(plant.TypeString), plant.TextValue("A\n")},
		{scaled, plant.ExactValue(number("0.15").Decimal)},
		{scaled, plant.IntValue(3277)},
		{scaled, plant.TextValue("1")},
	} {
		if raw, err := newPoint("x", c.tag, ABCD).encode(c.value); err == nil {
			t.Errorf("%v as %v is % x", c.value, c.tag.kind(), raw)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("AW004711"), byte(0), byte(0), byte(0))
	f.Add([]byte{0x7F, 0xC0, 0, 0, 0, 0, 0, 1}, byte(6), byte(2), byte(1))
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, byte(5), byte(3), byte(2))
	kinds := []plant.TagType{plant.TypeString, plant.TypeInt16, plant.TypeUint16, plant.TypeInt32, plant.TypeInt64, plant.TypeUint64, plant.TypeFloat32, plant.TypeFloat64, plant.TypeBool}
	f.Fuzz(func(t *testing.T, raw []byte, k, order, scale byte) {
		if len(raw) < 8 {
			return
		}
		tag := Tag{Address: at("holding:0"), Type: Type(kinds[int(k)%len(kinds)]), Length: 4}
		if scale > 0 && tag.kind().Numeric() {
			tag.Scale = &config.Number{Decimal: plant.Decimal{Unscaled: int64(scale), Scale: scale % (plant.MaxScale + 1)}}
		}
		p := newPoint("x", tag, ABCD+WordOrder(order%4))
		v, cause := p.decode(raw[:2*p.width])
		if (cause == "") == v.IsZero() {
			t.Fatalf("value %v (%v) with cause %q", v, v.Type(), cause)
		}
		if f, ok := v.Float(); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
			t.Errorf("the value is %v", f)
		}
		if !slices.Contains([]plant.ValueType{plant.None, plant.Bool, plant.Int, plant.Uint, plant.Float, plant.Exact, plant.Text}, v.Type()) {
			t.Errorf("type %v", v.Type())
		}
	})
}

// TestS7Strings: the two lengths at the beginning say where the text ends,
// whatever stands behind it; what cannot be lengths is no string.
func TestS7Strings(t *testing.T) {
	p := newPoint("text", Tag{Address: Address{Table: Holding}, Type: Type(plant.TypeString), Length: 5, Text: s7Text}, ABCD)
	for _, c := range []struct {
		raw, want, cause string
	}{
		{"\x08\x03ABCold--", "ABC", ""},
		{"\x08\x08ABCDEFGH", "ABCDEFGH", ""},
		{"\x08\x00ABCDEFGH", "", ""},
		{"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "", ""},
		{"\x14\x05AB C\x00old", "AB C", ""},
		{"\x04\x05ABCDEFGH", "", "which no S7 string has"},
		{"\xff\x05ABCDEFGH", "", "which no S7 string has"},
		{"\x14\x09ABCDEFGH", "", "the tag room for 8"},
		{"ABCDEFGHIJ", "", "which no S7 string has"},
		{"\x08\x03A\x01Cold--", "", "byte 4 of the text is 0x01"},
	} {
		v, cause := p.decode([]byte(c.raw))
		if cause == "" && c.cause == "" && v.Text() != c.want || !strings.Contains(cause, c.cause) || (cause == "") != (c.cause == "") {
			t.Errorf("%q: %q %q, want %q %q", c.raw, v.Text(), cause, c.want, c.cause)
		}
	}
	for text, want := range map[string]string{"ABC": "\x08\x03ABC\x00\x00\x00\x00\x00", "": "\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00", "ABCDEFGH": "\x08\x08ABCDEFGH"} {
		raw, err := p.encode(plant.TextValue(text))
		if err != nil || string(raw) != want {
			t.Errorf("%q: %q %v", text, raw, err)
		}
	}
	if _, err := p.encode(plant.TextValue("ABCDEFGHI")); err == nil || !strings.Contains(err.Error(), "9 characters, the tag room for 8") {
		t.Errorf("nine characters: %v", err)
	}
	swapped := newPoint("text", Tag{Address: Address{Table: Holding}, Type: Type(plant.TypeString), Length: 2, Text: s7Text}, BADC)
	if v, cause := swapped.decode([]byte("\x02\x08BA")); v.Text() != "AB" || cause != "" {
		t.Errorf("swapped: %q %q", v.Text(), cause)
	}
	for _, bad := range []Tag{
		{Type: Type(plant.TypeUint16), Text: s7Text}, {Type: Type(plant.TypeString), Length: 5, Text: "pascal"}, {Type: Type(plant.TypeString), Length: 1, Text: s7Text},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
