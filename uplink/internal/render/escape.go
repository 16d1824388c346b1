package render

import (
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"

	"github.com/sluice-edge/sluice/plant"
)

// emitName is the function that every action of a template ends with. A template
// that calls it itself gets a text with a mark in it, which is a value like any.
const emitName = "_emit"

// A value in the raw text is a mark, its language, its length and itself. The
// mark is in no template: Parse refuses control characters. What is in the value
// is never looked at, so that an event cannot hold a mark.
const (
	mark       = 0
	markHeader = 1 + 1 + 4
)

// spoken returns a value as text, with its language.
func spoken(v any) (kind language, text string, err error) {
	switch v := v.(type) {
	case string:
		return inText, v, nil
	case ready:
		return v.language, v.text, nil
	}
	if text, err = jsonOf(v); err != nil {
		return inJSON, "", err
	}
	if text[0] == '{' || text[0] == '[' {
		return inObject, text, nil
	}
	return inJSON, text, nil
}

// emit returns a value as escape finds it in the raw text.
func emit(v any) (string, error) {
	kind, text, err := spoken(v)
	if err != nil {
		return "", err
	}
	header := [markHeader]byte{mark, byte(kind)}
	binary.BigEndian.PutUint32(header[2:], uint32(len(text)))
	var b strings.Builder
	b.Grow(markHeader + len(text))
	b.Write(header[:])
	b.WriteString(text)
	return b.String(), nil
}

// scanner is what knows, from the template's own text, where a value stands.
type scanner interface {
	// own takes text of the template.
	own(text []byte)
	// value appends a value as it has to stand here.
	value(dst []byte, kind language, text string) ([]byte, *Error)
}

func (f Format) scanner() scanner {
	switch f {
	case JSON:
		return &jsonScanner{}
	case XML:
		return &xmlScanner{}
	case Path:
		return &pathScanner{}
	case Form:
		return formScanner{}
	case Header:
		return headerScanner{}
	default:
		return textScanner{}
	}
}

// escape appends raw with its values escaped for where they stand by s.
func escape(dst []byte, s scanner, raw []byte) ([]byte, error) {
	for len(raw) > 0 {
		n := 0
		for n < len(raw) && raw[n] != mark {
			n++
		}
		s.own(raw[:n])
		dst = append(dst, raw[:n]...)
		if raw = raw[n:]; len(raw) == 0 {
			break
		}
		size := int(binary.BigEndian.Uint32(raw[2:]))
		var err *Error
		if dst, err = s.value(dst, language(raw[1]), string(raw[markHeader:markHeader+size])); err != nil {
			return dst, err
		}
		raw = raw[markHeader+size:]
	}
	return dst, nil
}

// plain returns a value as text. An object is one only where {{json …}} says so.
func plain(kind language, text string) (string, *Error) {
	switch {
	case kind == inObject && text != "[]":
		return "", &Error{Problem: "an object or a list stands where a text is expected", Remedy: "name the field in it that is meant, or write {{json …}}", Result: excerpt([]byte(text), 0)}
	case kind == inObject, kind == inJSON && text == "null":
		return "", nil
	default:
		return text, nil
	}
}

// jsonScanner knows whether a value stands in a string.
type jsonScanner struct{ inside, escaped bool }

func (s *jsonScanner) own(text []byte) {
	for _, c := range text {
		switch {
		case s.escaped:
			s.escaped = false
		case s.inside && c == '\\':
			s.escaped = true
		case c == '"':
			s.inside = !s.inside
		}
	}
}

func (s *jsonScanner) value(dst []byte, kind language, text string) ([]byte, *Error) {
	switch {
	case s.escaped:
		return dst, &Error{Problem: "a value stands behind a backslash", Remedy: "leave the backslash out: values are escaped by themselves"}
	case !s.inside && (kind == inJSON || kind == inObject):
		return append(dst, text...), nil
	case !s.inside:
		return plant.AppendJSONString(dst, text), nil
	}
	text, err := plain(kind, text)
	if err != nil {
		return dst, err
	}
	quoted := plant.AppendJSONString(nil, text)
	return append(dst, quoted[1:len(quoted)-1]...), nil
}

