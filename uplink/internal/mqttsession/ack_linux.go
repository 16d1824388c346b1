package mqttsession

import (
	"net"
	"syscall"
)

// acker makes the kernel acknowledge at once what it has received. A broker
// that leaves Nagle's algorithm on (mosquitto does, unless set_tcp_nodelay is
// set) keeps its second PUBACK until the TCP segment of the first is
// acknowledged, and a client with nothing more to send delays that by 40 ms: at
// the end of each batch, everybody would wait for it.
type acker struct {
	raw syscall.RawConn
	set func(fd uintptr)
}

func newAcker(conn net.Conn) *acker {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return &acker{}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return &acker{}
	}
	return &acker{raw: raw, set: func(fd uintptr) {
		// Without it everything works, only later; so its error is of no use.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	}}
}

// ack sends the acknowledgement that the kernel holds back, if it holds one
// (tcp(7), TCP_QUICKACK; it is not permanent).
func (a *acker) ack() {
	if a.raw != nil {
		_ = a.raw.Control(a.set) // fails only if the connection is closed
	}
}
