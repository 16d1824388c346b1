package opcua

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gopcua/opcua/ua"
)

const (
	// maxLayouts and maxFields bound what is learned of a server's structures,
	// maxNesting how deep they lie in each other, maxParts of how many parts one
	// value is taken to be.
	maxLayouts = 200
	maxFields  = 2000
	maxNesting = 16
	maxParts   = 100_000
)

// body is a structure as it comes over the wire. The library takes a structure
// apart only if its type is registered for the whole process, where the same node
// id may mean different things at different servers; so this is registered for
// all, and each session takes it apart by what its own server says.
type body struct{ bytes []byte }

// Decode implements ua.BinaryDecoder.
func (b *body) Decode(from []byte) (int, error) {
	b.bytes = slices.Clone(from)
	return len(from), nil
}

// Encode implements ua.BinaryEncoder.
func (b *body) Encode() ([]byte, error) { return b.bytes, nil }

// keepBodies makes the library keep the bodies of a structure. Types that it
// knows stay as they are.
func keepBodies(encoding *ua.NodeID) {
	defer func() { _ = recover() }() // it is registered as one that the library knows
	ua.RegisterExtensionObject(encoding, new(body))
}

// layout is a structure as the server describes it (OPC 10000-3, 8.48 to 8.51).
type layout struct {
	name   string
	kind   ua.StructureType
	fields []field
}

// field is one member of a structure.
type field struct {
	name     string
	built    ua.TypeID // TypeIDNull: nested
	nested   *layout
	array    bool
	optional bool
}

// object is a structure that was taken apart.
type object struct {
	layout *layout
	values []any // by field; nil: left out
}

func (o *object) member(name string) (any, string) {
	var names []string
	for i, f := range o.layout.fields {
		if f.name == name {
			return o.values[i], ""
		}
		names = append(names, f.name)
	}
	return nil, noMember(name, names)
}

// layouts are the structures of one server, by the node id of their encoding, and
// why some are not there. The zero layouts knows none.
type layouts struct {
	byEncoding map[string]*layout
	// problem says why the structure of this node could not be learned.
	problem string
}

// open takes a structure apart.
func (k layouts) open(eo *ua.ExtensionObject) (any, string) {
	if eo == nil {
		return nil, "the node has no value"
	}
	if why := unmade(eo); why != "" {
		return nil, why
	}
	var raw []byte
	switch v := eo.Value.(type) {
	case nil:
	case *body:
		raw = v.bytes
	default:
		return v, "" // the library knows it
	}
	l := k.byEncoding[encodingKey(eo)]
	if l == nil {
		why := k.problem
		if why == "" {
			why = "the server does not describe it"
		}
		return nil, fmt.Sprintf("a structure of the unknown type %s (%s): name the nodes of its members instead, if the server has some", encodingKey(eo), why)
	}
	o, err := l.parse(raw)
	if err != nil {
		return nil, fmt.Sprintf("the structure %s is not as the server describes it: %v; after a change of the PLC's program restart the gateway", l.name, err)
	}
	return o, ""
}

// parse takes a whole body apart. The library's codec panics at some lengths.
func (l *layout) parse(raw []byte) (o *object, err error) {
	defer func() {
		if r := recover(); r != nil {
			o, err = nil, fmt.Errorf("it cannot be decoded (%v)", r)
		}
	}()
	buf := ua.NewBuffer(raw)
	if o, err = l.decode(&parser{Buffer: buf, left: maxParts}, 0); err != nil {
		return nil, err
	}
	if n := buf.Len(); n != 0 {
		return nil, fmt.Errorf("%d bytes are left", n)
	}
	return o, nil
}

func encodingKey(eo *ua.ExtensionObject) string {
	if eo.TypeID == nil || eo.TypeID.NodeID == nil {
		return "none"
	}
	return eo.TypeID.NodeID.String()
}

// parser is the body of a structure, and of how many parts more it may be.
type parser struct {
	*ua.Buffer
	left int
}

var errTooLarge = errors.New("it has too many parts, or is nested too deep")

