package opcua

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// byLibrary is what skim and the library make of an answer, without decodePublish.
func byLibrary(b []byte) (*publishAnswer, error) {
	body, err := decode(bytes.Clone(b))
	if err != nil {
		return nil, err
	}
	r, ok := body.(*ua.PublishResponse)
	if !ok || r.ResponseHeader == nil {
		return nil, nil
	}
	return publishAnswerOf(r), nil
}

// sameSample reports whether two samples say the same.
func sameSample(a, b sample) bool {
	if a.kind == b.kind && !a.boxed && !b.boxed && (a.kind == ua.TypeIDFloat || a.kind == ua.TypeIDDouble) {
		x, y := reflect.ValueOf(a.any()).Float(), reflect.ValueOf(b.any()).Float()
		if math.IsNaN(x) && math.IsNaN(y) {
			a.bits = b.bits // the library has one for many
		}
	}
	x, y := a.value, b.value
	a.value, b.value = nil, nil
	return reflect.DeepEqual(a, b) && (reflect.DeepEqual(x, y) || hasNaN(x) && hasNaN(y))
}

// hasNaN reports whether x is an array with a number that is not equal to itself.
func hasNaN(x any) bool {
	v := reflect.ValueOf(x)
	if v.Kind() != reflect.Slice {
		return v.CanFloat() && math.IsNaN(v.Float())
	}
	for i := range v.Len() {
		if hasNaN(v.Index(i).Interface()) {
			return true
		}
	}
	return false
}

// compare fails unless decodePublish leaves b to the library, or says what it says.
func compare(t *testing.T, b []byte) (alone bool) {
	t.Helper()
	kept := bytes.Clone(b)
	got, ok := decodePublish(b, nil)
	if !bytes.Equal(b, kept) {
		t.Fatalf("the message was changed to % x from % x", b, kept)
	}
	if !ok {
		return false
	}
	clear(b) // the buffer is used for the next message
	want, err := byLibrary(kept)
	if err != nil || want == nil {
		t.Fatalf("the library refuses what was decoded: %v", err)
	}
	if got.header.RequestHandle != want.header.RequestHandle || got.header.ServiceResult != want.header.ServiceResult || !got.header.Timestamp.Equal(want.header.Timestamp) {
		t.Errorf("header %+v, want %+v", got.header, want.header)
	}
	if got.subscription != want.subscription || got.number != want.number || got.parts != want.parts || want.end != nil || len(got.changes) != len(want.changes) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	for i := range got.changes {
		if !sameSample(got.changes[i], want.changes[i]) {
			t.Errorf("change %d: %+v, want %+v", i, got.changes[i], want.changes[i])
		}
	}
	return true
}

// report is a publish answer with such values.
func report(tb testing.TB, values ...*ua.DataValue) []byte {
	tb.Helper()
	change := &ua.DataChangeNotification{DiagnosticInfos: []*ua.DiagnosticInfo{}}
	for i, v := range values {
		change.MonitoredItems = append(change.MonitoredItems, &ua.MonitoredItemNotification{ClientHandle: uint32(i + 1), Value: v})
	}
	return reportOf(tb, change)
}

