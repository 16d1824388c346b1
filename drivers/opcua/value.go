package opcua

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/plant"
)

// stateNode is ServerStatus.State.
const stateNode = id.Server_ServerStatus_State

// point is a tag made ready for reading: all that decoding needs.
type point struct {
	tag      plant.TagID
	id       NodeID
	kind     plant.TagType // TypeUnknown if the config names none
	sampling time.Duration
	queue    int
	deadband float64
	// steps lead to the part of the value that the tag is.
	steps []step
	// unfiltered: the server takes no deadband of it; the driver applies it.
	unfiltered bool
	scaled     bool
	scale      plant.Decimal
	writable   bool
}

func newPoint(name string, t Tag, o Options) *point {
	p := &point{
		tag: plant.TagID(name), id: t.Node, kind: plant.TagType(t.Type),
		sampling: t.Sampling.Std(), queue: t.Queue, deadband: t.Deadband,
		scale: plant.WholeDecimal(1), writable: t.Writable,
	}
	if p.sampling == 0 {
		p.sampling = o.Sampling.Std()
	}
	if p.sampling == 0 {
		p.sampling = o.Publishing.Std()
	}
	if p.queue == 0 {
		p.queue = o.Queue
	}
	if p.queue == 0 {
		p.queue = queueFor(o.Publishing.Std(), p.sampling)
	}
	p.steps, _ = parseSteps(t.Member.steps)
	if t.Scale != nil {
		p.scaled, p.scale = true, t.Scale.Decimal
		if f := math.Abs(t.Scale.Float()); f > 0 {
			p.deadband /= f // the server compares what it has itself
		}
	}
	return p
}

// every is how long a change must last to be sure to be told.
func (p *point) every(o Options) time.Duration {
	if o.Poll > 0 {
		return o.Poll.Std()
	}
	return max(p.sampling, o.Publishing.Std()/time.Duration(max(p.queue, 1)))
}

// item is a point in one session.
type item struct {
	*point
	handle uint32
	at     atomic.Pointer[ua.NodeID] // nil: the server does not have its namespace
	whole  atomic.Pointer[ua.ReadValueID]
	// refused says why the server does not watch the item; empty if it does.
	refused    string
	seen       bool
	overflowed bool
	// polled: the server does not watch it, it is read; slow: it looks at it less
	// often than it was asked to.
	polled, slow bool
	// known are the structures that the item's value may be.
	known layouts
	// passed is the newest value that left the deadband of an unfiltered item.
	passed plant.Value
	// told is what the subscription said last, reports how often it said
	// something; patience is how long a report may take by the server's own words.
	told     *ua.DataValue
	reports  uint64
	patience time.Duration
	// monitored is the item's number at the server. revived is how often it was
	// made anew, reviveAt when it may be again.
	monitored uint32
	revived   int
	reviveAt  time.Time
	scan      int // the number of the newest scan that has it
	// wire is the ua.TypeID that the node has, 0 while unknown; Write needs it.
	wire atomic.Uint32
}

// resolve finds the node's namespace.
func (it *item) resolve(namespaces []string, known pins) {
	var node *ua.NodeID
	index, err := known.find(it.id, namespaces)
	if err == nil {
		node, err = it.id.in(index)
	}
	it.at.Store(node)
	it.whole.Store(value(node))
	if it.refused = ""; err != nil {
		it.refused = err.Error()
	}
}

// node returns the node's id at the server, nil if its namespace is not there.
func (it *item) node() *ua.NodeID { return it.at.Load() }

// quality is a status code's severity, its two highest bits (OPC 10000-4,
// 7.39.1).
func quality(status ua.StatusCode) plant.Quality {
	switch status >> 30 {
	case 0:
		return plant.Good
	case 1:
		return plant.Uncertain
	default:
		return plant.Bad
	}
}

