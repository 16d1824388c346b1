package httplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-edge/sluice/config"
)

// OAuth2 is the client credentials grant of RFC 6749 section 4.4.
type OAuth2 struct {
	// TokenURL is the token endpoint; it may be on another host than the receiver.
	TokenURL     string        `yaml:"token_url,required"`
	ClientID     string        `yaml:"client_id,required"`
	ClientSecret config.Secret `yaml:"client_secret,required"`
	// Scope is what is asked for, separated by spaces; empty for what is usual.
	Scope string `yaml:"scope"`
	// Login is how the client shows itself: basic, if it is empty, or body.
	Login string `yaml:"login"`
	// Params go with the request for a token, for example an audience.
	Params map[string]string `yaml:"params"`
}

// The values of Login.
const (
	loginBasic = "basic"
	loginBody  = "body"
)

// ownParams are set by the gateway.
var ownParams = []string{"grant_type", "scope", "client_id", "client_secret"}

// validate returns the faults of o, whose keys stand below path.
func (o *OAuth2) validate(path string) error {
	var errs []error
	bad := func(key, problem, remedy string) { errs = append(errs, config.Field(path+key, problem, remedy)) }
	_, err := parseURL(path+"token_url", o.TokenURL, "write it like https://login.example/oauth2/token", "use client_id and client_secret")
	errs = append(errs, err)
	if strings.ContainsFunc(o.ClientID, control) {
		bad("client_id", "it holds a control character", "look it up again")
	}
	if strings.ContainsFunc(o.ClientSecret.Reveal(), control) {
		bad("client_secret", "the secret holds a line break or another control character", "look at how the secret was stored")
	}
	if !slices.Contains([]string{"", loginBasic, loginBody}, o.Login) {
		errs = append(errs, config.Unknown(path+"login", "value", o.Login, []string{loginBasic, loginBody}))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Params)) {
		switch {
		case slices.Contains(ownParams, name):
			bad("params."+name, "the gateway sets this parameter itself", "leave it out; scope has a key of its own")
		case Secretive(name):
			bad("params."+name, "it looks like a secret in clear text", "use client_secret")
		}
	}
	return errors.Join(errs...)
}

// token is what the endpoint gave.
type token struct {
	value string
	// renew is when a new one is asked for ahead, ends when this one is of no more
	// use; zero if nobody knows.
	renew, ends time.Time
}

func (t *token) usable(now time.Time) bool {
	return t != nil && (t.ends.IsZero() || now.Before(t.ends))
}

// tokens keeps one token, and renews it ahead, one renewal at a time.
type tokens struct {
	o        *OAuth2
	url      *url.URL
	client   *Client
	redactor *Redactor
	// note is told of each request for a token; nil for nobody.
	note func(began time.Time, a *Answer, err error)

	// turn is held by who renews.
	turn    chan struct{}
	current atomic.Pointer[token]
	// failed is the last failure, of use until its time is over. Whoever has the
	// turn may use it.
	failed *TokenError
	until  time.Time
}

// TokenError is a token that could not be had. Nothing was sent to the receiver.
type TokenError struct {
	text string
	wait time.Duration
	err  error
}

// Error returns the words, which hold no secret.
func (e *TokenError) Error() string { return e.text }

// Unwrap returns the failure of the request, nil if there was an answer.
func (e *TokenError) Unwrap() error { return e.err }

// Wait is how long the link should be left alone at least; 0 for as long as ever
// is usual.
func (e *TokenError) Wait() time.Duration { return e.wait }

const (
	// sameFailure is how long a failure holds for those that waited for the same.
	sameFailure = time.Second
	// againAhead is when a renewal ahead that failed is tried again.
	againAhead = 30 * time.Second
	// early is how long before its end a token is no more used: a request is on its
	// way for a moment.
	early = 2 * time.Second
	// maxToken bounds the answer with a token, in bytes.
	maxToken = 64 << 10
)

func newTokens(o *OAuth2, target *url.URL, client *Client, redactor *Redactor, note func(time.Time, *Answer, error)) *tokens {
	return &tokens{o: o, url: target, client: client, redactor: redactor, note: note, turn: make(chan struct{}, 1)}
}

// get returns a token that is of use now and is not the one that was refused. It
// blocks for one renewal at most, its own or another's, or until ctx ends.
func (t *tokens) get(ctx context.Context, refused string) (string, error) {
	now := time.Now()
	if c := t.current.Load(); c.usable(now) && c.value != refused {
		if c.renew.IsZero() || now.Before(c.renew) {
			return c.value, nil
		}
		select {
		case t.turn <- struct{}{}:
			defer func() { <-t.turn }()
			return t.ahead(ctx, c).value, nil
		default: // somebody does it
			return c.value, nil
		}
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", &TokenError{text: fmt.Sprintf("%s: POST %s: no token before send_timeout, or before the gateway stopped", t.client.name, Show(t.url)), err: ctx.Err()}
	}
	now = time.Now()
	if c := t.current.Load(); c.usable(now) && c.value != refused {
		return c.value, nil // another has renewed it
	}
	if t.failed != nil && now.Before(t.until) {
		return "", t.failed
	}
	c, err := t.renew(ctx)
	if err != nil {
		return "", err
	}
	return c.value, nil
}

