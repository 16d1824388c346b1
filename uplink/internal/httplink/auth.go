package httplink

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
)

// Auth is how the gateway shows who it is, by at most one of its ways.
type Auth struct {
	// Bearer is a token (RFC 6750).
	Bearer config.Secret `yaml:"bearer"`
	// Basic is a user with a password (RFC 7617).
	Basic *Basic `yaml:"basic"`
	// APIKey is a key in a header of the receiver's choice.
	APIKey *APIKey `yaml:"api_key"`
}

// Basic is a user with a password.
type Basic struct {
	User     string        `yaml:"user,required"`
	Password config.Secret `yaml:"password,required"`
}

// APIKey is a key in a header.
type APIKey struct {
	Header string        `yaml:"header,required"`
	Value  config.Secret `yaml:"value,required"`
}

// ownHeaders are set by the gateway or by HTTP itself.
var ownHeaders = []string{
	"Accept", "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host",
	"Idempotency-Key", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// OwnHeader reports whether no config may set the header of that name, in any
// case, since the gateway or HTTP itself does.
func OwnHeader(name string) bool { return slices.Contains(ownHeaders, http.CanonicalHeaderKey(name)) }

// Validate returns the faults of a as config.FieldErrors, nil if there are none.
func (a Auth) Validate() error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	ways := 0
	if !a.Bearer.IsZero() {
		ways++
		if clear := a.Bearer.Reveal(); !Printable(clear) || strings.Contains(clear, " ") {
			bad("bearer", "the token holds a space, a line break or something else that no token may hold", "look at how the secret was stored; the token alone belongs there, without the word Bearer")
		}
	}
	if a.Basic != nil {
		ways++
		if strings.Contains(a.Basic.User, ":") || strings.ContainsFunc(a.Basic.User, control) {
			bad("basic.user", "it holds a colon or a control character, which no user of HTTP Basic may hold", "look up the user's name again")
		}
		if strings.ContainsFunc(a.Basic.Password.Reveal(), control) {
			bad("basic.password", "the password holds a line break or another control character", "look at how the secret was stored")
		}
	}
	if a.APIKey != nil {
		ways++
		if !Token(a.APIKey.Header) || OwnHeader(a.APIKey.Header) {
			bad("api_key.header", "it is no header that can hold a key", "write the header's name as the receiver's manual does, for example X-API-Key")
		}
		if !Printable(a.APIKey.Value.Reveal()) {
			bad("api_key.value", "the key holds a line break or something else that no header may hold", "look at how the secret was stored")
		}
	}
	if ways > 1 {
		bad("", "it names more than one way", "keep one of bearer, basic and api_key")
	}
	return errors.Join(errs...)
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// None reports whether the gateway does not say who it is.
func (a Auth) None() bool { return a.Bearer.IsZero() && a.Basic == nil && a.APIKey == nil }

// Header returns the name of the header that a sets, empty for none.
func (a Auth) Header() string {
	switch {
	case a.None():
		return ""
	case a.APIKey != nil:
		return a.APIKey.Header
	default:
		return "Authorization"
	}
}

// Set puts the header of a into h.
func (a Auth) Set(h http.Header) {
	switch {
	case !a.Bearer.IsZero():
		h.Set("Authorization", "Bearer "+a.Bearer.Reveal())
	case a.Basic != nil:
		a.Basic.Set(h)
	case a.APIKey != nil:
		h.Set(a.APIKey.Header, a.APIKey.Value.Reveal())
	}
}

// Set puts the Authorization of b into h.
func (b *Basic) Set(h http.Header) { h.Set("Authorization", "Basic "+b.encoded()) }

func (b *Basic) encoded() string {
	return base64.StdEncoding.EncodeToString([]byte(b.User + ":" + b.Password.Reveal()))
}

// Secrets returns what a Redactor has to take out, in clear text.
func (a Auth) Secrets() []string {
	secrets := []string{a.Bearer.Reveal()}
	if a.Basic != nil {
		secrets = append(secrets, a.Basic.Secrets()...)
	}
	if a.APIKey != nil {
		secrets = append(secrets, a.APIKey.Value.Reveal())
	}
	return secrets
}

// Secrets returns what a Redactor has to take out, in clear text.
func (b *Basic) Secrets() []string { return []string{b.Password.Reveal(), b.encoded()} }
