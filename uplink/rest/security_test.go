package rest

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// TestWhoWeAre is said as the config says, and to nobody else.
func TestWhoWeAre(t *testing.T) {
	for name, test := range map[string]struct {
		auth         httplink.Auth
		header, want string
	}{
		"bearer": {httplink.Auth{Bearer: config.NewSecret("tok-1")}, "Authorization", "Bearer tok-1"},
		"basic":  {httplink.Auth{Basic: &httplink.Basic{User: "gw", Password: config.NewSecret("päss:wörd")}}, "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("gw:päss:wörd"))},
		"key":    {httplink.Auth{APIKey: &httplink.APIKey{Header: "X-API-Key", Value: config.NewSecret("k1 k2")}}, "X-Api-Key", "k1 k2"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			o := testOptions(r.Addr())
			o.Auth = test.auth
			if got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); delivered(got, 1) != 1 {
				t.Fatalf("results %+v", got)
			}
			if got := r.seen()[0].header.Get(test.header); got != test.want {
				t.Errorf("%s: %q", test.header, got)
			}
		})
	}
}

// TestRedirects: a redirect is followed where it leads to the same place and
// keeps the request; nothing goes anywhere else, and no secret.
func TestRedirects(t *testing.T) {
	other := newReceiver(t)
	for name, test := range map[string]struct {
		status   int
		location string // HOST and OTHER stand for the two
		want     plant.Status
		words    string
	}{
		"307 to another path":    {307, "/v2/events", plant.Delivered, ""},
		"308 with the whole URL": {308, "http://HOST/v2/events?x=1#there", plant.Delivered, ""},
		"307 to another host":    {307, "http://OTHER/events", plant.Retry, "it sends us to http://OTHER/events, which is not followed"},
		"308 to another host":    {308, "//OTHER/events", plant.Retry, "which is not followed"},
		"301 to another path":    {301, "/v2/events", plant.Retry, "it sends us to http://HOST/v2/events"},
		"302 to a login":         {302, "http://OTHER/login?token=hunter2", plant.Retry, "it sends us to http://OTHER/login, which"},
		"303":                    {303, "/done", plant.Retry, "http://HOST/done"},
		"307 to another scheme":  {307, "https://HOST/events", plant.Retry, "https://HOST/events"},
		"307 with a user":        {307, "http://hunter2@HOST/events", plant.Retry, "http://HOST/events"},
		"307 without a place":    {307, "", plant.Retry, "check url"},
		"307 to no URL":          {307, "http://[::1", plant.Retry, "no URL"},
		"307 to a file":          {307, "file:///etc/passwd", plant.Retry, "not followed"},
		"307 round and round":    {307, "/events", plant.Retry, "not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			var r *receiver
			r = answering(t, func(n int, q request, w http.ResponseWriter) bool {
				if q.path != "/events" {
					return true
				}
				if test.location != "" {
					w.Header().Set("Location", strings.NewReplacer("HOST", r.addr, "OTHER", other.Addr()).Replace(test.location))
				}
				w.WriteHeader(test.status)
				return false
			})
			o := testOptions(r.Addr())
			o.Auth.Bearer = config.NewSecret("hunter2")
			got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
			if len(got) != 1 || got[0].Status != test.want {
				t.Fatalf("results %+v", got)
			}
			if test.want == plant.Delivered {
				if q := r.seen()[1]; q.method != "POST" || q.header.Get("Authorization") != "Bearer hunter2" || q.header.Get("Idempotency-Key") == "" || len(q.body) == 0 {
					t.Errorf("the second request: %+v", q)
				}
				return
			}
			words := strings.NewReplacer("HOST", r.addr, "OTHER", other.Addr()).Replace(test.words)
			text := got[0].Cause.Error()
			if !strings.Contains(text, words) || strings.Contains(text, "hunter2") || strings.Contains(text, "\x1b") || !systemWide(got[0]) || got[0].Wait != httplink.WrongWait {
				t.Errorf("%q, wait %v, want %q", text, got[0].Wait, words)
			}
			if n := len(r.seen()); n > 1+httplink.MaxHops {
				t.Errorf("%d requests", n)
			}
		})
	}
	if q := other.seen(); len(q) > 0 {
		t.Errorf("the other host got %+v", q)
	}
}

