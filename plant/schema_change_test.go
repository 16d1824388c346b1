package plant_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// released holds each schema as it was when it was frozen.
const released = "schema/released"

var freeze = flag.Bool("freeze", false, "take the schemas as they are for released ones (make schema-freeze)")

// TestReleasedSchemas: within a version fields are only ever added. Receivers
// were written by the released schema, and stored events by older programs.
func TestReleasedSchemas(t *testing.T) {
	frozen, err := filepath.Glob(filepath.Join(released, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range frozen {
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		now, err := os.ReadFile(filepath.Join("schema", filepath.Base(path)))
		if errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was released and is gone", filepath.Base(path))
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range breaks(t, old, now) {
			t.Errorf("%s: %s: make it a new version of the kind", filepath.Base(path), wrong)
		}
	}
	if len(frozen) == 0 {
		t.Error("no schema was ever frozen: make schema-freeze")
	}
	if !*freeze || t.Failed() && len(frozen) > 0 {
		return
	}
	current, err := filepath.Glob("schema/*.json")
	if err != nil || len(current) < len(plant.EventKinds()) {
		t.Fatal(err, current)
	}
	for _, path := range current {
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(released, filepath.Base(path)), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// breaks returns what of the change from one schema to another breaks those who
// know the first: only fields that are not required may come.
func breaks(t *testing.T, old, now []byte) []string {
	t.Helper()
	var a, b any
	if err := errors.Join(json.Unmarshal(old, &a), json.Unmarshal(now, &b)); err != nil {
		t.Fatal(err)
	}
	c := change{}
	c.schema("", a, b)
	return c.wrong
}

// change compares two schemas.
type change struct{ wrong []string }

func (c *change) says(at, format string, args ...any) {
	if at == "" {
		at = "the data"
	}
	c.wrong = append(c.wrong, strings.TrimPrefix(at, ".")+" "+fmt.Sprintf(format, args...))
}

// words say nothing that data could break.
var words = []string{"title", "description", "examples", "$comment"}

// schema compares what stands at a place. Keywords that hold further schemas are
// compared one by one; of all others each change is one that breaks.
func (c *change) schema(at string, old, now any) {
	a, ok := old.(map[string]any)
	b, ok2 := now.(map[string]any)
	if !ok || !ok2 {
		if !equal(old, now) {
			c.says(at, "is no schema that can be compared")
		}
		return
	}
	keys := slices.Sorted(maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		switch k {
		case "properties":
			c.fields(at, "the field ", a[k], b[k])
		case "$defs":
			c.fields(at+".$defs", "the definition ", a[k], b[k])
		case "items":
			c.schema(at+"[]", a[k], b[k])
		case "required":
			c.required(at, a[k], b[k])
		case "enum":
			c.values(at, a[k], b[k])
		default:
			if !slices.Contains(words, k) && !equal(a[k], b[k]) {
				c.says(at, "has another %s: %s, before %s", k, text(b[k]), text(a[k]))
			}
		}
	}
}

func (c *change) fields(at, what string, old, now any) {
	a, _ := old.(map[string]any)
	b, _ := now.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if _, ok := b[name]; !ok {
			c.says(at, "lost %s%s", what, name)
			continue
		}
		c.schema(at+"."+name, a[name], b[name])
	}
}

func (c *change) required(at string, old, now any) {
	a, b := list(old), list(now)
	for _, name := range b {
		if !slices.Contains(a, name) {
			c.says(at, "requires %s, which events of before may lack", name)
		}
	}
	for _, name := range a {
		if !slices.Contains(b, name) {
			c.says(at, "requires %s no more, on which receivers rely", name)
		}
	}
}

// values may grow: a receiver ignores what it does not know.
func (c *change) values(at string, old, now any) {
	for _, v := range list(old) {
		if !slices.Contains(list(now), v) {
			c.says(at, "lost the value %s", v)
		}
	}
	if old == nil {
		c.says(at, "has values, and had any")
	}
}

func list(v any) (all []string) {
	items, _ := v.([]any)
	for _, i := range items {
		all = append(all, strings.Trim(text(i), `"`))
	}
	return all
}

func equal(a, b any) bool { return text(a) == text(b) }

// text writes a value in one way; the keys of objects are sorted.
func text(v any) string {
	if v == nil {
		return "nothing"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestEachBreakOfASchemaIsSeen: the checker of TestReleasedSchemas can fail, and
// lets through what breaks nobody.
func TestEachBreakOfASchemaIsSeen(t *testing.T) {
	const old = `{"$id":"urn:x:v1","title":"Pieces","type":"object","required":["machine","good"],"properties":{
		"machine":{"type":"string","minLength":1,"description":"the code"},"good":{"type":"integer","minimum":0},"mode":{"enum":["production","setup"]},
		"scrap":{"type":"array","items":{"type":"object","required":["code"],"properties":{"code":{"type":"string"},"delta":{"type":"integer"}}}},
		"order":{"$ref":"#/$defs/order"},"reset":{"const":true}},"$defs":{"order":{"type":"object","required":["number"],"properties":{"number":{"type":"string"}}}}}`
	for name, c := range map[string]struct{ from, to, want string }{
		"the same":                  {"", "", ""},
		"a field more":              {`"reset":`, `"rework":{"type":"integer"},"reset":`, ""},
		"a field more in a list":    {`"delta":`, `"cause":{"type":"string"},"delta":`, ""},
		"a field more in an order":  {`"number":{`, `"sku":{"type":"string"},"number":{`, ""},
		"a value more":              {`"setup"]`, `"setup","maintenance"]`, ""},
		"other words":               {`"the code"`, `"the machine's code"`, ""},
		"another title":             {`"Pieces"`, `"Pieces made"`, ""},
		"a definition more":         {`"$defs":{`, `"$defs":{"lot":{"type":"object"},`, ""},
		"a field less":              {`,"reset":{"const":true}`, ``, "lost the field reset"},
		"a field renamed":           {`"reset":`, `"was_reset":`, "lost the field reset"},
		"a field less in a list":    {`,"delta":{"type":"integer"}`, ``, "scrap[] lost the field delta"},
		"another type":              {`"good":{"type":"integer"`, `"good":{"type":"number"`, `good has another type: "number", before "integer"`},
		"another type in a list":    {`"code":{"type":"string"}`, `"code":{"type":"integer"}`, "scrap[].code has another type"},
		"another type in an order":  {`"number":{"type":"string"}`, `"number":{"type":"integer"}`, "$defs.order.number has another type"},
		"two types":                 {`"good":{"type":"integer"`, `"good":{"type":["integer","null"]`, "good has another type"},
		"required":                  {`"required":["machine","good"]`, `"required":["machine","good","mode"]`, "requires mode, which events of before may lack"},
		"required in a list":        {`"required":["code"]`, `"required":["code","delta"]`, "scrap[] requires delta"},
		"not required any more":     {`"required":["machine","good"]`, `"required":["machine"]`, "requires good no more"},
		"a value less":              {`"production","setup"]`, `"production"]`, "mode lost the value setup"},
		"values for any":            {`"good":{`, `"good":{"enum":[1],`, "good has values, and had any"},
		"any for values":            {`{"enum":["production","setup"]}`, `{"type":"string"}`, "mode"},
		"another bound":             {`"minimum":0`, `"minimum":1`, "good has another minimum"},
		"a bound more":              {`"type":"string","minLength":1`, `"type":"string","minLength":1,"maxLength":9`, "machine has another maxLength: 9, before nothing"},
		"a bound less":              {`,"minLength":1`, ``, "machine has another minLength: nothing, before 1"},
		"another constant":          {`"const":true`, `"const":false`, "reset has another const"},
		"another reference":         {`"$ref":"#/$defs/order"`, `"$ref":"#/$defs/lot"`, "order has another $ref"},
		"a definition less":         {`"$defs":{"order":`, `"$defs":{"job":`, "lost the definition order"},
		"no further fields":         {`"type":"object","required":["machine","good"]`, `"type":"object","additionalProperties":false,"required":["machine","good"]`, "the data has another additionalProperties"},
		"another name":              {`urn:x:v1`, `urn:y:v1`, "the data has another $id"},
		"a list that is none":       {`"items":{"type":"object","required":["code"],"properties":{"code":{"type":"string"},"delta":{"type":"integer"}}}`, `"items":false`, "scrap[] is no schema"},
		"a keyword that is unknown": {`"reset":{`, `"reset":{"dependentRequired":{},`, "reset has another dependentRequired"},
	} {
		now := strings.Replace(old, c.from, c.to, 1)
		if c.from != "" && now == old {
			t.Fatalf("%s: changes nothing", name)
		}
		got := strings.Join(breaks(t, []byte(old), []byte(now)), "; ")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
