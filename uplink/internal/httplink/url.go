package httplink

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/config"
)

// ParseURL reads the HTTP URL that stands at path in a config; its error is a
// config.FieldError and never holds a password.
func ParseURL(path, text string) (*url.URL, error) {
	return parseURL(path, text, "write it like https://mes.example/events", "use auth: {basic: {user: …, password: env:NAME}}")
}

func parseURL(path, text, remedy, login string) (*url.URL, error) {
	bad := func(problem, remedy string) (*url.URL, error) { return nil, config.Field(path, problem, remedy) }
	u, err := url.Parse(text)
	if err != nil || !Printable(text) || strings.Contains(text, " ") {
		return bad("it is no URL", remedy)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("it does not begin with https:// or http://", remedy)
	case u.User != nil:
		return bad("it holds a user or password, which would be shown and logged", login)
	case u.Hostname() == "":
		return bad("it names no host", remedy)
	case config.HostProblem(u.Hostname()) != "":
		return bad("it "+config.HostProblem(u.Hostname()), remedy)
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		return bad("it has a fragment (#…), which is never sent", "leave out what begins with #")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return bad("the port is not from 1 to 65535", remedy)
		}
	}
	return u, nil
}

// Show returns a URL for people, without its query: some receivers want a key
// in it.
func Show(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// SameOrigin reports whether two URLs have one scheme, host and port, as they
// are written.
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host)
}

// Loopback reports whether nothing sent to host leaves this computer.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// Secretive reports whether a header or parameter of that name usually holds a
// secret.
func Secretive(name string) bool {
	name = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
	return slices.ContainsFunc([]string{"authorization", "token", "apikey", "accesskey", "secret", "password", "cookie", "signature"},
		func(word string) bool { return strings.Contains(name, word) })
}

// Token reports whether s is a token of RFC 9110 section 5.6.2, as the name of a
// header is.
func Token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

// Printable reports whether s is printable ASCII, as the value of a header is.
func Printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// HeaderSafe returns text as a header can hold it safely, for an Idempotency-Key:
// what it cannot hold is percent-encoded.
func HeaderSafe(text string) string {
	safe := func(c byte) bool { return c > ' ' && c <= '~' && c != '%' && c != '"' && c != ',' && c != ';' }
	at := 0
	for at < len(text) && safe(text[at]) {
		at++
	}
	if at == len(text) {
		return text
	}
	var b strings.Builder
	b.WriteString(text[:at])
	for ; at < len(text); at++ {
		if c := text[at]; safe(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
