package status

import (
	"fmt"
	"regexp"
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

// sentence writes a remedy of the buffer as the page writes remedies.
func sentence(remedy string) string {
	if remedy == "" {
		return ""
	}
	return strings.ToUpper(remedy[:1]) + remedy[1:] + "."
}

// plainWords are what libraries say of a connection, at the end of a cause, and
// what a person says. The words are Go's net package and paho's.
var plainWords = []struct {
	library *regexp.Regexp
	person  string
}{
	{regexp.MustCompile(`(?:dial tcp[46]? )?([^\s]+): connect(?:ex)?: (?:connection refused|No connection could be made.*actively refused it\.?)$`), "$1 refuses the connection"},
	{regexp.MustCompile(`lookup ([^\s]+?)(?: on [^\s]+)?: (?:no such host|server misbehaving)$`), "the name $1 is not known"},
	{regexp.MustCompile(`dial tcp[46]? ([^\s]+): connect: (no route to host|network is unreachable|host is down)$`), "there is no way to $1 ($2)"},
	{regexp.MustCompile(`dial tcp[46]? ([^\s]+): (?:i/o timeout|connect: connection timed out)$`), "no answer from $1"},
	{regexp.MustCompile(`(?:read|write) tcp[46]? [^\s]+->([^\s]+): i/o timeout$`), "no answer from $1"},
	{regexp.MustCompile(`(?:read|write) tcp[46]? [^\s]+->([^\s]+): (?:read|write): (?:connection reset by peer|broken pipe)$`), "$1 closed the connection"},
	{regexp.MustCompile(`(?:read|write) tcp[46]?: i/o timeout$|\bi/o timeout$|context deadline exceeded$`), "no answer in time"},
	{regexp.MustCompile(`\b(?:unexpected )?EOF$`), "the connection was closed"},
}

// inWords says a cause without the words of libraries, where they are known: what
// stands before them names what the program did, which who reads the page knows.
// The log keeps every word.
func inWords(cause string) string {
	for _, p := range plainWords {
		if at := p.library.FindStringSubmatchIndex(cause); at != nil {
			return string(p.library.ExpandString(nil, p.person, cause, at))
		}
	}
	return cause
}

// tagAdvice tells what to do about a tag without a good value, of a device that
// answers. Its words are those of the drivers.
func tagAdvice(cause string) string {
	for _, a := range [...]struct{ words, do string }{
		{"the config says", "Write the type that it has there at the tag, or the node that is meant."},
		{"which is not supported", "Name a node that is a number, a bit or a text."},
		{"no such node", advice("no such node")},
		{"write nsu=", "The namespace of that number has changed: write nsu= and the namespace's name, as in the cause."},
		{"the server has no namespace", "Write one of the namespaces that the server has, as the cause lists them."},
		{"not a number: the device has no value", "The PLC holds NaN there: look at the sensor, or the division that makes it."},
		{"no contact to the device behind it", "The server is there, but the PLC behind it is not: check that PLC's power and network."},
		{"the sensor has failed", "Look at the sensor and its wiring: the PLC says that it has failed."},
		{"the array has", "There are fewer elements than the member names; they are counted from 0."},
		{"and 1024 are taken", "Check the tag's address and type, or let the PLC offer a shorter text."},
	} {
		if strings.Contains(cause, a.words) {
			return a.do
		}
	}
	if do := advice(cause); do != unknownAdvice {
		return do
	}
	return "The device answers, but this value is not good: check the tag's address and type, and what the PLC itself says of the value."
}

const unknownAdvice = "Check that it is switched on and can be reached from this PC."

// advice tells what to do about the words of a failed connection. The words are
// the operating system's, Go's, paho's and the Modbus driver's.
func advice(cause string) string {
	cause = strings.ToLower(cause)
	for _, a := range [...]struct {
		words []string
		do    string
	}{
		{[]string{"the disk is full"}, "Free disk space on this PC."},
		{[]string{"raise timeout"}, "It answers, but too late: raise timeout of this device above what the cause says."},
		{[]string{"check sum is wrong"}, "What comes is spoilt: the same baud and parity everywhere, the termination at both ends, each unit id once; unplug devices one by one until it is gone."},
		{[]string{"line is never silent"}, "Somebody else talks on this line: another master, an inverter beside the cable, or wrong baud."},
		{[]string{"no answer of unit"}, "Check this device's power and unit id, A and B not swapped, and baud and parity of the line."},
		{[]string{"no turn or no answer on line"}, "The line is too slow for what is asked of it: a longer interval, fewer devices on it, or a shorter timeout for those that are off."},
		{[]string{"the port /", "the port com", `the port \\`, "the port is gone", "the other end hung up"}, "Check that the adaptor is plugged in and named as in /dev/serial/by-id, that the user sluice is in the group dialout, and that no other program uses the port."},
		{[]string{"bind: this computer", "bind: the network card", "cannot assign requested address"}, "Look at the network cards with ip addr, and write the right one as bind, or in listen."},
		{[]string{"exception 1 "}, "It answers, but has no such table: often it is holding instead of input, or the other way round."},
		{[]string{"exception 3 "}, "It answers, but does not give so many registers at once: lower max_registers, and check the tag's type."},
		{[]string{"exception 4 ", "exception 7 ", "exception 8 "}, "It answers that it has a fault of its own: look at the device."},
		{[]string{"exception 5 ", "exception 6 "}, "It answers that it is busy, and is asked again by itself: a longer interval or pause: 20ms helps."},
		{[]string{"(not in the specification)"}, "It answers with a code of its own: look it up in the device's own manual."},
		{[]string{"exception 10 ", "exception 11 "}, "The gateway box answers, but the device behind it does not: check its power, its wiring and unit. It is asked again by itself."},
		{[]string{"raise max_message"}, "It answers, but more than is taken at once: name fewer tags in this device, or raise max_message."},
		{[]string{"an answer of the server is not decoded", "an answer of the server cannot be decoded", "the answer to another one", "that nobody asked for"}, "It answers, but wrongly: restart the server and update its firmware. If that does not help, find out who answers there."},
		{[]string{"no opc ua server"}, "What answers there is broken, or no OPC UA server: check address and port, restart the server, and find out who answers there."},
		{[]string{"toomanyoperations"}, "It answers, but takes fewer nodes in one request than it was asked for: raise that limit at the server, or restart it."},
		{[]string{"does not keep to the protocol"}, "What answers there is no such device, or speaks another framing: check address, port and protocol at both ends."},
		{[]string{"another client probably uses"}, "Look into the broker's log, which says why: another client of that client_id, or access rules that forbid what is sent."},
		{[]string{"uses the client_id"}, "Give each gateway its own site: gateway:, or its own client_id in this uplink. Until then they take turns."},
		{[]string{"no tls handshake"}, "Something is there, but nothing that speaks TLS: check the port in the url, and the firewall."},
		{[]string{"login portal"}, "Something in between answers in its place: log in there, or let it pass this PC; check the proxy."},
		{[]string{"which is not followed"}, "It answers that it has moved: ask whoever runs it whether that is right, and write the new address as url."},
		{[]string{"answers 429", "asked not to be called"}, "It answers, and wants fewer requests: others may use up what it allows, or the share of this gateway is too large. It goes on by itself."},
		{[]string{"answers 404", "answers 405", "answers 410"}, "It answers, but does not know this address: check the url."},
		{[]string{"answers 50"}, "It answers that it can take nothing now: ask whoever runs it. It goes on by itself."},
		{[]string{"connection refused", "actively refused"}, "It is there, but nothing listens on that port: check the port, and that the server there is running and switched on in its settings."},
		{[]string{"no such host", "server misbehaving"}, "Its name is not known here: check the spelling, or write the IP address."},
		{[]string{"no route to host", "network is unreachable", "host is down"}, "The network does not reach it: check cable, switch, IP address and netmask."},
		{[]string{"does not offer"}, "It answers, but is secured in another way: write one that it offers as channel (policy and mode), or switch this one on at the server."},
		{[]string{"no login of the kind"}, "It answers, but takes another kind of login there: write login with user and password, or leave it out, or allow this kind at the server."},
		{[]string{"(state "}, "It answers, but the PLC behind it does not run: start it, and look at what it reports itself."},
		{[]string{"sluice trust add"}, "The server shows a certificate that nobody has trusted yet. Compare its fingerprint with what the server's own tool shows. If they are the same, type the command above on this PC; it is then reached by itself. If not, find out who answers there."},
		{[]string{"sha-256", "server_sha256", "pinned"}, "The server shows another certificate than the config names: if it was changed on purpose, write its new fingerprint as server_sha256."},
		{[]string{"nodeidunknown", "no such node", "nodeidinvalid"}, "It answers, but has no such node: compare the node id with the server's own list."},
		{[]string{"does not trust cert"}, "It does not trust this gateway: accept the gateway's certificate in the server's own tool. It is then reached by itself."},
		{[]string{"the server's certificate ended", "the server's certificate is for"}, "The server shows a certificate that has ended, or is another's: let it make a new one in its own tool, then trust that one."},
		{[]string{"the server's certificate is valid only from"}, "Check the clock of this PC and that of the server; if they are right, let the server make a new certificate."},
		{[]string{"login.user"}, "It refuses the login: check login with user and password, or accept the certificate in login at the server."},
		{[]string{"certificate", "x509", "tls:"}, "The two do not agree on a certificate: check the authority, the name in the certificate and the clock of this PC."},
		{[]string{"not authorized", "bad user name", "unauthorized", "401 ", "403 ", "identifier rejected", "useraccessdenied", "identitytoken", "password"}, "It refuses the login: check the token or the user and password, and the client name where there is one."},
		{[]string{"too many connections", "no session left", "no connection left"}, "It has no free connection: close other programs that speak to it."},
		{[]string{"reset by peer", "eof", "broken pipe", "closed by the device", "the device closed the connection"}, "It closed the connection: it may have restarted, or serve too few connections at once."},
		{[]string{"illegal data address", "illegal function", "exception", "illegal data value"}, "It answers, but does not know the address: compare the tag's address with the PLC's own table."},
		{[]string{"timeout", "timed out", "deadline exceeded", "no answer"}, "No answer: check that it is switched on, and the cable, address and firewall."},
	} {
		for _, w := range a.words {
			if strings.Contains(cause, w) {
				return a.do
			}
		}
	}
	return unknownAdvice
}
