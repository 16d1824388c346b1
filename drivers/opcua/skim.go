package opcua

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/gopcua/opcua/ua"
)

// The bounds of a message, whatever its length. The library's decoder has none
// of them: it goes as deep as a message says, makes room for what it announces,
// and panics at a negative length (docs/adr/0023).
const (
	// deepest is how many values may lie in each other; the specification wants
	// 100 to be taken (OPC 10000-6, 5.1.5 to 5.1.8).
	deepest = 100
	// mostDimensions is how many an array may have.
	mostDimensions = 16
	// costPerByte is how much memory a byte of a message may become, and leastCost
	// what any message may take.
	costPerByte, leastCost = 64, 1 << 20
)

var (
	errTruncated = errors.New("it ends in the middle of a value")
	errTooDeep   = fmt.Errorf("it has values in values, more than %d deep", deepest)
	errTooCostly = errors.New("it would take more memory than a message of its length can need")
)

// skim reads an encoded message to its end as the library will, and makes
// nothing of it: an error says why it must not be decoded. What is right and the
// library ends the whole message at is changed in b: see unknown. The cost is one
// pass over the bytes, without an allocation but where a type is met for the
// first time.
func skim(b []byte) error {
	s := skimmer{b: b, left: budget(len(b)), mends: true}
	id := s.typeID(true)
	if s.err != nil {
		return s.err
	}
	message := serviceType(id)
	if message == nil {
		return nil // the library names it, and decodes nothing
	}
	s.value(message, 0)
	return s.err
}

// skimValue is skim for one value within a message, at the beginning of b; v is a
// pointer to what it is to become.
func skimValue(b []byte, v any) error {
	s := skimmer{b: b, left: budget(len(b)), mends: true}
	s.value(reflect.TypeOf(v), 0)
	return s.err
}

// budget is how much memory a message of n bytes may take.
func budget(n int) int { return max(leastCost, costPerByte*n) }

// skimmer is where a skim is.
type skimmer struct {
	b    []byte
	left int // bytes of memory that may still be taken
	err  error
	// mends: what is right and the library cannot read may be changed.
	mends bool
}

func (s *skimmer) fail(err error) {
	if s.err == nil {
		s.err, s.b = err, nil
	}
}

// take returns the next n bytes, nil after the end.
func (s *skimmer) take(n int) []byte {
	if n < 0 || n > len(s.b) {
		s.fail(errTruncated)
		return nil
	}
	b := s.b[:n]
	s.b = s.b[n:]
	return b
}