// causes are the status codes that installers meet.
var causes = map[ua.StatusCode]string{
	ua.StatusBadNodeIDUnknown:              "the server has no such node",
	ua.StatusBadNodeIDInvalid:              "the server does not understand this node id",
	ua.StatusBadAttributeIDInvalid:         "the node has no value: it is a folder or an object",
	ua.StatusBadNotReadable:                "the node may not be read",
	ua.StatusBadUserAccessDenied:           "the login does not allow this",
	ua.StatusBadNotWritable:                "the node may not be written",
	ua.StatusBadTypeMismatch:               "the node holds another type",
	ua.StatusBadOutOfRange:                 "the value is out of the node's range",
	ua.StatusBadFilterNotAllowed:           "the node is no number, so it can have no deadband",
	ua.StatusBadMonitoredItemFilterInvalid: "the server does not take this deadband",
	ua.StatusBadTooManyMonitoredItems:      "the server watches no more items",
	ua.StatusBadWaitingForInitialData:      "the server has no value yet",
	ua.StatusBadNoCommunication:            "the server has no contact to the device behind it",
	ua.StatusBadNotConnected:               "the server has no contact to the device behind it",
	ua.StatusBadCommunicationError:         "the server has no contact to the device behind it",
	ua.StatusBadDeviceFailure:              "the device behind the server has failed",
	ua.StatusBadSensorFailure:              "the sensor has failed",
	ua.StatusBadOutOfService:               "the node is out of service",
	ua.StatusUncertainLastUsableValue:      "the value is old: its source is gone",
	ua.StatusUncertainInitialValue:         "the value is a default: its source has not answered yet",
	ua.StatusUncertainSensorNotAccurate:    "the sensor is at its limit",
	ua.StatusUncertainSubNormal:            "too few sources give the value",
	ua.StatusBadTooManyOperations:          "one request held more than the server takes",
	ua.StatusBadSessionIDInvalid:           "the server has forgotten the session",
	ua.StatusBadSubscriptionIDInvalid:      "the server has forgotten the subscription",
	ua.StatusBadTimeout:                    "the server took too long",
	ua.StatusBadServerNotConnected:         "the connection is lost",
	ua.StatusBadTooManySubscriptions:       "the server takes no more subscriptions",
	ua.StatusBadTooManyPublishRequests:     "that is more publish requests than the server takes",
	ua.StatusBadNoSubscription:             "the server has no subscription of this session any more",
	ua.StatusBadTooManySessions:            "the server takes no more sessions",
	ua.StatusBadDataTypeIDUnknown:          "a structure of the vendor's own: name its members instead",
	ua.StatusBadMaxConnectionsReached:      "the server takes no more connections",
	ua.StatusBadSecureChannelClosed:        "the server has closed the channel",
	ua.StatusBadWriteNotSupported:          "the server does not take such a write",
}

// cause says in plain words what a status code means, with its name in the
// specification.
func cause(status ua.StatusCode) string {
	code := status &^ 0xFFFF // without the info bits
	name := "status"
	if known, ok := ua.StatusCodes[code]; ok {
		name = specName(known.Name)
	}
	words := causes[code]
	if words == "" {
		words = "the server says"
	}
	return fmt.Sprintf("%s (%s 0x%08X)", words, name, uint32(code))
}

// specName turns the library's name of a status code into the specification's.
func specName(name string) string {
	return strings.NewReplacer("ID", "Id", "URI", "Uri", "TCP", "Tcp").Replace(strings.TrimPrefix(name, "Status"))
}

// statusName is the name of the status code in err, for people.
func statusName(err error) string {
	var status ua.StatusCode
	if errors.As(err, &status) {
		if known, ok := ua.StatusCodes[status]; ok {
			return specName(known.Name)
		}
	}
	return err.Error()
}

