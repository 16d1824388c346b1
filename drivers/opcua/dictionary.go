package opcua

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// Servers before OPC UA 1.04 describe their structures in dictionaries: a variable
// of theirs holds a schema in XML, of all types of a namespace (OPC 10000-5, annex
// E, and OPC 10000-3, annex C for the schema).

const (
	// mostElements bounds the types, members and values of a dictionary, mostDeep how
	// deep they lie in each other: an element takes more memory than bytes.
	mostElements, mostDeep = 50_000, 8
)

// schemaField is one member of a structure in a dictionary.
type schemaField struct {
	name, typeName string
	// fixed is a number of them, lengthField names the member that says how many
	// there are, and inBytes that it is their bytes.
	fixed       int
	lengthField string
	inBytes     bool
	// switchField names the member that says whether this one is there: a bit, or
	// with switchValue a number that is compared by operand.
	switchField, switchValue, operand string
	terminator                        string
}

func fieldOf(attrs []xml.Attr) (f schemaField) {
	for _, a := range attrs {
		switch a.Name.Local {
		case "Name":
			f.name = a.Value
		case "TypeName":
			f.typeName = a.Value
		case "Length":
			f.fixed, _ = strconv.Atoi(a.Value)
		case "LengthField":
			f.lengthField = a.Value
		case "IsLengthInBytes":
			f.inBytes = a.Value == "true" || a.Value == "1"
		case "SwitchField":
			f.switchField = a.Value
		case "SwitchValue":
			f.switchValue = a.Value
		case "SwitchOperand":
			f.operand = a.Value
		case "Terminator":
			f.terminator = a.Value
		}
	}
	return f
}

// attributeOf returns the value of an attribute, empty if there is none.
func attributeOf(attrs []xml.Attr, name string) string {
	for _, a := range attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// The attribute of a dictionary, and of a type in one, that says which byte is first,
// and what it says where that is the high one.
const byteOrder, bigEndian = "DefaultByteOrder", "BigEndian"

// The namespaces of the schema's own types and of the standard's.
const (
	binarySchema = "http://opcfoundation.org/BinarySchema/"
	standardUA   = "http://opcfoundation.org/UA/"
)

// schemaTypes are the built-in types of the schema and of the standard's
// dictionary, by the ends of their names.
var schemaTypes = map[string]ua.TypeID{
	"Boolean": ua.TypeIDBoolean, "SByte": ua.TypeIDSByte, "Byte": ua.TypeIDByte, "Char": ua.TypeIDByte,
	"Int16": ua.TypeIDInt16, "UInt16": ua.TypeIDUint16, "Int32": ua.TypeIDInt32, "UInt32": ua.TypeIDUint32,
	"Int64": ua.TypeIDInt64, "UInt64": ua.TypeIDUint64, "Float": ua.TypeIDFloat, "Double": ua.TypeIDDouble,
	"CharArray": ua.TypeIDString, "String": ua.TypeIDString, "ByteString": ua.TypeIDByteString, "DateTime": ua.TypeIDDateTime, "Guid": ua.TypeIDGUID,
	"XmlElement": ua.TypeIDXMLElement, "NodeId": ua.TypeIDNodeID, "ExpandedNodeId": ua.TypeIDExpandedNodeID, "StatusCode": ua.TypeIDStatusCode,
	"QualifiedName": ua.TypeIDQualifiedName, "LocalizedText": ua.TypeIDLocalizedText, "ExtensionObject": ua.TypeIDExtensionObject,
	"DataValue": ua.TypeIDDataValue, "Variant": ua.TypeIDVariant,
}

// schemaStandard are structures of the standard that PLCs use within their own.
var schemaStandard = map[string]*layout{
	"Range": {name: "Range", fields: []field{{name: "Low", built: ua.TypeIDDouble}, {name: "High", built: ua.TypeIDDouble}}},
	"EUInformation": {name: "EUInformation", fields: []field{{name: "NamespaceUri", built: ua.TypeIDString}, {name: "UnitId", built: ua.TypeIDInt32},
		{name: "DisplayName", built: ua.TypeIDLocalizedText}, {name: "Description", built: ua.TypeIDLocalizedText}}},
	"TimeZoneDataType": {name: "TimeZoneDataType", fields: []field{{name: "Offset", built: ua.TypeIDInt16}, {name: "DaylightSavingInOffset", built: ua.TypeIDBoolean}}},
}

// dictionary is one that was read.
type dictionary struct {
	spaces     map[string]string // by prefix
	target     string
	structures map[string][]schemaField
	enums      map[string]int  // how many bits
	swapped    map[string]bool // types of a dictionary that say that their high byte is first
	made       map[string]*layout
}

// parseDictionary reads the schema of a dictionary, element by element.
func parseDictionary(text []byte) (*dictionary, error) {
	d := &dictionary{
		spaces:     map[string]string{"opc": binarySchema, "ua": standardUA},
		structures: make(map[string][]schemaField), enums: make(map[string]int), swapped: make(map[string]bool), made: make(map[string]*layout),
	}
	in := xml.NewDecoder(bytes.NewReader(bytes.TrimRight(text, "\x00")))
	inside := ""
	for elements, deep := 0, 0; ; {
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			return nil, undescribed("its dictionary of types cannot be read: " + err.Error())
		}
		switch e := token.(type) {
		case xml.EndElement:
			deep--
		case xml.StartElement:
			elements, deep = elements+1, deep+1
			if elements > mostElements || deep > mostDeep {
				return nil, undescribed("its dictionary of types has too many elements, or is nested too deep")
			}
			switch name := attributeOf(e.Attr, "Name"); e.Name.Local {
			case "TypeDictionary":
				if err := d.head(e.Attr); err != nil {
					return nil, err
				}
			case "StructuredType":
				inside = name
				d.structures[name] = nil
				d.order(name, e.Attr)
			case "EnumeratedType":
				inside = ""
				d.enums[name], _ = strconv.Atoi(attributeOf(e.Attr, "LengthInBits"))
				d.order(name, e.Attr)
			case "Field":
				d.structures[inside] = append(d.structures[inside], fieldOf(e.Attr))
			}
		}
	}
}

