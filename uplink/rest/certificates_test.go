package rest

import (
	"crypto/tls"
	"net/http"
	"os"
	"strings"
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

// openWatched opens a Sender that tells when certificates end.
func openWatched(t *testing.T, o Options) (uplink.Sender, *uplink.Expiries) {
	t.Helper()
	p, err := plan("mes", o)
	if err != nil {
		t.Fatal(err)
	}
	e := uplink.NewExpiries(p.Expires...)
	s := p.Open(uplink.Env{Name: "mes", Log: zap.NewNop(), Memory: func(string) ([]byte, error) { return nil, nil }, Expiries: e})
	t.Cleanup(func() { s.Close() })
	return s, e
}

// until waits until is reports true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 20 s: " + what)
		}
	}
}

// TestEachCertificateOnTheWayIsWatched: those of the receiver, of the proxy and of
// the token endpoint, and that of the gateway.
func TestEachCertificateOnTheWayIsWatched(t *testing.T) {
	ours := uplinktest.NewAuthority(t)
	now := time.Now().Truncate(time.Second).UTC()
	secure := func(name string, ends time.Time, answer func(int, request, http.ResponseWriter) bool) *receiver {
		return newReceiver(t, func(r *receiver) {
			r.tls = &tls.Config{Certificates: []tls.Certificate{ours.Issue(t, name, ends, "127.0.0.1", "mes.example")}, ClientAuth: tls.RequestClientCert}
			r.answer = answer
		})
	}
	target := secure("mes", now.Add(80*time.Minute), func(int, request, http.ResponseWriter) bool { return true })
	login := secure("login", now.Add(60*time.Minute), func(_ int, _ request, w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"tok","token_type":"Bearer"}`))
		return false
	})
	proxy := secure("proxy", now.Add(40*time.Minute), func(_ int, _ request, w http.ResponseWriter) bool {
		join(t, w, target.Addr())
		return false
	})
	ours.Issue(t, "gateway", now.Add(20*time.Minute))
	o := testOptions("mes.example")
	o.URL, o.CA, o.Cert, o.Key = "https://mes.example:8443/events", ours.CA(), ours.Cert("gateway"), ours.Key("gateway")
	o.Proxy, o.NoProxy = "https://"+proxy.Addr(), []string{strings.Split(login.Addr(), ":")[0]}
	o.Auth = httplink.Auth{OAuth2: &httplink.OAuth2{TokenURL: "https://" + login.Addr() + "/token", ClientID: "gw", ClientSecret: config.NewSecret("canary")}}
	s, e := openWatched(t, o)
	if got := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); delivered(got, 1) != 1 {
		t.Fatalf("results %+v", got)
	}
	want := []uplink.Expiry{
		{What: "the certificate of the gateway (cert)", At: now.Add(20 * time.Minute)},
		{What: "the certificate of the proxy " + proxy.Addr(), At: now.Add(40 * time.Minute)},
		{What: "the certificate of " + login.Addr(), At: now.Add(60 * time.Minute)},
		{What: "the certificate of mes.example:8443", At: now.Add(80 * time.Minute)},
	}
	got := e.List()
	if len(got) != len(want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i := range want {
		if got[i].What != want[i].What || !got[i].At.Equal(want[i].At) {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
}

// TestRenewedCertificatesAreUsedWithoutARestart: while a connection is kept, and
// without one; two files that do not belong together are told of, and the ones before
// are used meanwhile.
func TestRenewedCertificatesAreUsedWithoutARestart(t *testing.T) {
	ours := uplinktest.NewAuthority(t)
	now := time.Now().Truncate(time.Second)
	var seen atomic.Pointer[string]
	r := newReceiver(t, func(r *receiver) {
		r.tls = &tls.Config{
			Certificates: []tls.Certificate{ours.Issue(t, "mes", now.Add(time.Hour), "127.0.0.1")},
			ClientCAs:    ours.Pool(t), ClientAuth: tls.RequireAndVerifyClientCert,
			VerifyConnection: func(state tls.ConnectionState) error {
				seen.Store(&state.PeerCertificates[0].Subject.CommonName)
				return nil
			},
		}
	})
	ours.Issue(t, "first", now.Add(time.Hour))
	ours.Issue(t, "second", now.Add(90*time.Minute))
	folder := t.TempDir()
	cert, key := folder+"/cert.pem", folder+"/key.pem"
	put := func(from config.Path, to string) {
		text, err := os.ReadFile(string(from))
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Minute) // for a file system whose clock stands
		if err := os.Chtimes(to, later, later); err != nil {
			t.Fatal(err)
		}
	}
	put(ours.Cert("first"), cert)
	put(ours.Key("first"), key)
	o := testOptions(r.Addr())
	o.URL, o.CA, o.Cert, o.Key = "https://"+r.Addr(), ours.CA(), config.Path(cert), config.Path(key)
	s, e := openWatched(t, o)
	own := func() time.Time {
		for _, x := range e.List() {
			if x.What == "the certificate of the gateway (cert)" {
				return x.At
			}
		}
		return time.Time{}
	}
	sequence := 0
	send := func() {
		sequence++
		if got := s.Send(t.Context(), "M", uplinktest.Events("M", plant.Sequence(sequence), 1)); delivered(got, plant.Sequence(sequence)) != 1 {
			t.Fatalf("results %+v", got)
		}
	}
	send()
	if !own().Equal(now.Add(time.Hour)) || len(e.Notices()) > 0 {
		t.Fatalf("ends at %v, notices %+v", own(), e.Notices())
	}
	put(ours.Cert("second"), cert)
	if n := e.Notices(); len(n) != 1 || !strings.Contains(n[0].Text, "key and cert do not go together") || !own().Equal(now.Add(time.Hour)) {
		t.Errorf("half a change: notices %+v, ends at %v", n, own())
	}
	send()
	put(ours.Key("second"), key)
	if n := e.Notices(); len(n) != 0 || !own().Equal(now.Add(90*time.Minute)) {
		t.Errorf("a whole change: notices %+v, ends at %v", n, own())
	}
	until(t, "the receiver sees the new certificate", func() bool {
		send()
		return *seen.Load() == "second"
	})
}