// TestSecretsAreNotShown plants canaries and lets a receiver repeat them in
// every way that it might.
func TestSecretsAreNotShown(t *testing.T) {
	const canary = `c4n/ary "x"+&1`
	for name, auth := range map[string]httplink.Auth{
		"bearer": {Bearer: config.NewSecret("c4n/ary-x+1")},
		"basic":  {Basic: &httplink.Basic{User: "gw", Password: config.NewSecret(canary)}},
		"key":    {APIKey: &httplink.APIKey{Header: "X-Key", Value: config.NewSecret(canary)}},
	} {
		clear := canary
		if name == "bearer" {
			clear = "c4n/ary-x+1"
		}
		echoes := map[string]string{
			"header": "", "clear": clear, "url": url.QueryEscape(clear), "path": url.PathEscape(clear), "json": fmt.Sprintf("%q", clear),
			"base64": base64.StdEncoding.EncodeToString([]byte(clear)), "pair": base64.StdEncoding.EncodeToString([]byte("gw:" + clear)),
		}
		for way, echo := range echoes {
			for _, status := range []int{400, 401, 500, 207, 0} {
				r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
					said := echo
					if way == "header" {
						said = q.header.Get("Authorization") + q.header.Get("X-Key")
					}
					if status == 0 {
						raw(t, w, said+"\r\n\r\n")
						return false
					}
					w.WriteHeader(status)
					if status == http.StatusMultiStatus {
						fmt.Fprintf(w, `[{"status":400,"error":%q}]`, said)
						return false
					}
					io.WriteString(w, "you said "+said)
					return false
				})
				o := testOptions(r.Addr())
				o.URL += "?key=q0canary"
				o.Auth = auth
				got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
				for _, secret := range []string{clear, "q0canary", url.QueryEscape(clear), echoes["base64"], echoes["pair"]} {
					if text := fmt.Sprintf("%v %+v", got, got[0].Cause); strings.Contains(text, secret) {
						t.Errorf("%s as %s in %d: %s", name, way, status, text)
					}
				}
			}
		}
	}
}

func TestProxy(t *testing.T) {
	login := false
	r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		if login {
			w.WriteHeader(http.StatusProxyAuthRequired)
		}
		return !login
	})
	o := testOptions(r.Addr())
	o.URL, o.Proxy = "http://mes.example/events", "http://"+r.Addr()
	if got := openUnchecked(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); delivered(got, 1) != 1 || r.seen()[0].path != "http://mes.example/events" {
		t.Errorf("not by the proxy: %+v", got)
	}
	login = true
	o.URL = "https://mes.example/events"
	got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
	if len(got) != 1 || !systemWide(got[0]) || got[0].Wait != httplink.WrongWait || !strings.Contains(got[0].Cause.Error(), "the proxy wants a login") {
		t.Errorf("results %+v", got)
	}
}

// TestTLSRefusesWhoeverIsNotTheReceiver: the peer must prove itself, and so
// must the gateway where the receiver asks for it; no secret is sent before.
func TestTLSRefusesWhoeverIsNotTheReceiver(t *testing.T) {
	ours, stranger := uplinktest.NewAuthority(t), uplinktest.NewAuthority(t)
	soon := time.Now().Add(time.Hour)
	good := []tls.Certificate{ours.Issue(t, "mes", soon, "127.0.0.1")}
	elsewhere := []tls.Certificate{ours.Issue(t, "elsewhere", soon, "mes.example")}
	expired := []tls.Certificate{ours.Issue(t, "expired", time.Now().Add(-time.Minute), "127.0.0.1")}
	foreign := []tls.Certificate{stranger.Issue(t, "foreign", soon, "127.0.0.1")}
	ours.Issue(t, "gateway", soon)
	stranger.Issue(t, "imposter", soon)
	client := func(a *uplinktest.Authority, name string) func(*Options) {
		return func(o *Options) { o.Cert, o.Key = a.Cert(name), a.Key(name) }
	}
	mutual := &tls.Config{Certificates: good, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool(t)}

	for name, test := range map[string]struct {
		receiver *tls.Config
		option   func(*Options)
		fails    string
	}{
		"good":                 {receiver: &tls.Config{Certificates: good}},
		"TLS 1.2":              {receiver: &tls.Config{Certificates: good, MaxVersion: tls.VersionTLS12}},
		"TLS 1.1":              {receiver: &tls.Config{Certificates: good, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, fails: "protocol version"},
		"wrong name":           {receiver: &tls.Config{Certificates: elsewhere}, fails: "certificate"},
		"named otherwise":      {receiver: &tls.Config{Certificates: elsewhere}, option: func(o *Options) { o.ServerName = "mes.example" }},
		"expired":              {receiver: &tls.Config{Certificates: expired}, fails: "expired"},
		"another CA":           {receiver: &tls.Config{Certificates: foreign}, fails: "unknown authority"},
		"system's CAs":         {receiver: &tls.Config{Certificates: good}, option: func(o *Options) { o.CA = "" }, fails: "unknown authority"},
		"wants a client":       {receiver: mutual, fails: "set cert and key"},
		"knows the client":     {receiver: mutual, option: client(ours, "gateway")},
		"knows another client": {receiver: mutual, option: client(stranger, "imposter"), fails: "certificate"},
		"no TLS at all":        {fails: "does not speak TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, func(r *receiver) { r.tls = test.receiver })
			o := testOptions(r.Addr())
			o.URL = "https://" + r.Addr() + "/events"
			o.CA = ours.CA()
			o.Auth.Bearer = config.NewSecret("hunter2")
			if test.option != nil {
				test.option(&o)
			}
			got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
			switch {
			case len(got) != 1:
				t.Fatalf("results %+v", got)
			case test.fails == "" && got[0].Status != plant.Delivered:
				t.Errorf("not delivered: %v", got[0].Cause)
			case test.fails != "" && (got[0].Status != plant.Retry || !systemWide(got[0]) || !strings.Contains(got[0].Cause.Error(), test.fails) || len(r.seen()) > 0):
				t.Errorf("status %v cause %v, want a failure with %q", got[0].Status, got[0].Cause, test.fails)
			}
		})
	}
}

