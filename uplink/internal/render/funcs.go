package render

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// Codes translate our codes into those of a receiver. ok is false if there is a
// table for that kind of code which does not have it; the code is then returned
// as it is. Place says where that table is, for people. The methods are called from
// any goroutine.
type Codes interface {
	Lookup(kind plant.CodeKind, ours string) (theirs string, ok bool)
	DowntimeType(m plant.MachineID, downtimeType, reason string) (theirs string, ok bool)
	Place(kind plant.CodeKind) string
}

// untranslated leaves every code as it is.
type untranslated struct{}

// Lookup implements Codes.
func (untranslated) Lookup(_ plant.CodeKind, ours string) (string, bool) { return ours, true }

// DowntimeType implements Codes.
func (untranslated) DowntimeType(_ plant.MachineID, downtimeType, _ string) (string, bool) {
	return downtimeType, true
}

// Place implements Codes.
func (untranslated) Place(plant.CodeKind) string { return "" } // every code has its row

// ready is text that is written in that language already.
type ready struct {
	language language
	text     string
}

// language is how a value has to be escaped.
type language byte

const (
	inJSON  language = 'j' // where a JSON value is expected
	inXML   language = 'x'
	inQuery language = 'q' // also a form
	inText  language = 't'
	// inObject is the JSON text of an object or a list that nobody made a text of.
	inObject language = 'o'
)

// The functions that look codes up.
const (
	codeName     = "code"
	mappedName   = "mapped"
	downtimeName = "downtime"
)

// functions are those that a template has besides the ones of text/template.
func functions(codes Codes) template.FuncMap {
	z := &zones{}
	return template.FuncMap{
		"json":     asJSON,
		"xml":      asXML,
		"urlquery": asQuery,
		"decimal":  decimal,
		"default":  otherwise,
		"time":     func(layout string, v any) (any, error) { return formatted(layout, v, time.UTC) },
		"timein":   func(zone, layout string, v any) (any, error) { return z.formatted(zone, layout, v) },
		codeName: func(kind string, v any) (string, error) {
			theirs, _, err := lookUp(codes, kind, v)
			return theirs, err
		},
		mappedName: func(kind string, v any) (string, error) {
			theirs, ok, err := lookUp(codes, kind, v)
			if err == nil && !ok {
				err = &Error{
					Problem: fmt.Sprintf("the code table %s has no row for %q, and nothing else may be sent in its place", kind, theirs),
					Remedy:  fmt.Sprintf("add a row for %q to %s", theirs, codes.Place(plant.CodeKind(kind))),
				}
			}
			return theirs, err
		},
		downtimeName: func(event map[string]any) string { return downtimeOf(codes, event) },
		emitName:     emit,
	}
}

func lookUp(codes Codes, kind string, v any) (string, bool, error) {
	known := plant.CodeKinds()
	for _, k := range known {
		if string(k) == kind {
			text, err := textOf(v)
			if err != nil {
				return "", false, err
			}
			theirs, ok := codes.Lookup(k, text)
			return theirs, ok, nil
		}
	}
	names := make([]string, len(known))
	for i := range known {
		names[i] = string(known[i])
	}
	return "", false, fmt.Errorf("there is no code table %q: use %s", kind, strings.Join(names, ", "))
}

// downtimeOf returns the receiver's downtime type of a stop: by the machine's own
// table of reasons, else by the code table.
func downtimeOf(codes Codes, event map[string]any) string {
	machine, _ := event["machine"].(string)
	data, _ := event["data"].(map[string]any)
	of, _ := data["type"].(string)
	reason, _ := data["reason"].(string)
	theirs, _ := codes.DowntimeType(plant.MachineID(machine), of, reason)
	return theirs
}

func asJSON(v any) (ready, error) {
	text, err := jsonOf(v)
	return ready{inJSON, text}, err
}

func asXML(v any) (ready, error) {
	text, err := textOf(v)
	return ready{inXML, escapeXML(text)}, err
}

