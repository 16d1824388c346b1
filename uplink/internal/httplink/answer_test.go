package httplink

import (
	"net/http"
	"testing"
)

// TestWords: what a receiver says is found whatever it calls the form of it.
func TestWords(t *testing.T) {
	for _, test := range []struct{ media, body, want string }{
		{"text/plain", "Count must be greater than 500\n", "Count must be greater than 500"},
		{"application/json", "Count must be greater than 500\n", "Count must be greater than 500"}, // says JSON, and is none
		{"application/problem+json; charset=utf-8", "no such machine", "no such machine"},
		{"application/json", `"Count must be greater than 500"`, "Count must be greater than 500"},
		{"application/json", `{"message":"no such machine"}`, "no such machine"},
		{"", `{"error":{"message":"no such machine"}}`, "no such machine"},
		{"application/json", `{"count":12}`, ""},
		{"application/json", `{"message":"cut of`, ""},
		{"application/json", "12", ""},
		{"application/json", "<html>busy</html>", ""},
		{"text/html", "<html>busy</html>", ""},
		{"", "", ""},
	} {
		a := Answer{Status: 400, Header: http.Header{"Content-Type": {test.media}}, Body: []byte(test.body)}
		if got := a.Words(); got != test.want {
			t.Errorf("%s %q: %q, want %q", test.media, test.body, got, test.want)
		}
	}
}