// reading turns what the server said of the item into a reading.
func (it *item) reading(d *ua.DataValue) plant.Reading {
	r := plant.Reading{Tag: it.tag}
	if d == nil {
		r.Cause = "the server says nothing of the node"
		return r
	}
	if r.Source = d.SourceTimestamp; r.Source.IsZero() {
		r.Source = d.ServerTimestamp // a clock of the device, too
	}
	if r.Quality = quality(d.Status); r.Quality != plant.Good {
		r.Cause = cause(d.Status)
	}
	if r.Quality == plant.Bad {
		return r
	}
	v, problem := it.decode(d.Value)
	if problem != "" {
		return plant.Reading{Tag: it.tag, Source: r.Source, Cause: problem}
	}
	it.wire.Store(uint32(d.Value.Type()))
	r.Value = v
	return r
}

// decode turns a variant into a value, or says why it cannot.
func (it *item) decode(v *ua.Variant) (plant.Value, string) {
	if v == nil || v.Value() == nil {
		return plant.Value{}, "the node has no value"
	}
	if len(it.steps) == 0 {
		if v.Has(ua.VariantArrayValues) {
			return plant.Value{}, "the node is an array: name one of its elements, as in member: '[0]' for the first"
		}
		return it.scalar(v.Value(), v.Type())
	}
	part, problem := pick(v.Value(), it.steps, it.known)
	if problem != "" {
		return plant.Value{}, problem
	}
	x, wire := builtin(part)
	if x == nil {
		return plant.Value{}, "the node has no value there: the server has left the member out"
	}
	return it.scalar(x, wire)
}

// scalar turns a value of a built-in type into one of ours.
func (p *point) scalar(x any, wire ua.TypeID) (plant.Value, string) {
	got := kindOf(wire)
	if p.kind != plant.TypeUnknown && got != p.kind {
		return plant.Value{}, fmt.Sprintf("the node is of the type %s, the config says %s", typeName(wire), p.kind)
	}
	switch x := x.(type) {
	case bool:
		return plant.BoolValue(x), ""
	case int8:
		return p.whole(int64(x))
	case int16:
		return p.whole(int64(x))
	case int32:
		return p.whole(int64(x))
	case int64:
		return p.whole(x)
	case uint8:
		return p.unsigned(uint64(x))
	case uint16:
		return p.unsigned(uint64(x))
	case uint32:
		return p.unsigned(uint64(x))
	case uint64:
		return p.unsigned(x)
	case float32:
		return p.float(float64(x))
	case float64:
		return p.float(x)
	default:
		return decodeOther(x, wire)
	}
}

// decodeOther decodes what is no number.
func decodeOther(x any, wire ua.TypeID) (plant.Value, string) {
	switch x := x.(type) {
	case string:
		return text(x)
	case *ua.LocalizedText:
		return text(x.Text)
	case *ua.QualifiedName:
		return text(x.Name)
	case *ua.GUID:
		return plant.TextValue(x.String()), ""
	case time.Time:
		return plant.TextValue(x.UTC().Format(time.RFC3339Nano)), ""
	case ua.StatusCode:
		return plant.UintValue(uint64(x)), ""
	case *ua.ExtensionObject, *object:
		return plant.Value{}, "the node is a structure: name one of its members, as in member: Speed, or the members' own nodes"
	case []any:
		return plant.Value{}, "the member is an array: name one of its elements, as in Speed[0]"
	default:
		return plant.Value{}, "the node is of the type " + typeName(wire) + ", which is not supported"
	}
}

func (p *point) whole(i int64) (plant.Value, string) {
	if !p.scaled {
		return plant.IntValue(i), ""
	}
	d, err := plant.WholeDecimal(i).Mul(p.scale)
	if err != nil {
		return plant.Value{}, fmt.Sprintf("the number %d is too large to be scaled", i)
	}
	return plant.ExactValue(d), ""
}

func (p *point) unsigned(u uint64) (plant.Value, string) {
	switch {
	case !p.scaled:
		return plant.UintValue(u), ""
	case u > math.MaxInt64:
		return plant.Value{}, fmt.Sprintf("the number %d is too large to be scaled", u)
	default:
		return p.whole(int64(u))
	}
}

