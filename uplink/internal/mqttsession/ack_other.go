//go:build !linux

package mqttsession

import "net"

// acker does nothing here; see ack_linux.go.
type acker struct{}

func newAcker(net.Conn) *acker { return &acker{} }

func (*acker) ack() {}
