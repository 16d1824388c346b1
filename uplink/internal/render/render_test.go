package render

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/schematest"
	"github.com/sluice-edge/sluice/plant"
)

// TestSamplesAreEvents: each sample is what its schema promises, and a full one
// has every field of it.
func TestSamplesAreEvents(t *testing.T) {
	schemas, err := schematest.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range plant.EventKinds() {
		for _, v := range Variants() {
			e := Sample(kind, v)
			if err := schemas.Check(kind, e.Version, e.Data); err != nil {
				t.Errorf("%s: %v", v, err)
			}
		}
		s, _ := newest(kind)
		var data map[string]any
		e := Sample(kind, Full)
		if err := json.Unmarshal(e.Data, &data); err != nil || len(data) != len(s.Properties) {
			t.Errorf("%s: %d of %d fields, %v", kind, len(data), len(s.Properties), err)
		}
	}
}

// event is one of each trap: texts that would end what is around them.
func event(data string) plant.Event {
	return plant.Event{
		Gateway: "gw", Source: "/e/s/a/M", Machine: "M 1/2", Epoch: 7, Sequence: 42, Kind: plant.KindCounter, Version: 1,
		Time: time.Date(2026, 3, 29, 0, 59, 59, 7e6, time.UTC), Data: []byte(data),
	}
}

func render(t *testing.T, format Format, text, data string) (string, error) {
	t.Helper()
	kinds := NewKinds(plant.EventKinds()...)
	tmpl, err := Parse(format, text, kinds)
	if err != nil {
		return "", err
	}
	e := event(data)
	value, err := kinds.Value(&e)
	if err != nil {
		return "", err
	}
	out, err := tmpl.Append(nil, value, 4096)
	if err == nil {
		err = format.Check(out)
	}
	return string(out), err
}

