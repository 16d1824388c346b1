package central

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Object is a JSON object that is read field by field and holds each of them
// against what it must be. What is wrong is gathered; Problems has it. An Object
// is for one goroutine.
type Object struct {
	at     string
	fields map[string]json.RawMessage
	asked  map[string]bool
	wrong  *[]string
}

// ParseObject reads one JSON object: no second value behind it, no field twice
// at any depth.
func ParseObject(body []byte) (*Object, error) {
	if err := strict(body); err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return nil, errors.New("the body is no JSON object")
	}
	return &Object{fields: fields, asked: map[string]bool{}, wrong: new([]string)}, nil
}

// strict reports what encoding/json lets pass.
func strict(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := unique(d, ""); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands behind the JSON value")
	}
	return nil
}

func unique(d *json.Decoder, at string) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return err
			}
			field := name.(string) // the decoder has checked that it is one
			if seen[field] {
				return fmt.Errorf("%s%s stands there twice", at, field)
			}
			seen[field] = true
			if err := unique(d, at+field+"."); err != nil {
				return err
			}
		}
		_, err = d.Token()
	case json.Delim('['):
		for d.More() {
			if err := unique(d, at); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

func (o *Object) fail(field, format string, args ...any) {
	*o.wrong = append(*o.wrong, o.at+field+" "+fmt.Sprintf(format, args...))
}

// raw returns a field and remembers that it is known.
func (o *Object) raw(field string, required bool) (json.RawMessage, bool) {
	o.asked[field] = true
	v, ok := o.fields[field]
	if !ok && required {
		o.fail(field, "is missing")
	}
	return v, ok
}

// Has reports whether the field stands there, null or not.
func (o *Object) Has(field string) bool { _, ok := o.fields[field]; return ok }

// String reads a text; a null is none.
func (o *Object) String(field string, required bool) string {
	v, ok := o.raw(field, required)
	var s *string
	if ok && (json.Unmarshal(v, &s) != nil || s == nil) {
		o.fail(field, "must be a string, not %s", v)
	}
	if s == nil {
		return ""
	}
	if *s == "" && required {
		o.fail(field, "is empty")
	}
	return *s
}

// OrNull reads a text that may be null; set reports whether it is a text.
func (o *Object) OrNull(field string, required bool) (text string, set bool) {
	if v, ok := o.fields[field]; ok && string(v) == "null" {
		o.asked[field] = true
		return "", false
	}
	text = o.String(field, required)
	return text, text != ""
}

// Number reads a JSON number that is no text, at least 0.
func (o *Object) Number(field string, required bool) (n float64, set bool) {
	v, ok := o.raw(field, required)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(v), 64)
	if err != nil || n < 0 {
		o.fail(field, "must be a number of at least 0, not %s", v)
		return 0, false
	}
	return n, true
}

// NumberOrText reads a number that may also be written as a text.
func (o *Object) NumberOrText(field string, required bool) float64 {
	v, ok := o.raw(field, required)
	if !ok {
		return 0
	}
	n, err := strconv.ParseFloat(strings.Trim(string(v), `"`), 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		o.fail(field, "must be a number, not %s", v)
		return 0
	}
	return n
}

// Scalar reads a text or a number, as parameters are.
func (o *Object) Scalar(field string, required bool) any {
	v, ok := o.raw(field, required)
	if !ok {
		return nil
	}
	var value any
	_ = json.Unmarshal(v, &value) // it is JSON: ParseObject has read it
	switch value.(type) {
	case string, float64:
		return value
	}
	o.fail(field, "must be a text or a number, not %s", v)
	return nil
}

// Date reads a time of whole seconds with a zone, in each of the forms that ISO
// 8601 has for one.
func (o *Object) Date(field string, required bool) time.Time {
	text := o.String(field, required)
	if text == "" {
		return time.Time{}
	}
	t, err := ParseDate(text)
	if err != nil {
		o.fail(field, "%v", err)
	}
	return t
}

// ParseDate reads a time of whole seconds with a zone: Z, +01:00, +0100 or +01.
func ParseDate(text string) (time.Time, error) {
	for _, form := range []string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05-0700", "2006-01-02T15:04:05-07"} {
		if t, err := time.Parse(form, text); err == nil && !strings.Contains(text, ".") && !strings.Contains(text, ",") {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("must be a date of whole seconds with a zone, not %q", text)
}

// Object reads an object within; nil if it does not stand there or is none.
func (o *Object) Object(field string, required bool) *Object {
	v, ok := o.raw(field, required)
	if !ok {
		return nil
	}
	return o.within(field, v)
}

func (o *Object) within(field string, v json.RawMessage) *Object {
	var fields map[string]json.RawMessage
	if json.Unmarshal(v, &fields) != nil || fields == nil {
		o.fail(field, "must be an object, not %s", v)
		return nil
	}
	return &Object{at: o.at + field + ".", fields: fields, asked: map[string]bool{}, wrong: o.wrong}
}

// Objects reads a list of objects.
func (o *Object) Objects(field string, required bool) []*Object {
	v, ok := o.raw(field, required)
	if !ok {
		return nil
	}
	var items []json.RawMessage
	if json.Unmarshal(v, &items) != nil || items == nil {
		o.fail(field, "must be a list, not %s", v)
		return nil
	}
	var all []*Object
	for i, item := range items {
		if one := o.within(field+"["+strconv.Itoa(i)+"]", item); one != nil {
			all = append(all, one)
		}
	}
	return all
}

// Texts reads a list of texts.
func (o *Object) Texts(field string, required bool) []string {
	v, ok := o.raw(field, required)
	if !ok {
		return nil
	}
	var items []string
	if json.Unmarshal(v, &items) != nil || items == nil {
		o.fail(field, "must be a list of texts, not %s", v)
	}
	return items
}

// Fail notes something else that is wrong with a field.
func (o *Object) Fail(field, format string, args ...any) { o.fail(field, format, args...) }

// End notes every field that nobody has asked for: the document does not know it.
func (o *Object) End() {
	for _, name := range slices.Sorted(maps.Keys(o.fields)) {
		if !o.asked[name] {
			o.fail(name, "is no field of this request")
		}
	}
}

// Problems returns what is wrong, with the path of each field.
func (o *Object) Problems() []string { return *o.wrong }
