package erp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // a setting of receivers, not our choice
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
)

// Identity checks who asks; raw is the body as it came over the wire.
type Identity func(r *http.Request, raw []byte) error

type inURLError struct{ what string }

func (e *inURLError) Error() string { return e.what + " stands in the URL" }

type expiredError struct{}

func (*expiredError) Error() string { return "the token has expired" }

// Bearer asks for that token.
func Bearer(token string) Identity {
	return func(r *http.Request, _ []byte) error {
		if strings.Contains(r.URL.RawQuery, url.QueryEscape(token)) {
			return &inURLError{"the token"}
		}
		if !hmac.Equal([]byte(r.Header.Get("Authorization")), []byte("Bearer "+token)) {
			return errors.New("no or another bearer token")
		}
		return nil
	}
}

// Basic asks for a name and password by RFC 7617.
func Basic(user, password string) Identity {
	return func(r *http.Request, _ []byte) error {
		u, p, ok := r.BasicAuth()
		if !ok || u != user || !hmac.Equal([]byte(p), []byte(password)) {
			return errors.New("no or other Basic credentials")
		}
		return nil
	}
}

// APIKey asks for a key in a header.
func APIKey(header, key string) Identity {
	return func(r *http.Request, _ []byte) error {
		if strings.Contains(r.URL.RawQuery, url.QueryEscape(key)) {
			return &inURLError{"the key"}
		}
		if len(r.Header.Values(header)) != 1 || !hmac.Equal([]byte(r.Header.Get(header)), []byte(key)) {
			return fmt.Errorf("no or another key in %s", header)
		}
		return nil
	}
}

// APIKeyInQuery asks for a key as a parameter of the URL.
func APIKeyInQuery(name, key string) Identity {
	return func(r *http.Request, _ []byte) error {
		if given := r.URL.Query()[name]; len(given) != 1 || !hmac.Equal([]byte(given[0]), []byte(key)) {
			return fmt.Errorf("no or another %s", name)
		}
		return nil
	}
}

// Client asks for a certificate of that common name, which the server's own
// settings have verified.
func Client(commonName string) Identity {
	return func(r *http.Request, _ []byte) error {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			return errors.New("no certificate of the client")
		}
		if got := r.TLS.PeerCertificates[0].Subject.CommonName; got != commonName {
			return fmt.Errorf("the certificate is of %q", got)
		}
		return nil
	}
}

// Signature asks for an HMAC (RFC 2104) over the body as it came.
type Signature struct {
	// Header carries it, Prefix stands before it, such as "sha256=".
	Header, Prefix string
	// Hash is sha1, sha256 or sha512; Encoding hex or base64.
	Hash, Encoding string
	Secret         string
	// TimeHeader carries the time in Unix seconds, which is then signed as
	// "<time>.<body>"; empty signs the body alone.
	TimeHeader string
	// Tolerance is how far that time may be from Now.
	Tolerance time.Duration
	Now       func() time.Time
}

// Identity is the check.
func (s Signature) Identity() Identity {
	return func(r *http.Request, raw []byte) error {
		given, ok := strings.CutPrefix(r.Header.Get(s.Header), s.Prefix)
		if !ok || given == "" {
			return fmt.Errorf("no signature in %s", s.Header)
		}
		hashes := map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}
		mac := hmac.New(hashes[s.Hash], []byte(s.Secret))
		if s.TimeHeader != "" {
			seconds, err := strconv.ParseInt(r.Header.Get(s.TimeHeader), 10, 64)
			if err != nil {
				return fmt.Errorf("%s holds no Unix seconds", s.TimeHeader)
			}
			if off := s.Now().Sub(time.Unix(seconds, 0)).Abs(); off > s.Tolerance {
				return fmt.Errorf("the time of the signature is %v away", off)
			}
			mac.Write([]byte(r.Header.Get(s.TimeHeader) + "."))
		}
		mac.Write(raw)
		decode := hex.DecodeString
		if s.Encoding == "base64" {
			decode = base64.StdEncoding.DecodeString
		}
		sum, err := decode(given)
		if err != nil || !hmac.Equal(sum, mac.Sum(nil)) {
			return errors.New("the signature is wrong")
		}
		return nil
	}
}

