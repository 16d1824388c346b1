package card

import (
	"net"
	"strings"
	"testing"
	"time"
)

// On Linux all of 127.0.0.0/8 is the loopback card's. Only who calls that address
// or that card is heard.
func TestBindListens(t *testing.T) {
	for bind, at := range map[Bind]string{"127.0.0.3": "127.0.0.3", "lo": "127.0.0.1", "": "127.0.0.1"} {
		l, err := bind.Listen(t.Context(), net.ListenConfig{}, "tcp", ":0")
		if err != nil {
			t.Fatalf("bind %q: %v", bind, err)
		}
		own, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if bind == "" && !net.ParseIP(own).IsUnspecified() || bind != "" && own != at {
			t.Errorf("bind %q: it listens at %s", bind, own)
		}
		c, err := net.DialTimeout("tcp", net.JoinHostPort(at, port), 20*time.Second)
		if err != nil {
			t.Fatalf("bind %q: %v", bind, err)
		}
		c.Close()
		if c, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.4", port), 20*time.Second); (err == nil) != (bind == "") {
			t.Errorf("bind %q: a call at 127.0.0.4: %v", bind, err)
		} else if err == nil {
			c.Close()
		}
		l.Close()
	}
	for bind, want := range map[Bind]string{"no-such-card": "no network card no-such-card", "192.0.2.77": "no network card with the address 192.0.2.77"} {
		if l, err := bind.Listen(t.Context(), net.ListenConfig{}, "tcp", ":0"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("bind %q: %v, %v, want %q", bind, l, err, want)
		}
	}
}

// The peer sees the address that it was bound to.
func TestBindDialsFromAnotherAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Bind("127.0.0.2").Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if host, _, _ := net.SplitHostPort(peer.RemoteAddr().String()); host != "127.0.0.2" {
		t.Errorf("the peer sees %s", host)
	}
}
