package opcua

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/config"
)

// maxSteps bounds a path into a value; no structure is nested as deep.
const maxSteps = 16

// Member is the way to a part of a node's value: "[2]" is the third element of an
// array, "Speed" a member of a structure, and "Axis[0].Position" goes on from
// there. The zero Member is the whole value.
type Member struct{ steps string }

// step is one part of the way: a name, or an index if name is empty.
type step struct {
	name  string
	index int
}

// UnmarshalText reads "[2]", "Speed" or "Axis[0].Position".
func (m *Member) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	if _, ok := parseSteps(text); !ok {
		return config.Field("", fmt.Sprintf("`%s` names no part of a value", b), "write [2] for the third element of an array, Speed for a member of a structure, Axis[0].Position to go on from there")
	}
	m.steps = text
	return nil
}

// parseSteps takes the text form apart.
func parseSteps(text string) (steps []step, ok bool) {
	for first := true; text != ""; first = false {
		if len(steps) == maxSteps {
			return nil, false
		}
		if rest, found := strings.CutPrefix(text, "["); found {
			digits, rest, closed := strings.Cut(rest, "]")
			n, err := strconv.ParseUint(digits, 10, 31)
			if !closed || err != nil {
				return nil, false
			}
			steps, text = append(steps, step{index: int(n)}), rest
			continue
		}
		rest, found := strings.CutPrefix(text, ".")
		if found == first {
			return nil, false
		}
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		if end == 0 {
			return nil, false
		}
		steps, text = append(steps, step{name: rest[:end]}), rest[end:]
	}
	return steps, len(steps) > 0
}

// String returns the text form, empty for the whole value.
func (m Member) String() string { return m.steps }

// pick walks from a value to one of its parts, and says why it cannot.
func pick(x any, steps []step, known layouts) (part any, problem string) {
	for _, s := range steps {
		if eo, ok := x.(*ua.ExtensionObject); ok {
			if x, problem = known.open(eo); problem != "" {
				return nil, problem
			}
		}
		if s.name != "" {
			x, problem = memberOf(x, s.name)
		} else {
			x, problem = elementOf(x, s.index)
		}
		if problem != "" {
			return nil, problem
		}
	}
	return x, ""
}

// elementOf returns one element of an array.
func elementOf(x any, index int) (any, string) {
	v := reflect.ValueOf(x)
	if !v.IsValid() || v.Kind() != reflect.Slice {
		return nil, fmt.Sprintf("it is no array, so it has no [%d]: check member", index)
	}
	if index >= v.Len() {
		return nil, fmt.Sprintf("the array has %d elements, counted from 0, so there is no [%d]: check member", v.Len(), index)
	}
	return v.Index(index).Interface(), ""
}

// memberOf returns one member of a structure, of the server's own kind or one that
// the library knows.
func memberOf(x any, name string) (any, string) {
	if o, ok := x.(*object); ok {
		return o.member(name)
	}
	v := reflect.ValueOf(x)
	if v.IsValid() && v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if !v.IsValid() || v.Kind() != reflect.Struct || v.Type() == reflect.TypeFor[time.Time]() {
		return nil, fmt.Sprintf("it is no structure, so it has no member %s: check member", name)
	}
	var names []string
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		if strings.EqualFold(f.Name, name) { // the library writes ID where the specification has Id
			return v.Field(i).Interface(), ""
		}
		names = append(names, f.Name)
	}
	return nil, noMember(name, names)
}

func noMember(name string, names []string) string {
	return fmt.Sprintf("the structure has no member %s; it has %s", name, strings.Join(names, ", "))
}

// builtin returns the built-in type of a part of a value and the part as a Variant
// would hold it. An enumeration is its number (OPC 10000-6, 5.2.4).
func builtin(x any) (any, ua.TypeID) {
	v := reflect.ValueOf(x)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, ua.TypeIDNull
	}
	switch x := x.(type) {
	case bool:
		return x, ua.TypeIDBoolean
	case int8:
		return x, ua.TypeIDSByte
	case uint8:
		return x, ua.TypeIDByte
	case int16:
		return x, ua.TypeIDInt16
	case uint16:
		return x, ua.TypeIDUint16
	case int32:
		return x, ua.TypeIDInt32
	case uint32:
		return x, ua.TypeIDUint32
	case int64:
		return x, ua.TypeIDInt64
	case uint64:
		return x, ua.TypeIDUint64
	case float32:
		return x, ua.TypeIDFloat
	case float64:
		return x, ua.TypeIDDouble
	case string:
		return x, ua.TypeIDString
	case *ua.LocalizedText:
		return x, ua.TypeIDLocalizedText
	case *ua.Variant:
		if x.Has(ua.VariantArrayValues) {
			return x.Value(), ua.TypeIDVariant
		}
		return x.Value(), x.Type()
	case ua.StatusCode:
		return x, ua.TypeIDStatusCode
	}
	if k := v.Kind(); k == reflect.Uint32 || k == reflect.Int32 {
		if v.CanUint() {
			return int32(v.Uint()), ua.TypeIDInt32
		}
		return int32(v.Int()), ua.TypeIDInt32
	}
	return x, ua.TypeIDVariant
}
