package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxText bounds each text of an entry; what is longer is cut, and says so.
const maxText = 2 << 10

// maxLine is more than any line takes: five texts, each byte escaped.
const maxLine = 5*6*maxText + 1<<10

// Record is one line of the log.
type Record struct {
	Number  uint64    `json:"n"`
	Time    time.Time `json:"time"`
	By      string    `json:"by"`
	Action  string    `json:"action"`
	Object  string    `json:"object,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	Outcome string    `json:"outcome"`
	// Prev is the hash of the line before.
	Prev hash `json:"prev"`
}

// JSON returns r as one line without its hash, with every character that does
// not print escaped as in the log.
func (r *Record) JSON() []byte {
	line, _ := encode(r.Number, r.Time, Entry{By: r.By, Action: r.Action, Object: r.Object, Detail: r.Detail, Outcome: r.Outcome}, r.Prev)
	const tailSize = len(`,"hash":""}`) + 64 + 1
	return append(line[:len(line)-tailSize], '}')
}

// encode returns the line of an entry and its hash: SHA-256 over the hash
// before, as bytes, and the line without its own hash.
func encode(number uint64, at time.Time, e Entry, prev hash) (line []byte, h hash) {
	var b []byte
	b = append(b, `{"n":`...)
	b = strconv.AppendUint(b, number, 10)
	b = append(b, `,"time":"`...)
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	text := func(key, value string, always bool) {
		if value != "" || always {
			b = append(b, `,"`+key+`":`...)
			b = appendText(b, value)
		}
	}
	text("by", e.By, true)
	text("action", e.Action, true)
	text("object", e.Object, false)
	text("detail", e.Detail, false)
	text("outcome", e.Outcome, true)
	b = append(b, `,"prev":"`...)
	b = append(b, prev.String()...)
	b = append(b, `"}`...)
	h = link(prev, b)
	return append(appendHash(b[:len(b)-1], h), '\n'), h
}

func appendHash(b []byte, h hash) []byte {
	b = append(b, `,"hash":"`...)
	b = append(b, h.String()...)
	return append(b, `"}`...)
}

func link(prev hash, canonical []byte) (h hash) {
	s := sha256.New()
	s.Write(prev[:])
	s.Write(canonical)
	s.Sum(h[:0])
	return h
}

// appendText appends s as a JSON string in which every character that does not
// print is escaped: a line break, an ANSI sequence or a change of the direction
// of writing must not forge a line for who reads the log on a terminal.
func appendText(b []byte, s string) []byte {
	cut := ""
	if len(s) > maxText {
		n := maxText
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		cut = fmt.Sprintf("… (%d bytes)", len(s))
		s = s[:n]
	}
	b = append(b, '"')
	for _, r := range s + cut {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == ' ' || unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			// JSON escapes such a character as a surrogate pair (RFC 8259, section 7).
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}

// errLine says that a line is not one that encode wrote.
var errLine = errors.New("it is no line of an audit log")

// decode takes a line without its line break apart. It checks the line's own
// hash, not its place in the chain.
func decode(line []byte) (r Record, h hash, err error) {
	const tailSize = len(`,"hash":""}`) + 64
	if len(line) <= tailSize || len(line) > maxLine {
		return r, h, errLine
	}
	body, end := line[:len(line)-tailSize], line[len(line)-tailSize:]
	digits, ok := bytes.CutPrefix(end, []byte(`,"hash":"`))
	if !ok || !bytes.HasSuffix(digits, []byte(`"}`)) {
		return r, h, errLine
	}
	// Hexadecimal may be written in two ways, and encode writes one.
	if err := h.UnmarshalText(digits[:64]); err != nil || h.String() != string(digits[:64]) {
		return r, h, errLine
	}
	canonical := append(bytes.Clone(body), '}')
	d := json.NewDecoder(bytes.NewReader(canonical))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || d.More() {
		return r, h, errLine
	}
	if link(r.Prev, canonical) != h {
		return r, h, errors.New("its hash does not match: the line was changed")
	}
	return r, h, nil
}
