package config

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// What half of Europe writes 0,1 is one of the commonest mistakes in a config,
// and between braces YAML reads it as a value 0 and a key 1.
var (
	// decimalComma is a number with a comma for its point, and maybe a unit.
	decimalComma = regexp.MustCompile(`^([+-]?\d+),(\d+(?:[^\d,][^,]*)?)$`)
	// thousands is one that may have been meant to part thousands.
	thousands = regexp.MustCompile(`^([+-]?\d{1,3})\.(\d{3})(\D|$)`)
)

// withPoint returns text with a point for its decimal comma, if it has one.
func withPoint(text string) (point string, ok bool) {
	m := decimalComma.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	return m[1] + "." + m[2], true
}

// writePoint is the remedy of a decimal comma.
func writePoint(point string) string {
	remedy := "write " + shorten(point)
	if thousands.MatchString(point) {
		remedy += ", or " + shorten(strings.Replace(point, ".", "", 1)) + " if thousands are meant"
	}
	return remedy
}

// comma reports whether v is no key but what follows a decimal comma between
// braces: {scale: 0,1} is read as the keys scale and 1. The fault is that of the
// value before.
func (r *reader) comma(start *token.Token, before []entry, key *node, v *ast.MappingValueNode, path string) bool {
	empty, null := v.Value.(*ast.NullNode)
	if !null || empty.GetToken().Type != token.ImplicitNullType || start == nil || start.Type != token.MappingStartType || len(before) == 0 {
		return false
	}
	last := &before[len(before)-1]
	value := last.value
	if value.kind != scalarNode || value.quoted || key.quoted || value.at.Line != key.at.Line || key.at.Column != value.at.Column+len(value.text)+1 {
		return false
	}
	text := value.text + "," + key.text
	point, ok := withPoint(text)
	if !ok {
		return false
	}
	value.reported = true
	remedy := writePoint(point)
	if _, err := strconv.ParseFloat(point, 64); err == nil {
		remedy += "; a list stands in brackets: [" + shorten(value.text+", "+key.text) + "]"
	}
	r.faultAt(value.at, join(path, last.key), "a decimal comma in `"+shorten(text)+"`", remedy)
	return true
}
