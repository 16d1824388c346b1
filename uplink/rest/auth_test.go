package rest

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
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

// TestAKeyInTheQuery goes to the receiver, and is shown to nobody.
func TestAKeyInTheQuery(t *testing.T) {
	const canary = "c4nary&1"
	r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "cannot take %s", q.path)
		return false
	})
	o := testOptions(r.Addr())
	o.URL += "?plant=7"
	o.Auth.APIKey = &httplink.APIKey{Query: "api key", Value: config.NewSecret(canary)}
	got := openUnchecked(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
	if q := r.seen()[0]; q.path != "/events?plant=7&api+key=c4nary%261" || q.header.Get("Authorization") != "" {
		t.Errorf("%s %v", q.path, q.header)
	}
	if text := got[0].Cause.Error(); strings.Contains(text, "c4nary") || !strings.Contains(text, "api+key=(secret)") {
		t.Errorf("cause %q", text)
	}
	r.Stop()
	got = openUnchecked(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
	if text := fmt.Sprintf("%v %+v", got, got[0].Cause); strings.Contains(text, "c4nary") {
		t.Errorf("cause %q", text)
	}
}

// TestSignatures are worked out here by the receiver's side of the bargain.
func TestSignatures(t *testing.T) {
	for name, test := range map[string]struct {
		sign  httplink.Signature
		hash  func() hash.Hash
		form  func([]byte) string
		value string // SUM and TIME stand for the two
		text  string // TIME and BODY
	}{
		"plain":  {httplink.Signature{Header: "X-Signature", TimestampHeader: "X-Time"}, sha256.New, hex.EncodeToString, "SUM", "TIME.BODY"},
		"github": {httplink.Signature{Header: "X-Hub-Signature-256", TimestampHeader: "X-Time", Value: "sha256={signature}"}, sha256.New, hex.EncodeToString, "sha256=SUM", "TIME.BODY"},
		"stripe": {httplink.Signature{Header: "X-Signature", Value: "t={timestamp},v1={signature}"}, sha256.New, hex.EncodeToString, "t=TIME,v1=SUM", "TIME.BODY"},
		"sha1":   {httplink.Signature{Header: "X-Signature", TimestampHeader: "X-Time", Hash: "sha1", Encoding: "base64", Timestamp: "unixms"}, sha1.New, base64.StdEncoding.EncodeToString, "SUM", "TIME.BODY"},
		"sha512": {httplink.Signature{Header: "X-Signature", TimestampHeader: "X-Time", Hash: "sha512", Content: "{method}\n{path}\n{timestamp}\n{body}{body}"}, sha512.New, hex.EncodeToString, "SUM", "POST\n/events?plant=7\nTIME\nBODYBODY"},
	} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", packed), func(t *testing.T) {
				r := answering(t, func(int, request, http.ResponseWriter) bool { return false })
				o := testOptions(r.Addr())
				o.URL += "?plant=7"
				o.Batch, o.Gzip = 20, packed
				test.sign.Key = config.NewSecret("s1gn")
				o.Sign = &test.sign
				o.Auth.APIKey = &httplink.APIKey{Query: "key", Value: config.NewSecret("k")}
				if got := openUnchecked(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 20)); delivered(got, 1) != 20 {
					t.Fatalf("results %+v", got)
				}
				q := r.seen()[0]
				stamp := q.header.Get("X-Time")
				if name == "stripe" {
					stamp, _, _ = strings.Cut(strings.TrimPrefix(q.header.Get("X-Signature"), "t="), ",")
				}
				unit := time.Second
				if test.sign.Timestamp == "unixms" {
					unit = time.Millisecond
				}
				if n, err := strconv.ParseInt(stamp, 10, 64); err != nil || time.Since(time.Unix(0, n*int64(unit))).Abs() > time.Minute {
					t.Errorf("time %q", stamp)
				}
				mac := hmac.New(test.hash, []byte("s1gn"))
				io.WriteString(mac, strings.NewReplacer("TIME", stamp, "BODY", string(q.body)).Replace(test.text))
				want := strings.NewReplacer("SUM", test.form(mac.Sum(nil)), "TIME", stamp).Replace(test.value)
				if got := q.header.Get(test.sign.Header); got != want {
					t.Errorf("signature %q, want %q", got, want)
				}
			})
		}
	}
}

