package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Variant is how much a sample event has.
type Variant int

// The variants.
const (
	// Full has every field that its kind can have, and two items in each list.
	Full Variant = iota
	// Bare has the fields alone that every event of its kind has.
	Bare
	// Awkward is Full with texts that every language has to escape.
	Awkward
)

// String returns what the variant stands for, for people.
func (v Variant) String() string {
	switch v {
	case Bare:
		return "with nothing but what each one has"
	case Awkward:
		return "with quotes, < and & in its texts"
	default:
		return "with all that it can have"
	}
}

// awkward is in every text of an Awkward sample: what JSON, XML, URLs and
// headers each would take for their own.
const awkward = `"'<&>\/?#%=+;{{.}} ` + "\n\té\u2028"

// Sample returns an event of that kind, made from the newest version of its
// schema, so that a template is tried on what the rules can make.
func Sample(kind plant.EventKind, v Variant) plant.Event {
	s, version := newest(kind)
	code := func(name string) string {
		if v == Awkward {
			return name + awkward
		}
		return name
	}
	machine := plant.MachineID(code("MACHINE-01"))
	e := plant.Event{
		Gateway: code("gateway-1"), Source: "/enterprise/site/area/" + string(machine), Machine: machine, Epoch: 7, Sequence: 42, Previous: 41,
		Kind: kind, Version: version, Time: time.Date(2026, 3, 29, 0, 59, 59, 7e6, time.UTC), TimeSource: plant.GatewayTime,
	}
	if v == Bare {
		e.Previous = 0
	}
	data, _ := s.sample(s, "", v).(map[string]any)
	data["machine"] = string(machine)
	text, err := json.Marshal(data)
	if err != nil {
		panic(err) // it was made of texts, numbers, lists and objects
	}
	e.Data = text
	return e
}

// schema is as much of JSON Schema as the schemas of the events use.
type schema struct {
	Ref        string             `json:"$ref"`
	Defs       map[string]*schema `json:"$defs"`
	Type       json.RawMessage    `json:"type"`
	Enum       []any              `json:"enum"`
	Const      any                `json:"const"`
	Pattern    string             `json:"pattern"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *schema            `json:"items"`
	MinItems   int                `json:"minItems"`
	// Additional is an object or a bool.
	Additional json.RawMessage `json:"additionalProperties"`
}

// newest returns the newest schema of a kind.
func newest(kind plant.EventKind) (*schema, uint8) {
	version := uint8(1)
	text, ok := plant.Schema(kind, version)
	for ; ok; version++ {
		next, more := plant.Schema(kind, version+1)
		if !more {
			break
		}
		text = next
	}
	s := new(schema)
	if !ok || json.Unmarshal(text, s) != nil {
		panic(fmt.Sprintf("render: the kind %q has no schema that can be read", kind)) // they are part of the binary, and tested
	}
	return s, version
}

// resolve follows a reference into root.
func (s *schema) resolve(root *schema) *schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return root.Defs[name]
	}
	return s
}

// is reports whether the type is, or may be, that one.
func (s *schema) is(name string) bool { return strings.Contains(string(s.Type), `"`+name+`"`) }

// sample returns a value by s; name is what the field is called.
func (s *schema) sample(root *schema, name string, v Variant) any {
	s = s.resolve(root)
	switch {
	case s.Const != nil:
		return s.Const
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.is("object"):
		return s.object(root, v)
	case s.is("array"):
		n := 2
		if v == Bare {
			n = s.MinItems
		}
		list := make([]any, n)
		for i := range list {
			list[i] = s.Items.sample(root, name, v)
		}
		return list
	case strings.Contains(s.Pattern, "T"):
		return "2026-03-29T00:59:59.007Z"
	case s.is("integer"):
		return 12
	case s.is("number"):
		return json.Number("12.5")
	case s.is("boolean"):
		return true
	case v == Awkward:
		return name + awkward
	default:
		return name + "-1"
	}
}

func (s *schema) object(root *schema, v Variant) map[string]any {
	object := make(map[string]any)
	for name, property := range s.Properties {
		if v != Bare || slices.Contains(s.Required, name) {
			object[name] = property.sample(root, name, v)
		}
	}
	additional := new(schema)
	if len(s.Properties) == 0 && json.Unmarshal(s.Additional, additional) == nil && v != Bare {
		object["counter"] = additional.sample(root, "counter", v)
	}
	return object
}

// shape says which fields of a kind are objects and lists, so that one that is
// absent is an empty one and not nothing.
type shape struct {
	fields map[string]*shape
	item   *shape
	list   bool
}

// shapeOf returns the shape of what s describes, nil for a plain value.
func (s *schema) shapeOf(root *schema, names map[string]bool) *shape {
	s = s.resolve(root)
	switch {
	case s.is("object"):
		sh := &shape{fields: make(map[string]*shape)}
		if len(s.Properties) == 0 { // it counts the kinds
			for _, kind := range plant.EventKinds() {
				names[string(kind)] = true
			}
		}
		for name, property := range s.Properties {
			names[name] = true
			if inner := property.shapeOf(root, names); inner != nil {
				sh.fields[name] = inner
			}
		}
		return sh
	case s.is("array"):
		return &shape{list: true, item: s.Items.shapeOf(root, names)}
	default:
		return nil
	}
}

// fill puts empty objects and lists where v, which is shaped so, has none.
func (sh *shape) fill(v any) any {
	switch {
	case sh == nil:
		return v
	case sh.list:
		list, _ := v.([]any)
		for i := range list {
			list[i] = sh.item.fill(list[i])
		}
		return list
	default:
		object, _ := v.(map[string]any)
		if object == nil {
			return map[string]any(nil) // an object without anything, not nothing
		}
		for name, inner := range sh.fields {
			object[name] = inner.fill(object[name])
		}
		return object
	}
}
