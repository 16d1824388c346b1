package config

import (
	"encoding"
	"errors"
	"reflect"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// Part is what a schema says of one kind of section.
type Part struct {
	// Driver is the word after "driver:"; empty for a machine, which has none.
	Driver string
	// Options is the struct that such a section is decoded over, holding the
	// defaults.
	Options any
}

// Described is what people are told of one key.
type Described struct {
	// Text is what an editor shows; empty for nothing.
	Text string
	// Words is all that may be written, nil if that is no closed set. It is of use
	// for plain text only: other types say themselves what they read.
	Words []string
}

// Schema returns a JSON Schema (draft 2020-12) of a config whose devices and
// uplinks are one of those parts each, and whose machines and lines are as machine and line, ready
// for encoding/json. It follows the yaml tags as Decode does, so that an editor
// and the decoder know the same keys. A fragment is one file of a folder, in
// which nothing has to be. What compares keys or reads files is left to Decode
// and to Validate. What they take the schema takes, too, but for spellings that
// nobody needs (1e3d for a time, mode: ""). What is said of each key comes from
// describe, which is asked with the struct that has it; nil says nothing.
// Schema does no I/O and may be called
// from any goroutine; it panics where Decode would, on a field of
// a type that no config can hold.
func Schema(devices, uplinks []Part, machine, line Part, describe func(of reflect.Type, key string) Described, fragment bool) map[string]any {
	s := &schema{
		describe: describe,
		decoder:  decoder{structs: make(map[reflect.Type]*layout)},
		defs:     map[string]any{"name": nameSchema()},
		named:    make(map[string]reflect.Type),
	}
	root := object(map[string]any{
		"site":     s.site(),
		"buffer":   s.value(reflect.ValueOf(defaultBuffer())),
		"http":     s.value(reflect.ValueOf(defaultHTTP())),
		"log":      s.value(reflect.ValueOf(defaultLog())),
		"lines":    s.sections([]Part{line}),
		"devices":  s.sections(devices),
		"machines": s.sections([]Part{machine}),
		"uplinks":  s.sections(uplinks),
	})
	if !fragment {
		for _, name := range []string{"devices", "machines", "uplinks"} {
			root["properties"].(map[string]any)[name].(map[string]any)["minProperties"] = 1
		}
		root["required"] = []string{"site", "devices", "machines", "uplinks"}
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "The config of a Sluice gateway"
	root["$defs"] = s.defs
	return root
}

// schema is one schema while it is made.
type schema struct {
	decoder
	describe func(of reflect.Type, key string) Described
	// defs are the definitions that references name, and named whose those of
	// structs are.
	defs  map[string]any
	named map[string]reflect.Type
}

func object(properties map[string]any) map[string]any {
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}

func reference(def string) map[string]any { return map[string]any{"$ref": "#/$defs/" + def} }

// site is the schema of Site, whose text fields are names but for the time zone.
func (s *schema) site() map[string]any {
	properties := make(map[string]any)
	out := object(properties)
	l := s.layout(reflect.TypeFor[Site]())
	for _, f := range l.fields {
		switch f.name {
		case "timezone":
			properties[f.name] = map[string]any{"type": "string", "description": "an IANA name, for example Europe/Lisbon; UTC if it is not set"}
		case "shifts":
			properties[f.name] = s.value(reflect.ValueOf(Shifts{}))
		default:
			properties[f.name] = reference("name")
		}
		s.tell(reflect.TypeFor[Site](), f, properties[f.name].(map[string]any))
	}
	out["required"] = l.required()
	return out
}

// sections is the schema of a mapping from a name to one of the parts.
func (s *schema) sections(parts []Part) map[string]any {
	drivers := make([]string, len(parts))
	kinds := make([]map[string]any, len(parts))
	for i, p := range parts {
		drivers[i], kinds[i] = p.Driver, s.part(p)
	}
	one := kinds[0]
	if drivers[0] != "" {
		one = map[string]any{
			// Beside oneOf, so that an editor names the drivers instead of what is
			// wrong by each of them.
			"required":   []string{"driver"},
			"properties": map[string]any{"driver": map[string]any{"enum": drivers}},
			"oneOf":      kinds,
		}
	}
	return map[string]any{"type": "object", "propertyNames": reference("name"), "additionalProperties": one}
}

func (s *schema) part(p Part) map[string]any {
	out := s.structure(reflect.ValueOf(p.Options))
	if p.Driver == "" {
		return out
	}
	out["title"] = p.Driver
	out["properties"].(map[string]any)["driver"] = map[string]any{"const": p.Driver}
	required, _ := out["required"].([]string)
	out["required"] = append([]string{"driver"}, required...)
	return out
}

// value is the schema of what may be decoded over v, which holds the default.
// Its cases are those of decoder.value.
func (s *schema) value(v reflect.Value) map[string]any {
	t := v.Type()
	pointer := reflect.PointerTo(t)
	var out map[string]any
	name, def := ownSchema(t)
	switch {
	case t.Kind() == reflect.Pointer:
		return s.value(pointed(v))
	case def != nil:
		s.defs[name] = def
		out = reference(name)
	case pointer.Implements(tablerType):
		return s.table(t)
	case pointer.Implements(textType):
		out = s.shared(v, s.text)
	case t.Kind() == reflect.Struct:
		return s.shared(v, s.structure)
	default:
		return s.plain(v)
	}
	if text, ok := standing(v); ok {
		out["default"] = text
	}
	return out
}

// pointed is what v points to, or would if it were set.
func pointed(v reflect.Value) reflect.Value {
	if v.IsNil() {
		return reflect.Zero(v.Type().Elem())
	}
	return v.Elem()
}

func (s *schema) plain(v reflect.Value) map[string]any {
	switch t := v.Type(); t.Kind() {
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.value(reflect.Zero(t.Elem()))}
	case reflect.Slice:
		item := s.value(reflect.Zero(t.Elem()))
		return map[string]any{"anyOf": []any{item, map[string]any{"type": "array", "items": item}}}
	default:
		return scalarSchema(v)
	}
}

func (s *schema) structure(v reflect.Value) map[string]any {
	l := s.layout(v.Type())
	properties := make(map[string]any, len(l.fields))
	for _, f := range l.fields {
		out := s.value(v.FieldByIndex(f.index))
		s.tell(v.Type(), f, out)
		properties[f.name] = out
	}
	out := object(properties)
	if required := l.required(); len(required) > 0 {
		out["required"] = required
	}
	return out
}

// tell adds to the schema of a field what people are told of it. What its type
// says of itself stays, behind that.
func (s *schema) tell(t reflect.Type, f field, out map[string]any) {
	if s.describe == nil {
		return
	}
	last := len(f.index) - 1
	for _, i := range f.index[:last] { // the inlined struct that has it
		t = t.Field(i).Type
	}
	said, of := s.describe(t, f.name), t.Field(f.index[last]).Type
	if own, ok := out["description"].(string); ok && said.Text != "" {
		said.Text += "; " + own
	}
	if said.Text != "" {
		out["description"] = said.Text
	}
	if said.Words != nil && of.Kind() == reflect.String && !reflect.PointerTo(of).Implements(textType) && of != pathType && out["enum"] == nil {
		delete(out, "type")
		out["enum"] = said.Words
	}
}

// required returns the fields that a config must have.
func (l *layout) required() []string { return l.missing(func(string) bool { return false }) }

// shared makes a struct a definition if it has no defaults of its own, so that
// what many sections hold is there once.
func (s *schema) shared(v reflect.Value, describe func(reflect.Value) map[string]any) map[string]any {
	t := v.Type()
	if t.Kind() != reflect.Struct || t.Name() == "" || !v.IsZero() {
		return describe(v)
	}
	name := t.String() // with its package, as in "modbus.Tag"
	switch s.named[name] {
	case t:
	case nil:
		s.named[name] = t // first, so that a type may hold itself
		s.defs[name] = describe(v)
	default:
		return describe(v) // another package of that name
	}
	return reference(name)
}

// table is a mapping of rows, or a CSV file.
func (s *schema) table(t reflect.Type) map[string]any {
	rows, _ := t.FieldByName("Rows")
	row, _ := rows.Type.Elem().FieldByName("Value")
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "object", "additionalProperties": s.value(reflect.Zero(row.Type))},
		map[string]any{"type": "string", "minLength": 1, "description": "the path of a CSV file, from the folder of this config: the first row names the columns, the first column is the name"},
	}}
}