// TestBodiesArePacked from a size on, the same at each try.
func TestBodiesArePacked(t *testing.T) {
	r := answering(t, func(n int, _ request, w http.ResponseWriter) bool {
		if n == 1 {
			raw(t, w, "HTTP/1.1 2")
		}
		return false
	})
	o := testOptions(r.Addr())
	o.Batch, o.Gzip, o.MaxBody = 50, true, 1<<20
	s := openWith(t, o)
	events := uplinktest.Events("M", 1, 51)
	s.Send(t.Context(), "M", events[:50])
	if got := s.Send(t.Context(), "M", events); delivered(got, 1) != 51 {
		t.Fatalf("results %+v", got)
	}
	seen := r.seen()
	if !bytes.Equal(seen[0].body, seen[1].body) || seen[2].header.Get("Content-Encoding") != "" || seen[1].header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%d and %d bytes, the small one is %q", len(seen[0].body), len(seen[1].body), seen[2].header.Get("Content-Encoding"))
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(seen[1].body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unpacked)
	if got := (request{body: text}).events(t); err != nil || len(got) != 50 || len(text) < 3*len(seen[1].body) {
		t.Errorf("%d events in %d bytes packed to %d, %v", len(got), len(text), len(seen[1].body), err)
	}
}

// TestProxiesOfEverySort: with a login, called by TLS, and passed by.
func TestProxiesOfEverySort(t *testing.T) {
	ours := uplinktest.NewAuthority(t)
	soon := time.Now().Add(time.Hour)
	target := newReceiver(t, func(r *receiver) {
		r.tls = &tls.Config{Certificates: []tls.Certificate{ours.Issue(t, "mes", soon, "mes.example")}}
	})
	tunnel := func(secure bool) *receiver {
		return newReceiver(t, func(r *receiver) {
			if secure {
				r.tls = &tls.Config{Certificates: []tls.Certificate{ours.Issue(t, "proxy", soon, "127.0.0.1")}}
			}
			r.answer = func(_ int, q request, w http.ResponseWriter) bool {
				if q.header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("gw:c4nary p/w")) {
					w.WriteHeader(http.StatusProxyAuthRequired)
					return false
				}
				join(t, w, target.Addr())
				return false
			}
		})
	}
	for _, secure := range []bool{false, true} {
		proxy := tunnel(secure)
		o := testOptions("mes.example")
		o.URL, o.CA, o.ServerName = "https://mes.example/events", ours.CA(), "mes.example"
		o.Proxy = map[bool]string{false: "http://", true: "https://"}[secure] + proxy.Addr()
		o.ProxyAuth = &httplink.Basic{User: "gw", Password: config.NewSecret("c4nary p/w")}
		o.Timeout = config.Duration(5 * time.Second)
		o.Auth.Bearer = config.NewSecret("hunter2")
		s := openWith(t, o)
		if got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 2)); delivered(got, 1) != 2 {
			t.Fatalf("TLS %v: results %+v", secure, got)
		}
		s.Close()
		if q := proxy.seen(); len(q) != 1 || q[0].method != http.MethodConnect || q[0].header.Get("Authorization") != "" {
			t.Errorf("the proxy saw %+v", q)
		}
		o.ProxyAuth.Password = config.NewSecret("c4nary wrong")
		got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
		if text := got[0].Cause.Error(); !strings.Contains(text, "the proxy refuses the login of proxy_auth") || strings.Contains(text, "c4nary") || got[0].Wait != httplink.WrongWait {
			t.Errorf("%+v", got)
		}
		if secure {
			o.CA = ""
			if got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); !strings.Contains(got[0].Cause.Error(), "unknown authority") || len(proxy.seen()) != 2 {
				t.Errorf("a proxy that nobody knows: %+v", got)
			}
		}
	}
	plainTarget := newReceiver(t)
	o := testOptions(plainTarget.Addr())
	o.Proxy, o.NoProxy = "http://127.0.0.1:1", []string{"mes.example", "127.0.0.0/8"}
	if got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); delivered(got, 1) != 1 {
		t.Errorf("not passed by: %+v", got)
	}
}

// join makes a tunnel of a CONNECT.
func join(t *testing.T, w http.ResponseWriter, addr string) {
	up, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	down, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { io.Copy(up, down); up.Close() }()
	io.Copy(down, up)
	down.Close()
}

