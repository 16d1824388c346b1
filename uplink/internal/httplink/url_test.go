package httplink

import (
	"strings"
	"testing"
)

// FuzzURL: a URL that is accepted names a host, and no part that may be secret
// is ever shown.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{"https://mes.example/events?key=c4nary", "http://u:c4nary@h", "https://h:1/#x", "//h", "http:x", "https://[::1]:80/%2f", "https://h\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURL("url", text)
		if err != nil {
			if strings.Contains(text, "c4nary") && strings.Contains(err.Error(), "c4nary") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if shown := Show(u); u.Hostname() == "" || u.User != nil || strings.ContainsAny(shown, "?#") || strings.ContainsAny(shown, "\r\n\x1b") {
			t.Errorf("%q is shown as %q", text, shown)
		}
	})
}
