package httplink

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// longestWords is how much of a receiver's words is shown, in characters.
const longestWords = 300

// Redactor makes text from outside safe to show. It may be used from any
// goroutine.
type Redactor struct {
	fixed    []string
	replacer atomic.Pointer[strings.Replacer]
}

// NewRedactor takes these secrets out, in whatever form a receiver is likely to
// repeat them. Empty ones are left out.
func NewRedactor(secrets ...string) *Redactor {
	r := &Redactor{fixed: secrets}
	r.With()
	return r
}

// With takes those secrets out from now on, besides the first ones, in the place
// of those of an earlier With: tokens come and go.
func (r *Redactor) With(secrets ...string) {
	var forms []string
	for _, clear := range slices.Concat(r.fixed, secrets) {
		if clear == "" {
			continue
		}
		quoted, err := json.Marshal(clear)
		if err != nil {
			panic(err) // a string always has a JSON form
		}
		forms = append(forms, clear, url.QueryEscape(clear), url.PathEscape(clear), string(quoted[1:len(quoted)-1]),
			base64.StdEncoding.EncodeToString([]byte(clear)))
	}
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) }) // one may hold another
	pairs := make([]string, 0, 2*len(forms))
	for _, s := range forms {
		pairs = append(pairs, s, "(secret)")
	}
	r.replacer.Store(strings.NewReplacer(pairs...))
}

// Clean makes text from outside safe to show: no secret, no control or
// formatting characters, one line, not long.
func (r *Redactor) Clean(text string) string {
	text = r.replacer.Load().Replace(text)
	var b strings.Builder
	n, space := 0, false
	for _, c := range text {
		if unicode.IsSpace(c) || unicode.IsControl(c) {
			space = b.Len() > 0
			continue
		}
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			c = '?'
		}
		if n == longestWords {
			return b.String() + "…"
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(c)
		n++
	}
	return b.String()
}
