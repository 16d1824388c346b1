package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/lexer"
)

// tabWidths are what editors show a tab as. The widest comes first: a line that
// is indented too far is no YAML, one that is not far enough may be another's.
var tabWidths = []int{8, 4, 2}

// indent names the tabs and the invisible characters that indent lines, and
// returns the text as it looks, so that they hide nothing else.
func (r *reader) indent(text []byte) []byte {
	lines := bytes.Split(text, []byte("\n"))
	tabs := r.tabs(lines)
	r.invisible(lines)
	if !slices.ContainsFunc(lines, oddlyIndented) { // comments and empty lines may be, too
		return text
	}
	var widened []byte
	for _, width := range tabWidths {
		widened = r.widen(lines, width)
		if !tabs || r.parses(widened) {
			break
		}
	}
	return widened
}

func oddlyIndented(line []byte) bool {
	indent, _ := splitIndent(line)
	return strings.Trim(indent, " ") != ""
}

// parses reports whether text is YAML; what r refuses is found later.
func (r *reader) parses(text []byte) bool {
	trial := &reader{file: r.file}
	tokens := lexer.Tokenize(string(text))
	if trial.refuse(tokens); len(trial.faults) > 0 {
		return true // and the same at any width
	}
	_, err := trial.document(tokens)
	return err == nil
}

// tabs reports the first line that a tab indents, and how many there are.
func (r *reader) tabs(lines [][]byte) bool {
	var first Position
	n := 0
	for i, line := range lines {
		indent, content := splitIndent(line)
		tab := strings.IndexByte(indent, '\t')
		if tab < 0 || len(content) == 0 || content[0] == '#' {
			continue
		}
		if n++; n == 1 {
			first = Position{File: r.file, Line: i + 1, Column: utf8.RuneCountInString(indent[:tab]) + 1}
		}
	}
	if n == 0 {
		return false
	}
	problem := "a tab indents this line"
	if n > 1 {
		problem += fmt.Sprintf(" (and %d more)", n-1)
	}
	r.fault(first, problem, "indent by spaces")
	return true
}

// invisible reports the first line that something indents which looks like a
// space or like nothing, but is neither to YAML.
func (r *reader) invisible(lines [][]byte) {
	var first Position
	var which rune
	n := 0
	for i, line := range lines {
		indent, content := splitIndent(line)
		at := strings.IndexFunc(indent, func(c rune) bool { return c != ' ' && c != '\t' })
		if at < 0 || len(content) == 0 || content[0] == '#' {
			continue
		}
		if n++; n == 1 {
			which, _ = utf8.DecodeRuneInString(indent[at:])
			first = Position{File: r.file, Line: i + 1, Column: utf8.RuneCountInString(indent[:at]) + 1}
		}
	}
	if n == 0 {
		return
	}
	problem := "an invisible character indents this line: " + invisibleName(which)
	if n > 1 {
		problem += fmt.Sprintf(" (and %d lines more)", n-1)
	}
	r.fault(first, problem, "write plain spaces; it often comes with text that was copied from a web page or a document")
}

func invisibleName(c rune) string {
	switch c {
	case '\u00a0':
		return "U+00A0, a no-break space"
	case '\u200b':
		return "U+200B, a zero-width space"
	case '\u3000':
		return "U+3000, an ideographic space"
	default:
		return fmt.Sprintf("%U", c)
	}
}

// splitIndent splits a line where something begins that can be seen.
func splitIndent(line []byte) (indent string, content []byte) {
	content = bytes.TrimLeftFunc(line, func(c rune) bool { return unicode.IsSpace(c) || unicode.Is(unicode.Cf, c) })
	return string(line[:len(line)-len(content)]), content
}

// widen writes each indentation in plain spaces, with tab stops at each width,
// and notes by how much that moved the rest of the line.
func (r *reader) widen(lines [][]byte, width int) []byte {
	r.shift = make(map[int]int)
	var out bytes.Buffer
	for i, line := range lines {
		if i > 0 {
			out.WriteByte('\n')
		}
		indent, content := splitIndent(line)
		columns, characters := 0, 0
		for _, c := range indent {
			characters++
			switch {
			case c == '\t':
				columns += width - columns%width
			case !unicode.Is(unicode.Cf, c):
				columns++
			}
		}
		if columns != characters {
			r.shift[i+1] = columns - characters
		}
		out.WriteString(strings.Repeat(" ", columns))
		out.Write(content)
	}
	return out.Bytes()
}