// ahead renews c, which goes on if that fails. The caller has the turn.
func (t *tokens) ahead(ctx context.Context, c *token) *token {
	if now := t.current.Load(); now != c {
		return now // another has renewed it
	}
	next, err := t.renew(ctx)
	if err != nil {
		later := *c
		later.renew = time.Now().Add(max(againAhead, err.wait))
		t.current.Store(&later)
		return c
	}
	return next
}

// renew asks for a token. The caller has the turn.
func (t *tokens) renew(ctx context.Context) (*token, *TokenError) {
	began := time.Now()
	a, err := t.client.Do(ctx, t.request())
	c, failed := t.read(began, a, err)
	if t.note != nil {
		var cause error
		if failed != nil {
			cause = failed
		}
		t.note(began, a, cause)
	}
	if failed != nil {
		t.failed, t.until = failed, time.Now().Add(max(sameFailure, failed.wait))
		if errors.Is(err, context.Canceled) || ctx.Err() != nil {
			t.failed = nil // only this caller had no more time
		}
		return nil, failed
	}
	t.failed = nil
	var before string
	if old := t.current.Load(); old != nil {
		before = old.value
	}
	t.redactor.With(c.value, before) // requests with the old one are still on their way
	t.current.Store(c)
	return c, nil
}

// request is the one of RFC 6749 section 4.4.2.
func (t *tokens) request() *Request {
	form := url.Values{"grant_type": {"client_credentials"}}
	if t.o.Scope != "" {
		form.Set("scope", t.o.Scope)
	}
	for name, value := range t.o.Params {
		form.Set(name, value)
	}
	header := http.Header{"Accept": {"application/json"}, "Accept-Encoding": {"identity"}, "Content-Type": {"application/x-www-form-urlencoded"}, "User-Agent": {"sluice"}}
	if t.o.Login == loginBody {
		form.Set("client_id", t.o.ClientID)
		form.Set("client_secret", t.o.ClientSecret.Reveal())
	} else { // RFC 6749 section 2.3.1: both are encoded as in a form before
		(&Basic{User: url.QueryEscape(t.o.ClientID), Password: config.NewSecret(url.QueryEscape(t.o.ClientSecret.Reveal()))}).Set(header)
	}
	return &Request{
		Method: http.MethodPost, URL: t.url, Header: header, Body: []byte(form.Encode()), Most: maxToken,
		Whole: func(int, http.Header) bool { return true },
	}
}

// read takes the token out of the answer (RFC 6749 section 5).
func (t *tokens) read(began time.Time, a *Answer, err error) (*token, *TokenError) {
	bad := func(wait time.Duration, format string, args ...any) (*token, *TokenError) {
		text := fmt.Sprintf("%s: POST %s: no token: ", t.client.name, Show(t.url)) + fmt.Sprintf(format, args...)
		return nil, &TokenError{text: text, wait: wait}
	}
	if err != nil {
		e := &TokenError{text: "no token: " + err.Error(), err: err}
		if failure, ok := errors.AsType[*Failure](err); ok {
			e.wait = failure.Wait()
		}
		return nil, e
	}
	wait := RetryAfter(a.Header, time.Now())
	if !a.Success() {
		words := t.client.Clean(a.Words())
		if words != "" {
			words = ": " + words
		}
		if a.Elsewhere != "" {
			return bad(max(wait, WrongWait), "it answers %s; it sends us to %s, which is not followed; if that is right, write it as token_url", Title(a.Status), t.client.Clean(a.Elsewhere))
		}
		if a.Status >= 400 && a.Status <= 499 && a.Status != http.StatusTooManyRequests && a.Status != http.StatusRequestTimeout {
			return bad(max(wait, WrongWait), "it answers %s%s; check token_url, client_id, client_secret and scope", Title(a.Status), words)
		}
		return bad(wait, "it answers %s%s", Title(a.Status), words)
	}
	if a.BodyErr != nil {
		return bad(wait, "its answer cannot be read: %v", a.BodyErr)
	}
	var body struct {
		Token   string          `json:"access_token"`
		Type    string          `json:"token_type"`
		Expires json.RawMessage `json:"expires_in"`
	}
	switch err := json.Unmarshal(a.Body, &body); {
	case a.Page:
		return bad(WrongWait, "a web page came where a token was expected; check token_url")
	case err != nil || body.Token == "":
		return bad(WrongWait, "it answers %s without an access_token; check token_url", Title(a.Status))
	case body.Type != "" && !strings.EqualFold(body.Type, "bearer"):
		return bad(WrongWait, "its token is of the type %s, and the gateway knows Bearer only", t.client.Clean(body.Type))
	case !Printable(body.Token) || strings.Contains(body.Token, " "):
		return bad(WrongWait, "its token holds a character that no header may hold")
	}
	c := &token{value: body.Token}
	life, known := lifetime(body.Expires)
	if !known {
		return c, nil
	}
	if life <= early {
		return bad(WrongWait, "its token lives for %v only", life)
	}
	c.renew, c.ends = began.Add(life*4/5), began.Add(life-early)
	if c.renew.After(c.ends) {
		c.renew = c.ends
	}
	return c, nil
}

// lifetime reads expires_in: a number of seconds, which some send as a text.
func lifetime(raw json.RawMessage) (time.Duration, bool) {
	text := strings.Trim(string(raw), `"`)
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || seconds < 0 || seconds != seconds {
		return 0, false
	}
	const year = 365 * 24 * 3600
	return time.Duration(min(seconds, year) * float64(time.Second)), true
}
