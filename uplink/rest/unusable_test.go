package rest

import "testing"

// An answer that is framed well but damaged must never count as "all taken".
func TestUnusableAnswers(t *testing.T) {
	for body, want := range map[string]string{
		"":                                       "",
		" \n":                                    "",
		"{}":                                     "",
		`{"ok":true}`:                            "",
		`{"results":[]}`:                         "",
		`{"results":[{"id":"a","status":503}]}`:  "",
		`[{"id":"a","status":200}]`:              "",
		`{"results":[{"id":"a","status":503,"er`: "what it says is no valid JSON",
		`{"results":[]} trailing`:                "what it says is no valid JSON",
		`{"results":{"x":{"status":422}}}`:       "its results are no list of items",
		`{"results":[{"status":422},"oops"]}`:    "its results are no list of items",
	} {
		for _, called := range []bool{true, false} {
			if got := (&Sender{}).items().unusable([]byte(body), called); got != want {
				t.Errorf("%q, called JSON %t: %q, want %q", body, called, got, want)
			}
		}
	}
}
