package render

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/sluice-edge/sluice/plant"
)

// Variants returns every variant that a template has to work with.
func Variants() []Variant { return []Variant{Full, Bare, Awkward} }

// Try runs the template on sample events of a kind. Its error is an *Error whose
// problem names the kind; most is that of Append. Events that when, which may be
// nil, leaves out are not tried.
func (t *Template) Try(kind plant.EventKind, most int, when *Template) error {
	for _, v := range Variants() {
		e := Sample(kind, v)
		value, err := t.kinds.Value(&e)
		if err != nil {
			return &Error{Problem: err.Error(), Remedy: "report this: the sample is the program's own"}
		}
		if when != nil {
			if applies, err := when.Applies(value); err != nil || !applies {
				continue // when itself is tried as well
			}
		}
		parsed := t.parsed
		if v == Full {
			parsed = t.strict
		}
		out, err := t.run(parsed, nil, value, most)
		if err == nil {
			err = t.format.Check(out)
		}
		if err != nil {
			wrong := new(Error)
			if errors.As(err, &wrong) {
				wrong.Problem = fmt.Sprintf("for a `%s` event %s: %s", kind, v, wrong.Problem)
			}
			return wrong
		}
	}
	return nil
}

// longestCondition bounds what a condition may make, in bytes.
const longestCondition = 64 << 10

// Applies reports whether the template, which is a condition, makes more of an
// event than blanks. Its error is an *Error.
func (t *Template) Applies(value map[string]any) (bool, error) {
	out, err := t.Append(nil, value, longestCondition)
	return len(bytes.TrimSpace(out)) > 0, err
}

// Check reports what is wrong with a whole text of the format, as an *Error; nil
// if nothing is.
func (f Format) Check(text []byte) error {
	switch f {
	case JSON:
		return checkJSON(text)
	case XML:
		return checkXML(text)
	case Form:
		if _, err := url.ParseQuery(string(text)); err != nil || bytes.ContainsAny(text, "\r\n\t ") {
			return &Error{Problem: "it is no form", Remedy: "write name={{.value}}&name={{.value}} on one line; end lines with {{- /**/ -}}", Result: excerpt(text, 0)}
		}
	case Path:
		return checkPath(text)
	case Header:
		if bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return &Error{Problem: "it holds a line break or another character that no header may hold", Remedy: "write it on one line, in printable ASCII", Result: excerpt(text, 0)}
		}
	}
	return nil
}

func checkJSON(text []byte) error {
	if json.Valid(text) {
		return nil
	}
	var v json.RawMessage
	err := json.Unmarshal(text, &v)
	at := 0
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		at = int(syntax.Offset)
	}
	problem := "it is no valid JSON"
	if err != nil {
		problem += ": " + err.Error()
	}
	return &Error{Problem: problem, Remedy: "values need no quotes of their own; look for a comma too many or too few, and for {{if}} around one", Result: excerpt(text, at)}
}

func checkXML(text []byte) error {
	d := xml.NewDecoder(bytes.NewReader(text))
	elements := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && elements > 0 {
			return nil
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("it has no element")
		}
		if err != nil {
			return &Error{Problem: "it is no valid XML: " + err.Error(), Remedy: "each <element> needs its </element>, and each attribute its quotes", Result: excerpt(text, int(d.InputOffset()))}
		}
		if _, ok := token.(xml.StartElement); ok {
			elements++
		}
	}
}

// checkPath refuses what would lead to another place than the template names.
func checkPath(text []byte) error {
	bad := func(problem, remedy string) error {
		return &Error{Problem: problem, Remedy: remedy, Result: excerpt(text, 0)}
	}
	path, _, _ := strings.Cut(string(text), "?")
	u, err := url.Parse(string(text))
	switch {
	case len(text) > 0 && text[0] != '/' && text[0] != '?':
		return bad("it begins with neither / nor ?", "write the path behind url, for example /orders/{{.data.order.number}}")
	case strings.HasPrefix(path, "//"):
		return bad("it begins with //, which names another host", "write one /")
	case err != nil || bytes.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return bad("it is no part of a URL", "write no spaces; values are escaped by themselves")
	case strings.Contains(string(text), "#"):
		return bad("it has a fragment (#…), which is never sent", "leave out what begins with #")
	}
	for _, segment := range strings.Split(u.Path, "/") {
		if segment == "." || segment == ".." {
			return bad("a part of the path is . or .., which leads to another place", "this event cannot be sent there")
		}
	}
	return nil
}

// excerpt returns as much of a text as people can look through, around a place
// in it.
func excerpt(text []byte, at int) string {
	const around = 100
	begin, end := max(at-around, 0), min(max(at, around)+around, len(text))
	for begin > 0 && !utf8.RuneStart(text[begin]) {
		begin--
	}
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end++
	}
	out := strings.Join(strings.Fields(string(text[begin:end])), " ")
	if begin > 0 {
		out = "…" + out
	}
	if end < len(text) {
		out += "…"
	}
	return out
}