// text is the schema of a type that reads its own text, and of its long form if
// it is a struct with keys.
func (s *schema) text(v reflect.Value) map[string]any {
	short := short(v.Type())
	if v.Kind() != reflect.Struct || len(s.layout(v.Type()).fields) == 0 {
		return short
	}
	return map[string]any{"anyOf": []any{short, s.structure(v)}}
}

// short is the schema of the text of a type. The type itself is asked what it
// reads: what it says to who wrote what it cannot read, an editor says before
// that, and whether a number unquoted may be text is tried by samples, which may
// be counts, shares, statuses or addresses to it.
func short(t reflect.Type) map[string]any {
	var field *FieldError
	if err := unmarshal(t, "\x00"); err == nil {
		return map[string]any{"type": scalars()}
	} else if !errors.As(err, &field) {
		field = &FieldError{}
	}
	out := map[string]any{"type": "string"}
	if field.Remedy != "" {
		out["description"] = field.Remedy
	}
	if slices.ContainsFunc([]string{"1", "0.5", "404", "40001", "400001"}, func(number string) bool { return unmarshal(t, number) == nil }) {
		out["type"] = []string{"string", "number"}
	}
	if decimal := reflect.TypeFor[plant.Decimal](); t == decimal || t.Kind() == reflect.Struct && t.NumField() == 1 && t.Field(0).Type == decimal {
		out["pattern"] = `^[-+]?([0-9]+(\.[0-9]+)?|\.[0-9]+)$`
	}
	return out
}

