package opcua

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// serveAll answers each request of a channel without security with what reply says,
// until the client hangs up.
func (h *hostile) serveAll(reply func(ua.Request) ua.Response) {
	h.open()
	for b := h.read(); b != nil && string(b[:3]) == "MSG"; b = h.read() {
		const number, message = chunkHead + 8 + 4, chunkHead + 8 + sequenceHead
		_, body, err := ua.DecodeService(b[message:])
		req, ok := body.(ua.Request)
		if err != nil || !ok {
			h.t.Errorf("the client asks with %T (%v)", body, err)
			return
		}
		answer := reply(req)
		answer.SetHeader(header(req.Header().RequestHandle, ua.StatusOK))
		out, err := encode(answer)
		if err != nil {
			h.t.Error(err)
			return
		}
		h.answerAll(binary.LittleEndian.Uint32(b[number:]), out)
	}
}

// A server may describe a type by an empty definition and by its dictionary: the
// dictionary is asked then, for the members of a type that has none are nobody's.
func TestAnEmptyDefinitionBesideADictionary(t *testing.T) {
	own := func(name string) *ua.NodeID { return ua.NewStringNodeID(2, name) }
	for _, c := range []struct {
		name, inDictionary string // the type's name in the dictionary; "" is no dictionary
		members            int    // -1: it is refused
	}{
		{"in the dictionary", "Intel", 1}, {"in no dictionary", "", 0}, {"in a dictionary that cannot be read", "Motorola", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := func(v *ua.ReadValueID) any {
				switch {
				case v.AttributeID == ua.AttributeIDDataTypeDefinition:
					return ua.NewExtensionObject(&ua.StructureDefinition{DefaultEncodingID: own("encoding"), BaseDataType: standard(id.Structure), Fields: []*ua.StructureField{}})
				case v.NodeID.StringID() == "description":
					return c.inDictionary
				default:
					return []byte(plcTypes)
				}
			}
			browse := func(b *ua.BrowseDescription) []*ua.ReferenceDescription {
				var to string
				switch kind := b.ReferenceTypeID.IntID(); {
				case kind == id.HasEncoding:
					to = "encoding"
				case kind == id.HasDescription && c.inDictionary != "":
					to = "description"
				case kind == id.HasComponent:
					to = "dictionary"
				default:
					return nil
				}
				return []*ua.ReferenceDescription{{
					ReferenceTypeID: b.ReferenceTypeID, NodeID: &ua.ExpandedNodeID{NodeID: own(to)}, BrowseName: &ua.QualifiedName{Name: "Default Binary"},
					DisplayName: &ua.LocalizedText{}, TypeDefinition: &ua.ExpandedNodeID{NodeID: standard(0)},
				}}
			}
			client, err := dialHostile(t, func(h *hostile) {
				h.serveAll(func(r ua.Request) ua.Response {
					if r, ok := r.(*ua.BrowseRequest); ok {
						return &ua.BrowseResponse{Results: []*ua.BrowseResult{{References: browse(r.NodesToBrowse[0])}}}
					}
					v := ua.MustVariant(read(r.(*ua.ReadRequest).NodesToRead[0]))
					return &ua.ReadResponse{Results: []*ua.DataValue{{EncodingMask: ua.DataValueValue, Value: v}}}
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			defer client.channel.close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			o := defaults()
			l := &learner{
				s: &session{d: &driver{o: o}, client: client, ctx: ctx}, types: map[string]*layout{}, found: map[string]*layout{}, nodes: map[string]string{},
				dictionaries: map[string]readDictionary{},
			}
			_, made, err := l.resolve(ctx, own("type"), 0)
			var unknown undescribed
			switch {
			case c.members < 0:
				if !errors.As(err, &unknown) {
					t.Errorf("%v, want why it is refused", err)
				}
			case err != nil || len(made.fields) != c.members || l.found[own("encoding").String()] != made:
				t.Errorf("%+v, %v, want %d members", made, err, c.members)
			}
		})
	}
}
