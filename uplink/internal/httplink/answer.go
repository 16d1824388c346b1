package httplink

import (
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxWait bounds what Retry-After may ask for.
const MaxWait = time.Hour

// Answer is what came back, read to its end or to its bound.
type Answer struct {
	Status int
	Header http.Header
	// Body is what was read, and BodyErr why not all of it.
	Body    []byte
	BodyErr error
	// Page is set if the body is a web page.
	Page bool
	// Elsewhere names, for people, where a redirect that is not followed leads;
	// it is not clean.
	Elsewhere string
}

// Success reports whether the status is 2xx.
func (a *Answer) Success() bool { return a.Status >= 200 && a.Status <= 299 }

// Coding returns how the body is packed, empty for not at all.
func (a *Answer) Coding() string {
	coding := strings.TrimSpace(a.Header.Get("Content-Encoding"))
	if strings.EqualFold(coding, "identity") {
		return ""
	}
	return coding
}

// RetryAfter returns how long the receiver asks to wait, by seconds or by a
// date (RFC 9110 section 10.2.3), at most MaxWait; 0 for not at all. A date is
// held against the receiver's own clock where it says what that is, else against
// now.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(MaxWait/time.Second))) * time.Second
	}
	if digits := strings.Trim(text, "0123456789"); digits == "" {
		return MaxWait // more than 64 bits of seconds
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), MaxWait)
}

// Title returns a status as people write it: "404 Not Found".
func Title(status int) string {
	return strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
}

// JSONType reports whether a body is JSON by its own account.
func JSONType(h http.Header) bool {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}

// Words finds what is meant for people in the body of an answer: the usual
// members of a JSON object (RFC 9457 has title and detail), or plain text, which
// some call JSON. A page of HTML is for browsers. They are not clean. A packed body
// has none.
func (a *Answer) Words() string {
	if a.Coding() != "" {
		return ""
	}
	if !JSONType(a.Header) || !json.Valid(a.Body) {
		if text := strings.TrimSpace(string(a.Body)); text == "" || !strings.ContainsRune("<{[\"", rune(text[0])) {
			return text
		}
	}
	return WordsOfJSON(a.Body)
}

// WordsOfJSON finds what is meant for people in a JSON text; empty if there is
// nothing.
func WordsOfJSON(raw []byte) string { return wordsOfJSON(raw, 3) }

// wordsOfJSON looks into objects at most depth deep: what comes from outside may
// be nested without end.
func wordsOfJSON(raw []byte, depth int) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var object map[string]json.RawMessage
	if depth == 0 || json.Unmarshal(raw, &object) != nil {
		return ""
	}
	var words []string
	for _, member := range []string{"title", "message", "error", "error_description", "detail", "reason"} {
		if w := wordsOfJSON(object[member], depth-1); w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, ": ")
}
