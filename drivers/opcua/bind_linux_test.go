package opcua

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// door passes connections on to a server and keeps who called.
type door struct {
	net.Listener
	target string

	mu      sync.Mutex
	callers []string
}

func newDoor(t *testing.T, target string) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Listener: l, target: target}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { d.pass(t, c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		passing.Wait()
	})
	return d
}

func (d *door) pass(t *testing.T, c net.Conn) {
	defer c.Close()
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	d.mu.Lock()
	d.callers = append(d.callers, host)
	d.mu.Unlock()
	s, err := net.Dial("tcp", d.target)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = io.Copy(c, s) // until either hangs up
		c.Close()
	}()
	_, _ = io.Copy(s, c) // as above
	s.Close()
	<-answered
}

// The server sees the address of the card in each connection: the one that asks
// for its endpoints, and the session's.
func TestAServerOverACard(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	d := newDoor(t, s.Addr())
	worksWith(t, openText(t, "bind: 127.0.0.2\n"+strings.TrimSpace(section)+"\n", d.Addr().String()), 1)
	d.mu.Lock()
	callers := d.callers
	d.mu.Unlock()
	if len(callers) == 0 {
		t.Error("nobody called")
	}
	for _, c := range callers {
		if c != "127.0.0.2" {
			t.Errorf("the server sees %s", c)
		}
	}
	for bind, want := range map[string]string{"no-such-card": "bind: this computer has no network card no-such-card", "192.0.2.77": "bind: this computer has no network card with the address 192.0.2.77 (ip addr shows them)"} {
		if err := openText(t, "bind: "+bind+"\n"+strings.TrimSpace(section)+"\n", d.Addr().String()).Connect(t.Context(), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("bind: %s: %v, want %s", bind, err, want)
		}
	}
}
