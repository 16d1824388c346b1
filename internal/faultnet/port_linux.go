package faultnet

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// bindPort binds a socket that never listens. With SO_REUSEADDR at both, which Go,
// Node, Python and Mosquitto set, a listener may have the same address by its
// number, and bind(2) with port 0 and connect(2) pass it over (ip(7); Linux,
// inet_csk_find_open_port).
func bindPort(host [4]byte) (*Port, error) {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	held := os.NewFile(uintptr(s), "port")
	err = syscall.SetsockoptInt(s, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(s, &syscall.SockaddrInet4{Addr: host})
	}
	var at syscall.Sockaddr
	if err == nil {
		at, err = syscall.Getsockname(s)
	}
	own, ok := at.(*syscall.SockaddrInet4)
	if err != nil || !ok {
		_ = held.Close() // the port is not held: nothing else is to be said
		return nil, os.NewSyscallError("bind", err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4(own.Addr), uint16(own.Port))
	return &Port{addr: net.TCPAddrFromAddrPort(addr).String(), held: held}, nil
}
