package rest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// issuer is a token endpoint.
type issuer struct {
	*receiver
	asked atomic.Int64
	// life is expires_in; answer says something else.
	life   string
	answer func(n int64, w http.ResponseWriter) bool

	mu   sync.Mutex
	good string
	form url.Values
	from string
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{life: "3600"}
	i.receiver = answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		n := i.asked.Add(1)
		if i.answer != nil && i.answer(n, w) {
			return false
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.form, _ = url.ParseQuery(string(q.body))
		i.from = q.header.Get("Authorization")
		i.good = fmt.Sprintf("tok-%d", n)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":%s}`, i.good, i.life)
		return false
	})
	return i
}

func (i *issuer) takes(header string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return header == "Bearer "+i.good
}

func (i *issuer) auth() httplink.Auth {
	return httplink.Auth{OAuth2: &httplink.OAuth2{TokenURL: "http://" + i.Addr() + "/token", ClientID: "gw 1", ClientSecret: config.NewSecret("s3cr&t canary"), Scope: "a:read b:write"}}
}

// guarded is a receiver that takes what the newest token comes with.
func guarded(t *testing.T, i *issuer) *receiver {
	return answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		if !i.takes(q.header.Get("Authorization")) {
			w.WriteHeader(http.StatusUnauthorized)
			return false
		}
		return true
	})
}

func tokenOptions(r *receiver, i *issuer) Options {
	o := testOptions(r.Addr())
	o.Auth = i.auth()
	return o
}

func TestATokenIsAskedForOnce(t *testing.T) {
	for login, form := range map[string]bool{"": false, "basic": false, "body": true} {
		i := newIssuer(t)
		r := guarded(t, i)
		o := tokenOptions(r, i)
		o.Auth.OAuth2.Login, o.Auth.OAuth2.Params = login, map[string]string{"audience": "erp"}
		s := openWith(t, o)
		var senders sync.WaitGroup
		for m := range 16 {
			senders.Go(func() {
				id := plant.MachineID(fmt.Sprint("M", m))
				if got := s.Send(t.Context(), id, uplinktest.Events(id, 1, 5)); delivered(got, 1) != 5 {
					t.Errorf("results %+v", got)
				}
			})
		}
		senders.Wait()
		if n := i.asked.Load(); n != 1 {
			t.Errorf("%d tokens", n)
		}
		if i.form.Get("grant_type") != "client_credentials" || i.form.Get("scope") != "a:read b:write" || i.form.Get("audience") != "erp" || (i.form.Get("client_secret") == "s3cr&t canary") != form {
			t.Errorf("%s: form %v", login, i.form)
		}
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("gw+1:s3cr%26t+canary"))
		if (i.from == want) == form {
			t.Errorf("%s: Authorization %q", login, i.from)
		}
	}
}

// TestATokenThatIsTakenBack is renewed once for all machines, and nothing waits.
func TestATokenThatIsTakenBack(t *testing.T) {
	i := newIssuer(t)
	r := guarded(t, i)
	s := openWith(t, tokenOptions(r, i))
	if got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); delivered(got, 1) != 1 {
		t.Fatalf("results %+v", got)
	}
	i.mu.Lock()
	i.good = "nobody has this one"
	i.mu.Unlock()
	var senders sync.WaitGroup
	for m := range 16 {
		senders.Go(func() {
			id := plant.MachineID(fmt.Sprint("M", m))
			if got := s.Send(t.Context(), id, uplinktest.Events(id, 2, 3)); delivered(got, 2) != 3 {
				t.Errorf("results %+v", got)
			}
		})
	}
	senders.Wait()
	if n := i.asked.Load(); n != 2 {
		t.Errorf("%d tokens, want 2", n)
	}
}

// TestATokenIsRenewedAhead, and one that has ended is not used.
func TestATokenIsRenewedAhead(t *testing.T) {
	i := newIssuer(t)
	i.life = `"4"` // some send a text; renewed after 2 s, when it is near its end
	r := guarded(t, i)
	s := openWith(t, tokenOptions(r, i))
	refused := 0
	began := time.Now()
	for seq := plant.Sequence(1); i.asked.Load() < 3; seq++ {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d tokens in 30 s, of 4 s each", i.asked.Load())
		}
		if got := s.Send(t.Context(), "M", uplinktest.Events("M", seq, 1)); delivered(got, seq) != 1 {
			t.Fatalf("results %+v", got)
		}
		time.Sleep(20 * time.Millisecond) // tokens are of whole seconds of real time, and nothing else is waited for
	}
	for _, q := range r.seen() {
		if !strings.HasPrefix(q.header.Get("Authorization"), "Bearer tok-") {
			refused++
		}
	}
	if took := time.Since(began); took < 3*time.Second || refused > 0 || len(r.seen()) != len(r.Arrivals()) {
		t.Errorf("3 tokens in %v, %d of %d requests taken", took, len(r.Arrivals()), len(r.seen()))
	}
}

