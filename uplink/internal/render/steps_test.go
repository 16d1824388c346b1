package render

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// stepped are templates, each with whether it can be run in steps.
var stepped = []struct {
	format Format
	text   string
	steps  bool
}{
	{JSON, `{"id": {{.id}}, "good": {{.data.good}}, "order": {{.data.order.number}}, "at": {{.time | time "seconds"}}, "scrap": [{{range $i, $s := .data.scrap}}{{if $i}}, {{end}}{"code": {{$s.code}}, "n": {{$s.quantity}}}{{end}}]}`, true},
	{JSON, `{"text": "<{{.machine}} {{.data.order.number}} {{.previous}}>", "unsure": {{.timeuncertain}}, "whole": {{json .data}}}`, true},
	{JSON, `{"a": {{.data.order.number | default "none"}}, "b": {{.data.good | json}}, "c": {{.machine | code "work_center"}}, "d": "{{if .data.order}}{{.data.order.sku}}{{end}}"}`, true},
	{JSON, `{"a": {{.sequence | printf "%020d"}}, "b": {{printf "%s" .machine}}, "c": {{.data.order}}, "d": {{.data.scrap}}}`, true},
	{JSON, `{"a": {{.id.sku}}}`, true},                             // a text has no fields
	{JSON, `{"a": "{{.data.order}}"}`, true},                       // an object is no text
	{JSON, `{"a": \{{.machine}}}`, true},                           // behind a backslash
	{JSON, `{"a": {{.machine | time "date"}}}`, true},              // no time
	{JSON, `{"a": {{.data.order.number | mapped "order"}}}`, true}, // no such table
	{JSON, `{{$m := .machine}}{"a": {{$m}}, "b": {{.id}}}`, false},
	{JSON, `{{define "x"}}{{.id}}{{end}}{"a": {{template "x" .}}}`, false},
	{XML, `<r a="{{.machine}}" t='{{.time | timein "Europe/Lisbon" "iso"}}'><!-- {{/* none */}} -->{{.data.order.number | xml}}{{with .data.order}}<o>{{.sku}}</o>{{end}}</r>`, true},
	{XML, `<r {{.machine}}="x"/>`, true}, // where it cannot be escaped
	{Form, `m={{.machine}}&g={{.data.good}}&o={{.data.order.number | urlquery}}`, true},
	{Path, `/m/{{.machine}}/{{.data.order.number | default "none"}}?id={{.id}}&o={{.data.order.number}}`, true},
	{Path, `/m/{{.data.order.number}}`, true}, // empty for some
	{Header, `{{.machine}} {{.id}}`, true},
	{Text, `{{.machine}};{{.data.good}};{{.data.order.number}}`, true},
}

// What a template makes in steps is what text/template makes of it as a whole, and
// what is wrong is told in the words of the whole.
func TestStepsMakeWhatTheWholeMakes(t *testing.T) {
	for _, test := range stepped {
		kinds := NewKinds(plant.KindCounter)
		tmpl, err := Parse(test.format, test.text, kinds)
		if err != nil {
			var wrong *Error
			if !errors.As(err, &wrong) {
				t.Fatal(err)
			}
			t.Fatalf("%s: %v", test.text, wrong)
		}
		for _, one := range []*Template{tmpl, tmpl.With(doubled{})} {
			if (one.steps != nil) != test.steps {
				t.Errorf("%s: steps %t, want %t", test.text, one.steps != nil, test.steps)
			}
			for _, v := range Variants() {
				e := Sample(plant.KindCounter, v)
				value, err := kinds.Value(&e)
				if err != nil {
					t.Fatal(err)
				}
				before := []byte("before")
				for _, most := range []int{1 << 20, 20} {
					got, gotErr := one.Append(bytes.Clone(before), value, most)
					want, wantErr := one.run(one.parsed, bytes.Clone(before), value, most)
					if !bytes.Equal(got, want) || (gotErr == nil) != (wantErr == nil) || gotErr != nil && gotErr.Error() != wantErr.Error() {
						t.Errorf("%s, %s: got %s, %v; want %s, %v", test.text, v, got, gotErr, want, wantErr)
					}
				}
			}
		}
	}
}

// Of an event the templates see what they name, and all of it where one takes it
// as a whole.
func TestAnEventHasWhatItsTemplatesName(t *testing.T) {
	e := Sample(plant.KindCounter, Full)
	for text, want := range map[string]int{
		`{{.id}}`:                                        2, // and data
		`{{.data.good}}`:                                 1,
		`{{with .data}}{{$.time}}{{end}}`:                2,
		`{{if .previous}}{{.sequence}}{{end}}`:           3,
		`{{json .}}`:                                     len(envelope) + 1,
		`{{with .data}}{{index $ "id"}}{{end}}`:          len(envelope) + 1,
		`{{$e := .}}{{$e.id}}`:                           len(envelope) + 1,
		`{{define "x"}}{{.id}}{{end}}{{template "x" .}}`: len(envelope) + 1,
	} {
		kinds := NewKinds(plant.KindCounter)
		tmpl, err := Parse(Text, text, kinds)
		if err != nil {
			t.Fatal(err)
		}
		value, err := kinds.Value(&e)
		if err != nil || len(value) != want {
			t.Errorf("%s: %d members, want %d, %v", text, len(value), want, err)
		}
		if out, err := tmpl.run(tmpl.strict, nil, value, 1<<20); err != nil || len(out) == 0 {
			t.Errorf("%s: %q, %v", text, out, err)
		}
	}
}
