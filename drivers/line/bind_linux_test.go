package line

import (
	"net"
	"strings"
	"testing"
)

// A device sees the address of the card that it is called over.
func TestACallOverACard(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := opened(t, strings.NewReplacer("ADDR", l.Addr().String(), "HOW", "bind: 127.0.0.2").Replace(talker))
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if host, _, _ := net.SplitHostPort(c.RemoteAddr().String()); host != "127.0.0.2" {
		t.Errorf("the device sees %s", host)
	}
	d = opened(t, strings.NewReplacer("ADDR", l.Addr().String(), "HOW", "bind: no-such-card").Replace(talker))
	if err := d.Connect(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "no network card no-such-card") {
		t.Error(err)
	}
}

// Devices can call on one card only.
func TestAListenerOnACard(t *testing.T) {
	for _, bind := range []string{"127.0.0.3", "lo"} {
		var err error
		for range 20 { // somebody may take the port meanwhile
			port := freePort(t)
			text := strings.NewReplacer("127.0.0.1:PORT", `":`+port+`"`, "HOW", "bind: "+bind).Replace(gate)
			d := opened(t, text, units)
			if err = d.Connect(t.Context(), 1); err != nil {
				continue
			}
			at := map[string]string{"127.0.0.3": "127.0.0.3", "lo": "127.0.0.1"}[bind]
			send(t, call(t, net.JoinHostPort(at, port)), "UNIT0001\r")
			equal(t, records(t, d, 1), "1 UNIT0001")
			if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.4", port)); err == nil {
				c.Close()
				t.Errorf("bind: %s hears a call at 127.0.0.4", bind)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for bind, want := range map[string]string{"no-such-card": "bind: this computer has no network card no-such-card", "192.0.2.77": "bind: this computer has no network card with the address 192.0.2.77 (ip addr shows them)"} {
		d := opened(t, strings.NewReplacer("127.0.0.1:PORT", `":`+freePort(t)+`"`, "HOW", "bind: "+bind).Replace(gate), units)
		err := d.Connect(t.Context(), 1)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("bind: %s: %v, want %s", bind, err, want)
		}
	}
	d := opened(t, strings.NewReplacer("127.0.0.1:PORT", "192.0.2.77:"+freePort(t), "HOW", "").Replace(gate), units)
	const want = "cannot assign requested address: is the address one of this computer"
	if err := d.Connect(t.Context(), 1); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("listen at another computer's address: %v, want %s", err, want)
	}
	if at := planOf(t, strings.NewReplacer("127.0.0.1:PORT", `":4001"`, "HOW", "bind: eth1").Replace(gate)).Endpoint; at != "listens at :4001 of eth1" {
		t.Error(at)
	}
}
