package prodsmart

import (
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

type token struct {
	text string
	made time.Time
}

// window is the sliding minute of the company's requests.
type window struct {
	times []time.Time // all that count
	own   []time.Time // those of the client that is tested
	// until is the end of the wait that the last 429 asked for, asked is when.
	asked, until time.Time
}

// tolerance lets requests that were on their way when the 429 left be no fault.
const tolerance = time.Second

func trim(times []time.Time, now time.Time) []time.Time {
	first, _ := slices.BinarySearchFunc(times, now.Add(-time.Minute), func(t, at time.Time) int {
		if t.After(at) {
			return 1
		}
		return -1
	})
	return times[first:]
}

// limit counts the request and answers it with 429 if it is one too many; wait
// is then the text of Retry-After.
func (f *Fake) limit(q *request) (refused reply, wait string) {
	w := &f.window
	w.times, w.own = trim(w.times, q.now), trim(w.own, q.now)
	if q.now.Before(w.until) && q.now.Sub(w.asked) > tolerance {
		f.Note(RuleRetryAfter, q.Request, "came %v before the end of the wait that was asked for", w.until.Sub(q.now))
	}
	over := len(w.times) >= f.company.Limit
	if over && len(w.own) >= f.company.Limit {
		f.Note(RuleRate, q.Request, "is request %d of a minute, %d are allowed", len(w.own)+1, f.company.Limit)
	}
	if !over || !f.company.RefusedAreFree {
		w.times, w.own = append(w.times, q.now), append(w.own, q.now)
	}
	if !over {
		return reply{}, ""
	}
	free := w.times[len(w.times)-f.company.Limit].Add(time.Minute)
	seconds := max(1, int((free.Sub(q.now)+time.Second-1)/time.Second))
	w.asked, w.until = q.now, q.now.Add(time.Duration(seconds)*time.Second)
	return text(http.StatusTooManyRequests, "Too Many Requests"), strconv.Itoa(seconds)
}

// Burn counts n requests of the company's other integrations now.
func (f *Fake) Burn(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.company.Now()
	for range n {
		f.window.times = append(f.window.times, now)
	}
}

func (f *Fake) denied() *reply {
	refused := text(f.company.Refused, http.StatusText(f.company.Refused))
	return &refused
}

// needBasic lets a request with the key and secret pass.
func (f *Fake) needBasic(q *request) *reply {
	key, secret, ok := q.BasicAuth()
	keyIsRight := subtle.ConstantTimeCompare([]byte(key), []byte(f.company.Key)) == 1
	if !ok || !keyIsRight || subtle.ConstantTimeCompare([]byte(secret), []byte(f.company.Secret)) != 1 {
		f.Note(RuleAuth, q.Request, "no or wrong Basic credentials")
		return f.denied()
	}
	return nil
}

// needToken lets a request with a token that is good pass. One that has expired
// is refused, and no violation: nobody can know its age.
func (f *Fake) needToken(q *request) *reply {
	given := q.query.Get("access_token")
	header := q.Header.Get("Authorization")
	if f.company.Tokens == TokenInHeader {
		if given != "" {
			f.Note(RuleTokenInURL, q.Request, "the query holds the token")
			return f.denied()
		}
		given, _ = strings.CutPrefix(header, "Bearer ")
	} else if header != "" {
		f.Note(RuleAuth, q.Request, "an Authorization header where access_token belongs")
	}
	if given == "" || len(q.query["access_token"]) > 1 {
		f.Note(RuleAuth, q.Request, "no token, or several")
		return f.denied()
	}
	known := false
	for _, t := range f.tokens {
		if t.text == given {
			known = true
			if f.good(t, q.now) {
				return nil
			}
		}
	}
	if !known {
		f.Note(RuleAuth, q.Request, "a token that was never given")
	}
	return f.denied()
}

func (f *Fake) good(t token, now time.Time) bool {
	return !t.made.IsZero() && now.Sub(t.made) < f.company.TokenLife
}

// authorization is /api/authorization: the company's one token.
func (f *Fake) authorization(q *request) reply {
	if q.query.Has("access_token") {
		f.Note(RuleTokenInURL, q.Request, "the authorization is asked for with Basic")
	}
	if refused := f.needBasic(q); refused != nil {
		return *refused
	}
	if refused := f.known(q); refused != nil {
		return *refused
	}
	var last token
	if len(f.tokens) > 0 {
		last = f.tokens[len(f.tokens)-1]
	}
	switch q.Method {
	case http.MethodGet:
		if f.good(last, q.now) || last.text != "" && f.company.KeepsExpired {
			return granted(http.StatusOK, last.text)
		}
		return text(f.company.NoToken, "There is no authorization")
	case http.MethodPost:
		return f.newToken(q, f.good(last, q.now))
	case http.MethodDelete:
		f.Note(RuleAuthorization, q.Request, "it is the company's, and was revoked")
		f.revoke()
		return reply{status: http.StatusNoContent}
	}
	f.Note(RuleRequest, q.Request, "no such method")
	return text(http.StatusMethodNotAllowed, "Method Not Allowed")
}

func (f *Fake) newToken(q *request, needless bool) reply {
	o, refused := f.object(q)
	if refused != nil {
		return *refused
	}
	if scopes := o.Texts("scopes", true); !slices.Equal(scopes, []string{"productions_write"}) {
		o.Fail("scopes", "must be [\"productions_write\"]")
	}
	if refused := f.problems(q, o); refused != nil {
		return *refused
	}
	if needless {
		f.Note(RuleAuthorization, q.Request, "a new one was made while there was a good one")
	}
	if !f.company.PostKeeps {
		f.revoke()
	}
	t := token{rand.Text(), q.now}
	f.tokens = append(f.tokens, t)
	return granted(http.StatusCreated, t.text)
}

func granted(status int, token string) reply {
	return reply{status, map[string]any{
		"_links": map[string]any{"self": map[string]any{"href": "/api/authorizations"}},
		"scopes": []string{"productions_write"}, "token": token,
	}}
}

func (f *Fake) revoke() {
	for i := range f.tokens {
		f.tokens[i].made = time.Time{}
	}
}

// Revoke ends every token, as another integration may.
func (f *Fake) Revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revoke()
}

// Authorize makes a token of that age, as another integration may have.
func (f *Fake) Authorize(age time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens = append(f.tokens, token{rand.Text(), f.company.Now().Add(-age)})
}

// Secrets returns every token that there was, and the API secret: none of them
// may stand in a log, an error or a page.
func (f *Fake) Secrets() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []string{f.company.Secret}
	for _, t := range f.tokens {
		all = append(all, t.text)
	}
	return all
}
