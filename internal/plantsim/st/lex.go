package st

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// kind is what a token is.
type kind uint8

const (
	end kind = iota
	word
	number
	duration
	symbol
)

// token is one word, number, TIME or sign of the source.
type token struct {
	kind kind
	// text is in lower case; value is of numbers and TIMEs, in milliseconds.
	text  string
	value int64
	line  int
}

func (t token) String() string {
	if t.kind == end {
		return "the end"
	}
	return "`" + t.text + "`"
}

// symbols of two signs come before those of one.
var symbols = []string{":=", "<=", ">=", "<>", "..", "(", ")", "[", "]", ";", ":", ",", "+", "-", "*", "/", "<", ">", "=", "."}

// lex cuts a source into tokens. What S7 SCL writes beside the standard is left
// out here: # before a variable, quotes round a name, { } with attributes.
func lex(text string) (all []token, err error) {
	line := 1
	for i := 0; i < len(text); {
		rest := text[i:]
		switch c := rest[0]; {
		case c == '\n':
			line++
			i++
		case c == ' ' || c == '\t' || c == '\r' || c == '#' || c == '"':
			i++
		case strings.HasPrefix(rest, "//"):
			i += strings.IndexByte(rest+"\n", '\n')
		case strings.HasPrefix(rest, "(*"), c == '{':
			closing := "*)"
			if c == '{' {
				closing = "}"
			}
			n := strings.Index(rest, closing)
			if n < 0 {
				return nil, fmt.Errorf("line %d: nothing closes this %s", line, rest[:1])
			}
			line += strings.Count(rest[:n], "\n")
			i += n + len(closing)
		case isLetter(c) || c >= '0' && c <= '9':
			n := 1
			for n < len(rest) && (isLetter(rest[n]) || rest[n] >= '0' && rest[n] <= '9') {
				n++
			}
			t := token{kind: word, text: strings.ToLower(rest[:n]), line: line}
			if n < len(rest) && rest[n] == '#' && (t.text == "t" || t.text == "time") {
				m := n + 1
				for m < len(rest) && (isLetter(rest[m]) || rest[m] >= '0' && rest[m] <= '9') {
					m++
				}
				if t.value, err = milliseconds(rest[n+1 : m]); err != nil {
					return nil, fmt.Errorf("line %d: %w", line, err)
				}
				t.kind, t.text, n = duration, rest[:m], m
			} else if c >= '0' && c <= '9' {
				if t.value, err = strconv.ParseInt(t.text, 10, 64); err != nil {
					return nil, fmt.Errorf("line %d: `%s` is no number", line, t.text)
				}
				t.kind = number
			}
			all = append(all, t)
			i += n
		default:
			n := 0
			for _, s := range symbols {
				if strings.HasPrefix(rest, s) {
					n = len(s)
					break
				}
			}
			if n == 0 {
				return nil, fmt.Errorf("line %d: `%c` means nothing here", line, rune(c))
			}
			all = append(all, token{kind: symbol, text: rest[:n], line: line})
			i += n
		}
	}
	return append(all, token{kind: end, line: line}), nil
}

func isLetter(c byte) bool { return c == '_' || c < 0x80 && unicode.IsLetter(rune(c)) }

// milliseconds reads what stands behind T#, for example 1m30s or 500ms.
func milliseconds(text string) (ms int64, err error) {
	text = strings.ToLower(text)
	for text != "" {
		n := strings.IndexFunc(text, unicode.IsLetter)
		if n <= 0 {
			return 0, fmt.Errorf("`%s` is no TIME", text)
		}
		value, err := strconv.ParseInt(text[:n], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("`%s` is no TIME", text)
		}
		rest := strings.TrimLeftFunc(text[n:], unicode.IsLetter)
		unit, ok := map[string]int64{"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}[text[n:len(text)-len(rest)]]
		if !ok {
			return 0, fmt.Errorf("`%s` is no TIME", text)
		}
		ms, text = ms+value*unit, rest
	}
	return ms, nil
}