// OAuth2 is a token endpoint for the client credentials grant (RFC 6749,
// section 4.4). It is an http.Handler; its methods may be called from any
// goroutine. Its fields are set before it is used.
type OAuth2 struct {
	central.Book
	// Faults stand before everything else.
	Faults central.Faults
	// ID and Secret are the client's; InBody takes them in the form, not as Basic.
	ID, Secret string
	InBody     bool
	// Scope is what must be asked for; empty asks for none.
	Scope string
	// Life is how long a token is good; Hidden leaves expires_in out.
	Life   time.Duration
	Hidden bool
	Now    func() time.Time

	mu     sync.Mutex
	tokens map[string]time.Time // when each ends
	issued int
}

// Issued returns how many tokens were given out.
func (o *OAuth2) Issued() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.issued
}

// Revoke ends every token at once, as a restart of the server may.
func (o *OAuth2) Revoke() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for t := range o.tokens {
		o.tokens[t] = time.Time{}
	}
}

// Identity asks for a token that is good.
func (o *OAuth2) Identity() Identity {
	return func(r *http.Request, _ []byte) error {
		if r.URL.Query().Has("access_token") {
			return &inURLError{"the token"}
		}
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		o.mu.Lock()
		defer o.mu.Unlock()
		ends, known := o.tokens[given]
		switch {
		case !ok || !known:
			return errors.New("no token, or one that was never given")
		case !o.Now().Before(ends):
			return &expiredError{}
		}
		return nil
	}
}

// ServeHTTP implements http.Handler.
func (o *OAuth2) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.Faults.Serve(w, r, o.grant)
}

func (o *OAuth2) refuse(w http.ResponseWriter, r *http.Request, rule, code, words string) {
	o.Note(rule, r, "%s", words)
	w.Header().Set("Content-Type", "application/json")
	status := http.StatusBadRequest
	if code == "invalid_client" {
		status = http.StatusUnauthorized
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": words}) // who asked may be gone
}

func (o *OAuth2) grant(w http.ResponseWriter, r *http.Request) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	if r.Method != http.MethodPost || kind != "application/x-www-form-urlencoded" || r.ParseForm() != nil {
		o.refuse(w, r, RuleRequest, "invalid_request", "must be a POST of a form")
		return
	}
	for _, name := range []string{"client_id", "client_secret", "grant_type", "scope"} {
		if r.URL.Query().Has(name) {
			o.refuse(w, r, RuleSecretInURL, "invalid_request", name+" stands in the URL")
			return
		}
	}
	id, secret, basic := r.BasicAuth()
	if o.InBody {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	switch {
	case basic == o.InBody || !o.InBody && r.PostForm.Has("client_secret"):
		o.refuse(w, r, RuleAuth, "invalid_client", "the credentials are not where they belong, or twice")
	case id != url.QueryEscape(o.ID) && id != o.ID || secret != url.QueryEscape(o.Secret) && secret != o.Secret:
		o.refuse(w, r, RuleAuth, "invalid_client", "wrong credentials")
	case r.PostForm.Get("grant_type") != "client_credentials":
		o.refuse(w, r, RuleBody, "unsupported_grant_type", "grant_type must be client_credentials")
	case r.PostForm.Get("scope") != o.Scope:
		o.refuse(w, r, RuleScope, "invalid_scope", "another scope is asked for")
	default:
		o.issue(w, r)
	}
}

func (o *OAuth2) issue(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	now := o.Now()
	for _, ends := range o.tokens {
		// A client may fetch the next one early, but not at each request.
		if left := ends.Sub(now); left > o.Life/2 {
			o.Note(RuleToken, r, "the last one is good for %v", left)
			break
		}
	}
	if o.tokens == nil {
		o.tokens = map[string]time.Time{}
	}
	token := rand.Text()
	o.tokens[token] = now.Add(o.Life)
	o.issued++
	o.mu.Unlock()
	said := map[string]any{"access_token": token, "token_type": "Bearer"}
	if !o.Hidden {
		said["expires_in"] = int(o.Life / time.Second)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(said) // who asked may be gone
}
