package httplink

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
)

// Auth is how the gateway shows who it is, by at most one of its ways.
type Auth struct {
	// Bearer is a token (RFC 6750).
	Bearer config.Secret `yaml:"bearer"`
	// Basic is a user with a password (RFC 7617).
	Basic *Basic `yaml:"basic"`
	// APIKey is a key in a header or in the query, as the receiver wants it.
	APIKey *APIKey `yaml:"api_key"`
	// OAuth2 gets tokens that end by themselves.
	OAuth2 *OAuth2 `yaml:"oauth2"`
	// Expires is the day on which the secret ends, as far as that is known; empty
	// if it is not. People are warned ahead.
	Expires string `yaml:"expires"`
}

// Basic is a user with a password.
type Basic struct {
	User     string        `yaml:"user,required"`
	Password config.Secret `yaml:"password,required"`
}

// APIKey is a key in a header, or in the query.
type APIKey struct {
	// Header or Query, one of them, is the name of what holds the key.
	Header string        `yaml:"header"`
	Query  string        `yaml:"query"`
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
		errs = append(errs, a.APIKey.validate())
	}
	if a.OAuth2 != nil {
		ways++
		errs = append(errs, a.OAuth2.validate("oauth2."))
	}
	if _, err := a.ends(); err != nil {
		bad("expires", fmt.Sprintf("%q is no day", a.Expires), "write it like 2027-01-31")
	}
	if a.Expires != "" && (ways == 0 || a.OAuth2 != nil) {
		bad("expires", "there is no secret here that ends", "leave it out; tokens of oauth2 are renewed by themselves")
	}
	if ways > 1 {
		bad("", "it names more than one way", "keep one of bearer, basic, api_key and oauth2")
	}
	return errors.Join(errs...)
}

// validate returns the faults of a key, as of one below auth.
func (k *APIKey) validate() error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	switch {
	case (k.Header == "") == (k.Query == ""):
		bad("api_key", "it does not name one place for the key", "set header, for example X-API-Key, or query, if the receiver takes it there only")
	case k.Header != "" && (!Token(k.Header) || OwnHeader(k.Header)):
		bad("api_key.header", "it is no header that can hold a key", "write the header's name as the receiver's manual does, for example X-API-Key")
	case k.Query != "":
		errs = append(errs, config.Warn("api_key.query", "the key stands in the URL, which proxies and servers log", "use header, if the receiver takes it there"))
	}
	if !Printable(k.Value.Reveal()) {
		bad("api_key.value", "the key holds a line break or something else that no header may hold", "look at how the secret was stored")
	}
	return errors.Join(errs...)
}

// ends reads Expires; the zero time if it is empty. The day is over in UTC.
func (a Auth) ends() (time.Time, error) {
	if a.Expires == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, a.Expires)
	return day.AddDate(0, 0, 1), err
}

// Expiry returns when the secret ends and what it is, for people; the zero time
// if nobody said. a is good.
func (a Auth) Expiry() (what string, at time.Time) {
	at, _ = a.ends() // Validate has seen it
	switch {
	case a.Basic != nil:
		what = "the password of auth"
	case a.APIKey != nil:
		what = "the key of auth"
	default:
		what = "the token of auth"
	}
	return what, at
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// None reports whether the gateway does not say who it is.
func (a Auth) None() bool {
	return a.Bearer.IsZero() && a.Basic == nil && a.APIKey == nil && a.OAuth2 == nil
}

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

// Set puts the header of a into h, if it is one that does not change.
func (a Auth) Set(h http.Header) {
	switch {
	case !a.Bearer.IsZero():
		h.Set("Authorization", "Bearer "+a.Bearer.Reveal())
	case a.Basic != nil:
		a.Basic.Set(h)
	case a.APIKey != nil && a.APIKey.Header != "":
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
	if a.OAuth2 != nil {
		basic := &Basic{User: url.QueryEscape(a.OAuth2.ClientID), Password: config.NewSecret(url.QueryEscape(a.OAuth2.ClientSecret.Reveal()))}
		secrets = append(append(secrets, a.OAuth2.ClientSecret.Reveal()), basic.Secrets()...)
	}
	return secrets
}

// Secrets returns what a Redactor has to take out, in clear text.
func (b *Basic) Secrets() []string { return []string{b.Password.Reveal(), b.encoded()} }
