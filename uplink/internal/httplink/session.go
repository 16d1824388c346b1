package httplink

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Session is a Client that says with each request who the gateway is. It may be
// used from any goroutine.
type Session struct {
	*Client
	auth   Auth
	sign   *Signature
	tokens *tokens
}

// SessionOptions say who the gateway is and what a Session may use.
type SessionOptions struct {
	// Name stands before what it says, for example "rest".
	Name string
	// Connections is how many requests there are at once, at most.
	Connections int
	Auth        Auth
	// Sign signs each request; nil for no signature.
	Sign *Signature
	// Note is told of each request for a token, with its answer, nil if there was
	// none, and what was wrong with it; nil for nobody. It must not block.
	Note func(began time.Time, a *Answer, err error)
}

// Session returns a Session with connections of its own, and Load's settings. It
// does no I/O.
func (l *Link) Session(o SessionOptions) *Session {
	secrets := append(o.Auth.Secrets(), l.secrets...)
	if o.Sign != nil {
		secrets = append(secrets, o.Sign.Key.Reveal())
	}
	redactor := NewRedactor(secrets...)
	s := &Session{Client: l.Open(o.Name, o.Connections, redactor), auth: o.Auth, sign: o.Sign}
	if o.Auth.OAuth2 != nil {
		s.tokens = newTokens(o.Auth.OAuth2, l.tokens.target, l.tokens.Open(o.Name, 1, redactor), redactor, o.Note)
	}
	return s
}

// Do makes one request as Client.Do does, with what shows who the gateway is and
// a signature. A token that is refused (401) is renewed and the request made once
// more: a receiver that does not know who asks has taken nothing. An error is a
// *Failure, or a *TokenError: then nothing was sent to the receiver.
func (s *Session) Do(ctx context.Context, r *Request) (*Answer, error) {
	if s.tokens == nil {
		return s.Client.Do(ctx, s.dressed(r, ""))
	}
	token, err := s.tokens.get(ctx, "")
	if err != nil {
		return nil, err
	}
	a, err := s.Client.Do(ctx, s.dressed(r, token))
	if err != nil || a.Status != http.StatusUnauthorized {
		return a, err
	}
	if token, err = s.tokens.get(ctx, token); err != nil {
		return nil, err
	}
	return s.Client.Do(ctx, s.dressed(r, token))
}

// dressed returns r with what shows who the gateway is.
func (s *Session) dressed(r *Request, token string) *Request {
	out := *r
	out.Header = r.Header.Clone()
	if s.sign != nil {
		s.sign.set(out.Header, time.Now(), r.Method, r.URL, r.Body)
	}
	switch {
	case token != "":
		out.Header.Set("Authorization", "Bearer "+token)
	case s.auth.APIKey != nil && s.auth.APIKey.Query != "":
		out.URL = withKey(r.URL, s.auth.APIKey)
	default:
		s.auth.Set(out.Header)
	}
	return &out
}

// withKey returns target with a key in its query.
func withKey(target *url.URL, key *APIKey) *url.URL {
	out := *target
	if out.RawQuery != "" {
		out.RawQuery += "&"
	}
	out.RawQuery += url.QueryEscape(key.Query) + "=" + url.QueryEscape(key.Value.Reveal())
	return &out
}

// Close ends every connection, those to the token endpoint too.
func (s *Session) Close() {
	s.Client.Close()
	if s.tokens != nil {
		s.tokens.client.Close()
	}
}