// xmlScanner knows whether a value stands in text or in the value of an
// attribute, the two places where it may.
type xmlScanner struct {
	// tag is set between < and >, quote within an attribute's value.
	tag   bool
	quote byte
	// until ends a comment, a CDATA section or a processing instruction.
	until string
	// seen is the end of what was read, to find what ends and begins.
	seen []byte
}

func (s *xmlScanner) own(text []byte) {
	for _, c := range text {
		s.seen = append(s.seen, c)
		if len(s.seen) > 9 {
			s.seen = s.seen[1:]
		}
		switch end := string(s.seen); {
		case s.until != "":
			if strings.HasSuffix(end, s.until) {
				s.until, s.tag = "", false
			}
		case s.quote != 0:
			if c == s.quote {
				s.quote = 0
			}
		case s.tag && (c == '"' || c == '\''):
			s.quote = c
		case strings.HasSuffix(end, "<!--"):
			s.until = "-->"
		case strings.HasSuffix(end, "<![CDATA["):
			s.until = "]]>"
		case strings.HasSuffix(end, "<?"):
			s.until = "?>"
		case c == '<':
			s.tag = true
		case c == '>':
			s.tag = false
		}
	}
}

func (s *xmlScanner) value(dst []byte, kind language, text string) ([]byte, *Error) {
	if s.until != "" || s.tag && s.quote == 0 {
		return dst, &Error{Problem: "a value stands in a tag, a comment or a CDATA section, where it cannot be escaped", Remedy: "put values between tags or in quoted attributes"}
	}
	s.seen = s.seen[:0]
	if kind == inXML {
		return append(dst, text...), nil
	}
	text, err := plain(kind, text)
	if err != nil {
		return dst, err
	}
	return append(dst, escapeXML(text)...), nil
}

// pathScanner knows whether a value stands in the path or in the query.
type pathScanner struct{ query bool }

func (s *pathScanner) own(text []byte) { s.query = s.query || strings.ContainsRune(string(text), '?') }

func (s *pathScanner) value(dst []byte, kind language, text string) ([]byte, *Error) {
	if s.query {
		return formScanner{}.value(dst, kind, text)
	}
	text, err := plain(kind, text)
	if err != nil {
		return dst, err
	}
	if text == "" {
		return dst, &Error{Problem: "a value in the path is empty", Remedy: `an event need not have it: write {{… | default "none"}}, or {{with …}} around it`}
	}
	return append(dst, url.PathEscape(text)...), nil
}

type formScanner struct{}

func (formScanner) own([]byte) {}

func (formScanner) value(dst []byte, kind language, text string) ([]byte, *Error) {
	if kind == inQuery {
		return append(dst, text...), nil
	}
	text, err := plain(kind, text)
	if err != nil {
		return dst, err
	}
	return append(dst, url.QueryEscape(text)...), nil
}

type headerScanner struct{}

func (headerScanner) own([]byte) {}

// value percent-encodes what a header cannot hold, and the percent sign, so that
// two values never become one.
func (headerScanner) value(dst []byte, kind language, text string) ([]byte, *Error) {
	text, err := plain(kind, text)
	if err != nil {
		return dst, err
	}
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			dst = append(dst, c)
		} else {
			dst = fmt.Appendf(dst, "%%%02X", c)
		}
	}
	return dst, nil
}

// textScanner is for receivers of plain text, a value of which stays on its
// line.
type textScanner struct{}

func (textScanner) own([]byte) {}

func (textScanner) value(dst []byte, kind language, text string) ([]byte, *Error) {
	text, err := plain(kind, text)
	if err != nil {
		return dst, err
	}
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r == '\u0085' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return append(dst, clean...), nil
}
