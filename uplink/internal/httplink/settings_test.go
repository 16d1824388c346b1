package httplink

import (
	"net/url"
	"strings"
	"testing"
)

// TestAuthorityOfAProxy: ca, cert and key are of use to a proxy that is called by
// TLS, also where the receiver behind it is not.
func TestAuthorityOfAProxy(t *testing.T) {
	target := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	for _, c := range []struct {
		proxy, serverName string
		direct            []string
		want              int
	}{
		{proxy: "https://127.0.0.1:2"},
		{proxy: "https://127.0.0.1:2", serverName: "mes.example", want: 1}, // the proxy is called by its own name
		{proxy: "https://127.0.0.1:2", direct: []string{"127.0.0.1"}, want: 2},
		{proxy: "http://127.0.0.1:2", want: 2},
		{want: 2},
	} {
		s := DefaultSettings()
		s.CA, s.Cert, s.Key = "ca.pem", "cert.pem", "key.pem"
		s.Proxy, s.NoProxy, s.ServerName = c.proxy, c.direct, c.serverName
		text := ""
		if err := s.Validate(target, false, 4*s.Timeout); err != nil {
			text = err.Error()
		}
		if got := strings.Count(text, "of no use without TLS"); got != c.want {
			t.Errorf("%+v: %d faults, want %d: %s", c, got, c.want, text)
		}
	}
}
