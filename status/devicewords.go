package status

import (
	"regexp"
	"strings"

	"github.com/sluice-edge/sluice/drivers"
)

// remedy is what to do about causes that hold one of the words, which are in small
// letters.
type remedy struct {
	words []string
	do    string
}

// look returns what to do about a cause by the first row that knows a word of it;
// empty for none.
func look(rows []remedy, cause string) string {
	cause = strings.ToLower(cause)
	for _, row := range rows {
		for _, w := range row.words {
			if strings.Contains(cause, w) {
				return row.do
			}
		}
	}
	return ""
}

// What is said of devices more than once, or tested by name.
const (
	// strangeAdvice is for a fault that no row knows: each of a device that is not
	// there has a row, so this one answers.
	strangeAdvice = "Look whether the device is well: at its own display, lamps or log. Restart it if it is not; if this stays, report the cause above with the log of this gateway."
	wrongAnswer   = "It answers, but wrongly: restart the server and update its firmware. If that does not help, find out who answers there."
	newCert       = "It refuses the gateway's certificate: do what the cause says, then let the server trust the new one in its own tool."
	serverCert    = "The server's own certificate cannot be used: let the server make a new one in its own tool (RSA, 2048 bits or more), then trust that one."
	silentBehind  = "The gateway box answers, but the device behind it does not: check its power, its wiring and unit. It is asked again by itself."
	lostWrite     = "It can be read and does not answer this write: compare the tag's address with the PLC's own list, and let the PLC, and what stands before it, take writes."
	inBetween     = "Somebody may stand between this PC and the server, or it was changed while it ran: restart it. If this stays, find out who answers there before you trust it."
	adaptor       = "Check that the adaptor is plugged in and named as in /dev/serial/by-id, that the user sluice is in the group dialout, and that no other program uses the port."
	noSuchNode    = "It answers, but has no such node: compare the node id with the server's own list."
	checkType     = "The device answers, but what is there is no such value: check the tag's address, type and word order; sluice read shows the registers in each."
	checkLine     = "It sends, but something else than the config says: compare the line in the cause with what is expected, and mend the pattern or the field of the tag, or the setting of the device."
)

