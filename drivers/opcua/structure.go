package opcua

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gopcua/opcua/id"
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
	var raw []byte
	switch v := eo.Value.(type) {
	case nil:
	case *ua.XMLElement:
		return nil, "the server sends the structure as XML: name nodes of its members instead"
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
		return nil, fmt.Sprintf("the structure %s is not as the server describes it: %v; after a change of the PLC's program reload the gateway", l.name, err)
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

// learner asks a server for its structures.
type learner struct {
	s     *session
	types map[string]*layout // by data type
	found map[string]*layout // by encoding
	asked int                // how many types were asked for
	nodes map[string]string  // what went wrong, by node; empty if nothing did
}

// learnStructures asks for the structures of the items that name members, before
// anything of them is read. What cannot be learned is a matter of those items
// alone; an error is one of the connection.
func (s *session) learnStructures(ctx context.Context) error {
	l := &learner{s: s, types: map[string]*layout{}, found: map[string]*layout{}, nodes: map[string]string{}}
	for _, it := range s.items {
		if len(it.steps) == 0 || it.node() == nil {
			continue
		}
		problem, err := l.learn(ctx, it.node())
		if err != nil {
			return fmt.Errorf("ask for the structure of %s: %w", it.id, err)
		}
		it.known = layouts{byEncoding: l.found, problem: problem}
	}
	return nil
}

// learn asks for the structure of a node's value, if it is one.
func (l *learner) learn(ctx context.Context, node *ua.NodeID) (problem string, err error) {
	key := node.String()
	if problem, known := l.nodes[key]; known {
		return problem, nil
	}
	defer func() { l.nodes[key] = problem }()
	got, err := l.s.readParts(ctx, []*ua.ReadValueID{attribute(node, ua.AttributeIDDataType), value(node)})
	if err != nil {
		return "", err
	}
	declared, ok := nodeOf(got[0])
	if ok && builtinOf(declared) == ua.TypeIDNull {
		if problem, err = l.describe(ctx, declared); err != nil {
			return "", err
		}
	}
	// What is there may be of a subtype of what the node is declared as.
	encoding := unknownStructure(got[1])
	if encoding == nil || l.found[encoding.String()] != nil {
		return problem, nil
	}
	types, err := l.references(ctx, encoding, id.HasEncoding, ua.BrowseDirectionInverse)
	if err != nil || len(types) == 0 {
		return problem, err
	}
	return l.describe(ctx, types[0].NodeID.NodeID)
}

// describe learns a structure, or says why it cannot be learned.
func (l *learner) describe(ctx context.Context, dataType *ua.NodeID) (problem string, err error) {
	_, _, err = l.resolve(ctx, dataType, 0)
	var unknown undescribed
	if errors.As(err, &unknown) {
		return unknown.Error(), nil
	}
	return "", err
}

// unknownStructure returns the encoding of a structure, or of the first in an
// array, that was not taken apart.
func unknownStructure(d *ua.DataValue) *ua.NodeID {
	if d == nil || d.Value == nil {
		return nil
	}
	eo, _ := d.Value.Value().(*ua.ExtensionObject)
	if all, ok := d.Value.Value().([]*ua.ExtensionObject); ok && len(all) > 0 {
		eo = all[0]
	}
	if eo == nil || eo.TypeID == nil || eo.TypeID.NodeID == nil {
		return nil
	}
	if _, raw := eo.Value.(*body); eo.Value != nil && !raw {
		return nil
	}
	return eo.TypeID.NodeID
}

// undescribed says why a structure cannot be learned.
type undescribed string

func (u undescribed) Error() string { return string(u) }

// resolve returns what values of a data type look like: a built-in type or a
// structure.
func (l *learner) resolve(ctx context.Context, dataType *ua.NodeID, depth int) (ua.TypeID, *layout, error) {
	if built := builtinOf(dataType); built != ua.TypeIDNull {
		return built, nil, nil
	}
	key := dataType.String()
	if known := l.types[key]; known != nil {
		return ua.TypeIDNull, known, nil
	}
	if l.asked++; depth > maxNesting || l.asked > maxLayouts {
		return 0, nil, undescribed("it is nested too deep, or has too many types")
	}
	got, err := l.s.read(ctx, []*ua.ReadValueID{attribute(dataType, ua.AttributeIDDataTypeDefinition)})
	if err != nil {
		return 0, nil, err
	}
	if got[0] != nil && got[0].Value != nil {
		if eo, ok := got[0].Value.Value().(*ua.ExtensionObject); ok && eo != nil {
			switch d := eo.Value.(type) {
			case *ua.StructureDefinition:
				structure, err := l.structure(ctx, dataType, d, depth)
				return ua.TypeIDNull, structure, err
			case *ua.EnumDefinition:
				return ua.TypeIDInt32, nil, nil
			}
		}
	}
	// It is derived from another one, such as Duration from Double.
	super, err := l.references(ctx, dataType, id.HasSubtype, ua.BrowseDirectionInverse)
	if err != nil {
		return 0, nil, err
	}
	if len(super) == 0 || builtinOf(super[0].NodeID.NodeID) == ua.TypeIDExtensionObject {
		return 0, nil, undescribed("the server describes none of its members, as servers older than OPC UA 1.04 do")
	}
	return l.resolve(ctx, super[0].NodeID.NodeID, depth+1)
}

// structure takes over the server's description of a structure.
func (l *learner) structure(ctx context.Context, dataType *ua.NodeID, d *ua.StructureDefinition, depth int) (*layout, error) {
	if d.StructureType > ua.StructureTypeUnion || len(d.Fields) > maxFields {
		return nil, undescribed("its members may be of any type")
	}
	made := &layout{name: dataType.String(), kind: d.StructureType, fields: make([]field, 0, len(d.Fields))}
	l.types[dataType.String()] = made
	for _, f := range d.Fields {
		if f == nil || f.DataType == nil {
			return nil, undescribed("the server leaves out a member")
		}
		if f.ValueRank != -1 && f.ValueRank != 1 {
			return nil, undescribed("its member " + f.Name + " is an array of more than one dimension")
		}
		built, nested, err := l.resolve(ctx, f.DataType, depth+1)
		if err != nil {
			delete(l.types, dataType.String())
			return nil, err
		}
		made.fields = append(made.fields, field{name: f.Name, built: built, nested: nested, array: f.ValueRank == 1, optional: f.IsOptional})
	}
	encoding := d.DefaultEncodingID
	if encoding == nil || encoding.Namespace() == 0 && encoding.IntID() == 0 {
		all, err := l.references(ctx, dataType, id.HasEncoding, ua.BrowseDirectionForward)
		if err != nil {
			return nil, err
		}
		encoding = nil
		for _, r := range all {
			if r.BrowseName != nil && strings.EqualFold(r.BrowseName.Name, "Default Binary") {
				encoding = r.NodeID.NodeID
			}
		}
	}
	if encoding != nil {
		keepBodies(encoding)
		l.found[encoding.String()] = made
	}
	return made, nil
}

// references follows the references of a kind from a node, at most maxLayouts.
func (l *learner) references(ctx context.Context, from *ua.NodeID, kind uint32, way ua.BrowseDirection) (found []*ua.ReferenceDescription, err error) {
	if l.s.d.browseless {
		return nil, nil
	}
	answer, err := ask[*ua.BrowseResponse](ctx, l.s, &ua.BrowseRequest{
		View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)},
		NodesToBrowse: []*ua.BrowseDescription{{
			NodeID: from, BrowseDirection: way, ReferenceTypeID: standard(kind), IncludeSubtypes: true, ResultMask: uint32(ua.BrowseResultMaskAll),
		}},
	})
	if err != nil {
		var status ua.StatusCode
		if errors.As(err, &status) { // the library stops its client; the next session does without
			l.s.d.browseless, err = true, away{err}
		}
		return nil, err
	}
	if len(answer.Results) != 1 || answer.Results[0] == nil {
		return nil, nil
	}
	for _, r := range answer.Results[0].References {
		if r != nil && r.NodeID != nil && r.NodeID.NodeID != nil && len(found) < maxLayouts {
			found = append(found, r)
		}
	}
	return found, nil
}

// nodeOf returns the node id that an attribute holds.
func nodeOf(d *ua.DataValue) (*ua.NodeID, bool) {
	if d == nil || d.Value == nil {
		return nil, false
	}
	n, ok := d.Value.Value().(*ua.NodeID)
	return n, ok && n != nil
}

// builtinOf returns the built-in type that a standard data type is encoded as,
// TypeIDNull for one that has to be asked for (OPC 10000-6, 5.1.2 and 5.1.3).
func builtinOf(dataType *ua.NodeID) ua.TypeID {
	if dataType.Namespace() != 0 {
		return ua.TypeIDNull
	}
	switch n := dataType.IntID(); {
	case n >= id.Boolean && n <= id.LocalizedText:
		return ua.TypeID(n)
	case n == id.DataValue:
		return ua.TypeIDDataValue
	case n == id.BaseDataType || n == id.Number || n == id.Integer || n == id.UInteger:
		return ua.TypeIDVariant
	case n == id.Enumeration:
		return ua.TypeIDInt32
	case n == id.Structure:
		return ua.TypeIDExtensionObject
	default:
		return ua.TypeIDNull
	}
}