func TestCheckNamesEachFaultOfAuth(t *testing.T) {
	t.Setenv("GOOD", "hunter2")
	t.Setenv("LINES", "hunter2\nhunter2")
	const base = "url: https://mes.example\n"
	oauth := func(more string) string {
		return base + "auth: {oauth2: {token_url: 'https://login.example/t', client_id: gw, client_secret: env:GOOD" + more + "}}"
	}
	sign := func(more string) string { return base + "sign: {key: env:GOOD, header: X-Sig" + more + "}" }
	// The authority of a plant's token endpoint can be named where its receiver has none.
	plain := "url: http://127.0.0.1\nca: " + string(uplinktest.NewAuthority(t).CA()) + "\nauth: {oauth2: {client_id: gw, client_secret: env:GOOD, token_url: "
	sections.Faults(t, map[string]string{
		oauth(""):                           "",
		plain + "'https://login.example'}}": "",
		plain + "'http://127.0.0.1:1'}}":    "it is of no use without TLS",
		oauth(", scope: a, login: body, params: {audience: x}"): "",
		oauth(", login: header"):                                "auth.oauth2.login",
		oauth(", params: {scope: x}"):                           "the gateway sets this parameter itself",
		oauth(", params: {api_key: x}"):                         "looks like a secret",
		base + "auth: {oauth2: {token_url: login.example, client_id: gw, client_secret: env:GOOD}}":                                "auth.oauth2.token_url",
		base + "auth: {oauth2: {token_url: 'http://login.example', client_id: gw, client_secret: env:GOOD}}":                       "the client's secret would go over the network in clear text",
		base + "allow_insecure: true\nauth: {oauth2: {token_url: 'http://login.example', client_id: gw, client_secret: env:GOOD}}": "warning",
		base + "auth: {oauth2: {token_url: 'https://u:hunter2@login.example', client_id: gw, client_secret: env:GOOD}}":            "would be shown and logged",
		base + "auth: {oauth2: {token_url: 'https://login.example', client_id: gw, client_secret: env:LINES}}":                     "line break",
		base + "auth: {bearer: env:GOOD, oauth2: {token_url: 'https://login.example', client_id: gw, client_secret: env:GOOD}}":    "more than one way",
		base + "auth: {bearer: env:GOOD, expires: 2027-01-31}":                                                                     "",
		base + "auth: {bearer: env:GOOD, expires: 31.01.2027}":                                                                     "is no day",
		base + "auth: {expires: 2027-01-31}":                                   "there is no secret here that ends",
		base + "auth: {api_key: {value: env:GOOD}}":                            "one place for the key",
		base + "auth: {api_key: {header: X-Key, query: key, value: env:GOOD}}": "one place for the key",
		base + "auth: {api_key: {query: key, value: env:GOOD}}":                "proxies and servers log",
		sign(", timestamp_header: X-Time"):                                     "",
		sign(", value: 't={timestamp},v1={signature}'"):                        "",
		sign(""):                    "the receiver is not told it",
		sign(", content: '{body}'"): "can repeat it",
		sign(", content: '{timestamp}', timestamp_header: X-Time"):                                                "the body is not signed",
		sign(", value: sha256=, timestamp_header: X-Time"):                                                        "where the signature goes",
		sign(", hash: md5, timestamp_header: X-Time"):                                                             "sign.hash",
		sign(", encoding: HEX, timestamp_header: X-Time"):                                                         "sign.encoding",
		sign(", timestamp: now, timestamp_header: X-Time"):                                                        "sign.timestamp",
		sign(", timestamp_header: x-sig"):                                                                         "it is the header of the signature",
		sign(", timestamp_header: Host"):                                                                          "sign.timestamp_header",
		sign(", timestamp_header: X-Time") + "\nheaders: {X-Time: x}":                                             "twice",
		base + "sign: {key: env:GOOD, header: Authorization, timestamp_header: X-Time}\nauth: {bearer: env:GOOD}": "auth sets this header",
		base + "proxy_auth: {user: u, password: env:GOOD}":                                                        "there is no proxy",
		base + "proxy: http://127.0.0.1:1\nproxy_auth: {user: 'a:b', password: env:GOOD}":                         "proxy_auth.user",
		base + "proxy: http://p.example:1\nproxy_auth: {user: a, password: env:GOOD}":                             "clear text",
		base + "proxy: https://p.example:1\nproxy_auth: {user: a, password: env:LINES}":                           "proxy_auth.password",
		base + "proxy: https://p.example\nno_proxy: [mes.example, .plant.example, 10.0.0.0/8, 10.0.0.1]":          "",
		base + "proxy: https://p.example\nno_proxy: ['*.example']":                                                "no_proxy[0]",
	})
}
