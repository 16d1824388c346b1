package status

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
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
	{regexp.MustCompile(`(the broker ended the session(?:.*[^:])?):? (?:unexpected )?EOF$`), "$1"},
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

const unknownAdvice = "Check that it is switched on and can be reached from this PC."

// networkRemedies are for what the operating system says of a way that is not
// there; the words are its own and Go's.
var networkRemedies = []remedy{
	{badCard, "Look at the network cards with ip addr, and write the right one as bind."},
	{[]string{"no such host", "server misbehaving"}, "Its name is not known here: check the spelling, or write the IP address."},
	{[]string{"no route to host", "network is unreachable", "host is down"}, "The network does not reach it: check cable, switch, IP address and netmask."},
}

// badCard are the words of a network card that cannot be used.
var badCard = []string{"bind: this computer", "bind: the network card", "bind: the addresses", "is an address of ipv4, and", "is an address of ipv6, and"}

// answered are the words by which senders begin what came as an answer; the rest of
// the cause may be the other side's own words.
var answered = []string{"receiver answers", "receiver says", "receiver gives", "prodsmart answers", "prodsmart answered", "the proxy answers", "the proxy wants", "the proxy refuses"}

// answerRemedies are for answers, which are no matter of power and cables.
var answerRemedies = []remedy{
	{[]string{"login portal"}, "Something in between answers in its place: log in there, or let it pass this PC; check the proxy."},
	{[]string{"which is not followed"}, "It answers that it has moved: ask whoever runs it whether that is right, and write the new address as url."},
	{[]string{"the proxy wants a login", "login of proxy_auth", "answers 407"}, "The proxy answers, and does not let this PC pass: check user and password in proxy_auth, or ask whoever runs the proxy."},
	{[]string{"the proxy answers"}, "The proxy answers, and makes no connection to the receiver: ask whoever runs the proxy what it lets pass."},
	{[]string{"it speaks tls there"}, "It answers that it wants TLS: write https:// in the url."},
	{[]string{"answers 429", "answered 429", "asked not to be called"}, "It answers, and wants fewer requests: others may use up what it allows, or the share of this gateway is too large. It goes on by itself."},
	{[]string{"answers 404", "answers 405", "answers 410"}, "It answers, but does not know this address: check the url."},
	{[]string{"answers 401", "answers 403"}, "It refuses the login: check the token or the user and password, and the client name where there is one."},
	{[]string{"answers 50"}, "It answers that it can take nothing now: ask whoever runs it. It goes on by itself."},
	{[]string{"says nothing of each event"}, "It answers, but not for each event, as this uplink wants: ask whoever runs it, or leave out results: required."},
	{[]string{"which is no status", "something that is no status", "of this event the receiver says nothing"}, "It answers for each event with a word that the gateway does not know: write under answer: words: what it means."},
	{[]string{"of this event the receiver says"}, "It answers, and wants this event again later. It goes on by itself; if it does not, ask whoever runs it."},
	{[]string{"read results"}, "It answers, but not so that the gateway knows what became of each event: ask whoever runs it, and compare it with results and answer of this uplink."},
}

// answerAdvice is for all other answers.
const answerAdvice = "It answers, but does not take them: compare what it says with the settings of this uplink, or ask whoever runs it."

// connectionRemedies are for what receivers and the network say. The words
// are the operating system's, Go's and paho's.
var connectionRemedies = []remedy{
	{[]string{"the disk is full"}, "Free disk space on this PC."},
	{[]string{"write https:// in proxy"}, "The proxy does not answer as one: write https:// in proxy: if it is called by TLS, and check its port."},
	{[]string{"does not keep to http"}, "It answers, but not as HTTP has it: check the port, and what stands in between; ask whoever runs it."},
	{[]string{"write https:// in url"}, "It does not answer in HTTP: write https:// in the url if it speaks TLS there, and check the port."},
	{[]string{"another client probably uses"}, "Look into the broker's log, which says why: another client of that client_id, or access rules that forbid what is sent."},
	{[]string{"of this gateway uses the client_id"}, "Leave client_id out of one of the two uplinks, or give each its own. Until then they take turns."},
	{[]string{"uses the client_id"}, "Give each gateway its own site: gateway:, or its own client_id in this uplink. Until then they take turns."},
	{[]string{"sessions ended while this message was sent"}, "It answers, and ends the session at this message: look into the broker's log, its access rules and its limit of size for that topic."},
	{[]string{"no puback"}, "The broker is there and acknowledges nothing: look whether it is overloaded or its disk is full, and whether a firewall drops packets."},
	{[]string{"which mqtt 3.1.1 does not know"}, "It answers, but not as a broker of MQTT 3.1.1: check the port, and which versions its listener speaks."},
	{[]string{"no tls handshake"}, "Something is there, but nothing that speaks TLS: check the port in the url, and the firewall."},
	{[]string{"login portal"}, "Something in between answers in its place: log in there, or let it pass this PC; check the proxy."},
	{[]string{"which is not followed"}, "It answers that it has moved: ask whoever runs it whether that is right, and write the new address as url."},
	{[]string{"answers 429", "asked not to be called"}, "It answers, and wants fewer requests: others may use up what it allows, or the share of this gateway is too large. It goes on by itself."},
	{[]string{"answers 404", "answers 405", "answers 410"}, "It answers, but does not know this address: check the url."},
	{[]string{"answers 50"}, "It answers that it can take nothing now: ask whoever runs it. It goes on by itself."},
	{[]string{"connection refused", "actively refused"}, "It is there, but nothing listens on that port: check the port, and that the server there is running and switched on in its settings."},
	{[]string{"certificate", "x509", "tls:"}, "The two do not agree on a certificate: check the authority, the name in the certificate and the clock of this PC."},
	{[]string{"not authorized", "bad user name", "unauthorized", "401 ", "403 ", "identifier rejected", "useraccessdenied", "identitytoken", "password"}, "It refuses the login: check the token or the user and password, and the client name where there is one."},
	{[]string{"too many connections", "no session left", "no connection left"}, "It has no free connection: close other programs that speak to it."},
	{[]string{"reset by peer", "eof", "broken pipe", "closed by the device", "closed the connection"}, "It closed the connection: it may have restarted, or serve too few connections at once."},
	{[]string{"timeout", "timed out", "deadline exceeded", "no answer"}, "No answer: check that it is switched on, and the cable, address and firewall."},
}

// advice tells what to do about the words of a failed connection.
func advice(cause string) string {
	if lower := strings.ToLower(cause); slices.ContainsFunc(answered, func(words string) bool { return strings.Contains(lower, words) }) {
		return cmp.Or(look(answerRemedies, cause), answerAdvice)
	}
	for _, rows := range [][]remedy{networkRemedies, connectionRemedies} {
		if do := look(rows, cause); do != "" {
			return do
		}
	}
	return unknownAdvice
}
