package modbus

import "fmt"

// exception is a Modbus exception code (Modbus Application Protocol
// Specification V1.1b3, chapter 7). It is an answer: the device is alive.
type exception byte

const (
	illegalFunction    exception = 1
	illegalAddress     exception = 2
	illegalValue       exception = 3
	acknowledge        exception = 5
	deviceBusy         exception = 6
	gatewayPathMissing exception = 10
	gatewayTargetLost  exception = 11
)

var exceptions = map[exception]struct{ name, remedy string }{
	1:  {"illegal function", "the device does not offer this table: use another, often holding instead of input"},
	2:  {"illegal data address", "the device has nothing there: check the address, which is counted from 0 after the colon and from 1 in numbers such as 40101"},
	3:  {"illegal data value", "the device does not give so many registers at once: check the type's width and lower max_registers"},
	4:  {"server device failure", "the device reports a fault of its own: look at the device"},
	5:  {"acknowledge", "the device works on it and needs longer"},
	6:  {"server device busy", "the device is busy: it is asked again, a longer interval helps"},
	7:  {"negative acknowledge", "the device cannot do it now: look at the device"},
	8:  {"memory parity error", "the device reports broken memory: look at the device"},
	10: {"gateway path unavailable", "the gateway has no line for this unit: check unit and the gateway's settings"},
	11: {"gateway target device failed to respond", "the device behind the gateway is silent: check its power, its wire and unit"},
}

// exceptionOf returns the exception that an answer is, 0 for none. answer begins
// with its function.
func exceptionOf(answer []byte) exception {
	if len(answer) < 2 || answer[0]&0x80 == 0 {
		return 0
	}
	return exception(answer[1])
}

// words returns "exception 2 (illegal data address)".
func (e exception) words() string {
	name := exceptions[e].name
	if name == "" {
		name = "not in the specification"
	}
	return fmt.Sprintf("exception %d (%s)", byte(e), name)
}

// cause says of a block's readings why there are none, and what to do.
func (e exception) cause(b *block) string {
	s := fmt.Sprintf("the device answered %s to %s", e.words(), b)
	if remedy := exceptions[e].remedy; remedy != "" {
		s += " — " + remedy
	}
	return s
}

// Error implements error, for writes.
func (e exception) Error() string {
	s, remedy := "the device answered "+e.words()+" to the write", exceptions[e].remedy
	switch e {
	case illegalFunction, illegalAddress, illegalValue:
		remedy = "the address is wrong, or the device does not let it be written: compare it with the device's own list, and allow writing there"
	case deviceBusy:
		remedy = "the device is busy: a longer interval helps"
	}
	if remedy != "" {
		s += " — " + remedy
	}
	return s
}

// ofAddress reports whether the exception speaks of what was asked for, so that
// one point of a block may be to blame.
func (e exception) ofAddress() bool { return e == illegalAddress || e == illegalValue }

// ofUnit reports whether the exception speaks of the unit or of the way to it,
// not of an address.
func (e exception) ofUnit() bool {
	return e == acknowledge || e == deviceBusy || e == gatewayPathMissing || e == gatewayTargetLost
}

// ofWay reports whether it is the gateway box that answers, since the unit behind
// it does not: its own time-out may have gone by before that.
func (e exception) ofWay() bool { return e == gatewayPathMissing || e == gatewayTargetLost }

// lasting reports whether asking again at once is of no use.
func (e exception) lasting() bool { return e == illegalFunction || e.ofAddress() }
