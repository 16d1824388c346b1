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
	wantedScopes   = `{"scopes":["productions_write"]}`
)

// token is the company's access token. It is everybody's: it is asked for before
// one is made, and never revoked. What is half done when the share of requests is
// used up is gone on with by whoever needs it next.
type token struct {
	// turn holds one entry while one is asked for, so that it is renewed once; it
	// guards the rest.
	turn chan struct{}
	text string
	// bad is the token that Prodsmart did not take any more. none is set once it was
	// asked for one and gave none that is better.
	bad  string
	none bool
	// made is set while text was made by us and has not been taken yet, and count is
	// how many were made so far.
	made  bool
	count int
	// vain is set once one that was made had to be renewed before it was taken even
	// once: it may have lain about until it was over. It is given only one chance.
	vain bool
}

// withToken makes a request that needs the token, and renews it once if
// Prodsmart does not take it: whatever was not made for this very call may be over
// by now. A halt whose cause is neither a LinkError nor a NotYet concerns only what
// needs a token.
func (s *Sender) withToken(ctx context.Context, c *call) (*httplink.Answer, outcome, *halt) {
	begun := s.tokensMade()
	for {
		text, h := s.theToken(ctx, c)
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
			if h == nil {
				s.tookToken(text)
			}
			return a, o, h
		}
		if !slices.Contains(s.options.RenewOn, a.Status) {
			s.tookToken(text)
			return nil, denied, &halt{cause: problem("token", "%s %s: Prodsmart answers %s, for which the token is not renewed (renew_on); check what the API key may do", c.method, c.path, httplink.Title(a.Status))}
		}
		if s.tokenDenied(text, begun) {
			return nil, denied, &halt{cause: problem("token", "%s %s: Prodsmart answers %s, even with a new token; check what the API key may do", c.method, c.path, httplink.Title(a.Status))}
		}
	}
}

// tokensMade returns how many tokens were made so far.
func (s *Sender) tokensMade() int {
	s.token.turn <- struct{}{}
	defer func() { <-s.token.turn }()
	return s.token.count
}

// tookToken notes that Prodsmart took a token.
func (s *Sender) tookToken(text string) {
	s.token.turn <- struct{}{}
	defer func() { <-s.token.turn }()
	if s.token.text == text {
		s.token.made, s.token.vain = false, false
	}
}

// tokenDenied notes that Prodsmart did not take a token, and reports whether
// another would fare no better: it was made since the call began, when that many
// were, or the one made before it was never taken either.
func (s *Sender) tokenDenied(text string, begun int) (hopeless bool) {
	s.token.turn <- struct{}{}
	defer func() { <-s.token.turn }()
	t := &s.token
	if t.text != text {
		return false // there is another by now
	}
	t.bad = text
	hopeless = t.count > begun || t.made && t.vain
	t.vain = t.made && !hopeless
	return hopeless
}

// theToken returns a token that is not known to be bad, asking for one if need be.
func (s *Sender) theToken(ctx context.Context, c *call) (string, *halt) {
	select {
	case s.token.turn <- struct{}{}:
		defer func() { <-s.token.turn }()
	case <-ctx.Done():
		return "", noRoom()
	}
	t := &s.token
	if t.text != t.bad {
		return t.text, nil
	}
	if !t.none {
		text, _, h := s.authorize(ctx, c, http.MethodGet, nil)
		if h != nil {
			return "", h
		}
		if text != "" && text != t.bad {
			s.keepToken(text, false)
			return text, nil
		}
		t.none = true
	}
	text, status, h := s.authorize(ctx, c, http.MethodPost, []byte(wantedScopes))
	if h != nil {
		return "", h
	}
	t.none = false
	if text == "" {
		return "", &halt{cause: problem("token", "POST %s: Prodsmart answers %s and gives no token; check api_key and api_secret", authorization, httplink.Title(status))}
	}
	s.keepToken(text, true)
	return text, nil
}

func (s *Sender) keepToken(text string, made bool) {
	s.token.text, s.token.made, s.token.none = text, made, false
	if made {
		s.token.count++
	}
	s.redactor.With(text)
}

// authorize asks for the token; it is empty if Prodsmart gives none.
func (s *Sender) authorize(ctx context.Context, c *call, method string, body []byte) (text string, status int, h *halt) {
	a, _, h := s.do(ctx, &call{
		class: c.class, method: method, path: authorization, body: body, header: s.basic, whole: true,
		asked: uplink.OutcomeAsked, until: c.until,
	})
	if h != nil {
		h.doubt = false // what the token is for did not go out
	}
	if h != nil && (a == nil || busy(a.Status)) {
		return "", 0, h
	}
	if h != nil && method == http.MethodPost {
		return "", a.Status, h
	}
	if !a.Success() || method == http.MethodGet && a.Status != http.StatusOK {
		return "", a.Status, nil
	}
	return tokenIn(a), a.Status, nil
}

// tokenIn returns the token in an answer, empty for none.
func tokenIn(a *httplink.Answer) string {
	var grant struct {
		Token string `json:"token"`
	}
	if json.Unmarshal(a.Body, &grant) != nil {
		return ""
	}
	return grant.Token
}

// busy reports whether a status says that Prodsmart can answer nothing now.
func busy(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status > http.StatusInternalServerError
}
