package opcua

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/plant"
)

// The library's decoder must not see what skim refuses. Once it survives that by
// itself, skim and docs/adr/0023 should be looked at again.
func TestTheLibraryStillNeedsSkim(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the library has learnt to refuse an array of -2 values: see docs/adr/0023")
		}
	}()
	_, _, _ = ua.DecodeService(values(0x86, 0xfe, 0xff, 0xff, 0xff))
}

// What skim lets through never makes the library panic. The seeds are 60 messages,
// good and bad.
func FuzzSkim(f *testing.F) {
	for _, b := range messages(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		b = bytes.Clone(b) // skim may change it
		if skim(b) != nil {
			return
		}
		_, _, _ = ua.DecodeService(b)
	})
}

// messages are the seeds: good ones of the services in use, each cut and changed
// in some places, and the attacks.
func messages(tb testing.TB) [][]byte {
	tb.Helper()
	header := &ua.ResponseHeader{RequestHandle: 5, ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{"a"}, AdditionalHeader: ua.NewExtensionObject(nil)}
	variant := func(v any) *ua.DataValue {
		return &ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp, Value: ua.MustVariant(v), SourceTimestamp: time.Unix(1e9, 0)}
	}
	change := &ua.DataChangeNotification{MonitoredItems: []*ua.MonitoredItemNotification{{ClientHandle: 1, Value: variant(int16(5))}}, DiagnosticInfos: []*ua.DiagnosticInfo{}}
	var all [][]byte
	for _, m := range []ua.Response{
		&ua.ReadResponse{ResponseHeader: header, Results: []*ua.DataValue{
			variant(true), variant("text"), variant([]float64{1, 2}), variant([][]int32{{1, 2}, {3, 4}}), variant([]byte("bytes")), variant(time.Unix(1e9, 0)),
			variant(ua.NewStringNodeID(2, "x")), variant(&ua.LocalizedText{EncodingMask: 3, Locale: "en", Text: "t"}), variant(&ua.QualifiedName{Name: "q"}),
			variant([]string{"a", ""}), variant(ua.NewExtensionObject(&ua.EUInformation{NamespaceURI: "u", UnitID: 4, DisplayName: ua.NewLocalizedText("d"), Description: ua.NewLocalizedText("e")})),
		}, DiagnosticInfos: []*ua.DiagnosticInfo{{EncodingMask: ua.DiagnosticInfoAdditionalInfo, AdditionalInfo: "x"}}},
		&ua.PublishResponse{ResponseHeader: header, SubscriptionID: 3, NotificationMessage: &ua.NotificationMessage{SequenceNumber: 1, NotificationData: []*ua.ExtensionObject{ua.NewExtensionObject(change)}}},
		&ua.GetEndpointsResponse{ResponseHeader: header, Endpoints: []*ua.EndpointDescription{{EndpointURL: "opc.tcp://x", Server: &ua.ApplicationDescription{ApplicationName: ua.NewLocalizedText("n")}, ServerCertificate: []byte{1, 2}, UserIdentityTokens: []*ua.UserTokenPolicy{anonymous()}}}},
		&ua.CreateSessionResponse{ResponseHeader: header, SessionID: ua.NewNumericNodeID(1, 2), AuthenticationToken: ua.NewGUIDNodeID(1, "AAAABBBB-CCDD-EEFF-0102-0304050607AA"), ServerSignature: &ua.SignatureData{Signature: []byte{1}}},
		&ua.CreateMonitoredItemsResponse{ResponseHeader: header, Results: []*ua.MonitoredItemCreateResult{{MonitoredItemID: 1, FilterResult: ua.NewExtensionObject(nil)}}},
		&ua.WriteResponse{ResponseHeader: header, Results: []ua.StatusCode{ua.StatusBadNodeIDUnknown}},
		&ua.ServiceFault{ResponseHeader: header},
	} {
		b, err := encode(m)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, b)
		for _, cut := range []int{3, 2} {
			all = append(all, b[:len(b)*(cut-1)/cut])
		}
		for i := range 4 {
			changed := bytes.Clone(b)
			changed[len(b)*(i+1)/5] ^= 0x80
			all = append(all, changed)
		}
	}
	return append(all, nested(200), nested(10), values(0x86, 0xfe, 0xff, 0xff, 0xff), values(0x98, 1, 0, 0, 0, 0x98, 1, 0, 0, 0, 0), values(0xc6, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0),
		values(0x3f), values(0x16, 1, 0, 0xff, 0, 1, 0xff, 0xff, 0xff, 0x7f), []byte{}, []byte{0}, []byte{1, 0}, values(0x8c, 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0),
		values(0x16, 0, 0, 2, 4, 0, 0, 0, 0x3c, 0x78, 0x2f, 0x3e), values(0xc7, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0), values(0xc7, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff))
}

