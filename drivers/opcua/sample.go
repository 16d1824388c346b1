package opcua

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/gopcua/opcua/ua"
)

// sample is what the server says of a node: a ua.DataValue, with its number as it
// is instead of in a box. Samples of numbers are made, kept and compared without
// memory of their own. The zero sample says nothing.
type sample struct {
	handle uint32 // of the item
	status ua.StatusCode
	kind   ua.TypeID // TypeIDNull: there is no value
	// said: the server says something of the node. array: the value is one.
	// boxed: it is in value, and not in bits. sourced: at is the time of the
	// source, not of the server.
	said, array, boxed, sourced bool
	bits                        uint64
	value                       any
	at                          time.Time // by a clock of the device; zero if it says none
	server                      int64     // the server's time, in ns since 1970; 0 if it says none
}

// sampleOf takes over what the library has decoded; nil says nothing.
func sampleOf(handle uint32, d *ua.DataValue) sample {
	s := sample{handle: handle}
	if d == nil {
		return s
	}
	s.said, s.status = true, d.Status
	s.from(d.SourceTimestamp, d.ServerTimestamp)
	if d.Value != nil {
		s.hold(d.Value)
	}
	return s
}

// from sets the sample's time: the source's, or else the server's, which is a
// clock of the device, too.
func (s *sample) from(source, server time.Time) {
	if s.at, s.sourced = source, !source.IsZero(); !s.sourced {
		s.at = server
	}
	if !server.IsZero() {
		s.server = server.UnixNano()
	}
}

// hold takes the value of a variant.
func (s *sample) hold(v *ua.Variant) {
	x := v.Value()
	if x == nil {
		return
	}
	s.kind, s.array = v.Type(), v.Has(ua.VariantArrayValues)
	if kind, bits, ok := unboxed(x); ok && kind == s.kind {
		s.bits = bits
		return
	}
	s.boxed, s.value = true, x
}

// any returns the value as the library would give it.
func (s *sample) any() any {
	if s.boxed {
		return s.value
	}
	switch s.kind {
	case ua.TypeIDBoolean:
		return s.bits != 0
	case ua.TypeIDSByte:
		return int8(s.bits)
	case ua.TypeIDByte:
		return uint8(s.bits)
	case ua.TypeIDInt16:
		return int16(s.bits)
	case ua.TypeIDUint16:
		return uint16(s.bits)
	case ua.TypeIDInt32:
		return int32(s.bits)
	case ua.TypeIDUint32:
		return uint32(s.bits)
	case ua.TypeIDInt64:
		return int64(s.bits)
	case ua.TypeIDUint64:
		return s.bits
	case ua.TypeIDFloat:
		return math.Float32frombits(uint32(s.bits))
	case ua.TypeIDDouble:
		return math.Float64frombits(s.bits)
	case ua.TypeIDStatusCode:
		return ua.StatusCode(s.bits)
	default:
		return nil
	}
}

// unboxed returns a number's type and its bits: a signed one is extended to 64, a
// float is as in IEEE 754 of its own length. What is no number is not ok.
func unboxed(x any) (kind ua.TypeID, bits uint64, ok bool) {
	switch x := x.(type) {
	case bool:
		if x {
			bits = 1
		}
		return ua.TypeIDBoolean, bits, true
	case int8:
		return ua.TypeIDSByte, uint64(x), true
	case uint8:
		return ua.TypeIDByte, uint64(x), true
	case int16:
		return ua.TypeIDInt16, uint64(x), true
	case uint16:
		return ua.TypeIDUint16, uint64(x), true
	case int32:
		return ua.TypeIDInt32, uint64(x), true
	case uint32:
		return ua.TypeIDUint32, uint64(x), true
	case int64:
		return ua.TypeIDInt64, uint64(x), true
	case uint64:
		return ua.TypeIDUint64, x, true
	case float32:
		return ua.TypeIDFloat, uint64(math.Float32bits(x)), true
	case float64:
		return ua.TypeIDDouble, math.Float64bits(x), true
	case ua.StatusCode:
		return ua.TypeIDStatusCode, uint64(x), true
	default:
		return ua.TypeIDNull, 0, false
	}
}

// bitsOf reads an encoded number (OPC 10000-6, 5.2.2) as unboxed would return it.
// b has the length of the type; other types are not ok.
func bitsOf(kind ua.TypeID, b []byte) (bits uint64, ok bool) {
	switch kind {
	case ua.TypeIDBoolean:
		if b[0] != 0 {
			bits = 1
		}
		return bits, true
	case ua.TypeIDSByte:
		return uint64(int8(b[0])), true
	case ua.TypeIDByte:
		return uint64(b[0]), true
	case ua.TypeIDInt16:
		return uint64(int16(binary.LittleEndian.Uint16(b))), true
	case ua.TypeIDUint16:
		return uint64(binary.LittleEndian.Uint16(b)), true
	case ua.TypeIDInt32:
		return uint64(int32(binary.LittleEndian.Uint32(b))), true
	case ua.TypeIDUint32, ua.TypeIDFloat, ua.TypeIDStatusCode:
		return uint64(binary.LittleEndian.Uint32(b)), true
	case ua.TypeIDInt64, ua.TypeIDUint64, ua.TypeIDDouble:
		return binary.LittleEndian.Uint64(b), true
	default:
		return 0, false
	}
}

// timeOf reads an encoded time, in 100 ns since 1601, as the library does of one
// that is bounded: 0 is none.
func timeOf(b []byte) time.Time {
	ticks := bounded(int64(binary.LittleEndian.Uint64(b)))
	if ticks == 0 {
		return time.Time{}
	}
	return time.Unix(0, (ticks-unixEpoch)*100).UTC()
}