// TestValuesAreEscapedForTheirPlace has a row for each place.
func TestValuesAreEscapedForTheirPlace(t *testing.T) {
	const data = `{"machine":"M","serial":"a\"b'<c>&d/e f\\\u0000\n","good":12,"quantity":0.10,"in_tolerance":true,"order":{"number":"4711"},"scrap":[{"code":"x","quantity":1},{"code":"y\"","quantity":2}]}`
	for _, test := range []struct {
		format     Format
		text, want string
	}{
		{JSON, `{"a":{{.data.serial}}}`, `{"a":"a\"b'\u003cc\u003e\u0026d/e f\\\u0000\n"}`},
		{JSON, `{"a":"x-{{.data.serial}}-y"}`, `{"a":"x-a\"b'\u003cc\u003e\u0026d/e f\\\u0000\n-y"}`},
		{JSON, `{{.data.good}}`, `12`},
		{JSON, `{{.data.quantity}}`, `0.10`},
		{JSON, `"{{.data.quantity}} kg"`, `"0.10 kg"`},
		{JSON, `{{.data.in_tolerance}}`, `true`},
		{JSON, `{{.data.order}}`, `{"number":"4711"}`},
		{JSON, `{{json .data.order}}`, `{"number":"4711"}`},
		{JSON, `"{{json .data.order}}"`, `"{\"number\":\"4711\"}"`},
		{JSON, `{{.data.rework}}`, `null`},
		{JSON, `"{{.data.rework}}"`, `""`},
		{JSON, `{{.data.lots}}`, `null`}, // no kind of this event has it, so it is no list
		{JSON, `"{{.data.weights.before}}"`, ``},
		{JSON, `[{{range $i, $s := .data.scrap}}{{if $i}},{{end}}{"c":{{$s.code}},"n":{{.quantity}}}{{end}}]`, `[{"c":"x","n":1},{"c":"y\"","n":2}]`},
		{JSON, `{"a":{{if .data.order}}{{.data.order.number}}{{else}}null{{end}}}`, `{"a":"4711"}`},
		{JSON, `{{$x := .data.order.number}}{"n":{{$x}}}`, `{"n":"4711"}`},
		{JSON, `{{define "n"}}{"q":{{.}}}{{end}}{{template "n" .data.serial}}`, `{"q":"a\"b'\u003cc\u003e\u0026d/e f\\\u0000\n"}`},
		{JSON, `{{xml .data.serial}}`, `"a\u0026#34;b\u0026#39;\u0026lt;c\u0026gt;\u0026amp;d/e f\\` + "\uFFFD" + `\u0026#xA;"`},
		{JSON, `{{_emit .data.order.number}}`, "\"\\u0000t\\u0000\\u0000\\u0000\\u00044711\""},
		{JSON, `{{decimal 1 .data.quantity}}`, `0.1`},
		{JSON, `{{decimal 0 .data.good}}`, `12`},
		{JSON, `{{decimal 2 .data.rework}}`, `null`},
		{JSON, `{{.data.rework | default "none"}}`, `"none"`},
		{JSON, `{{.time | time "seconds"}}`, `"2026-03-29T00:59:59Z"`},
		{JSON, `{{.time | time "unix"}}`, `1774745999`},
		{JSON, `{{.time | time "02.01.2006 15:04"}}`, `"29.03.2026 00:59"`},
		{JSON, `{{.time | timein "Europe/Lisbon" "iso"}}`, `"2026-03-29T00:59:59.007Z"`},
		{JSON, `{{.time | timein "Europe/Berlin" "iso"}}`, `"2026-03-29T01:59:59.007+01:00"`},
		{JSON, `{{.id}}`, `"gw/M 1/2/0000000000000007-42"`},
		{JSON, `{{code "article" .data.order.number}}`, `"4711"`},
		{XML, `<?xml version="1.0"?><!-- <it> --><a b="{{.data.serial}}">{{.data.serial}}</a>`, `<?xml version="1.0"?><!-- <it> --><a b="a&#34;b&#39;&lt;c&gt;&amp;d/e f\` + "\uFFFD" + `&#xA;">a&#34;b&#39;&lt;c&gt;&amp;d/e f\` + "\uFFFD" + `&#xA;</a>`},
		{XML, `<a>{{xml .data.order.number}} {{.data.good}}</a>`, `<a>4711 12</a>`},
		{Form, `sn={{.data.serial}}&n={{.data.good}}&o={{json .data.order}}&r={{.data.rework}}`, `sn=a%22b%27%3Cc%3E%26d%2Fe+f%5C%00%0A&n=12&o=%7B%22number%22%3A%224711%22%7D&r=`},
		{Form, `sn={{urlquery .data.serial}}`, `sn=a%22b%27%3Cc%3E%26d%2Fe+f%5C%00%0A`},
		{Path, `/m/{{.machine}}/x?sn={{.data.serial}}`, `/m/M%201%2F2/x?sn=a%22b%27%3Cc%3E%26d%2Fe+f%5C%00%0A`},
		{Header, `{{.data.serial}} {{.data.good}}`, `a"b'<c>&d/e f\%00%0A 12`},
		{Text, "{{.machine}};{{.data.serial}}\n", "M 1/2;a\"b'<c>&d/e f\\  \n"},
	} {
		got, err := render(t, test.format, test.text, data)
		if test.want == "" {
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("%s %s\n got %s %v\nwant %s", test.format, test.text, got, err, test.want)
		}
	}
}

// TestAFunctionThatIsNotThere: the remedy names what is meant, or what there is.
func TestAFunctionThatIsNotThere(t *testing.T) {
	for text, want := range map[string]string{
		"{{downtimes .}}": "did you mean `downtime`? the functions are `code`, `decimal`, `default`, ",
		"{{lunch .}}":     "the functions are `code`, ",
	} {
		_, err := Parse(JSON, text, NewKinds(plant.EventKinds()...))
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(e.Remedy, want) || strings.Contains(e.Remedy, emitName) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestFaultsOfTemplates: what is wrong, where, and what to do.
func TestFaultsOfTemplates(t *testing.T) {
	for _, test := range []struct {
		format     Format
		text, want string
	}{
		{JSON, "{\n \"a\": {{.data.goood}}}", "line 2, column 14 of the template: no event of these kinds has a field `goood`"},
		{JSON, "{{.data.good", "line 1 of the template: "},
		{JSON, "{{if .data.good}}", "unexpected EOF"},
		{JSON, "{{nofunc 1}}", "there is no function `nofunc`"},
		{JSON, "{{downtimes .}}", "line 1 of the template: there is no function `downtimes`"},
		{JSON, "{\"a\":{{.data.good}},}", "it is no valid JSON: invalid character '}'"},
		{JSON, "\"\\{{.data.good}}\"", "behind a backslash"},
		{JSON, "{{.good}}", "map has no entry for key \"good\""},
		{JSON, "{{range .data.scrap}}{{.code}},{{end}}", "it is no valid JSON"},
		{JSON, "[{{range .data.scrap}}{{.code}}{{end}}]", "it is no valid JSON"},
		{JSON, "{{index .data.scrap 0}}", "a `counter` event with nothing but what each one has"},
		{JSON, "{{code \"artikel\" .machine}}", "there is no code table \"artikel\""},
		{JSON, "{{.time | time \"someday\"}}", "there is no layout"},
		{JSON, "{{.time | timein \"Lisbon\" \"iso\"}}", "unknown time zone"},
		{JSON, "{{.machine | decimal 2}}", "is no number"},
		{JSON, "{{.data.good | decimal 99}}", "digits after the point"},
		{JSON, "\"{{.data.order}}\"", "an object or a list stands where a text is expected"},
		{JSON, "\x01", "control character"},
		{JSON, "", "it is no valid JSON"},
		{JSON, "[" + strings.Repeat(" ", 2000) + "1]", "more than 1024 bytes"},
		{XML, "<a {{.machine}}='x'/>", "where it cannot be escaped"},
		{XML, "<{{.machine}}/>", "where it cannot be escaped"},
		{XML, "<!-- {{.machine}} --><a/>", "where it cannot be escaped"},
		{XML, "<a><![CDATA[{{.machine}}]]></a>", "where it cannot be escaped"},
		{XML, "<a><b></a>", "it is no valid XML"},
		{XML, "text", "it has no element"},
		{Form, "a=1 &b=2", "it is no form"},
		{Path, "orders", "begins with neither"},
		{Path, "//evil.example/{{.machine}}", "names another host"},
		{Path, "/a/../{{.machine}}", "leads to another place"},
		{Path, "/a/{{.data.order.number}}", "a value in the path is empty"},
		{Path, "/a#{{.machine}}", "fragment"},
		{Path, "/a b", "no part of a URL"},
		{Header, "a\nb", "line break"},
	} {
		kinds := NewKinds(plant.KindCounter)
		tmpl, err := Parse(test.format, test.text, kinds)
		if err == nil {
			err = tmpl.Try(plant.KindCounter, 1024, nil)
		}
		wrong := new(Error)
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), test.want) || wrong.Remedy == "" {
			t.Errorf("%s %.60q\n got %v\nwant %s", test.format, test.text, err, test.want)
		}
	}
}

// TestSteady: what names the machine alone need not be made for each event.
func TestSteady(t *testing.T) {
	for text, want := range map[string]bool{
		"/x": true, "/{{.machine}}/{{code \"machine\" .machine}}/{{.kind}}": true, "{{if .machine}}x{{end}}": true,
		"/{{.id}}": false, "/{{.data.good}}": false, "{{json .}}": false, "{{$.id}}": false, "{{$x := .id}}{{$x}}": false,
		"{{with .data}}{{.machine}}{{end}}": false, "{{downtime .}}": false, "{{range .data.scrap}}{{.code}}{{end}}": false, "{{(.data).machine}}": false,
		"{{define \"a\"}}{{.id}}{{end}}{{template \"a\" .}}": false,
	} {
		tmpl, err := Parse(Path, text, NewKinds(plant.KindCounter))
		if err != nil || tmpl.Steady() != want {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}

// TestADotDotOfAnEventLeadsNowhere.
func TestADotDotOfAnEventLeadsNowhere(t *testing.T) {
	for _, serial := range []string{"..", ".", "a/../b"} {
		if got, err := render(t, Path, "/units/{{.data.serial}}/done", `{"serial":"`+serial+`"}`); err == nil {
			t.Errorf("%q is sent to %s", serial, got)
		}
	}
}

// doubled has tables for articles alone.
type doubled struct{}

func (doubled) Lookup(kind plant.CodeKind, ours string) (string, bool) {
	if kind != plant.CodeArticle {
		return ours, true
	}
	if ours == "4711" {
		return "A-1", true
	}
	return ours, false
}

func (doubled) DowntimeType(m plant.MachineID, of, reason string) (string, bool) {
	return string(m) + ":" + of + ":" + reason, true
}

// Place implements Codes.
func (doubled) Place(plant.CodeKind) string { return "codes/articles.csv" }

func TestCodes(t *testing.T) {
	kinds := NewKinds(plant.EventKinds()...)
	for _, test := range []struct{ text, data, want string }{
		{`{{code "article" .data.sku}}`, `{"sku":"4711"}`, `"A-1"`},
		{`{{code "article" .data.sku}}`, `{"sku":"9"}`, `"9"`},
		{`{{mapped "article" .data.sku}}`, `{"sku":"4711"}`, `"A-1"`},
		{`{{mapped "article" .data.sku}}`, `{"sku":"9"}`, `the code table article has no row for "9", and nothing else may be sent in its place`},
		{`{{downtime .}}`, `{"type":"Fault","reason":"7"}`, `"M 1/2:Fault:7"`},
	} {
		tmpl, err := Parse(JSON, test.text, kinds)
		if err != nil {
			t.Fatal(err)
		}
		e := event(test.data)
		value, err := kinds.Value(&e)
		if err != nil {
			t.Fatal(err)
		}
		out, err := tmpl.With(doubled{}).Append(nil, value, 4096)
		if got := string(out); err != nil && !strings.Contains(err.Error(), test.want) || err == nil && got != test.want {
			t.Errorf("%s of %s: %s, %v", test.text, test.data, got, err)
		}
	}
}

// FuzzContent: whatever an event holds, what a template makes of it is what the
// receiver can read, with the value in its place and nothing around it changed.
func FuzzContent(f *testing.F) {
	for _, seed := range []string{"", "x", awkward, "\x00j\x00\x00\x00\x01", `","admin":true,"x":"`, "]]><x/>", "%2e%2e/", "\xff\xfe", "a&b=c", "{{.id}}"} {
		f.Add(seed, int64(5))
	}
	kinds := NewKinds(plant.KindSerial)
	parse := func(format Format, text string) *Template {
		t, err := Parse(format, text, kinds)
		if err != nil {
			f.Fatal(err)
		}
		return t
	}
	asJSON := parse(JSON, `{"value":{{.data.serial}},"text":"<{{.data.serial}}>","whole":{{.data}},"n":{{.data.pass}},"m":"{{.machine}}"}`)
	asXML := parse(XML, `<r a="{{.data.serial}}" b='{{.machine}}'>{{.data.serial}}</r>`)
	asForm := parse(Form, `a={{.data.serial}}&b={{.machine}}&c=1`)
	asPath := parse(Path, `/u/{{.data.serial}}/end?q={{.data.serial}}&r=1`)
	asHeader := parse(Header, `{{.data.serial}}`)
	f.Fuzz(func(t *testing.T, serial string, pass int64) {
		data, err := json.Marshal(map[string]any{"machine": "M", "serial": serial, "pass": pass})
		if err != nil {
			t.Fatal(err)
		}
		e := plant.Event{Gateway: "gw", Machine: plant.MachineID(serial), Kind: plant.KindSerial, Version: 1, Data: data}
		value, err := kinds.Value(&e)
		if err != nil {
			t.Fatal(err)
		}
		serial = value["data"].(map[string]any)["serial"].(string) // JSON has no other bytes than UTF-8
		run := func(tmpl *Template) string {
			out, err := tmpl.Append(nil, value, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			return string(out)
		}

		var got struct {
			Value, Text string
			Whole       struct{ Serial string }
			N           int64
		}
		if err := json.Unmarshal([]byte(run(asJSON)), &got); err != nil || got.Value != serial || got.Text != "<"+serial+">" || got.Whole.Serial != serial || got.N != pass {
			t.Errorf("%q: %+v, %v", serial, got, err)
		}
		var doc struct {
			A string `xml:"a,attr"`
			T string `xml:",chardata"`
			X []struct {
				XMLName xml.Name
			} `xml:",any"`
		}
		if err := xml.Unmarshal([]byte(run(asXML)), &doc); err != nil || len(doc.X) > 0 || doc.A != doc.T {
			t.Errorf("%q: %+v, %v", serial, doc, err)
		}
		form, err := url.ParseQuery(run(asForm))
		if err != nil || form.Get("a") != serial || form.Get("c") != "1" || len(form) != 3 {
			t.Errorf("%q: %v, %v", serial, form, err)
		}
		if out := run(asHeader); Header.Check([]byte(out)) != nil {
			t.Errorf("%q: header %q", serial, out)
		}
		out, err := asPath.Append(nil, value, 1<<20)
		if serial == "" {
			if err == nil {
				t.Error("an empty part of the path")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if Path.Check(out) != nil {
			return // . and .. are refused
		}
		u, err := url.Parse("https://erp.example/api" + string(out))
		if err != nil || u.Host != "erp.example" || u.Path != "/api/u/"+serial+"/end" || u.Query().Get("q") != serial || u.Query().Get("r") != "1" || u.Fragment != "" {
			t.Errorf("%q: %v, %v", serial, u, err)
		}
	})
}

// TestSequenceIsAPlainNumber, and can be made the 20 digits of the CloudEvents
// attribute, as docs/rest.md shows.
func TestSequenceIsAPlainNumber(t *testing.T) {
	for text, want := range map[string]string{
		`{"n":{{.sequence}}}`:                  `{"n":42}`,
		`{"n":"{{printf "%020d" .sequence}}"}`: `{"n":"00000000000000000042"}`,
	} {
		if got, err := render(t, JSON, text, `{}`); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
}
