package prodsmart

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

const (
	tokenParameter = "access_token"
	authorization  = "authorization"
)

// token is the company's access token. It is everybody's: it is asked for before
// one is made, and never revoked.
type token struct {
	// turn holds one entry while it is renewed, so that it is renewed once.
	turn chan struct{}
	text string
}

// withToken makes a request that needs the token, and renews it once if
// Prodsmart does not take it. A halt whose cause is no LinkError concerns only
// what needs a token.
func (s *Sender) withToken(ctx context.Context, c *call) (*httplink.Answer, outcome, *halt) {
	bad := ""
	for try := 0; ; try++ {
		text, h := s.tokenBut(ctx, c, bad)
		if h != nil {
			return nil, denied, h
		}
		one := *c
		one.query = make(url.Values, len(c.query)+1)
		for name, values := range c.query {
			one.query[name] = values
		}
		one.header = s.plain
		if s.options.TokenIn == tokenInHeader {
			one.header = s.plain.Clone()
			one.header.Set("Authorization", "Bearer "+text)
		} else {
			one.query.Set(tokenParameter, text)
		}
		a, o, h := s.do(ctx, &one)
		if h != nil || o != denied {
			return a, o, h
		}
		if try > 0 || !slices.Contains(s.options.RenewOn, a.Status) {
			return nil, denied, &halt{cause: problem("token", "%s %s: Prodsmart answers %s, with a token that it gave just now; check what the API key may do", c.method, c.path, httplink.Title(a.Status))}
		}
		bad = text
	}
}

// tokenBut returns a token that is not bad, asking for one if need be.
func (s *Sender) tokenBut(ctx context.Context, c *call, bad string) (string, *halt) {
	select {
	case s.token.turn <- struct{}{}:
		defer func() { <-s.token.turn }()
	case <-ctx.Done():
		return "", noRoom()
	}
	if s.token.text != bad {
		return s.token.text, nil
	}
	text, status, h := s.authorize(ctx, c, http.MethodGet, nil)
	if h == nil && (text == "" || text == bad) {
		text, status, h = s.authorize(ctx, c, http.MethodPost, []byte(`{"scopes":["productions_write"]}`))
	}
	if h != nil {
		return "", h
	}
	if text == "" {
		return "", &halt{cause: problem("token", "POST %s: Prodsmart answers %s and gives no token; check api_key and api_secret", authorization, httplink.Title(status))}
	}
	s.token.text = text
	s.redactor.With(text)
	return text, nil
}

// authorize asks for the token; it is empty if Prodsmart gives none.
func (s *Sender) authorize(ctx context.Context, c *call, method string, body []byte) (text string, status int, h *halt) {
	a, _, h := s.do(ctx, &call{
		class: c.class, method: method, path: authorization, body: body, header: s.basic, whole: true,
		asked: uplink.OutcomeAsked, until: c.until,
	})
	if h != nil && (a == nil || busy(a.Status)) {
		return "", 0, h
	}
	if h != nil && method == http.MethodPost {
		return "", a.Status, h
	}
	var grant struct {
		Token string `json:"token"`
	}
	if !a.Success() || method == http.MethodGet && a.Status != http.StatusOK || json.Unmarshal(a.Body, &grant) != nil {
		return "", a.Status, nil
	}
	return grant.Token, a.Status, nil
}

// busy reports whether a status says that Prodsmart can answer nothing now.
func busy(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status > http.StatusInternalServerError
}