// The seeds that are whole, each the first of seven, pass as the library reads them.
func TestSkimLetsGoodMessagesThrough(t *testing.T) {
	all := messages(t)
	if len(all) < 60 {
		t.Errorf("%d messages, want 60", len(all))
	}
	for i := 0; i < 7*7; i += 7 {
		if _, _, err := ua.DecodeService(all[i]); err != nil {
			t.Errorf("message %d: the library: %v", i, err)
		}
		if err := skim(all[i]); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

// A value that is right and that the library cannot read costs its own tag only.
func TestWhatTheLibraryCannotRead(t *testing.T) {
	for _, c := range []struct {
		name    string
		variant []byte
		want    string
	}{
		{"a structure as XML", []byte{0x16, 0, 0, 2, 4, 0, 0, 0, '<', 'x', '/', '>'}, "the server sends the structure as XML"},
		{"a known structure as XML", []byte{0x16, 1, 0, 0x79, 3, 2, 4, 0, 0, 0, '<', 'x', '/', '>'}, "the server sends the structure as XML"},
		{"an empty matrix", []byte{0xc7, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0}, "the node is a matrix without values"},
		{"an empty matrix of one dimension", []byte{0xcc, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, "the node is a matrix without values"},
		{"no array of dimensions", []byte{0xc7, 1, 0, 0, 0, 5, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, "the node is an array"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tag := item{point: &point{tag: "odd"}}
			for way, changes := range map[string][]sample{"poll": polled(t, c.variant), "publish": published(t, c.variant)} {
				if len(changes) != 2 || changes[1].kind != ua.TypeIDUint32 || changes[1].bits != 7 {
					t.Fatalf("%s: the value behind it: %+v", way, changes)
				}
				if r := tag.read(&changes[0]); r.Quality == plant.Good || !strings.HasPrefix(r.Cause, c.want) {
					t.Errorf("%s: %+v, want a cause %q", way, r, c.want)
				}
			}
		})
	}
}

// behind is a second value, and no diagnostics.
var behind = []byte{ua.DataValueValue, 0x07, 7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}

// polled reads a variant and another value out of an answer to Read.
func polled(t *testing.T, variant []byte) (all []sample) {
	b := values(variant...)
	at := len(b) - len(variant) - 5
	b[at] = 2
	body, err := decode(append(b, behind...))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range body.(*ua.ReadResponse).Results {
		all = append(all, sampleOf(0, v))
	}
	return all
}

// published does the same with the report of a subscription.
func published(t *testing.T, variant []byte) []sample {
	change := []byte{2, 0, 0, 0, 1, 0, 0, 0, ua.DataValueValue}
	change = append(append(append(change, variant...), 2, 0, 0, 0), behind...)
	whole, err := encode(&ua.PublishResponse{
		ResponseHeader:      &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)},
		NotificationMessage: &ua.NotificationMessage{NotificationData: []*ua.ExtensionObject{ua.NewExtensionObject(&ua.DataChangeNotification{})}},
	})
	if err != nil {
		t.Fatal(err)
	}
	head := binary.LittleEndian.AppendUint16([]byte{1, 0}, id.DataChangeNotification_Encoding_DefaultBinary)
	at := bytes.Index(whole, append(head, ua.ExtensionObjectBinary))
	end := at + 9 + int(binary.LittleEndian.Uint32(whole[at+5:]))
	b := binary.LittleEndian.AppendUint32(bytes.Clone(whole[:at+5]), uint32(len(change)))
	b = append(append(b, change...), whole[end:]...)
	if a, ok := decodePublish(b, nil); ok {
		return a.changes
	}
	body, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return publishAnswerOf(body.(*ua.PublishResponse)).changes
}
