package opcua

import (
	"bytes"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
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
		refused := skim(b)
		if refused != nil {
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
		values(0x3f), values(0x16, 1, 0, 0xff, 0, 1, 0xff, 0xff, 0xff, 0x7f), []byte{}, []byte{0}, []byte{1, 0}, values(0x8c, 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0))
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