func unmarshal(t reflect.Type, text string) error {
	return reflect.New(t).Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
}

func scalarSchema(v reflect.Value) map[string]any {
	if _, ok := wanted(v.Kind()); !ok {
		panic("config: schema of " + v.Type().String() + ": a config cannot hold it")
	}
	out := make(map[string]any)
	switch words := words(v.Type()); {
	case words != nil:
		out["enum"] = words
	case v.Kind() == reflect.String:
		out["type"] = scalars()
	case v.Kind() == reflect.Bool:
		out["type"] = "boolean"
	case v.CanInt(), v.CanUint():
		out["type"] = "integer"
		bounds(v.Type(), out)
	default:
		out["type"] = "number"
	}
	if value, ok := standing(v); ok {
		out["default"] = value
	}
	return out
}

// bounds are those of the type, unless they are beyond what a schema's readers
// count exactly.
func bounds(t reflect.Type, out map[string]any) {
	const exact = 53 // the bits of a float64's fraction, RFC 8259, section 6
	bits, unsigned := t.Bits(), t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64
	switch {
	case unsigned:
		out["minimum"] = 0
		if bits < exact {
			out["maximum"] = uint64(1)<<bits - 1
		}
	case bits < exact:
		out["minimum"], out["maximum"] = int64(-1)<<(bits-1), int64(1)<<(bits-1)-1
	}
}

// words are all that text of a type of the plant's vocabulary may be.
func words(t reflect.Type) []string {
	var out []string
	switch t {
	case reflect.TypeFor[plant.EventKind]():
		for _, k := range plant.EventKinds() {
			out = append(out, string(k))
		}
	case reflect.TypeFor[plant.Mode]():
		for _, m := range plant.Modes() {
			out = append(out, string(m))
		}
	}
	return out
}

// standing returns a default as a config would write it; ok is false if there is
// none: zero stands for what is worked out from the rest.
func standing(v reflect.Value) (value any, ok bool) {
	if v.IsZero() || v.Type() == secretType {
		return nil, false
	}
	if d, ok := v.Interface().(Duration); ok {
		return d.written(), true
	}
	if reflect.PointerTo(v.Type()).Implements(textType) {
		s, ok := v.Interface().(interface{ String() string })
		if !ok {
			return nil, false
		}
		// Only what reads back as the same is how a config writes it.
		again := reflect.New(v.Type())
		err := again.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s.String()))
		return s.String(), err == nil && reflect.DeepEqual(again.Elem().Interface(), v.Interface())
	}
	if _, ok := wanted(v.Kind()); !ok {
		return nil, false
	}
	return v.Interface(), true
}