func (p *point) float(f float64) (plant.Value, string) {
	if p.scaled {
		f *= p.scale.Float()
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return plant.Value{}, "not a number: the device has no value"
	}
	return plant.FloatValue(f), ""
}

// text cuts what some PLCs send behind the end of a string.
func text(s string) (plant.Value, string) {
	s, _, _ = strings.Cut(s, "\x00")
	if !utf8.ValidString(s) {
		return plant.Value{}, "the text is not UTF-8, as OPC UA wants it"
	}
	return plant.TextValue(s), ""
}

// kinds are the built-in types (OPC 10000-6, 5.1.2) that have one of ours.
var kinds = map[ua.TypeID]plant.TagType{
	ua.TypeIDBoolean: plant.TypeBool, ua.TypeIDSByte: plant.TypeInt8, ua.TypeIDByte: plant.TypeUint8,
	ua.TypeIDInt16: plant.TypeInt16, ua.TypeIDUint16: plant.TypeUint16, ua.TypeIDInt32: plant.TypeInt32, ua.TypeIDUint32: plant.TypeUint32,
	ua.TypeIDInt64: plant.TypeInt64, ua.TypeIDUint64: plant.TypeUint64, ua.TypeIDFloat: plant.TypeFloat32, ua.TypeIDDouble: plant.TypeFloat64,
	ua.TypeIDString: plant.TypeString, ua.TypeIDLocalizedText: plant.TypeString,
}

func kindOf(t ua.TypeID) plant.TagType { return kinds[t] }

func typeName(t ua.TypeID) string {
	names := [...]string{"Null", "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String",
		"DateTime", "Guid", "ByteString", "XmlElement", "NodeId", "ExpandedNodeId", "StatusCode", "QualifiedName", "LocalizedText", "Structure"}
	if int(t) < len(names) {
		return names[t]
	}
	return "type " + strconv.Itoa(int(t))
}

// write writes one value in the type that the node has. Timestamps and a status
// are left out: many servers refuse a write that has them.
func (s *session) write(ctx context.Context, it *item, v plant.Value) error {
	node := it.node()
	if node == nil {
		return fmt.Errorf("the server has no namespace %s", it.id.URI)
	}
	if len(it.steps) > 0 {
		return errors.New("a part of an array or structure cannot be written alone: name a node of its own for it")
	}
	wire, err := s.wire(ctx, it)
	if err != nil {
		return err
	}
	variant, err := it.encode(v, wire)
	if err != nil {
		return err
	}
	answer, err := ask[*ua.WriteResponse](ctx, s, &ua.WriteRequest{NodesToWrite: []*ua.WriteValue{{
		NodeID: node, AttributeID: ua.AttributeIDValue,
		Value: &ua.DataValue{EncodingMask: ua.DataValueValue, Value: variant},
	}}})
	switch {
	case err != nil:
		return err
	case len(answer.Results) != 1:
		return fmt.Errorf("%d answers to one write", len(answer.Results))
	case quality(answer.Results[0]) == plant.Bad:
		return errors.New(cause(answer.Results[0]))
	}
	return nil
}

// wire returns the type of the node's value, and asks once if nobody knows it
// yet: by the value, since a data type may be derived, else by the data type.
func (s *session) wire(ctx context.Context, it *item) (ua.TypeID, error) {
	if known := it.wire.Load(); known != 0 {
		return ua.TypeID(known), nil
	}
	got, err := s.readParts(ctx, []*ua.ReadValueID{value(it.node()), attribute(it.node(), ua.AttributeIDDataType)})
	if err != nil {
		return 0, err
	}
	wire := ua.TypeIDNull
	if got[0] != nil && got[0].Value != nil && got[0].Value.Value() != nil {
		wire = got[0].Value.Type()
	} else if got[1] != nil && got[1].Value != nil {
		if n, ok := got[1].Value.Value().(*ua.NodeID); ok && n.Namespace() == 0 && n.IntID() <= uint32(ua.TypeIDString) {
			wire = ua.TypeID(n.IntID())
		}
	}
	if wire == ua.TypeIDNull {
		problem := "nobody knows the type of the node"
		if got[0] != nil && quality(got[0].Status) == plant.Bad {
			problem = cause(got[0].Status)
		}
		return 0, errors.New(problem)
	}
	it.wire.Store(uint32(wire))
	return wire, nil
}

