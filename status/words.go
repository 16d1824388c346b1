package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/config"
)

// The words of uplink.Stats.Breaker.
const (
	breakerOpen     = "open"
	breakerHalfOpen = "half-open"
)

// queue returns the buffer's view of an uplink; the zero value if it has none.
func (s *Snapshot) queue(uplink string) buffer.QueueStats {
	for _, q := range s.Buffer.Queues {
		if q.Uplink == uplink {
			return q
		}
	}
	return buffer.QueueStats{Uplink: uplink}
}

// age returns how long before now t was; 0 for no time or one in the future.
func age(now, t time.Time) time.Duration {
	if t.IsZero() || t.After(now) {
		return 0
	}
	return now.Sub(t)
}

// lasting says how long something has lasted as people say it, in at most two
// units.
func lasting(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 24*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%d d %d h", s/86400, s%86400/3600)
	}
}

// bytesText says a size as a config writes it.
func bytesText(n int64) string { return config.Size(n).String() }

// number groups the digits of n by thin no-break spaces, which read in every
// language.
func number[N int64 | uint64](n N) string {
	digits, negative := strings.CutPrefix(fmt.Sprint(n), "-")
	var b strings.Builder
	if negative {
		b.WriteByte('-')
	}
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteRune('\u202f')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// count says "1 event", "2 events".
func count[N int64 | uint64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + one + "s"
}

// advice tells what to do about the words of a failed connection. The words are
// the operating system's, Go's, paho's and the Modbus driver's.
func advice(cause string) string {
	cause = strings.ToLower(cause)
	for _, a := range [...]struct {
		words []string
		do    string
	}{
		{[]string{"connection refused", "actively refused"}, "It is there, but nothing listens on that port: check the port, and that the server is switched on in the device or program."},
		{[]string{"no such host", "server misbehaving"}, "Its name is not known here: check the spelling, or write the IP address."},
		{[]string{"no route to host", "network is unreachable", "host is down"}, "The network does not reach it: check cable, switch, IP address and netmask."},
		{[]string{"sha-256", "server_sha256", "pinned"}, "The server shows another certificate than the config names: if it was changed on purpose, write its new fingerprint as server_sha256."},
		{[]string{"nodeidunknown", "no such node", "nodeidinvalid"}, "It answers, but has no such node: compare the node id with the server's own list."},
		{[]string{"certificate", "x509", "tls:"}, "The two do not agree on a certificate: check the authority, the name in the certificate and the clock of this PC."},
		{[]string{"not authorized", "bad user name", "unauthorized", "401 ", "403 ", "identifier rejected", "useraccessdenied", "identitytoken", "password"}, "It refuses the login: check user, password and client name."},
		{[]string{"too many connections"}, "It has no free connection: close other programs that speak to it."},
		{[]string{"reset by peer", "eof", "broken pipe", "closed by the device"}, "It closed the connection: it may have restarted, or serve too few connections at once."},
		{[]string{"illegal data address", "illegal function", "exception", "illegal data value"}, "It answers, but does not know the address: compare the tag's address with the PLC's own table."},
		{[]string{"timeout", "timed out", "deadline exceeded", "no answer"}, "No answer: check that it is switched on, and the cable, address and firewall."},
	} {
		for _, w := range a.words {
			if strings.Contains(cause, w) {
				return a.do
			}
		}
	}
	return "Check that it is switched on and can be reached from this PC."
}
