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
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

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
