package card

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// host is a computer with a network of its own, that is a thread in a network
// namespace. Both end with the test.
type host struct {
	tid   int
	calls chan func()
}

func newHost(t *testing.T) *host {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip of iproute2")
	}
	h := &host{calls: make(chan func())}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends with the goroutine
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		h.tid = syscall.Gettid()
		started <- err
		if err != nil {
			return
		}
		for call := range h.calls {
			call()
		}
	}()
	if err := <-started; errors.Is(err, syscall.EPERM) {
		t.Skip("a network of its own needs root")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(h.calls) })
	h.ip(t, "link set lo up")
	return h
}

// do calls f on the host.
func (h *host) do(f func()) {
	done := make(chan struct{})
	h.calls <- func() { defer close(done); f() }
	<-done
}

func (h *host) ip(t *testing.T, command string) {
	t.Helper()
	var out []byte
	var err error
	h.do(func() { out, err = exec.Command("ip", strings.Fields(command)...).CombinedOutput() })
	if err != nil {
		t.Fatalf("ip %s: %v: %s", command, err, out)
	}
}

// takes lets the host take what comes from the other network over a card, where the
// computer's default is to ask the routes first (rp_filter, Linux ip-sysctl).
func (h *host) takes(t *testing.T, card string) {
	t.Helper()
	for _, of := range []string{"all", card} {
		file := "/proc/sys/net/ipv4/conf/" + of + "/rp_filter"
		var err error
		h.do(func() {
			var is []byte
			if is, err = os.ReadFile(file); err == nil && strings.TrimSpace(string(is)) == "1" {
				err = os.WriteFile(file, []byte("0"), 0o600)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// dial returns what who is reached says of itself and of the caller.
func (h *host) dial(t *testing.T, b Bind, address string) (said string, err error) {
	t.Helper()
	var c net.Conn
	h.do(func() { c, err = b.DialBy(t.Context(), net.Dialer{Timeout: 20 * time.Second}, "tcp", address) })
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(c)
	return string(text), err
}

// serve tells each caller at address its own name and the caller's address.
func (h *host) serve(t *testing.T, b Bind, name, address string) {
	t.Helper()
	var l net.Listener
	var err error
	h.do(func() { l, err = b.Listen(t.Context(), net.ListenConfig{}, "tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = fmt.Fprintf(c, "%s: %s", name, from) // who does not get it fails the test
			_ = c.Close()
		}
	}()
}

// newPlant is a gateway with a card in each of two networks, ea and eb, in both of
// which the PLC is 10.77.0.2. The routes know only ea.
func newPlant(t *testing.T) (gateway, a, b *host) {
	t.Helper()
	gateway, a, b = newHost(t), newHost(t), newHost(t)
	for _, network := range []struct {
		plc       *host
		card, own string
	}{{a, "ea", "10.77.0.1"}, {b, "eb", "10.77.0.3"}} {
		network.plc.ip(t, fmt.Sprintf("link add plc type veth peer name %s netns %d", network.card, gateway.tid))
		network.plc.ip(t, "addr add 10.77.0.2/24 dev plc")
		network.plc.ip(t, "link set plc up")
		gateway.ip(t, "addr add "+network.own+"/24 dev "+network.card)
		gateway.ip(t, "link set "+network.card+" up")
		gateway.takes(t, network.card)
		network.plc.serve(t, "", network.card, "10.77.0.2:502")
	}
	return gateway, a, b
}

// A card is chosen by its address as it is by its name: two networks may have the
// same addresses. Who is on this computer is reached all the same.
func TestBindChoosesTheNetwork(t *testing.T) {
	gateway, a, b := newPlant(t)
	gateway.serve(t, "", "itself", ":4000")
	for _, c := range []struct {
		bind       Bind
		peer, want string
	}{
		{"ea", "10.77.0.2:502", "ea: 10.77.0.1"},
		{"eb", "10.77.0.2:502", "eb: 10.77.0.3"},
		{"10.77.0.1", "10.77.0.2:502", "ea: 10.77.0.1"},
		{"10.77.0.3", "10.77.0.2:502", "eb: 10.77.0.3"},
		{"::ffff:10.77.0.3", "10.77.0.2:502", "eb: 10.77.0.3"},
		{"10.77.0.3", "10.77.0.3:4000", "itself: 10.77.0.3"},
		{"10.77.0.3", "127.0.0.1:4000", "itself: 10.77.0.3"},
		{"eb", "127.0.0.1:4000", "itself: 10.77.0.3"},
		{"127.0.0.4", "127.0.0.1:4000", "itself: 127.0.0.4"},
		{"lo", "127.0.0.1:4000", "itself: 127.0.0.1"},
	} {
		if said, err := gateway.dial(t, c.bind, c.peer); err != nil || said != c.want {
			t.Errorf("bind %s: %s says %q, %v, want %q", c.bind, c.peer, said, err, c.want)
		}
	}
	// A listener answers into the network of its card: both callers are 10.77.0.2.
	gateway.serve(t, "10.77.0.1", "at ea", ":4001")
	gateway.serve(t, "10.77.0.3", "at eb", ":4001")
	for plc, at := range map[*host][2]string{a: {"10.77.0.1:4001", "at ea"}, b: {"10.77.0.3:4001", "at eb"}} {
		if said, err := plc.dial(t, "", at[0]); err != nil || said != at[1]+": 10.77.0.2" {
			t.Errorf("%s says %q, %v, want %q", at[0], said, err, at[1])
		}
	}
	// The address is looked for at each dial: it has moved to the other card.
	gateway.ip(t, "addr del 10.77.0.3/24 dev eb")
	gateway.ip(t, "addr add 10.77.0.4/24 dev eb")
	gateway.ip(t, "addr add 10.77.0.3/24 dev ea")
	if said, err := gateway.dial(t, "10.77.0.3", "10.77.0.2:502"); err != nil || said != "ea: 10.77.0.3" {
		t.Errorf("at its new card: %q, %v", said, err)
	}
}

// An address that says nothing of the card is refused, with what to do.
func TestBindNeedsOneCard(t *testing.T) {
	gateway, _, _ := newPlant(t)
	gateway.ip(t, "addr add 10.77.0.3/24 dev ea")
	refused := func(bind Bind, peer, want string) {
		t.Helper()
		if said, err := gateway.dial(t, bind, peer); err == nil || err.Error() != want {
			t.Errorf("bind %s: %q, %v, want %s", bind, said, err, want)
		}
	}
	refused("10.77.0.3", "10.77.0.2:502", "bind: the network cards ea and eb both have the address 10.77.0.3 (write the name of one of them)")
	refused("10.1.2.3", "10.77.0.2:502", "bind: this computer has no network card with the address 10.1.2.3 (ip addr shows them)")
	refused("::1", "10.77.0.2:502", "bind: ::1 is an address of IPv6, and 10.77.0.2:502 has none (write an address of the card of IPv4)")
	refused("10.77.0.1", "[fd00::2]:502", "bind: 10.77.0.1 is an address of IPv4, and [fd00::2]:502 has none (write an address of the card of IPv6)")
	// A card that is down does not count, if another one has its address.
	gateway.ip(t, "link set ea down")
	if said, err := gateway.dial(t, "10.77.0.3", "10.77.0.2:502"); err != nil || said != "eb: 10.77.0.3" {
		t.Errorf("with ea down: %q, %v", said, err)
	}
	gateway.ip(t, "link set eb down")
	gateway.ip(t, "addr del 10.77.0.3/24 dev ea")
	refused("10.77.0.3", "10.77.0.2:502", "bind: the network card eb is down (ip link set eb up)")
}
