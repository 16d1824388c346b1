package opcua

import (
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
	// server is the server's time of the newest value, in ns since 1970.
	server atomic.Int64
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
	told     sample
	reports  uint64
	patience time.Duration
	// monitored is the item's number at the server. revived is how often it was
	// made anew, reviveAt when it may be again.
	monitored uint32
	revived   int
	reviveAt  time.Time
	scan      int // the number of the newest scan that has it
	// ordered is the number of the publish that inOrder has met it in, and newest
	// its newest time there.
	ordered int
	newest  time.Time
	// wire is the ua.TypeID that the node has, 0 while unknown; Write needs it.
	wire atomic.Uint32
}

// resolve finds the node's namespace.
func (it *item) resolve(namespaces []string, meant string) {
	var node *ua.NodeID
	index, err := placeOf(it.id, meant, namespaces)
	if err == nil {
		node, err = it.id.in(index)
	}
	it.at.Store(node)
	it.whole.Store(value(node))
	if it.refused = ""; err != nil {
		it.refused = err.Error()
	}
}

// refuse leaves the item without a node.
func (it *item) refuse(why string) {
	it.at.Store(nil)
	it.whole.Store(value(nil))
	it.refused = why
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
	ua.StatusBadResponseTooLarge:           "the value is longer than max_message: raise that, or name a shorter one",
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

// reading turns what the server said of the item into a reading; nil is nothing.
func (it *item) reading(d *ua.DataValue) plant.Reading {
	s := sampleOf(it.handle, d)
	return it.read(&s)
}

// read turns a sample of the item into a reading.
func (it *item) read(s *sample) plant.Reading {
	r := plant.Reading{Tag: it.tag}
	if !s.said {
		r.Cause = "the server says nothing of the node"
		return r
	}
	r.Source = s.at
	it.server.Store(s.server)
	if r.Quality = quality(s.status); r.Quality != plant.Good {
		r.Cause = cause(s.status)
	}
	if r.Quality == plant.Bad {
		return r
	}
	v, problem := it.decode(s)
	if problem != "" {
		return plant.Reading{Tag: it.tag, Source: r.Source, Cause: problem}
	}
	if kind := uint32(s.kind); it.wire.Load() != kind {
		it.wire.Store(kind)
	}
	r.Value = v
	return r
}

// decode turns what a sample holds into a value, or says why it cannot.
func (it *item) decode(s *sample) (plant.Value, string) {
	if eo, ok := s.value.(*ua.ExtensionObject); ok && eo != nil {
		if why := unmade(eo); why != "" {
			return plant.Value{}, why
		}
	}
	switch {
	case s.kind == ua.TypeIDNull:
		return plant.Value{}, "the node has no value"
	case len(it.steps) > 0:
		return it.part(s.any())
	case s.array:
		return plant.Value{}, "the node is an array: name one of its elements, as in member: '[0]' for the first"
	case s.boxed:
		return it.scalar(s.value, s.kind)
	}
	if problem := it.mistyped(s.kind); problem != "" {
		return plant.Value{}, problem
	}
	return it.number(s.kind, s.bits)
}

// part decodes the member of x that the tag is.
func (it *item) part(x any) (plant.Value, string) {
	part, problem := pick(x, it.steps, it.known)
	if problem != "" {
		return plant.Value{}, problem
	}
	x, wire := builtin(part)
	if x == nil {
		return plant.Value{}, "the node has no value there: the server has left the member out"
	}
	return it.scalar(x, wire)
}

// mistyped says what is wrong with a value of a type that the config does not name.
func (p *point) mistyped(wire ua.TypeID) string {
	if p.kind == plant.TypeUnknown || kindOf(wire) == p.kind {
		return ""
	}
	return fmt.Sprintf("the node is of the type %s, the config says %s", typeName(wire), p.kind)
}

// scalar turns a value of a built-in type into one of ours.
func (p *point) scalar(x any, wire ua.TypeID) (plant.Value, string) {
	if problem := p.mistyped(wire); problem != "" {
		return plant.Value{}, problem
	}
	if kind, bits, ok := unboxed(x); ok {
		return p.number(kind, bits)
	}
	return decodeOther(x, wire)
}

// number turns a number, as unboxed returns it, into a value.
func (p *point) number(kind ua.TypeID, bits uint64) (plant.Value, string) {
	switch kind {
	case ua.TypeIDBoolean:
		return plant.BoolValue(bits != 0), ""
	case ua.TypeIDSByte, ua.TypeIDInt16, ua.TypeIDInt32, ua.TypeIDInt64:
		return p.whole(int64(bits))
	case ua.TypeIDFloat:
		return p.float(float64(math.Float32frombits(uint32(bits))))
	case ua.TypeIDDouble:
		return p.float(math.Float64frombits(bits))
	case ua.TypeIDStatusCode:
		return plant.UintValue(bits), ""
	default:
		return p.unsigned(bits)
	}
}

// isStructure says of a tag that names a whole structure.
const isStructure = "the node is a structure: name one of its members, as in member: Speed, or the members' own nodes"

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
	case *ua.ExtensionObject, *object:
		return plant.Value{}, isStructure
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
var kinds = [...]plant.TagType{
	ua.TypeIDBoolean: plant.TypeBool, ua.TypeIDSByte: plant.TypeInt8, ua.TypeIDByte: plant.TypeUint8,
	ua.TypeIDInt16: plant.TypeInt16, ua.TypeIDUint16: plant.TypeUint16, ua.TypeIDInt32: plant.TypeInt32, ua.TypeIDUint32: plant.TypeUint32,
	ua.TypeIDInt64: plant.TypeInt64, ua.TypeIDUint64: plant.TypeUint64, ua.TypeIDFloat: plant.TypeFloat32, ua.TypeIDDouble: plant.TypeFloat64,
	ua.TypeIDString: plant.TypeString, ua.TypeIDLocalizedText: plant.TypeString,
}

// kindOf returns TypeUnknown for a type without one of ours.
func kindOf(t ua.TypeID) plant.TagType {
	if int(t) < len(kinds) {
		return kinds[t]
	}
	return plant.TypeUnknown
}

func typeName(t ua.TypeID) string {
	names := [...]string{"Null", "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String",
		"DateTime", "Guid", "ByteString", "XmlElement", "NodeId", "ExpandedNodeId", "StatusCode", "QualifiedName", "LocalizedText", "Structure", "DataValue", "Variant", "DiagnosticInfo"}
	if int(t) < len(names) {
		return names[t]
	}
	return "number " + strconv.Itoa(int(t))
}