// deviceRemedies are for what drivers say of devices. What a device that answers
// says comes before what is said of one that does not.
var deviceRemedies = []remedy{
	{[]string{"the driver panicked"}, "That is a fault of this program; it connects again by itself. Please report it with the log."},
	{[]string{"bytes of one"}, "It answers, but is cut off or comes byte by byte: look at the way to it (radio, VPN, a slow device server), and raise timeout."},
	{[]string{"of the gateway box came after", "exception 10 ", "exception 11 "}, silentBehind},
	{[]string{"raise timeout"}, "It answers, but too late: raise timeout of this device above what the cause says."},
	{[]string{"no answer to the write"}, lostWrite},
	// Modbus and its lines.
	{[]string{"is whole, but no answer"}, "What comes is undamaged, but answers something else: two devices with one unit id, another master on the line, or a faulty device; unplug devices one by one until it is gone."},
	{[]string{"check sum is wrong"}, "What comes is spoilt: the same baud and parity everywhere, the termination at both ends, each unit id once; unplug devices one by one until it is gone."},
	{[]string{"line is never silent"}, "Somebody else talks on this line: another master, an inverter beside the cable, or wrong baud."},
	{[]string{"behind the gateway box of line"}, "Check this device's power and unit id, and its wiring, baud and parity at the gateway box; raise timeout, if it is slow."},
	{[]string{"no answer of unit"}, "Check this device's power and unit id, A and B not swapped, and baud and parity of the line."},
	{[]string{"no turn or no answer on line"}, "The line is too slow for what is asked of it: a longer interval, fewer devices on it, or a shorter timeout for those that are off."},
	{[]string{"in the time for one poll"}, "It answers too slowly for all that one poll asks of it: a longer interval, fewer tags, or a longer timeout."},
	{[]string{"the port /", "the port com", `the port \\`, "the port is gone", "the other end hung up", "the serial port", "is it plugged in"}, adaptor},
	{append([]string{"cannot assign requested address"}, badCard...), "Look at the network cards with ip addr, and write the right one as bind, or in listen."},
	{[]string{"is the address one of this computer"}, "Write in listen an address of this computer (ip addr) and a port that no other device of this config, and no other program, uses."},
	{[]string{"exception 1 "}, "It answers, but has no such table: often it is holding instead of input, or the other way round."},
	{[]string{"exception 2 "}, "It answers, but has nothing at this address: compare it with the device's own table; often it is off by one (40101 is holding:100)."},
	{[]string{"exception 3 "}, "It answers, but does not give so many registers at once: lower max_registers, and check the tag's type."},
	{[]string{"exception 4 ", "exception 7 ", "exception 8 "}, "It answers that it has a fault of its own: look at the device."},
	{[]string{"exception 5 ", "exception 6 "}, "It answers that it is busy, and is asked again by itself: a longer interval or pause: 20ms helps."},
	{[]string{"(not in the specification)"}, "It answers with a code of its own: look it up in the device's own manual."},
	{[]string{"does not keep to the protocol"}, "What answers there is no such device, or speaks another framing: check address, port and protocol at both ends."},
	// Lines of text.
	{[]string{"(silent_after)"}, "The connection stands, but nothing comes: let the device send by itself (its continuous mode), check its cable, or raise silent_after."},
	{[]string{"no answer to "}, "It does not answer the question: check poll and command_end against its manual, that it is set to answer, at a serial port baud, parity and the cable; and timeout, if it answers now and then."},
	// OPC UA: what is asked for, and how.
	{[]string{"raise max_message"}, "It answers, but more than is taken at once: name fewer tags in this device, or raise max_message."},
	{[]string{"name fewer tags in one device"}, "It answers, but takes less at once than is asked for: name fewer tags in this device, and the others in a second one with the same endpoint."},
	{[]string{"toomanyoperations", "more than the server takes"}, "It answers, but takes fewer nodes in one request than it was asked for: raise that limit at the server, or restart it."},
	{[]string{"not decoded", "cannot be decoded", "the answer to another one", "that nobody asked for", "answers to", "answer of the wrong type", "of the unknown", "which nobody knows", "does not end", "without a proper key", "opens the channel with *", "server answers with *", "8192 are the least", "error that cannot be read", "has no list of namespaces"}, wrongAnswer},
	{[]string{"no opc ua server"}, "What answers there is broken, or no OPC UA server: check address and port, restart the server, and find out who answers there."},
	{[]string{"the nodes are looked up anew"}, "Nothing: it connects again by itself and looks its nodes up."},
	{[]string{"what it sent in between is lost", "what it held is lost", "the subscription is silent", "ended the subscription"}, "It subscribes again by itself. If this comes again the server or the network is too busy: fewer tags, or a longer interval."},
	{[]string{"the server has not answered for"}, "It was connected and has fallen silent: check the network and that the server still runs."},
	{[]string{"(state "}, "It answers, but the PLC behind it does not run: start it, and look at what it reports itself."},
	// OPC UA: who may.
	{[]string{"no session left", "no connection left", "takes no more sessions", "takes no more connections"}, "It has no free connection: close other programs that speak to it. It is asked again by itself."},
	{[]string{"does not offer", "set channel to what it offers"}, "It answers, but is secured in another way: write one that it offers as channel (policy and mode), or switch this one on at the server."},
	{[]string{"no login of the kind"}, "It answers, but takes another kind of login there: write login with user and password, or leave it out, or allow this kind at the server."},
	{[]string{"login.user"}, "It refuses the login: check login with user and password, or accept the certificate in login at the server."},
	{[]string{"the login does not allow"}, "It answers, but this login may not read it: give the user the right at the server, or write another login."},
	{[]string{"sluice trust add"}, "The server shows a certificate that nobody has trusted yet. Compare its fingerprint with what the server's own tool shows. If they are the same, type the command above on this PC; it is then reached by itself. If not, find out who answers there."},
	{[]string{"server_sha256 in the config", "is not the trusted one"}, "The server shows another certificate than the config names: if it was changed on purpose, write its new fingerprint as server_sha256."},
	{[]string{"does not trust cert"}, "It does not trust this gateway: accept the gateway's certificate in the server's own tool. It is then reached by itself."},
	{[]string{"the server's certificate ended", "the server's certificate is for"}, "The server shows a certificate that has ended, or is another's: let it make a new one in its own tool, then trust that one."},
	{[]string{"the server's certificate is valid only from"}, "Check the clock of this PC and that of the server; if they are right, let the server make a new certificate."},
	{[]string{"has no rsa key", "shows no certificate"}, serverCert},
	{[]string{"another certificate", "signature is wrong", "not sealed as agreed", "came without a signature", "was agreed"}, inBetween},
	{[]string{"name one with pki"}, "Write pki or server_sha256 at this device, as docs/opcua-security.md shows."},
	{[]string{"name one with cert and key"}, "Write cert and key at this device, or leave both out: the gateway then makes its own."},
	{[]string{"application uri than the one in cert", "allow cert for this use", "for the server cert has expired", "the host name in cert", "cert is on the server's list", "cert is too weak", "signed cert", "the certificate that signed cert"}, newCert},
	// Connections.
	{[]string{"connection refused", "actively refused"}, "It is there, but nothing listens on that port: check the port, and that the server there is running and switched on in its settings."},
	{[]string{"no connection within", "dial tcp"}, "Nothing answers at its address: check that it is switched on, and the cable, address and firewall; with two network cards, bind."},
	{[]string{"closed the connection", "connection is lost", "closed the channel", "channel was closed", "channel is not open", "session was closed", "session was given up", "connection is gone"}, "It closed the connection: it may have restarted, or serve too few connections at once."},
	{[]string{"server gives no answer within"}, "It takes the connection and then says nothing in time: look whether the server still runs, or is too busy, and restart it; raise timeout, if it is slow."},
	{[]string{"no answer within"}, "It takes the connection and then says nothing in time: check the unit id; behind a gateway box, power and wiring of the device itself; and timeout, if it is slow."},
	{[]string{"nodeidunknown", "no such node", "nodeidinvalid", "does not understand this node id"}, noSuchNode},
	{[]string{"the server says", "the server took too long", "the server has forgotten", "the server takes no more", "the server has no subscription", "more publish requests"}, "It answers that something is wrong at its side, by the name in brackets: look at the server's own log, and restart it if this stays."},
}