// encode turns a value into a variant of that type, in reverse of decode. It
// refuses what the type cannot hold exactly, rather than round.
func (p *point) encode(v plant.Value, wire ua.TypeID) (*ua.Variant, error) {
	kind := kindOf(wire)
	switch {
	case kind == plant.TypeBool:
		b, ok := v.Bool()
		if !ok {
			return nil, fmt.Errorf("%q is no truth value", v)
		}
		return ua.NewVariant(b)
	case wire == ua.TypeIDString:
		return ua.NewVariant(v.Text())
	case wire == ua.TypeIDLocalizedText:
		return ua.NewVariant(ua.NewLocalizedText(v.Text()))
	case kind == plant.TypeFloat32 || kind == plant.TypeFloat64:
		return p.encodeFloat(v, kind)
	case kind.Bits() > 0:
		return p.encodeWhole(v, kind)
	default:
		return nil, fmt.Errorf("a node of the type %s cannot be written", typeName(wire))
	}
}

func (p *point) encodeFloat(v plant.Value, kind plant.TagType) (*ua.Variant, error) {
	f, ok := v.Float()
	if !ok {
		return nil, fmt.Errorf("%q is no number", v)
	}
	if p.scaled {
		f /= p.scale.Float()
	}
	if kind == plant.TypeFloat64 {
		return ua.NewVariant(f)
	}
	if math.IsInf(float64(float32(f)), 0) {
		return nil, fmt.Errorf("%v does not fit %s", v, kind)
	}
	return ua.NewVariant(float32(f))
}

func (p *point) encodeWhole(v plant.Value, kind plant.TagType) (*ua.Variant, error) {
	if v.Type() == plant.Uint && kind == plant.TypeUint64 && !p.scaled {
		u, err := strconv.ParseUint(v.Text(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%v is no whole number", v)
		}
		return ua.NewVariant(u)
	}
	i, ok := v.Int()
	if p.scaled {
		i, ok = p.unscale(v)
	}
	if !ok {
		return nil, fmt.Errorf("%v is no whole number of the device", v)
	}
	for _, t := range []struct {
		kind plant.TagType
		fits bool
		make func() any
	}{
		{plant.TypeInt8, int64(int8(i)) == i, func() any { return int8(i) }},
		{plant.TypeInt16, int64(int16(i)) == i, func() any { return int16(i) }},
		{plant.TypeInt32, int64(int32(i)) == i, func() any { return int32(i) }},
		{plant.TypeInt64, true, func() any { return i }},
		{plant.TypeUint8, int64(uint8(i)) == i, func() any { return uint8(i) }},
		{plant.TypeUint16, int64(uint16(i)) == i, func() any { return uint16(i) }},
		{plant.TypeUint32, int64(uint32(i)) == i, func() any { return uint32(i) }},
		{plant.TypeUint64, i >= 0, func() any { return uint64(i) }},
	} {
		if t.kind == kind && t.fits {
			return ua.NewVariant(t.make())
		}
	}
	return nil, fmt.Errorf("%v does not fit %s", v, kind)
}

// unscale finds the raw number that decode would turn into v.
func (p *point) unscale(v plant.Value) (raw int64, ok bool) {
	d, ok := v.Decimal()
	if !ok {
		return 0, false
	}
	digits := max(d.Scale, p.scale.Scale)
	over, err1 := d.Rescale(digits)
	under, err2 := p.scale.Rescale(digits)
	if err1 != nil || err2 != nil || over.Unscaled == math.MinInt64 || over.Unscaled%under.Unscaled != 0 {
		return 0, false
	}
	return over.Unscaled / under.Unscaled, true
}
