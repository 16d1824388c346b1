package line

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// framed cuts b in pieces of so many bytes and returns what was found.
func framed(o *Options, b []byte, piece int) (got []found) {
	f := newFramer(o)
	for len(b) > 0 {
		n := min(piece, len(b))
		f.feed(b[:n], func(x found) { got = append(got, x) })
		b = b[n:]
	}
	f.rest("rest", func(x found) { got = append(got, x) })
	return got
}

func frameOptions(t testing.TB, start, end string) *Options {
	t.Helper()
	o := defaults()
	o.MaxLine = 20
	for _, x := range []struct {
		text string
		to   *Delimiter
	}{{start, &o.Start}, {end, &o.End}} {
		if x.text == "" {
			continue
		}
		if err := x.to.UnmarshalText([]byte(x.text)); err != nil {
			t.Fatal(err)
		}
	}
	return &o
}

func TestFrames(t *testing.T) {
	for _, x := range []struct{ start, end, in, want string }{
		{"", "any", "a\rb\nc\r\nd\n\re\r\n\r\n", "a b c d e"},
		{"", "crlf", "a\rb\r\nc\n\r\n", "a\\rb c\\n"},
		{"", "cr", "a\rb\r", "a b"},
		{"", "lf", "a\r\nb\n", "a\\r b"},
		{"stx", "etx", "\x02a\x03\x02b\x03", "a b"},
		{"stx", "etx", "noise\x02a\x03noise\x02\x03", "a "},
		{"stx", "etx", "\x02a\x02b\x03", "a!a new line began before it had ended b"},
		{"stx", "any", "noise\r\x02a\rnoise\r\x02b\n", "a b"},
		{"", "etx", "a\x03b\x03c", "a b c!rest"},
		{"", `\x04\x05`, "a\x04b\x04\x05c\x05\x04\x05", "a\\x04b c\\x05"},
		{"", "any", strings.Repeat("x", 20) + "\r" + strings.Repeat("y", 21) + "\rz\r", strings.Repeat("x", 20) + " " + strings.Repeat("y", 20) + "!it is longer than 20 bytes (max_line) z"},
		{"", "any", strings.Repeat("y", 90) + "\rz\r", strings.Repeat("y", 20) + "!it is longer than 20 bytes (max_line) z"},
		{"stx", "etx", "\x02" + strings.Repeat("y", 90) + "\x02z\x03", strings.Repeat("y", 20) + "!it is longer than 20 bytes (max_line) z"},
		{"", "any", "half", "half!rest"},
		{"", "any", "", ""},
	} {
		o := frameOptions(t, x.start, x.end)
		for _, piece := range []int{1, 2, 3, 7, 1000} {
			var all []string
			for _, l := range framed(o, []byte(x.in), piece) {
				text := escape(l.raw)
				if l.problem != "" {
					text += "!" + l.problem
				}
				all = append(all, text)
			}
			if got := strings.Join(all, " "); got != x.want {
				t.Errorf("%s…%s %q in pieces of %d: got %q, want %q", x.start, x.end, x.in, piece, got, x.want)
			}
		}
	}
}

// The kept corpus is what devices, and lines between, were seen or are known to
// send; FuzzFrames and FuzzFields begin with it.
func corpus(t testing.TB) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "lines.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 60 {
		t.Fatalf("%d lines", len(all))
	}
	return all
}

// A framer holds no more than a line, loses no byte of one, and gives the same
// however the bytes come in pieces.
func FuzzFrames(f *testing.F) {
	for i, x := range corpus(f) {
		f.Add([]byte(x), uint8(i%4), uint8(i))
	}
	ways := [][2]string{{"", "any"}, {"stx", "etx"}, {"", "crlf"}, {`\x02\x02`, `\x03\x04`}}
	f.Fuzz(func(t *testing.T, b []byte, way, piece uint8) {
		o := frameOptions(t, ways[way%4][0], ways[way%4][1])
		whole := framed(o, b, len(b)+1)
		if parts := framed(o, b, 1+int(piece)); fmt.Sprint(parts) != fmt.Sprint(whole) {
			t.Fatalf("in pieces %q, at once %q", parts, whole)
		}
		total := 0
		for _, l := range whole {
			if len(l.raw) > o.MaxLine+len(o.End.text)+len(o.Start.text) {
				t.Fatalf("a line of %d bytes", len(l.raw))
			}
			total += len(l.raw)
		}
		if total > len(b) {
			t.Fatalf("%d bytes of %d", total, len(b))
		}
		fr := newFramer(o)
		fr.feed(b, func(found) {})
		if len(fr.held) > o.MaxLine+len(o.End.text)+1 {
			t.Fatalf("%d bytes are held", len(fr.held))
		}
	})
}

