package opcua

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/gopcua/opcua/ua"
)

// How skim marks the structures that it has made of what the library cannot read.
// The library takes whatever is neither 0 nor 2 for a binary encoding.
const (
	wasXML    = 0x82
	wasMatrix = 0x83
)

// unmade says what a structure that skim has marked was; "" for any other.
func unmade(eo *ua.ExtensionObject) string {
	switch eo.EncodingMask {
	case wasXML:
		return "the server sends the structure as XML: name nodes of its members instead"
	case wasMatrix:
		return "the node is a matrix without values"
	default:
		return ""
	}
}

// unknown makes the type at the beginning of b, which has been read, one that
// nobody knows. It is for values that the library cannot read although they are
// right: it skips an unknown structure by its length, so that the tag of this one
// is bad, and the others of the message are not.
func unknown(b []byte) {
	if b[1] = 0xff; ua.NodeIDType(b[0]&0x0f) == ua.NodeIDTypeTwoByte {
		b[1] = 0
	}
}

// variantSizes are the lengths of the values of fixed length in a Variant, by its
// type (OPC 10000-6, 5.1.2).
var variantSizes = [...]int{
	ua.TypeIDBoolean: 1, ua.TypeIDSByte: 1, ua.TypeIDByte: 1, ua.TypeIDInt16: 2, ua.TypeIDUint16: 2, ua.TypeIDInt32: 4, ua.TypeIDUint32: 4,
	ua.TypeIDInt64: 8, ua.TypeIDUint64: 8, ua.TypeIDFloat: 4, ua.TypeIDDouble: 8, ua.TypeIDDateTime: 8, ua.TypeIDGUID: 16, ua.TypeIDStatusCode: 4,
}

// variantTypes are those of the others.
var variantTypes = map[ua.TypeID]reflect.Type{
	ua.TypeIDString: reflect.TypeFor[string](), ua.TypeIDByteString: reflect.TypeFor[string](), ua.TypeIDXMLElement: reflect.TypeFor[string](),
	ua.TypeIDNodeID: typeOfNodeID, ua.TypeIDExpandedNodeID: typeOfExpandedID, ua.TypeIDQualifiedName: typeOfQualified, ua.TypeIDLocalizedText: typeOfText,
	ua.TypeIDExtensionObject: typeOfExtension, ua.TypeIDDataValue: typeOfDataValue, ua.TypeIDVariant: typeOfVariant, ua.TypeIDDiagnosticInfo: typeOfDiagnostic,
}

func (s *skimmer) variant(depth int) {
	whole := s.b
	mask := s.byte()
	kind := ua.TypeID(mask & 0x3f)
	if kind == ua.TypeIDNull || s.err != nil {
		return
	}
	size := 0
	if int(kind) < len(variantSizes) {
		size = variantSizes[kind]
	}
	of, known := variantTypes[kind]
	if size == 0 && !known {
		s.fail(fmt.Errorf("it has a value of the unknown type %d", kind))
		return
	}
	if mask&ua.VariantArrayValues == 0 {
		if kind == ua.TypeIDDateTime {
			s.times(1)
			return
		}
		s.element(size, of, depth)
		return
	}
	n := int32(s.uint32())
	switch {
	case n == -1:
		n = 0
	case n < 0:
		s.fail(fmt.Errorf("it has an array of %d values", n))
		return
	case int(n) > len(s.b):
		s.fail(errTruncated)
		return
	}
	// 24 bytes are the largest of what the decoder puts into one place.
	s.pay(int(n) * 24)
	switch {
	case kind == ua.TypeIDDateTime:
		s.times(int(n))
	case size > 0:
		s.take(int(n) * size)
	default:
		for range n {
			if s.err != nil {
				return
			}
			s.element(0, of, depth)
		}
	}
	if mask&ua.VariantArrayDimensions != 0 {
		s.dimensions(int64(max(n, 0)), whole)
	}
}

// element skips one value of a Variant.
func (s *skimmer) element(size int, of reflect.Type, depth int) {
	if size > 0 {
		s.take(size)
		return
	}
	s.pay(int(of.Size()))
	s.value(of, depth+1)
}

// dimensions checks that the lengths of a matrix make its number of values. The
// library takes neither a matrix of none, which has a length of 0 (OPC 10000-6,
// 5.2.2.16), nor one that says nothing of its lengths; whole begins with the
// Variant.
func (s *skimmer) dimensions(want int64, whole []byte) {
	at := s.b
	n := int32(s.uint32())
	switch {
	case s.err != nil:
		return
	case n == -1 && s.mends:
		clear(at[:4])
		return
	case n < 0 || n > mostDimensions:
		s.fail(fmt.Errorf("it has an array of %d dimensions", n))
		return
	}
	all, empty := int64(1), false
	for range n {
		d := int64(int32(s.uint32()))
		empty = empty || d == 0
		if s.err == nil && (d < 0 || d == 0 && want > 0 || d > want && want > 0) {
			s.fail(fmt.Errorf("it has an array of %d values with a dimension of %d", want, d))
		}
		if all = min(all*max(d, 1), math.MaxInt32); all > want && want > 0 {
			s.fail(fmt.Errorf("it has an array of %d values whose dimensions make more", want))
			return
		}
	}
	switch {
	case s.err != nil || n == 0 || want > 0:
	case !empty:
		s.fail(errors.New("it has an array of no values whose dimensions make more"))
	case !s.mends:
		s.fail(errUncommon)
	default:
		noMatrix(whole[:len(whole)-len(s.b)])
	}
}

// noMatrix puts a structure that nobody knows in the place of a Variant with an
// array of no values, which is at least 13 bytes long.
func noMatrix(b []byte) {
	b[0] = byte(ua.TypeIDExtensionObject)
	b[1], b[2] = byte(ua.NodeIDTypeTwoByte), 0
	b[3] = wasMatrix
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
}
