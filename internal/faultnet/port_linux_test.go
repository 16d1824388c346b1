package faultnet

import (
	"context"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// A kept port is refused while nobody listens there, may be listened at again and
// again, and is given to nobody who asks for any.
func TestAKeptPort(t *testing.T) {
	p, err := KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.held == nil {
		t.Fatal("it is not kept")
	}
	for range 3 {
		if c, err := net.Dial("tcp", p.Addr()); err == nil {
			c.Close()
			t.Fatal("somebody listens")
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+p.Number())
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
	}
	if l, err := listenWithin(p); err == nil {
		defer l.Close()
		if l.Addr().String() == p.Addr() {
			t.Error("it was given to somebody else")
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := listenWithin(p)
	if err != nil {
		t.Fatalf("a port that is kept no more is not given: %v", err)
	}
	l.Close()
}

// listenWithin asks for any free port out of this one alone, where the kernel can
// be asked for that (Linux 6.3), else for any at all.
func listenWithin(p *Port) (net.Listener, error) {
	const ipLocalPortRange = 51 // IP_LOCAL_PORT_RANGE: the least in the lower half, the greatest in the upper
	number, err := strconv.Atoi(p.Number())
	if err != nil {
		return nil, err
	}
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(s uintptr) {
			_ = syscall.SetsockoptInt(int(s), syscall.IPPROTO_IP, ipLocalPortRange, number|number<<16) // older kernels refuse
		})
	}}
	return c.Listen(context.Background(), "tcp", "127.0.0.1:0")
}
