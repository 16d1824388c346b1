package opcua

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

// A time that the library cannot hold is the latest that it can, or none, and never
// another time: as a value, in an array, in a structure, and as a time stamp.
func TestTimesThatCannotBeHeld(t *testing.T) {
	ticks := func(at time.Time) int64 { return at.Unix()*10_000_000 + int64(at.Nanosecond())/100 + unixEpoch }
	latest := time.Unix(0, (1<<63-1)/100*100).UTC()
	for _, c := range []struct {
		name string
		raw  int64
		want time.Time
	}{
		{"now", ticks(time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)), time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)},
		{"none", 0, time.Time{}}, {"before 1601", -1, time.Time{}}, {"1601", ticks(time.Date(1601, 1, 2, 0, 0, 0, 0, time.UTC)), time.Time{}},
		{"1700", ticks(time.Date(1700, 1, 1, 0, 0, 0, 0, time.UTC)), time.Date(1700, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"2262", latestTime, latest}, {"2604", ticks(time.Date(2604, 6, 1, 0, 0, 0, 0, time.UTC)), latest},
		{"9999", ticks(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)), latest}, {"the end", math.MaxInt64, latest}, {"the begin", math.MinInt64, time.Time{}},
	} {
		raw := binary.LittleEndian.AppendUint64(nil, uint64(c.raw))
		fault := &ua.ReadResponse{ResponseHeader: &ua.ResponseHeader{ServiceDiagnostics: &ua.DiagnosticInfo{}, StringTable: []string{}, AdditionalHeader: ua.NewExtensionObject(nil)}, DiagnosticInfos: []*ua.DiagnosticInfo{}}
		const mark = 0x0102030405060708
		marked := time.Unix(0, (mark-unixEpoch)*100).UTC()
		one := &ua.DataValue{EncodingMask: ua.DataValueValue | ua.DataValueSourceTimestamp | ua.DataValueServerTimestamp, Value: ua.MustVariant(marked), SourceTimestamp: marked, ServerTimestamp: marked}
		several := &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant([]time.Time{marked, marked})}
		fault.Results = []*ua.DataValue{one, several}
		message, err := encode(fault)
		if err != nil {
			t.Fatal(err)
		}
		before := binary.LittleEndian.AppendUint64(nil, mark)
		if n := bytes.Count(message, before); n != 5 {
			t.Fatalf("%d times in the message", n)
		}
		body, err := decode(bytes.ReplaceAll(message, before, raw))
		if err != nil {
			t.Fatal(err)
		}
		got := body.(*ua.ReadResponse).Results
		all := append([]time.Time{got[0].Value.Time(), got[0].SourceTimestamp, got[0].ServerTimestamp}, got[1].Value.Value().([]time.Time)...)
		o, err := (&layout{fields: []field{{name: "At", built: ua.TypeIDDateTime}}}).parse(bytes.Clone(raw))
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range append(all, o.values[0].(time.Time), timeOf(bytes.Clone(raw))) {
			if !at.Equal(c.want) {
				t.Errorf("%s, %d: %v, want %v", c.name, i, at, c.want)
			}
		}
	}
}