// TestTokensThatCannotBeHad: nothing goes to the receiver, the cause is named,
// no secret is shown, and nobody asks in a loop.
func TestTokensThatCannotBeHad(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter)
		words  string
		wait   time.Duration
	}{
		"wrong secret": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"error":"invalid_client","error_description":"s3cr&t canary is wrong"}`)
		}, "it answers 401 Unauthorized: invalid_client: (secret) is wrong; check token_url, client_id, client_secret and scope", httplink.WrongWait},
		"wrong scope": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":"invalid_scope"}`)
		}, "400 Bad Request: invalid_scope; check", httplink.WrongWait},
		"too many": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "429 Too Many Requests", 7 * time.Second},
		"out of order": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, "503 Service Unavailable", 0},
		"a page":       {func(w http.ResponseWriter) { io.WriteString(w, "<!doctype html><title>Log in") }, "a web page came where a token was expected", httplink.WrongWait},
		"no token":     {func(w http.ResponseWriter) { io.WriteString(w, `{"ok":true}`) }, "without an access_token", httplink.WrongWait},
		"a mac token":  {func(w http.ResponseWriter) { io.WriteString(w, `{"access_token":"x","token_type":"mac"}`) }, "of the type mac", httplink.WrongWait},
		"a short one":  {func(w http.ResponseWriter) { io.WriteString(w, `{"access_token":"x","expires_in":1}`) }, "lives for 1s only", httplink.WrongWait},
		"two lines":    {func(w http.ResponseWriter) { io.WriteString(w, `{"access_token":"x\ny"}`) }, "no header may hold", httplink.WrongWait},
		"cut":          {func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100"); io.WriteString(w, `{"access_`) }, "cannot be read", 0},
		"somewhere else": {func(w http.ResponseWriter) {
			w.Header().Set("Location", "http://evil.example/?state=1")
			w.WriteHeader(http.StatusFound)
		}, "it answers 302 Found; it sends us to http://evil.example/, which is not followed; if that is right, write it as token_url", httplink.WrongWait},
		"an endless body": {func(w http.ResponseWriter) { w.Write(bytes.Repeat([]byte(" "), 1<<20)) }, "longer than", 0},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.answer = func(_ int64, w http.ResponseWriter) bool { test.answer(w); return true }
			r := guarded(t, i)
			s := openWith(t, tokenOptions(r, i))
			var senders sync.WaitGroup
			for m := range 8 {
				senders.Go(func() {
					id := plant.MachineID(fmt.Sprint("M", m))
					got := s.Send(t.Context(), id, uplinktest.Events(id, 1, 2))
					if len(got) != 1 || got[0].Status != plant.Retry || !systemWide(got[0]) || got[0].Wait != test.wait {
						t.Errorf("results %+v", got)
						return
					}
					text := got[0].Cause.Error()
					if !strings.Contains(text, test.words) || strings.Contains(text, "canary") || !strings.Contains(text, "POST http://"+i.Addr()+"/token") {
						t.Errorf("cause %q", text)
					}
				})
			}
			senders.Wait()
			if n := i.asked.Load(); n > 2 || len(r.seen()) > 0 {
				t.Errorf("%d requests for a token, %d to the receiver", n, len(r.seen()))
			}
		})
	}
}

// TestATokenThatNeverHelps is renewed once, and then a person has to look.
func TestATokenThatNeverHelps(t *testing.T) {
	i := newIssuer(t)
	r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusUnauthorized)
		return false
	})
	var noted []uplink.Exchange
	p, err := plan("erp", tokenOptions(r, i))
	if err != nil {
		t.Fatal(err)
	}
	s := p.Open(uplink.Env{Name: "erp", Log: zap.NewNop(), Memory: func(string) ([]byte, error) { return nil, nil },
		Journal: uplink.NewJournal("erp", func(x uplink.Exchange) { noted = append(noted, x) })})
	defer s.Close()
	got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
	if len(got) != 1 || !systemWide(got[0]) || got[0].Wait != httplink.WrongWait || !strings.Contains(got[0].Cause.Error(), "401 Unauthorized") || len(r.seen()) != 2 || i.asked.Load() != 2 {
		t.Errorf("%+v after %d requests and %d tokens", got, len(r.seen()), i.asked.Load())
	}
	tokens := 0
	for _, x := range noted {
		if x.Outcome == uplink.OutcomeAsked && x.Status == 200 && x.Where == "http://"+i.Addr()+"/token" {
			tokens++
		}
	}
	if tokens != 2 {
		t.Errorf("the journal has %+v", noted)
	}
}