// What a line says is a good value of the tag's type or a cause, never both and
// never a panic.
func FuzzFields(f *testing.F) {
	for _, x := range corpus(f) {
		f.Add(x)
	}
	o := defaults()
	o.Format = sics
	plain := defaults()
	if err := plain.Pattern.UnmarshalText([]byte(`(?P<code>\w*)[ ;]*(?P<number>[-+ .,0-9]*)(?P<rest>.*)`)); err != nil {
		f.Fatal(err)
	}
	for i, kind := range []plant.TagType{plant.TypeString, plant.TypeFloat64, plant.TypeUint16, plant.TypeInt64, plant.TypeUint64, plant.TypeBool} {
		plain.Tags.Rows = append(plain.Tags.Rows, config.Row[Tag]{Name: fmt.Sprint("n", i), Value: Tag{Field: "number", Type: Type(kind)}})
	}
	plain.Tags.Rows = append(plain.Tags.Rows, config.Row[Tag]{Name: "line", Value: Tag{Field: fieldLine}}, config.Row[Tag]{Name: "code", Value: Tag{Field: "code"}})
	for _, name := range sicsFields {
		o.Tags.Rows = append(o.Tags.Rows, config.Row[Tag]{Name: name, Value: Tag{Field: name}})
	}
	scale := driver{o: &o, points: newPoints(&o)}
	talker := driver{o: &plain, points: newPoints(&plain)}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, d := range []*driver{&scale, &talker} {
			s := d.parse(&entry{found: found{raw: raw}})
			for i := range d.points {
				p := &d.points[i]
				v, why := s.read(p, d.o.Decimal)
				if v.IsZero() != (why != "") {
					t.Fatalf("%q: %s is %v, %q", raw, p.tag, v, why)
				}
				if n, ok := v.Int(); ok && p.kind == plant.TypeUint16 && (n < 0 || n > 65535) {
					t.Fatalf("%q: %s is %d", raw, p.tag, n)
				}
			}
		}
	})
}

func TestMTSICS(t *testing.T) {
	const none = "-"
	for _, x := range []struct{ line, weight, stable, status, cause string }{
		{"S S     100.00 g", "100.00", "true", "S", ""},
		{"S D      99.98 g", "99.98", "false", "D", ""},
		{"S S      -0.05 g", "-0.05", "true", "S", ""},
		{"S S -    12.50 g", "-12.50", "true", "S", ""},
		{"S I", none, none, "I", "the scale is busy"},
		{"S +", none, "false", "+", "overloaded"},
		{"S -", none, "false", "-", "underloaded"},
		{"S L", none, none, "L", "not what was said with it"},
		{"ES", none, none, "ES", "does not know the command"},
		{"ET", none, none, "ET", "damaged"},
		{"EL", none, none, "EL", "cannot do"},
		{"TA A      1.000 g", "1.000", "true", "A", ""},
		{"S S       12.3 kg", none, "true", "S", "the scale shows kg, and the config says g"},
		{"S S      12.30", none, "true", "S", "the scale shows no unit"},
		{"S S          x g", none, none, none, "no answer in MT-SICS"},
		{"  S S     100.00 g  ", "100.00", "true", "S", ""},
	} {
		o := defaults()
		o.Format = sics
		for _, name := range sicsFields {
			tag := Tag{Field: name}
			if name == sicsWeight {
				tag.Unit = "g"
			}
			o.Tags.Rows = append(o.Tags.Rows, config.Row[Tag]{Name: name, Value: tag})
		}
		d := driver{o: &o, points: newPoints(&o)}
		s := d.parse(&entry{found: found{raw: x.line}})
		got, cause := map[string]string{}, ""
		for i := range d.points {
			v, why := s.read(&d.points[i], ".")
			got[d.points[i].field] = v.Text()
			if why != "" {
				got[d.points[i].field] = none
			}
			if d.points[i].field == sicsWeight {
				cause = why
			}
		}
		if got[sicsWeight] != x.weight || got[sicsStable] != x.stable || got[sicsStatus] != x.status || !strings.Contains(cause, x.cause) || (cause == "") != (x.cause == "") {
			t.Errorf("%q: %v %q, want %s %s %s %q", x.line, got, cause, x.weight, x.stable, x.status, x.cause)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, x := range []struct{ text, decimal, want, why string }{
		{" 12.50 ", ".", "12.50", ""}, {"+ 12.5", ".", "12.5", ""}, {"-   3", ".", "-3", ""}, {"0012", ".", "12", ""},
		{"12,50", ",", "12.50", ""}, {"12,50", ".", "", "write decimal:"}, {"1.234,5", ",", "", "has a point"},
		{"", ".", "", "nothing"}, {"1e5", ".", "", "no number"}, {"- - 1", ".", "", "no number"}, {"99999999999999999999", ".", "", "no number"},
	} {
		d, why := number(x.text, x.decimal)
		if x.why == "" && (why != "" || d.String() != x.want) || x.why != "" && !strings.Contains(why, x.why) {
			t.Errorf("%q: %s %q, want %s %q", x.text, d, why, x.want, x.why)
		}
	}
	for _, x := range []struct {
		text string
		kind plant.TagType
		fits bool
	}{
		{"65535", plant.TypeUint16, true}, {"65536", plant.TypeUint16, false}, {"-1", plant.TypeUint16, false}, {"-32768", plant.TypeInt16, true},
		{"-32769", plant.TypeInt16, false}, {"1.5", plant.TypeInt32, false}, {"1.0", plant.TypeInt32, true}, {"9223372036854775807", plant.TypeUint64, true},
	} {
		p := point{kind: x.kind}
		if _, why := p.read(x.text, "."); (why == "") != x.fits {
			t.Errorf("%s as %s: %q", x.text, x.kind, why)
		}
	}
}
