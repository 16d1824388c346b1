package rest

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// TestBind: receiver, token endpoint and proxy all see the address of the card that
// bind names. On Linux all of 127.0.0.0/8 is the loopback card's.
func TestBind(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[string]string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		mu.Lock()
		seen[r.URL.String()] = host
		mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/token") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token":"t","token_type":"bearer","expires_in":3600}`)
		}
	}))
	defer s.Close()
	o := testOptions(strings.TrimPrefix(s.URL, "http://"))
	o.Bind = "127.0.0.2"
	o.Auth = httplink.Auth{OAuth2: &httplink.OAuth2{TokenURL: s.URL + "/token", ClientID: "c", ClientSecret: config.NewSecret("c4nary")}}
	direct, err := httplink.ParseURL("url", o.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxied := o
	proxied.URL, proxied.Proxy, proxied.Auth, proxied.AllowInsecure = "http://mes.example/events", s.URL, httplink.Auth{}, true
	for _, options := range []Options{o, proxied} {
		sender := openUnchecked(t, options)
		if got := sender.Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); got[0].Status != plant.Delivered {
			t.Fatalf("%+v", got)
		}
		sender.Close()
	}
	for _, url := range []string{direct.RequestURI(), "/token", proxied.URL} {
		if seen[url] != "127.0.0.2" {
			t.Errorf("%s was called from %q: %v", url, seen[url], seen)
		}
	}
	o.Bind = "no-such-card"
	if got := openWith(t, o).Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); got[0].Status != plant.Retry || !strings.Contains(got[0].Cause.Error(), "no network card no-such-card") {
		t.Errorf("%+v", got)
	}
}
