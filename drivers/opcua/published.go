package opcua

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// publishAnswer is the answer to a publish request, as far as it is used.
type publishAnswer struct {
	header       ua.ResponseHeader
	subscription uint32
	number       uint32 // of its message
	parts        int    // of the message; one without any is a keep-alive
	changes      []sample
	// end is why there will be no other answer.
	end error
}

// Header implements ua.Response.
func (a *publishAnswer) Header() *ua.ResponseHeader { return &a.header }

// SetHeader implements ua.Response.
func (a *publishAnswer) SetHeader(h *ua.ResponseHeader) { a.header = *h }

// publishAnswerOf takes over what the library has decoded.
func publishAnswerOf(r *ua.PublishResponse) *publishAnswer {
	a := &publishAnswer{subscription: r.SubscriptionID}
	if r.ResponseHeader != nil {
		a.header = *r.ResponseHeader
	}
	if r.NotificationMessage == nil {
		return a
	}
	a.number, a.parts = r.NotificationMessage.SequenceNumber, len(r.NotificationMessage.NotificationData)
	for _, part := range r.NotificationMessage.NotificationData {
		if part == nil {
			continue
		}
		switch v := part.Value.(type) {
		case *ua.DataChangeNotification:
			for _, c := range v.MonitoredItems {
				if c != nil {
					a.changes = append(a.changes, sampleOf(c.ClientHandle, c.Value))
				}
			}
		case *ua.StatusChangeNotification:
			if a.end == nil {
				a.end = ended(v.Status)
			}
		}
	}
	return a
}

// ended is a subscription that the server has ended with a status, which may be good.
func ended(status ua.StatusCode) error {
	if status == ua.StatusOK {
		return errors.New("the server has ended the subscription without a reason")
	}
	return fmt.Errorf("the server has ended the subscription: %s", cause(status))
}

// spare keeps the room of samples for the next message. It may be used from any
// goroutine, does not block, and may be nil.
type spare chan []sample

// mostSpare is how many samples may lie idle in one: those of an answer as large
// as it was asked for, twice.
const mostSpare = 2 * chunk

func (s spare) take() []sample {
	select {
	case room := <-s:
		return room
	default:
		return nil
	}
}

// give takes back what take has returned and nobody looks at any more.
func (s spare) give(room []sample) {
	if cap(room) == 0 || cap(room) > mostSpare {
		return
	}
	clear(room) // the texts
	select {
	case s <- room[:0]:
	default:
	}
}

var (
	typeOfDiagnosticPointer = reflect.TypeFor[*ua.DiagnosticInfo]()
	typeOfStatus            = reflect.TypeFor[ua.StatusCode]()
	typeOfUint32            = reflect.TypeFor[uint32]()
	typeOfString            = reflect.TypeFor[string]()
)

// The memory that skim counts for what the library makes of a publish answer.
var (
	costOfAnswer    = int(reflect.TypeFor[ua.PublishResponse]().Size() + reflect.TypeFor[ua.ResponseHeader]().Size() + reflect.TypeFor[ua.NotificationMessage]().Size())
	costOfExtension = int(typeOfExtension.Size())
	costOfTypeID    = int(typeOfExpandedID.Size() + typeOfNodeID.Size())
	costOfChanges   = int(reflect.TypeFor[ua.DataChangeNotification]().Size())
	costOfChange    = int(reflect.TypeFor[ua.MonitoredItemNotification]().Size() + typeOfDataValue.Size() + typeOfVariant.Size())
)

// errUncommon says that a message has what the library should decode.
var errUncommon = errors.New("it has what is seldom sent")

// decodePublish decodes a publish answer that has nothing but changes of data, in
// one pass: the same values, times and states, and the same refusals, as skim and
// the library together (FuzzPublish), for a tenth of the time and without memory
// for a number. What is not ok is to be decoded by them: they find out what is
// wrong with it. Nothing of b is kept.
func decodePublish(b []byte, rooms spare) (a *publishAnswer, ok bool) {
	s := skimmer{b: b, left: budget(len(b))}
	if s.typeID(true) != id.PublishResponse_Encoding_DefaultBinary || s.err != nil {
		return nil, false
	}
	a = &publishAnswer{changes: rooms.take()}
	s.pay(costOfAnswer)
	s.header(&a.header)
	a.subscription = s.uint32()
	s.slice(typeOfUint32, 1) // the numbers that are available
	s.take(1)                // whether there are more notifications
	a.number = s.uint32()
	s.take(8) // when it was published
	s.parts(a)
	s.slice(typeOfStatus, 1)
	s.slice(typeOfDiagnosticPointer, 1)
	if s.err != nil {
		rooms.give(a.changes)
		return nil, false
	}
	return a, true
}

// header decodes a ResponseHeader, as far as it is used.
func (s *skimmer) header(h *ua.ResponseHeader) {
	if b := s.take(8); b != nil {
		h.Timestamp = timeOf(b)
	}
	h.RequestHandle = s.uint32()
	h.ServiceResult = ua.StatusCode(s.uint32())
	s.value(typeOfDiagnosticPointer, 2)
	s.slice(typeOfString, 2)
	s.pay(costOfExtension)
	if _, body := s.structure(); body != nil {
		s.fail(errUncommon)
	}
}