// deviceAdvice tells what to do about a device that is lost. The words are those
// of the drivers, the operating system and Go.
func deviceAdvice(cause string) string {
	if cause == "" {
		return unknownAdvice // it was not tried yet
	}
	// The name of the network's own fault says more than the driver's "dial".
	if do := look(networkRemedies, cause); do != "" {
		return do
	}
	if do := look(deviceRemedies, cause); do != "" {
		return do
	}
	if do := advice(cause); do != unknownAdvice {
		return do
	}
	return strangeAdvice
}

// tagRemedies are for what drivers say of a tag without a good value, of a device
// that answers.
var tagRemedies = []remedy{
	{[]string{"the config says int", "the config says uint", "the config says float", "the config says bool", "the config says string", "the config says number"}, "Write the type that it has there at the tag, or the node that is meant."},
	{[]string{"which is not supported", "it is a folder or an object"}, "Name a node that is a number, a bit or a text."},
	{[]string{"name one of its elements", "name one of its members", "name its members", "nodes of its members"}, "The value has parts: name the one that is meant, as the cause shows."},
	{[]string{"no such node", "does not understand this node id"}, noSuchNode},
	{[]string{"write nsu="}, "The namespace of that number has changed: write nsu= and the namespace's name, as in the cause."},
	{[]string{"the server has no namespace"}, "Write one of the namespaces that the server has, as the cause lists them."},
	{[]string{"(registers hold", "which is no bcd", "which is no character", "which no s7 string has", "the tag room for", "decimals: check the address"}, checkType},
	{[]string{"not a number: the device has no value"}, "The PLC holds NaN there: look at the sensor, or the division that makes it."},
	{[]string{"no contact to the device behind it"}, "The server is there, but the PLC behind it is not: check that PLC's power and network."},
	{[]string{"the device behind the server has failed"}, "The server is there, but the PLC behind it reports a fault: look at that PLC."},
	{[]string{"the sensor has failed", "the sensor is at its limit"}, "Look at the sensor and its wiring: the PLC says that it has failed, or is at its limit."},
	{[]string{"its source is gone", "its source has not answered", "too few sources"}, "The server only has an old or a made-up value: look at what feeds it in the PLC."},
	{[]string{"has no value yet", "the node has no value", "says nothing of the node"}, "The node is there and empty: let the PLC write it, or wait until it has."},
	{[]string{"out of service"}, "It was switched off at the server: switch it on there, or remove the tag."},
	{[]string{"may not be read", "the login does not allow"}, "It answers, but this login may not read the node: give the user the right at the server, or write another login."},
	{[]string{"can have no deadband", "does not take this deadband"}, "Remove deadband at this tag."},
	{[]string{"the array has"}, "There are fewer elements than the member names; they are counted from 0."},
	{[]string{"watches no more items"}, "The server watches no more nodes: raise that limit there, name fewer tags, or write poll."},
	{[]string{"is not as the server describes it"}, "After a change of the PLC's program restart the gateway; if that does not help, name the members' own nodes."},
	{[]string{"too large to be scaled"}, "The number is beyond what can be scaled: check the tag's type and scale."},
	{[]string{"longer than max_message: raise that"}, "Raise max_message, up to 16 MiB, or let the PLC offer a shorter value."},
	{[]string{"and 1024 are taken"}, "Check the tag's address and type, or let the PLC offer a shorter text."},
	// Lines of text.
	{[]string{"does not know the command", "takes the command but not", "cannot do what it was asked for"}, "Compare poll and on_connect with the scale's manual; commands are in capital letters."},
	{[]string{"the scale is overloaded", "the scale is underloaded"}, "Look at the scale: its load, and whether the pan is in its place. It goes on by itself."},
	{[]string{"the scale is busy"}, "It goes on by itself when the weight stands and nobody is in the scale's menu; poll: SI asks without waiting for that."},
	{[]string{"no line has come yet"}, "Let the device send once. If nothing comes, check that it is set to send what the config names as end (most scanners need a suffix), and its cable."},
	{[]string{"has called"}, "Let the device connect to this PC, at the address and port of listen; check the firewall of this PC."},
	{[]string{"device is connected to"}, "Check the device's power, cable and network; it has to call again by itself. Where it hangs up behind each line, write hangs_up: true."},
	{[]string{"no end of the line came"}, "Let the device send an end behind each line (its suffix), or say in end what it sends."},
	{[]string{"had no place in the queue"}, "More came than the machine took: raise max_rate or queue of this device, and look at how it was filled."},
	{[]string{"was damaged on its way", "the command damaged", "is no utf-8"}, "Check baud, parity and data_bits at both ends, the cable, and encoding."},
	{[]string{"and the config says"}, "Switch the scale back to that unit, or write its unit in the config."},
	{[]string{"does not match the pattern", "is no answer in mt-sics", "longer than", "the connection ended within it", "no number", "no whole number", "neither 1 nor 0", "does not fit", "a point, but", "a comma: if", "nothing where a number", "the line "}, checkLine},
}

// tagAdvice tells what to do about a tag without a good value, of a device that
// answers. Its words are those of the drivers.
func tagAdvice(d *drivers.Stats, cause string) string {
	for _, rows := range [][]remedy{tagRemedies, deviceRemedies} {
		if do := look(rows, cause); do != "" {
			return do
		}
	}
	if d.Driver == "line" {
		return checkLine
	}
	return "The device answers, but this value is not good: check the tag's address and type, and what the PLC itself says of the value."
}

// ownPart is what a cause names of its one tag: an address, a node, a raw number.
var ownPart = regexp.MustCompile(`(?i)\b(?:holding|input|coil|discrete):[0-9][0-9.…]*|\b(?:nsu?=[^;\s]*;)?[isgb]=[^\s,:)]+|\b0x[0-9a-f]+\b|\b(?:byte|the number) [0-9]+`)

// kindOf is a cause without what it names of its own tag, so that many tags with
// one fault are seen as one.
func kindOf(cause string) string { return ownPart.ReplaceAllString(cause, "…") }