// order takes the byte order of a type, which may be another one than that of the
// dictionary (OPC 10000-3, annex C).
func (d *dictionary) order(name string, attrs []xml.Attr) {
	if attributeOf(attrs, byteOrder) == bigEndian {
		d.swapped[name] = true
	}
}

// sameOrder refuses a type with the high byte first: OPC UA has none (OPC 10000-6,
// 5.2.2.2), so nobody knows what a server that says so sends.
func (d *dictionary) sameOrder(name string) error {
	if d.swapped[name] {
		return undescribed(fmt.Sprintf("its type %s in its dictionary has the high byte first", shortName(name)))
	}
	return nil
}

// head takes the namespaces of a dictionary.
func (d *dictionary) head(attrs []xml.Attr) error {
	for _, a := range attrs {
		switch {
		case a.Name.Space == "xmlns":
			d.spaces[a.Name.Local] = a.Value
		case a.Name.Local == "TargetNamespace":
			d.target = a.Value
		case a.Name.Local == byteOrder && a.Value == bigEndian:
			return undescribed("its dictionary of types has the high byte first")
		}
	}
	return nil
}

// layout returns how a structure of the dictionary is encoded.
func (d *dictionary) layout(name string, depth int) (*layout, error) {
	if known := d.made[name]; known != nil {
		return known, nil
	}
	fields, ok := d.structures[name]
	switch {
	case !ok:
		return nil, undescribed("its dictionary of types does not have " + shortName(name))
	case depth > maxNesting || len(d.made) >= maxLayouts || len(fields) > maxFields:
		return nil, undescribed("it is nested too deep, or has too many types or members")
	}
	if err := d.sameOrder(name); err != nil {
		return nil, err
	}
	made := &layout{name: name}
	d.made[name] = made
	if err := d.fill(made, fields, depth); err != nil {
		clear(d.made) // what has been made since may hold this one
		return nil, err
	}
	return made, nil
}

// fill makes the members of a structure of the schema's fields: those that only say
// what is there, or how many there are, are none of their own.
func (d *dictionary) fill(made *layout, fields []schemaField, depth int) error {
	bits, at := map[string]int{}, 0 // the place of each bit in front
	for len(fields) > 0 && d.is(fields[0].typeName, "Bit") {
		bits[fields[0].name] = at
		at += max(1, fields[0].fixed)
		fields = fields[1:]
	}
	switch {
	case at == 32:
		made.kind = ua.StructureTypeStructureWithOptionalFields
	case at > 0:
		return undescribed(fmt.Sprintf("its type %s begins with %d single bits", shortName(made.name), at))
	case len(fields) > 1 && fields[1].switchValue != "" && fields[1].switchField == fields[0].name && d.is(fields[0].typeName, "UInt32"):
		made.kind = ua.StructureTypeUnion
		bits[fields[0].name] = -1
		fields = fields[1:]
	}
	optional := 0
	for i := 0; i < len(fields); i++ {
		f, array := fields[i], false
		if i+1 < len(fields) && fields[i+1].lengthField == f.name && f.lengthField == "" && d.is(f.typeName, "Int32") {
			i++
			f, array = fields[i], true
		}
		compared := f.operand != "" && f.operand != "Equals"
		switch place, switched := bits[f.switchField]; {
		case f.fixed != 0:
			return undescribed(fmt.Sprintf("its member %s has a fixed length of %d, which OPC UA does not have", shortName(f.name), f.fixed))
		case f.inBytes || f.terminator != "" || !array && f.lengthField != "" || d.is(f.typeName, "Bit"):
			return undescribed(fmt.Sprintf("its member %s has a length that OPC UA does not know", shortName(f.name)))
		case made.kind == ua.StructureTypeUnion && (compared || place != -1 || f.switchValue != strconv.Itoa(len(made.fields)+1)):
			return undescribed(fmt.Sprintf("its member %s is chosen in a way that OPC UA does not know", shortName(f.name)))
		case made.kind != ua.StructureTypeUnion && f.switchField != "" && (compared || !switched || place != optional || f.switchValue != "" && f.switchValue != "1"):
			return undescribed(fmt.Sprintf("whether its member %s is there is said in a way that OPC UA does not know", shortName(f.name)))
		}
		built, nested, err := d.resolve(f, depth)
		if err != nil {
			return err
		}
		made.fields = append(made.fields, field{name: f.name, built: built, nested: nested, array: array, optional: made.kind != ua.StructureTypeUnion && f.switchField != ""})
		if made.fields[len(made.fields)-1].optional {
			optional++
		}
	}
	return nil
}