// TestCertificateThatExpiresOnTheWay: a new connection is refused, and the
// events wait.
func TestCertificateThatExpiresOnTheWay(t *testing.T) {
	ours := uplinktest.NewAuthority(t)
	r := newReceiver(t, func(r *receiver) {
		r.tls = &tls.Config{Certificates: []tls.Certificate{ours.Issue(t, "mes", time.Now().Add(time.Hour), "127.0.0.1")}}
	})
	o := testOptions(r.Addr())
	o.URL, o.CA = "https://"+r.Addr(), ours.CA()
	s := openWith(t, o)
	if got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); delivered(got, 1) != 1 {
		t.Fatalf("results %+v", got)
	}
	r.Stop()
	r.tls = &tls.Config{Certificates: []tls.Certificate{ours.Issue(t, "old", time.Now().Add(-time.Second), "127.0.0.1")}}
	r.Start()
	got := s.Send(t.Context(), "M", uplinktest.Events("M", 2, 1))
	if len(got) != 1 || got[0].Status != plant.Retry || !systemWide(got[0]) || !strings.Contains(got[0].Cause.Error(), "expired") {
		t.Errorf("results %+v", got)
	}
}

// What a receiver says that hangs up on who has no certificate is often lost on the
// way: what to do is told all the same. One that never shakes hands is told as such.
func TestHandshakesThatEndWithoutAWord(t *testing.T) {
	ours := uplinktest.NewAuthority(t)
	wants := &tls.Config{Certificates: []tls.Certificate{ours.Issue(t, "mes", time.Now().Add(time.Hour), "127.0.0.1")}, ClientAuth: tls.RequireAnyClientCert}
	for name, test := range map[string]struct {
		answer  func(tcp *net.TCPConn)
		timeout time.Duration
		tries   int
		fails   string
	}{
		"hangs up": {func(tcp *net.TCPConn) {
			_ = tls.Server(tcp, wants).Handshake() // it fails, which is what is wanted
			_ = tcp.SetLinger(0)                   // what was said on it is thrown away
		}, 5 * time.Second, 5, "it asks for a certificate of the gateway: set cert and key"},
		"silent": {func(tcp *net.TCPConn) {
			_, _ = io.Copy(io.Discard, tcp) // as a server of plain HTTP that waits for the end of a line
		}, 2 * time.Second, 1, "no TLS handshake within 2s; look whether the port in url is one of TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			address := serving(t, func(c net.Conn) { test.answer(c.(*net.TCPConn)) })
			o := testOptions(address)
			o.URL, o.CA, o.Timeout = "https://"+address+"/events", ours.CA(), config.Duration(test.timeout)
			s := openWith(t, o)
			for range test.tries { // the receiver's word comes through once in a while
				r := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1))
				if len(r) != 1 || r[0].Status != plant.Retry || !strings.Contains(r[0].Cause.Error(), test.fails) {
					t.Errorf("results %+v, want %q", r, test.fails)
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
