package mqtt

import (
	"net"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// TestBind: each broker sees the address of the card that bind names. On Linux all of
// 127.0.0.0/8 is the loopback card's.
func TestBind(t *testing.T) {
	o := testOptions("")
	peers := make(chan string, 10)
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				peers <- host
				_ = c.Close() // it is no broker
			}
		}()
		if o.URL == "tcp://" {
			o.URL += l.Addr().String()
		} else {
			o.Fallback = []string{"tcp://" + l.Addr().String()}
		}
	}
	for bind, words := range map[string]string{"127.0.0.2": "", "no-such-card": "no network card no-such-card"} {
		if err := o.Bind.UnmarshalText([]byte(bind)); err != nil {
			t.Fatal(err)
		}
		s := openWith(t, o)
		if r := s.Send(t.Context(), "M", uplinktest.Events("M", 1, 1)); r[0].Status != plant.Retry || !strings.Contains(r[0].Cause.Error(), words) {
			t.Errorf("bind %s: %+v", bind, r)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(peers) != 2 {
		t.Fatalf("%d connections, want one to each broker", len(peers))
	}
	for range 2 {
		if host := <-peers; host != "127.0.0.2" {
			t.Errorf("a broker was called from %s", host)
		}
	}
}
