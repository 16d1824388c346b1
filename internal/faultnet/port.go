package faultnet

import (
	"net"
	"os"
)

// Port is a free TCP port that is kept: whoever else asks the system for a free
// one is not given it, while this program and its children may listen at it by
// its number, again and again. Without that, a server that is away for a moment
// may find its port taken by a test of another package. Only Linux can do it;
// elsewhere the port was free when it was asked for.
type Port struct {
	addr string
	held *os.File // nil where the system cannot keep a port
}

// KeepPort keeps a free port of host, an IPv4 address, until Close, or until
// nothing refers to the Port any more.
func KeepPort(host string) (*Port, error) {
	if ip := net.ParseIP(host).To4(); ip != nil {
		if p, err := bindPort([4]byte(ip)); err == nil {
			return p, nil
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	return &Port{addr: l.Addr().String()}, l.Close()
}

// Addr returns host and port.
func (p *Port) Addr() string { return p.addr }

// Number returns the port alone.
func (p *Port) Number() string {
	_, number, _ := net.SplitHostPort(p.addr) // KeepPort has joined it
	return number
}

// Close lets others have the port. It may be called with nothing kept, too.
func (p *Port) Close() error {
	if p == nil || p.held == nil {
		return nil
	}
	return p.held.Close()
}