// decode reads one structure (OPC 10000-6, 5.2.6 to 5.2.8).
func (l *layout) decode(buf *parser, depth int) (*object, error) {
	if depth > maxNesting {
		return nil, errTooLarge
	}
	o := &object{layout: l, values: make([]any, len(l.fields))}
	there, chosen := ^uint32(0), -1
	switch l.kind {
	case ua.StructureTypeStructureWithOptionalFields:
		there = buf.ReadUint32()
	case ua.StructureTypeUnion:
		chosen = int(buf.ReadUint32()) - 1
		if chosen >= len(l.fields) {
			return nil, fmt.Errorf("the union has no field %d", chosen+1)
		}
	}
	bit := 0
	for i, f := range l.fields {
		if l.kind == ua.StructureTypeUnion && i != chosen {
			continue
		}
		if f.optional && l.kind == ua.StructureTypeStructureWithOptionalFields {
			bit++
			if there&(1<<(bit-1)) == 0 {
				continue
			}
		}
		v, err := f.decode(buf, depth)
		if err == nil {
			err = buf.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		o.values[i] = v
	}
	return o, buf.Error()
}

func (f *field) decode(buf *parser, depth int) (any, error) {
	if !f.array {
		return f.decodeOne(buf, depth)
	}
	n := buf.ReadInt32()
	if n < 0 {
		n = 0
	}
	if int(n) > buf.Len() { // each element takes a byte at least
		return nil, fmt.Errorf("an array of %d in %d bytes", n, buf.Len())
	}
	all := make([]any, n)
	for i := range all {
		v, err := f.decodeOne(buf, depth)
		if err == nil {
			err = buf.Error()
		}
		if err != nil {
			return nil, err
		}
		all[i] = v
	}
	return all, nil
}

func (f *field) decodeOne(buf *parser, depth int) (any, error) {
	if buf.left--; buf.left < 0 {
		return nil, errTooLarge
	}
	if f.nested != nil {
		return f.nested.decode(buf, depth+1)
	}
	read := func(v any) any { buf.ReadStruct(v); return v }
	// What may hold anything is skimmed first, as the message around it was, which
	// skim could not look into.
	skimmed := func(v any) (any, error) {
		if err := skimValue(buf.Bytes(), v); err != nil {
			return nil, err
		}
		return read(v), nil
	}
	switch f.built {
	case ua.TypeIDBoolean:
		return buf.ReadBool(), nil
	case ua.TypeIDSByte:
		return buf.ReadInt8(), nil
	case ua.TypeIDByte:
		return buf.ReadByte(), nil
	case ua.TypeIDInt16:
		return buf.ReadInt16(), nil
	case ua.TypeIDUint16:
		return buf.ReadUint16(), nil
	case ua.TypeIDInt32:
		return buf.ReadInt32(), nil
	case ua.TypeIDUint32:
		return buf.ReadUint32(), nil
	case ua.TypeIDInt64:
		return buf.ReadInt64(), nil
	case ua.TypeIDUint64:
		return buf.ReadUint64(), nil
	case ua.TypeIDFloat:
		return buf.ReadFloat32(), nil
	case ua.TypeIDDouble:
		return buf.ReadFloat64(), nil
	case ua.TypeIDString, ua.TypeIDXMLElement:
		return buf.ReadString(), nil
	case ua.TypeIDDateTime:
		boundTime(buf.Bytes())
		return buf.ReadTime(), nil
	case ua.TypeIDGUID:
		return read(new(ua.GUID)), nil
	case ua.TypeIDByteString:
		return buf.ReadBytes(), nil
	case ua.TypeIDNodeID:
		return read(new(ua.NodeID)), nil
	case ua.TypeIDExpandedNodeID:
		return read(new(ua.ExpandedNodeID)), nil
	case ua.TypeIDStatusCode:
		return ua.StatusCode(buf.ReadUint32()), nil
	case ua.TypeIDQualifiedName:
		return read(new(ua.QualifiedName)), nil
	case ua.TypeIDLocalizedText:
		return read(new(ua.LocalizedText)), nil
	case ua.TypeIDExtensionObject:
		return skimmed(new(ua.ExtensionObject))
	case ua.TypeIDDataValue:
		return skimmed(new(ua.DataValue))
	case ua.TypeIDVariant:
		return skimmed(new(ua.Variant))
	default:
		return nil, fmt.Errorf("a member of the type %s, which is not supported", typeName(f.built))
	}
}
