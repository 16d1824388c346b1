package rest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
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

// Validate returns the faults of a as config.FieldErrors, nil if there are none.
func (a Auth) Validate() error {
	var errs []error
	bad := func(path, problem, remedy string) { errs = append(errs, config.Field(path, problem, remedy)) }
	ways := 0
	if !a.Bearer.IsZero() {
		ways++
		if clear := a.Bearer.Reveal(); !printable(clear) || strings.Contains(clear, " ") {
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
		if name := http.CanonicalHeaderKey(a.APIKey.Header); !token(name) || slices.Contains(ownHeaders, name) {
			bad("api_key.header", "it is no header that can hold a key", "write the header's name as the receiver's manual does, for example X-API-Key")
		}
		if !printable(a.APIKey.Value.Reveal()) {
			bad("api_key.value", "the key holds a line break or something else that no header may hold", "look at how the secret was stored")
		}
	}
	if ways > 1 {
		bad("", "it names more than one way", "keep one of bearer, basic and api_key")
	}
	return errors.Join(errs...)
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

func (a Auth) none() bool { return a.Bearer.IsZero() && a.Basic == nil && a.APIKey == nil }

// header returns the name of the header that a sets, empty for none.
func (a Auth) header() string {
	switch {
	case a.none():
		return ""
	case a.APIKey != nil:
		return a.APIKey.Header
	default:
		return "Authorization"
	}
}

// set puts the header of a into h.
func (a Auth) set(h http.Header) {
	switch {
	case !a.Bearer.IsZero():
		h.Set("Authorization", "Bearer "+a.Bearer.Reveal())
	case a.Basic != nil:
		h.Set("Authorization", "Basic "+a.Basic.encoded())
	case a.APIKey != nil:
		h.Set(a.APIKey.Header, a.APIKey.Value.Reveal())
	}
}

func (b *Basic) encoded() string {
	return base64.StdEncoding.EncodeToString([]byte(b.User + ":" + b.Password.Reveal()))
}

// redactor returns what takes the secrets of a out of a receiver's words, in
// whatever form a receiver is likely to repeat them.
func (a Auth) redactor() *strings.Replacer {
	var secrets []string
	add := func(clear string) {
		if clear == "" {
			return
		}
		quoted, err := json.Marshal(clear)
		if err != nil {
			panic(err) // a string always has a JSON form
		}
		secrets = append(secrets, clear, url.QueryEscape(clear), url.PathEscape(clear), string(quoted[1:len(quoted)-1]),
			base64.StdEncoding.EncodeToString([]byte(clear)))
	}
	add(a.Bearer.Reveal())
	if a.Basic != nil {
		add(a.Basic.Password.Reveal())
		add(a.Basic.encoded())
	}
	if a.APIKey != nil {
		add(a.APIKey.Value.Reveal())
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // one may hold another
	pairs := make([]string, 0, 2*len(secrets))
	for _, s := range secrets {
		pairs = append(pairs, s, "(secret)")
	}
	return strings.NewReplacer(pairs...)
}