// structure returns the body of an ExtensionObject and the number of its type; nil
// if there is none.
func (s *skimmer) structure() (number uint32, body []byte) {
	s.pay(costOfTypeID)
	number = s.typeID(true)
	mask := s.byte()
	if s.err != nil || mask == ua.ExtensionObjectEmpty {
		return 0, nil
	}
	n := s.uint32()
	if n == 0 || n == 0xffffffff {
		return 0, nil
	}
	if uint64(n) > uint64(len(s.b)) {
		s.fail(errTruncated)
		return 0, nil
	}
	s.pay(int(n))
	if mask == ua.ExtensionObjectXML {
		s.fail(errUncommon)
		return 0, nil
	}
	return number, s.take(int(n))
}

// length returns how many elements an array has, of which each takes at least so
// many bytes, and accounts for the array.
func (s *skimmer) length(least int) int {
	n := s.uint32()
	if n == 0xffffffff {
		return 0
	}
	if uint64(n)*uint64(least) > uint64(len(s.b)) {
		s.fail(errTruncated)
		return 0
	}
	const pointerAndName = 8 + 64 // as slice counts them
	s.pay(int(n) * pointerAndName)
	return int(n)
}

// parts decodes the notifications of a message.
func (s *skimmer) parts(a *publishAnswer) {
	a.parts = s.length(3) // a type of two bytes, and a mask
	for range a.parts {
		s.pay(costOfExtension)
		number, body := s.structure()
		if s.err != nil {
			return
		}
		if body == nil {
			continue
		}
		if number != id.DataChangeNotification_Encoding_DefaultBinary {
			s.fail(errUncommon)
			return
		}
		inner := skimmer{b: body, left: s.left}
		inner.changes(a)
		if s.left = inner.left; inner.err != nil {
			s.fail(inner.err)
			return
		}
	}
}

// depthOfValue is how deep the value of a change lies in its message.
const depthOfValue = 8

// changes decodes a DataChangeNotification.
func (s *skimmer) changes(a *publishAnswer) {
	s.pay(costOfChanges)
	n := s.length(5) // a handle, and a mask
	s.pay(n * costOfChange)
	if s.err != nil {
		return
	}
	a.changes = slices.Grow(a.changes, n)
	for range n {
		a.changes = append(a.changes, sample{handle: s.uint32()})
		s.sample(&a.changes[len(a.changes)-1])
		if s.err != nil {
			return
		}
	}
	s.slice(typeOfDiagnosticPointer, 5)
}

// sample decodes a DataValue.
func (s *skimmer) sample(x *sample) {
	mask := s.byte()
	x.said = true
	if mask&ua.DataValueValue != 0 {
		s.valueOf(x)
	}
	if mask&ua.DataValueStatusCode != 0 {
		x.status = ua.StatusCode(s.uint32())
	}
	var source, server []byte
	if mask&ua.DataValueSourceTimestamp != 0 {
		source = s.take(8)
	}
	if mask&ua.DataValueSourcePicoseconds != 0 {
		s.take(2)
	}
	if mask&ua.DataValueServerTimestamp != 0 {
		server = s.take(8)
	}
	if mask&ua.DataValueServerPicoseconds != 0 {
		s.take(2)
	}
	if s.err != nil {
		return
	}
	if source != nil {
		x.at = timeOf(source)
		x.sourced = !x.at.IsZero()
	}
	if server == nil {
		return
	}
	at := timeOf(server)
	if !x.sourced {
		x.at = at
	}
	if !at.IsZero() {
		x.server = at.UnixNano()
	}
}

// valueOf decodes a Variant: numbers and texts by itself, the others by the
// library.
func (s *skimmer) valueOf(x *sample) {
	if len(s.b) == 0 {
		s.fail(errTruncated)
		return
	}
	mask, raw := s.b[0], s.b
	kind := ua.TypeID(mask & 0x3f)
	if mask&ua.VariantArrayValues == 0 && int(kind) < len(variantSizes) {
		if end := 1 + variantSizes[kind]; end > 1 && end <= len(raw) {
			if bits, ok := bitsOf(kind, raw[1:end]); ok {
				x.kind, x.bits, s.b = kind, bits, raw[end:]
				return
			}
		}
	}
	s.variant(depthOfValue)
	if s.err != nil || kind == ua.TypeIDNull {
		return
	}
	raw = raw[:len(raw)-len(s.b)]
	if mask&ua.VariantArrayValues == 0 && kind == ua.TypeIDString {
		x.kind, x.boxed, x.value = kind, true, string(raw[1+4:])
		return
	}
	var v ua.Variant
	if _, err := v.Decode(bytes.Clone(raw)); err != nil {
		s.fail(errUncommon)
		return
	}
	x.hold(&v)
}