// reportOf is a publish answer with such notifications.
func reportOf(tb testing.TB, notifications ...any) []byte {
	tb.Helper()
	m := &ua.NotificationMessage{SequenceNumber: 7, PublishTime: time.Unix(1e9, 0)}
	for _, n := range notifications {
		m.NotificationData = append(m.NotificationData, ua.NewExtensionObject(n))
	}
	h := header(5, ua.StatusOK)
	h.Timestamp, h.StringTable = time.Unix(1e9, 500), []string{"a"}
	b, err := encode(&ua.PublishResponse{
		ResponseHeader: h, SubscriptionID: 3, AvailableSequenceNumbers: []uint32{6, 7}, NotificationMessage: m,
		Results: []ua.StatusCode{ua.StatusOK}, DiagnosticInfos: []*ua.DiagnosticInfo{{EncodingMask: ua.DiagnosticInfoAdditionalInfo, AdditionalInfo: "x"}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// reported are values of all types, with and without times and states.
func reported() (all []*ua.DataValue) {
	at := time.Date(2026, 11, 22, 18, 0, 0, 123456700, time.UTC)
	for _, v := range []any{
		true, false, int8(-1), uint8(200), int16(math.MinInt16), uint16(math.MaxUint16), int32(-7), uint32(math.MaxUint32), int64(math.MinInt64),
		uint64(math.MaxUint64), float32(-1.5), math.Inf(-1), math.NaN(), float32(math.NaN()), "", "text", "Läuft\x00x", at, time.Time{}, []byte("bytes"),
		ua.StatusBadTimeout, ua.NewStringNodeID(2, "x"), ua.NewGUID("09087e75-8e5e-499b-954f-f2a9603db28a"), ua.NewLocalizedText("t"),
		&ua.QualifiedName{NamespaceIndex: 2, Name: "q"}, []int32{1, 2}, []float64{1, math.NaN()}, []string{"a", ""}, [][]int32{{1, 2}, {3, 4}},
		ua.NewExtensionObject(&ua.EUInformation{NamespaceURI: "u", UnitID: 4, DisplayName: ua.NewLocalizedText("d"), Description: ua.NewLocalizedText("e")}),
	} {
		d := &ua.DataValue{Value: ua.MustVariant(v)}
		switch len(all) % 4 {
		case 0:
			d.SourceTimestamp, d.ServerTimestamp = at, at.Add(time.Second)
		case 1:
			d.ServerTimestamp, d.Status = at, ua.StatusUncertainLastUsableValue
		case 2:
			d.SourceTimestamp, d.SourcePicoseconds, d.ServerTimestamp, d.ServerPicoseconds = at, 7, at, 9
		}
		d.UpdateMask()
		all = append(all, d)
	}
	return append(all, &ua.DataValue{}, &ua.DataValue{EncodingMask: ua.DataValueValue, Value: new(ua.Variant)},
		&ua.DataValue{EncodingMask: ua.DataValueStatusCode | ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp, Status: ua.StatusBadSensorFailure, ServerTimestamp: at})
}

// A publish answer is decoded as the library decodes it, and what has more than
// changes is left to the library.
func TestAPublishIsDecodedAsTheLibraryDoes(t *testing.T) {
	if !compare(t, report(t, reported()...)) {
		t.Error("changes of all types were left to the library")
	}
	for _, v := range reported() {
		if !compare(t, report(t, v)) {
			t.Errorf("%+v was left to the library", v)
		}
	}
	change := &ua.DataChangeNotification{MonitoredItems: []*ua.MonitoredItemNotification{{ClientHandle: 1, Value: reported()[5]}}}
	for name, c := range map[string]struct {
		parts []any
		alone bool
	}{
		"a keep-alive": {nil, true}, "two notifications": {[]any{change, change}, true}, "one without a body": {[]any{nil, change}, true},
		"the end of the subscription": {[]any{change, &ua.StatusChangeNotification{Status: ua.StatusBadTimeout, DiagnosticInfo: &ua.DiagnosticInfo{}}}, false},
		"an event":                    {[]any{&ua.EventNotificationList{}}, false},
	} {
		if got := compare(t, reportOf(t, c.parts...)); got != c.alone {
			t.Errorf("%s: decoded alone: %v, want %v", name, got, c.alone)
		}
	}
	whole := report(t, reported()...)
	for i := range whole {
		if compare(t, bytes.Clone(whole[:i])) {
			t.Fatalf("an answer that ends after %d of %d bytes was decoded", i, len(whole))
		}
	}
}

// What ends a subscription, and what the library decodes for it, come the same way.
func TestAnEndOfTheSubscriptionIsToldByTheLibrary(t *testing.T) {
	c := &channel{rooms: make(spare, 1)}
	change := &ua.DataChangeNotification{MonitoredItems: []*ua.MonitoredItemNotification{{ClientHandle: 4, Value: reported()[5]}}}
	end := &ua.StatusChangeNotification{Status: ua.StatusBadTimeout, DiagnosticInfo: &ua.DiagnosticInfo{}}
	b := reportOf(t, change, end)
	body, err := c.decode(b[:20:20], b[20:])
	a, ok := body.(*publishAnswer)
	if err != nil || !ok || a.end == nil || len(a.changes) != 1 || a.changes[0].handle != 4 || a.parts != 2 || a.number != 7 {
		t.Errorf("%+v, %v", body, err)
	}
	if _, err := c.decode(nil, b[:len(b)-1]); err == nil {
		t.Error("an answer without its end was decoded")
	}
	for status, want := range map[ua.StatusCode]string{ua.StatusBadTimeout: "BadTimeout", ua.StatusOK: "without a reason", ua.StatusGoodSubscriptionTransferred: "GoodSubscriptionTransferred"} {
		if err := ended(status); !strings.Contains(err.Error(), "ended the subscription") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "(Good 0x") {
			t.Errorf("%v: %v, want %q", status, err, want)
		}
	}
}

// The room of samples is used again, but neither that of a giant nor with what it held.
func TestRoomsAreSpared(t *testing.T) {
	s := make(spare, 1)
	room := append(make([]sample, 0, 8), sample{boxed: true, value: "text"})
	s.give(room)
	s.give(make([]sample, 1)) // there is one already
	if got := s.take(); len(got) != 0 || cap(got) != 8 || got[:1][0].value != nil {
		t.Errorf("%v", got)
	}
	s.give(make([]sample, mostSpare+1))
	if got := s.take(); got != nil {
		t.Errorf("%d are kept", cap(got))
	}
	var none spare
	none.give(room)
	if none.take() != nil {
		t.Error("there is room in nothing")
	}
}

// thousand is a publish answer with a thousand numbers.
func thousand(tb testing.TB) []byte {
	tb.Helper()
	values := make([]*ua.DataValue, 1000)
	for i := range values {
		values[i] = &ua.DataValue{Value: ua.MustVariant(uint32(i)), SourceTimestamp: time.Unix(1e9, 0), ServerTimestamp: time.Unix(1e9, 0)}
		values[i].UpdateMask()
	}
	return report(tb, values...)
}

// Numbers are decoded without memory; the answer that they are in is one.
func TestANumberIsDecodedWithoutMemory(t *testing.T) {
	b, rooms := thousand(t), make(spare, 1)
	if n := allocations(1, func() {
		a, ok := decodePublish(b, rooms)
		if !ok || len(a.changes) != 1000 {
			t.Fatal("not decoded")
		}
		rooms.give(a.changes)
	}); n > 1 {
		t.Errorf("%v allocations for each answer, want 1", n)
	}
}

// BenchmarkPublish decodes a thousand numbers, by ourselves and by the library.
func BenchmarkPublish(b *testing.B) {
	raw, rooms := thousand(b), make(spare, 1)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a, ok := decodePublish(raw, rooms)
			if !ok {
				b.Fatal("not decoded")
			}
			rooms.give(a.changes)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/value")
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decode(bytes.Clone(raw)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/value")
	})
}

// FuzzPublish: what is decoded without the library is what it would have made of
// it, and what it refuses is not decoded.
func FuzzPublish(f *testing.F) {
	for _, v := range reported() {
		f.Add(report(f, v))
	}
	f.Add(report(f, reported()...))
	f.Add(reportOf(f))
	f.Add(reportOf(f, &ua.DataChangeNotification{}, nil, &ua.StatusChangeNotification{DiagnosticInfo: &ua.DiagnosticInfo{}}))
	for _, b := range messages(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= 64<<10 {
			compare(t, bytes.Clone(b)) // which clears it
		}
	})
}
