//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// inNamespace marks a rig that runs in a network namespace of its own.
const inNamespace = "SLUICE_TORTURE_NETNS"

// enterNamespace starts the rig anew in a network namespace of its own, where
// only a loopback is, so that what it drops and slows hurts nobody. It returns
// only if that is not possible, or done already.
func enterNamespace() error {
	if os.Getenv(inNamespace) != "" {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			return fmt.Errorf("bring the loopback of the namespace up: %w: %s", err, out)
		}
		return nil
	}
	if isRoot() != "" {
		return nil // the cases that need one say so
	}
	// The namespace is the thread's; execve takes it along for the whole process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return nil //nolint:nilerr // the cases that need one are left out by hasNamespace
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, append(os.Environ(), inNamespace+"=1"))
}

func hasNamespace() string {
	if os.Getenv(inNamespace) == "" {
		return "no network namespace of its own"
	}
	return ""
}

func hasFilter() string {
	if _, err := exec.LookPath("nft"); err != nil {
		return "no nft: install nftables"
	}
	return ""
}

func hasShaper() string {
	if _, err := exec.LookPath("tc"); err != nil {
		return "no tc: install iproute2"
	}
	return ""
}

// command runs one of the tools of the network.
func tool(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// cable is what lies between the gateway and one receiver: the loopback of the
// namespace, by the receiver's port. Each has a table of its own, so that cases
// side by side leave each other alone.
type cable struct {
	table string
	ports []string
}

// newCable takes the receivers' addresses.
func newCable(addrs ...string) (*cable, error) {
	c := &cable{}
	for _, a := range addrs {
		_, port, err := net.SplitHostPort(a)
		if err != nil {
			return nil, err
		}
		c.ports = append(c.ports, port)
	}
	c.table = "sluice" + strings.Join(c.ports, "x")
	return c, errors.Join(
		tool("nft", "add", "table", "inet", c.table),
		tool("nft", "add", "chain", "inet", c.table, "in", "{ type filter hook input priority 0 ; }"),
	)
}

func (c *cable) rule(words ...string) error {
	return tool("nft", append([]string{"add", "rule", "inet", c.table, "in"}, words...)...)
}

func (c *cable) set() string { return "{ " + strings.Join(c.ports, ", ") + " }" }

// heal takes every fault away.
func (c *cable) heal() error { return tool("nft", "flush", "chain", "inet", c.table, "in") }

// close removes what newCable made.
func (c *cable) close() { _ = tool("nft", "delete", "table", "inet", c.table) } // the namespace goes anyway

// unplug drops every packet, both ways; nobody is told.
func (c *cable) unplug() error {
	return errors.Join(c.rule("tcp", "dport", c.set(), "drop"), c.rule("tcp", "sport", c.set(), "drop"))
}

// deafen drops what the receivers say; what they are told still comes.
func (c *cable) deafen() error { return c.rule("tcp", "sport", c.set(), "drop") }

// lose drops that many packets of a hundred, both ways.
func (c *cable) lose(percent int) error {
	limit := strconv.Itoa(percent)
	return errors.Join(
		c.rule("tcp", "dport", c.set(), "numgen", "random", "mod", "100", "<", limit, "drop"),
		c.rule("tcp", "sport", c.set(), "numgen", "random", "mod", "100", "<", limit, "drop"),
	)
}

// reset answers every packet to the receivers by a reset.
func (c *cable) reset() error {
	return c.rule("tcp", "dport", c.set(), "reject", "with", "tcp", "reset")
}

// forget drops what belongs to the connections that are open now, as if the
// receiver's computer had been replaced; new ones come through.
func (c *cable) forget() (n int, err error) {
	for _, port := range c.ports {
		clients, err := openTo(port)
		if err != nil {
			return n, err
		}
		for _, client := range clients {
			n++
			if err := errors.Join(
				c.rule("tcp", "dport", port, "tcp", "sport", client, "drop"),
				c.rule("tcp", "sport", port, "tcp", "dport", client, "drop"),
			); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// openTo returns the clients' ports of the connections that are established to a
// port (proc_pid_net(5): hexadecimal, state 01).
func openTo(port string) (clients []string, err error) {
	text, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		return nil, err
	}
	want, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	for l := range strings.SplitSeq(string(text), "\n") {
		f := strings.Fields(l)
		if len(f) < 4 || f[3] != "01" {
			continue
		}
		_, local, _ := strings.Cut(f[1], ":")
		_, remote, _ := strings.Cut(f[2], ":")
		at, errAt := strconv.ParseUint(local, 16, 16)
		from, errFrom := strconv.ParseUint(remote, 16, 16)
		if errAt == nil && errFrom == nil && int(at) == want {
			clients = append(clients, strconv.FormatUint(from, 10))
		}
	}
	return clients, nil
}

// narrow lets the receivers' ports share so many bits a second, both ways, until
// the returned function is called. There is one loopback, so one case at a time.
func (c *cable) narrow(rate string) (widen func(), err error) {
	widen = func() { _ = tool("tc", "qdisc", "del", "dev", "lo", "root") } // the namespace goes anyway
	steps := [][]string{
		{"qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb", "default", "1"},
		{"class", "add", "dev", "lo", "parent", "1:", "classid", "1:1", "htb", "rate", "10gbit"},
		{"class", "add", "dev", "lo", "parent", "1:", "classid", "1:2", "htb", "rate", rate, "ceil", rate},
	}
	for _, port := range c.ports {
		for _, side := range []string{"dport", "sport"} {
			steps = append(steps, []string{"filter", "add", "dev", "lo", "parent", "1:", "protocol", "ip", "u32", "match", "ip", side, port, "0xffff", "flowid", "1:2"})
		}
	}
	for _, s := range steps {
		if err := tool("tc", s...); err != nil {
			widen()
			return nil, err
		}
	}
	// A packet of the loopback is up to 64 KiB, which at 64 kbit/s is 8 s: the
	// network of the plant has 1500 bytes.
	if err := tool("ip", "link", "set", "lo", "mtu", "1500"); err != nil {
		widen()
		return nil, err
	}
	plain := widen
	return func() { plain(); _ = tool("ip", "link", "set", "lo", "mtu", "65536") }, nil
}