func asQuery(v any) (ready, error) {
	text, err := textOf(v)
	return ready{inQuery, url.QueryEscape(text)}, err
}

// decimal writes a number with so many digits after the point, rounded half away
// from zero and exact otherwise.
func decimal(places int, v any) (any, error) {
	if v == nil {
		return nil, nil //nolint:nilnil // nothing stays nothing
	}
	text, err := textOf(v)
	if err != nil {
		return nil, err
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok || len(text) > 40 || strings.ContainsAny(text, "/eE_xX") {
		return nil, fmt.Errorf("decimal: %.40q is no number", text)
	}
	if places < 0 || places > plant.MaxScale {
		return nil, fmt.Errorf("decimal: %d digits after the point: it must be from 0 to %d", places, plant.MaxScale)
	}
	return json.Number(r.FloatString(places)), nil
}

// otherwise returns v, and other if v is nothing or an empty text.
func otherwise(other, v any) any {
	if v == nil || v == "" {
		return other
	}
	return v
}

// layouts are the names of the usual ones.
var layouts = map[string]string{
	"iso":     "2006-01-02T15:04:05.000Z07:00",
	"seconds": "2006-01-02T15:04:05Z07:00",
	"date":    "2006-01-02",
	"clock":   "15:04:05",
}

// formatted writes a time by the name of a layout or by an example as Go has it.
func formatted(layout string, v any, zone *time.Location) (any, error) {
	if v == nil || v == "" {
		return nil, nil //nolint:nilnil // nothing stays nothing
	}
	text, ok := v.(string)
	t, err := time.Parse(time.RFC3339Nano, text)
	if !ok || err != nil {
		return nil, fmt.Errorf("time: %.40q is no time of an event", fmt.Sprint(v))
	}
	switch layout {
	case "unix":
		return t.Unix(), nil
	case "unixms":
		return t.UnixMilli(), nil
	}
	if named, ok := layouts[layout]; ok {
		layout = named
	} else if !strings.ContainsAny(layout, "0123456789") {
		return nil, fmt.Errorf("time: there is no layout %q: use iso, seconds, date, clock, unix, unixms, or an example like 02.01.2006 15:04", layout)
	}
	return t.In(zone).Format(layout), nil
}

// zones are the time zones that templates have asked for, which are few.
type zones struct{ known sync.Map }

func (z *zones) formatted(zone, layout string, v any) (any, error) {
	location, ok := z.known.Load(zone)
	if !ok {
		loaded, err := time.LoadLocation(zone)
		if err != nil || zone == "" || zone == "Local" {
			return nil, fmt.Errorf("timein: unknown time zone %q: write an IANA name, for example Europe/Lisbon", zone)
		}
		location, _ = z.known.LoadOrStore(zone, loaded)
	}
	return formatted(layout, v, location.(*time.Location))
}

// jsonOf returns v as JSON text.
func jsonOf(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "null", nil
	case string:
		return string(plant.AppendJSONString(nil, v)), nil
	case ready:
		if v.language == inJSON {
			return v.text, nil
		}
		return string(plant.AppendJSONString(nil, v.text)), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case int:
		return strconv.Itoa(v), nil
	case bool:
		return strconv.FormatBool(v), nil
	case json.Number:
		if v != "" { // the library writes 0 for it
			return string(v), nil
		}
	case []any:
		if v == nil {
			return "[]", nil
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

var errNoText = errors.New("an object or a list where a text is expected: name the field in it, or write {{json …}}")

// textOf returns v as people write it; nothing is the empty text.
func textOf(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case ready:
		return v.text, nil
	case json.Number:
		return string(v), nil
	case map[string]any:
		if v == nil {
			return "", nil
		}
		return "", errNoText
	case []any:
		if v == nil {
			return "", nil
		}
		return "", errNoText
	default:
		return fmt.Sprint(v), nil
	}
}

func escapeXML(text string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(text)); err != nil {
		panic(err) // a Builder takes everything
	}
	return b.String()
}
