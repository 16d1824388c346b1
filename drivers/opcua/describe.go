package opcua

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/drivers"
)

// learner asks a server for its structures.
type learner struct {
	s     *session
	types map[string]*layout // by data type
	found map[string]*layout // by encoding
	asked int                // how many types were asked for
	nodes map[string]string  // what went wrong, by node; empty if nothing did
	// dictionaries are those that were read, by node.
	dictionaries map[string]readDictionary
}

// learnStructures asks for the structures of the items that name members, before
// anything of them is read. What cannot be learned is a matter of those items
// alone; an error is one of the connection.
//
// A server that does not answer is asked again by the next session, which is what a
// PLC that is about to start needs. Where that becomes a habit the other tags do not
// wait for it any longer.
func (s *session) learnStructures(ctx context.Context) error {
	if why := s.d.describes.why(); why != "" {
		s.goWithout(why)
		return nil
	}
	err := s.askStructures(ctx)
	switch {
	case err == nil:
		s.d.describes.heard()
	case ctx.Err() != nil || !unanswered(err) && !s.cut() || !s.d.describes.mute():
	default:
		s.d.describes.refuse(fmt.Sprintf("%v; it is asked again by a connection in %v at the earliest", err, askAgain))
		if !s.cut() {
			s.goWithout(s.d.describes.why())
			return nil
		}
	}
	return err
}

// unanswered reports whether a request, or the time for several, has run out.
func unanswered(err error) bool {
	var none noAnswer
	return errors.As(err, &none) || errors.Is(err, context.DeadlineExceeded)
}

// goWithout leaves the structures unknown.
func (s *session) goWithout(why string) {
	for _, it := range s.items {
		if len(it.steps) > 0 {
			it.known = layouts{problem: why}
		}
	}
}

// askStructures asks within the time of two requests.
func (s *session) askStructures(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*s.d.o.Timeout.Std())
	defer cancel()
	l := &learner{s: s, types: map[string]*layout{}, found: map[string]*layout{}, nodes: map[string]string{}, dictionaries: map[string]readDictionary{}}
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
	got, err := l.s.readAll(ctx, []*ua.ReadValueID{attribute(node, ua.AttributeIDDataType), value(node)})
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
				if made, err := l.beside(ctx, dataType, d, depth); made != nil || err != nil {
					return ua.TypeIDNull, made, err
				}
				structure, err := l.structure(ctx, dataType, d, depth)
				return ua.TypeIDNull, structure, err
			case *ua.EnumDefinition:
				return ua.TypeIDInt32, nil, nil
			}
		}
	}
	if made, err := l.old(ctx, dataType); made != nil || err != nil {
		return ua.TypeIDNull, made, err
	}
	// It is derived from another one, such as Duration from Double.
	super, err := l.references(ctx, dataType, id.HasSubtype, ua.BrowseDirectionInverse)
	if err != nil {
		return 0, nil, err
	}
	if len(super) == 0 || builtinOf(super[0].NodeID.NodeID) == ua.TypeIDExtensionObject {
		return 0, nil, undescribed("the server does not say how it is encoded")
	}
	return l.resolve(ctx, super[0].NodeID.NodeID, depth+1)
}

// old learns a structure by its dictionary; it is nil for a type that has no encoding.
func (l *learner) old(ctx context.Context, dataType *ua.NodeID) (*layout, error) {
	encoding, err := l.binary(ctx, dataType)
	if err != nil || encoding == nil {
		return nil, err
	}
	made, err := l.lookUp(ctx, encoding)
	if err != nil {
		return nil, err
	}
	l.types[dataType.String()] = made
	l.keep(encoding, made)
	return made, nil
}

// beside learns a structure whose definition has no members by its dictionary: some
// servers give a type an empty definition that has its members there. It is nil where
// the definition stands: none is there to ask, or the type lies within another one,
// which must not be lost over one that may well be empty.
func (l *learner) beside(ctx context.Context, dataType *ua.NodeID, d *ua.StructureDefinition, depth int) (*layout, error) {
	if len(d.Fields) > 0 {
		return nil, nil
	}
	made, err := l.old(ctx, dataType)
	var unknown undescribed
	if errors.As(err, &unknown) && (depth > 0 || unknown == noDictionary) {
		return nil, nil
	}
	return made, err
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
		var err error
		if encoding, err = l.binary(ctx, dataType); err != nil {
			return nil, err
		}
	}
	if encoding != nil {
		l.keep(encoding, made)
	}
	return made, nil
}

// keep takes a structure for values of that encoding.
func (l *learner) keep(encoding *ua.NodeID, made *layout) {
	keepBodies(encoding)
	l.found[encoding.String()] = made
}

// binary returns the encoding of a structure as it comes over the wire, nil for
// what has none.
func (l *learner) binary(ctx context.Context, dataType *ua.NodeID) (*ua.NodeID, error) {
	all, err := l.references(ctx, dataType, id.HasEncoding, ua.BrowseDirectionForward)
	for _, r := range all {
		if r.BrowseName != nil && strings.EqualFold(r.BrowseName.Name, "Default Binary") {
			return r.NodeID.NodeID, nil
		}
	}
	return nil, err
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
			l.s.d.browseless, err = true, drivers.Away(err)
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
