package line

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sluice-edge/sluice/config"
)

// Delimiter is what stands before or behind a line.
type Delimiter struct {
	// name is what the config said, if it is one of the words below.
	name string
	// text is empty for any and none.
	text string
}

// delimiters are those that have a name.
var delimiters = map[string]string{
	"any": "", "none": "", "cr": "\r", "lf": "\n", "crlf": "\r\n", "stx": "\x02", "etx": "\x03", "tab": "\t", "nul": "\x00",
}

// UnmarshalText reads a name, or the characters themselves with \r, \n, \t, \\
// and \xNN for what cannot be typed.
func (d *Delimiter) UnmarshalText(b []byte) error {
	name := strings.ToLower(strings.TrimSpace(string(b)))
	if text, ok := delimiters[name]; ok {
		*d = Delimiter{name: name, text: text}
		return nil
	}
	text, err := unescape(string(b))
	if err != nil {
		return err
	}
	*d = Delimiter{text: text}
	return nil
}

// MarshalText returns how a config writes it.
func (d Delimiter) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String returns how a config writes it.
func (d Delimiter) String() string {
	if d.name != "" || d.text == "" {
		return d.name
	}
	return escape(d.text)
}

// Text is what is sent to a device, as bytes.
type Text string

// UnmarshalText reads characters with \r, \n, \t, \\ and \xNN for what cannot be
// typed.
func (t *Text) UnmarshalText(b []byte) error {
	text, err := unescape(string(b))
	if err != nil {
		return err
	}
	*t = Text(text)
	return nil
}

func unescape(s string) (string, error) {
	bad := func(problem string) error {
		return config.Field("", fmt.Sprintf("`%s` %s", s, problem), `write the characters, with \r, \n, \t, \\ or \x and two hexadecimal digits for what cannot be typed, in single quotes`)
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", bad(`ends with a single \`)
		}
		switch s[i] {
		case 'r':
			out.WriteByte('\r')
		case 'n':
			out.WriteByte('\n')
		case 't':
			out.WriteByte('\t')
		case '\\':
			out.WriteByte('\\')
		case 'x':
			n, err := strconv.ParseUint(s[i+1:min(i+3, len(s))], 16, 8)
			if err != nil || i+3 > len(s) {
				return "", bad(`has a \x without two hexadecimal digits`)
			}
			out.WriteByte(byte(n))
			i += 2
		default:
			return "", bad(fmt.Sprintf(`has \%c, which is nothing`, s[i]))
		}
	}
	if out.Len() == 0 || out.Len() > mostText {
		return "", bad(fmt.Sprintf("has %d characters, and 1 to %d are possible", out.Len(), mostText))
	}
	return out.String(), nil
}

// escape shows what cannot be printed.
func escape(s string) string {
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// shown is a line as a message names it: bounded, in one line.
func shown(raw string) string {
	const most = 80
	cut := ""
	if len(raw) > most {
		raw, cut = raw[:most], "…"
	}
	return "`" + escape(raw) + cut + "`"
}

// decode returns a line as text; ok is false if it is none in this encoding.
func decode(raw, encoding string) (text string, ok bool) {
	if encoding == "utf-8" {
		return raw, utf8.ValidString(raw)
	}
	ascii := true
	for i := range len(raw) {
		ascii = ascii && raw[i] < utf8.RuneSelf
	}
	if ascii {
		return raw, true
	}
	var out strings.Builder
	for i := range len(raw) {
		out.WriteRune(rune(raw[i])) // ISO 8859-1 is the first 256 code points
	}
	return out.String(), true
}