func (s *skimmer) byte() byte {
	if b := s.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (s *skimmer) uint32() uint32 {
	if b := s.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// pay accounts for memory that the decoder will take.
func (s *skimmer) pay(n int) {
	if s.left -= n; s.left < 0 {
		s.fail(errTooCostly)
	}
}

// text skips a string or a byte string; a length of -1 is none of either.
func (s *skimmer) text() {
	n := s.uint32()
	if n == 0xffffffff {
		return
	}
	if uint64(n) > uint64(len(s.b)) {
		s.fail(errTruncated)
		return
	}
	s.take(int(n))
	s.pay(int(n))
}

// typeID skips a node id, an expanded one with what may follow, and returns it
// if it is a number of namespace 0.
func (s *skimmer) typeID(expanded bool) (number uint32) {
	mask := s.byte()
	switch ua.NodeIDType(mask & 0x0f) {
	case ua.NodeIDTypeTwoByte:
		number = uint32(s.byte())
	case ua.NodeIDTypeFourByte:
		if b := s.take(3); len(b) == 3 && b[0] == 0 {
			number = uint32(binary.LittleEndian.Uint16(b[1:]))
		}
	case ua.NodeIDTypeNumeric:
		if b := s.take(6); len(b) == 6 && b[0] == 0 && b[1] == 0 {
			number = binary.LittleEndian.Uint32(b[2:])
		}
	case ua.NodeIDTypeGUID:
		s.take(2 + 16)
	case ua.NodeIDTypeString, ua.NodeIDTypeByteString:
		s.take(2)
		s.text()
	default:
		s.fail(errors.New("it has a node id of no known form"))
	}
	if expanded && mask&0x80 != 0 {
		s.text()
	}
	if expanded && mask&0x40 != 0 {
		s.take(4)
	}
	return number
}

var (
	typeOfNodeID     = reflect.TypeFor[ua.NodeID]()
	typeOfExpandedID = reflect.TypeFor[ua.ExpandedNodeID]()
	typeOfGUID       = reflect.TypeFor[ua.GUID]()
	typeOfText       = reflect.TypeFor[ua.LocalizedText]()
	typeOfVariant    = reflect.TypeFor[ua.Variant]()
	typeOfDataValue  = reflect.TypeFor[ua.DataValue]()
	typeOfDiagnostic = reflect.TypeFor[ua.DiagnosticInfo]()
	typeOfExtension  = reflect.TypeFor[ua.ExtensionObject]()
	typeOfTime       = reflect.TypeFor[time.Time]()
	typeOfQualified  = reflect.TypeFor[ua.QualifiedName]()
)

// value skips one value of a type of the library's.
func (s *skimmer) value(t reflect.Type, depth int) {
	if depth > deepest {
		s.fail(errTooDeep)
	}
	if s.err != nil {
		return
	}
	switch t {
	case typeOfNodeID:
		s.typeID(false)
		return
	case typeOfExpandedID:
		s.typeID(true)
		return
	case typeOfGUID:
		s.take(16)
		return
	case typeOfText:
		s.localized()
		return
	case typeOfVariant:
		s.variant(depth)
		return
	case typeOfDataValue:
		s.dataValue(depth)
		return
	case typeOfDiagnostic:
		s.diagnostic(depth)
		return
	case typeOfExtension:
		s.extension(depth)
		return
	case typeOfTime:
		s.times(1)
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		s.pay(int(t.Elem().Size()))
		s.value(t.Elem(), depth)
	case reflect.Struct:
		for i := range t.NumField() {
			s.value(t.Field(i).Type, depth+1)
		}
	case reflect.Slice:
		s.slice(t.Elem(), depth)
	case reflect.String:
		s.text()
	case reflect.Bool, reflect.Int8, reflect.Uint8:
		s.take(1)
	case reflect.Int16, reflect.Uint16:
		s.take(2)
	case reflect.Int32, reflect.Uint32, reflect.Float32:
		s.take(4)
	case reflect.Int64, reflect.Uint64, reflect.Float64:
		s.take(8)
	default:
		s.fail(fmt.Errorf("it has a value of the type %v", t))
	}
}

// slice skips an array of a message; a length of -1 is none.
func (s *skimmer) slice(of reflect.Type, depth int) {
	if of.Kind() == reflect.Uint8 {
		s.text()
		return
	}
	n := s.uint32()
	if n == 0xffffffff {
		return
	}
	if uint64(n) > uint64(len(s.b)) {
		s.fail(errTruncated)
		return
	}
	// The decoder gives each element a name for its own errors, too.
	const name = 64
	s.pay(int(n) * (int(of.Size()) + name))
	for range n {
		if s.err != nil {
			return
		}
		s.value(of, depth+1)
	}
}

func (s *skimmer) localized() {
	mask := s.byte()
	if mask&ua.LocalizedTextLocale != 0 {
		s.text()
	}
	if mask&ua.LocalizedTextText != 0 {
		s.text()
	}
}

func (s *skimmer) dataValue(depth int) {
	mask := s.byte()
	s.pay(int(typeOfVariant.Size()))
	if mask&ua.DataValueValue != 0 {
		s.value(typeOfVariant, depth+1)
	}
	for _, f := range [...]struct {
		bit  byte
		size int
	}{
		{ua.DataValueStatusCode, 4}, {ua.DataValueSourceTimestamp, 8}, {ua.DataValueSourcePicoseconds, 2},
		{ua.DataValueServerTimestamp, 8}, {ua.DataValueServerPicoseconds, 2},
	} {
		switch {
		case mask&f.bit == 0:
		case f.size == 8:
			s.times(1)
		default:
			s.take(f.size)
		}
	}
}

func (s *skimmer) diagnostic(depth int) {
	mask := s.byte()
	for _, bit := range [...]byte{ua.DiagnosticInfoSymbolicID, ua.DiagnosticInfoNamespaceURI, ua.DiagnosticInfoLocale, ua.DiagnosticInfoLocalizedText} {
		if mask&bit != 0 {
			s.take(4)
		}
	}
	if mask&ua.DiagnosticInfoAdditionalInfo != 0 {
		s.text()
	}
	if mask&ua.DiagnosticInfoInnerStatusCode != 0 {
		s.take(4)
	}
	if mask&ua.DiagnosticInfoInnerDiagnosticInfo != 0 {
		s.pay(int(typeOfDiagnostic.Size()))
		s.value(typeOfDiagnostic, depth+1)
	}
}

// extension skips a structure. The decoder reads those that it knows from within
// the length that is given, and leaves the others alone.
func (s *skimmer) extension(depth int) {
	s.pay(int(typeOfExpandedID.Size() + typeOfNodeID.Size()))
	whole := s.b
	id := s.typeID(true)
	form := s.b
	mask := s.byte()
	if s.err != nil || mask == ua.ExtensionObjectEmpty {
		return
	}
	n := s.uint32()
	if n == 0 || n == 0xffffffff {
		return
	}
	if uint64(n) > uint64(len(s.b)) {
		s.fail(errTruncated)
		return
	}
	body := s.take(int(n))
	s.pay(len(body))
	if mask == ua.ExtensionObjectXML {
		if !s.mends {
			s.fail(errUncommon)
			return
		}
		form[0] = wasXML
		unknown(whole)
		return
	}
	t := structureType(id)
	if t == nil {
		return
	}
	inner := skimmer{b: body, left: s.left, mends: s.mends}
	inner.value(t, depth+1)
	if s.left = inner.left; inner.err != nil {
		s.fail(inner.err)
	}
}
