package card

import (
	"net"
	"strings"
	"testing"
)

func TestBindReads(t *testing.T) {
	for _, c := range []struct {
		text string
		ok   bool
	}{
		{"eth1", true}, {"enp3s0.17", true}, {"10.0.0.4", true}, {"fe80::1", true}, {" eth0 ", true},
		{"", false}, {"10.0.0", false}, {"10.0.0.4:80", false}, {"eth 1", false}, {"0.0.0.0", false}, {"::", false}, {"a-card-with-a-long-name", false}, {"../x", false},
	} {
		var b Bind
		if err := b.UnmarshalText([]byte(c.text)); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.text, err)
		} else if c.ok && string(b) != strings.TrimSpace(c.text) {
			t.Errorf("%q is read as %q", c.text, b)
		}
	}
}

// The peer sees the address that the connection was bound to.
func TestBindDials(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	loopback := ""
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 {
			loopback = i.Name
		}
	}
	for bind, want := range map[Bind]string{"": "127.0.0.1", "127.0.0.1": "127.0.0.1", Bind(loopback): "127.0.0.1"} {
		c, err := bind.Dial(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatalf("bind %q: %v", bind, err)
		}
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if host, _, _ := net.SplitHostPort(peer.RemoteAddr().String()); host != want {
			t.Errorf("bind %q: the peer sees %s, want %s", bind, host, want)
		}
		peer.Close()
		c.Close()
	}
	for bind, want := range map[Bind]string{"no-such-card": "no network card no-such-card", "192.0.2.77": "no network card with the address 192.0.2.77"} {
		if c, err := bind.Dial(t.Context(), "tcp", l.Addr().String()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("bind %q: %v, %v, want %q", bind, c, err, want)
		}
	}
}