// resolve returns what a field holds: a built-in type or a structure.
func (d *dictionary) resolve(f schemaField, depth int) (ua.TypeID, *layout, error) {
	prefix, name, found := strings.Cut(f.typeName, ":")
	space := d.spaces[prefix]
	if !found {
		name, space = f.typeName, d.target
	}
	if space == binarySchema || space == standardUA && d.target != standardUA {
		if built, ok := schemaTypes[name]; ok {
			return built, nil, nil
		}
		if known := schemaStandard[name]; known != nil {
			return ua.TypeIDNull, known, nil
		}
	}
	if space == d.target {
		if bits, ok := d.enums[name]; ok {
			if err := d.sameOrder(name); err != nil {
				return 0, nil, err
			}
			switch bits {
			case 8:
				return ua.TypeIDByte, nil, nil
			case 16:
				return ua.TypeIDUint16, nil, nil
			default:
				return ua.TypeIDInt32, nil, nil
			}
		}
		nested, err := d.layout(name, depth+1)
		return ua.TypeIDNull, nested, err
	}
	return 0, nil, undescribed(fmt.Sprintf("its member %s is of the type %s of another dictionary", shortName(f.name), shortName(f.typeName)))
}

// is reports whether a type is the one of the schema with that name.
func (d *dictionary) is(typeName, name string) bool {
	prefix, rest, found := strings.Cut(typeName, ":")
	return found && rest == name && d.spaces[prefix] == binarySchema
}

// shortName bounds what a server calls its own.
func shortName(name string) string {
	if len(name) > 64 {
		name = name[:64] + "…"
	}
	return strings.ToValidUTF8(name, "?")
}

// noDictionary is a structure whose encoding leads to no dictionary.
const noDictionary undescribed = "the server describes none of its members, neither as servers since OPC UA 1.04 do nor in a dictionary of types"

// lookUp learns a structure by the dictionary that describes its encoding (OPC
// 10000-5, annex E): the encoding has a description, which names the type, and is
// part of the dictionary.
func (l *learner) lookUp(ctx context.Context, encoding *ua.NodeID) (*layout, error) {
	descriptions, err := l.references(ctx, encoding, id.HasDescription, ua.BrowseDirectionForward)
	if err != nil {
		return nil, err
	}
	if len(descriptions) == 0 {
		return nil, noDictionary
	}
	description := descriptions[0].NodeID.NodeID
	of, err := l.references(ctx, description, id.HasComponent, ua.BrowseDirectionInverse)
	if err != nil {
		return nil, err
	}
	if len(of) == 0 {
		return nil, noDictionary
	}
	got, err := l.s.read(ctx, []*ua.ReadValueID{value(description)})
	if err != nil {
		return nil, err
	}
	name, _ := content(got[0]).(string)
	if name == "" {
		name = nameOf(descriptions[0])
	}
	d, err := l.dictionary(ctx, of[0].NodeID.NodeID)
	if err != nil {
		return nil, err
	}
	return d.layout(name, 0)
}

// dictionary reads one, once a session.
func (l *learner) dictionary(ctx context.Context, node *ua.NodeID) (*dictionary, error) {
	key := node.String()
	if known, ok := l.dictionaries[key]; ok {
		return known.dictionary, known.err
	}
	d, err := l.readDictionary(ctx, node)
	var unknown undescribed
	if err == nil || errors.As(err, &unknown) {
		l.dictionaries[key] = readDictionary{d, err}
	}
	return d, err
}

// readDictionary is a dictionary, or why it is none.
type readDictionary struct {
	*dictionary
	err error
}

func (l *learner) readDictionary(ctx context.Context, node *ua.NodeID) (*dictionary, error) {
	got, err := l.s.read(ctx, []*ua.ReadValueID{value(node)})
	var long tooLong
	switch {
	case errors.As(err, &long):
		return nil, undescribed(fmt.Sprintf("its dictionary of types is longer than max_message (%d bytes): raise that", long))
	case err != nil:
		return nil, err
	}
	text, _ := content(got[0]).([]byte)
	if len(text) == 0 {
		return nil, undescribed("the server does not show its dictionary of types")
	}
	return parseDictionary(text)
}
