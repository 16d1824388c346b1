package buffer

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

func TestEventRecordIsAsDocumented(t *testing.T) {
	e := plant.Event{
		Kind: "counter", Version: 1, Time: time.Unix(1, 2), TimeSource: plant.DeviceTime,
		ClockOffset: -1, ClockStep: 3, TimeUncertain: true, Data: []byte(`{}`),
	}
	key := eventKey("M", 7)
	record := appendEvent(nil, key, &e, 0x1122334455667788, 7, 5)
	// Changing this text means changing docs/formats.md and the version.
	const want = "0100003c" + "374916cb" +
		"1122334455667788" + "0000000000000007" + "000000003b9aca02" + "0000000000000005" + "ffffffffffffffff" + "0000000000000003" +
		"01" + "01" + "0001" + "07636f756e746572" + "00000002" + "7b7d"
	if got := hex.EncodeToString(record); got != want {
		t.Errorf("the record is\n%s\nwant\n%s", got, want)
	}
	if got := hex.EncodeToString(key); got != "0165014d0000000000000007" {
		t.Errorf("the key is %s", got)
	}
}

func TestEventRecordCompatibility(t *testing.T) {
	e := count(1)
	key := eventKey("M1", 7)
	record := appendEvent(nil, key, &e, 9, 7, 5)
	decode := func(change func(r []byte) []byte, resealed bool) (stored, error) {
		r := change(append([]byte{}, record...))
		if resealed && len(r) >= envelopeSize {
			binary.BigEndian.PutUint32(r[4:], checksum(key, r))
		}
		var s stored
		err := decodeEvent(key, r, &s)
		return s, err
	}
	for name, change := range map[string]func(r []byte) []byte{
		"as it is":        func(r []byte) []byte { return r },
		"newer minor":     func(r []byte) []byte { r[1] = 9; return r },
		"trailing fields": func(r []byte) []byte { return append(r, "added by a later version"...) },
		"longer header": func(r []byte) []byte {
			longer := append(append(append([]byte{}, r[:eventHeaderSize]...), 1, 2, 3, 4), r[eventHeaderSize:]...)
			binary.BigEndian.PutUint16(longer[2:], eventHeaderSize+4)
			return longer
		},
	} {
		s, err := decode(change, true)
		if err != nil || s.sequence != 7 || s.epoch != 9 || string(s.kind) != "counter" || string(s.data) != string(e.Data) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	for name, tt := range map[string]struct {
		change   func(r []byte) []byte
		resealed bool
		want     error
	}{
		"newer major":      {func(r []byte) []byte { r[0] = 2; return r }, true, errNewer},
		"one bit":          {func(r []byte) []byte { r[30] ^= 1; return r }, false, errDamaged},
		"version bit":      {func(r []byte) []byte { r[1] ^= 1; return r }, false, errDamaged},
		"checksum bit":     {func(r []byte) []byte { r[4] ^= 1; return r }, false, errDamaged},
		"empty":            {func(r []byte) []byte { return nil }, false, errDamaged},
		"cut":              {func(r []byte) []byte { return r[:len(r)-1] }, true, errDamaged},
		"cut in the kind":  {func(r []byte) []byte { return r[:eventHeaderSize+3] }, true, errDamaged},
		"cut in the head":  {func(r []byte) []byte { return r[:20] }, true, errDamaged},
		"short header":     {func(r []byte) []byte { r[3] = 8; return r }, true, errDamaged},
		"data of 4 GiB":    {func(r []byte) []byte { copy(r[eventHeaderSize+8:], "\xff\xff\xff\xff"); return r }, true, errDamaged},
		"header of 64 KiB": {func(r []byte) []byte { r[2], r[3] = 255, 255; return r }, true, errDamaged},
	} {
		if _, err := decode(tt.change, tt.resealed); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	var s stored
	if err := decodeEvent(eventKey("M2", 7), record, &s); !errors.Is(err, errDamaged) {
		t.Errorf("under another key: %v", err)
	}
}

func TestTimesOutsideTheRange(t *testing.T) {
	for _, tt := range []struct {
		in   time.Time
		want int64
	}{
		{time.Time{}, noTime},
		{time.Date(1, 2, 3, 0, 0, 0, 0, time.UTC), math.MinInt64 + 1},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), math.MaxInt64},
		{time.Unix(0, 1), 1},
	} {
		if got := nanos(tt.in); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.in, got, tt.want)
		}
	}
	if !timeOf(noTime).IsZero() {
		t.Error("no time came back as a time")
	}
}

func TestCursorRecordRoundTrip(t *testing.T) {
	var k kinds
	c := cursor{at: position{sequence: 300, bytes: 70000}, delivered: 299}
	c.at.counts = []uint64{0, 5, 0, 295}
	for _, name := range []plant.EventKind{"a", "counter", "b", "startstop"} {
		k.of(name)
	}
	key := cursorKey("mes", "M1")
	record := appendCursorRecord(nil, key, &c, &k)
	var other kinds
	other.of("startstop")
	var got cursor
	if err := decodeCursorRecord(key, record, &got, &other); err != nil {
		t.Fatal(err)
	}
	want := cursor{at: position{sequence: 300, bytes: 70000, counts: []uint64{295, 5}}, delivered: 299}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("came back as %+v, want %+v", got, want)
	}
	for n := envelopeSize; n < len(record); n++ {
		cut := append([]byte{}, record[:n]...)
		binary.BigEndian.PutUint32(cut[4:], checksum(key, cut))
		if err := decodeCursorRecord(key, cut, &got, &other); !errors.Is(err, errDamaged) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(record), err)
		}
	}
}

// FuzzRecords: no bytes under a good checksum make a decoder panic or reach
// beyond the record.
func FuzzRecords(f *testing.F) {
	e := count(1)
	key := eventKey("M1", 7)
	var k kinds
	k.of("counter")
	c := cursor{at: position{sequence: 3, bytes: 4, counts: []uint64{3}}}
	f.Add(appendEvent(nil, key, &e, 9, 7, 5))
	f.Add(appendCursorRecord(nil, key, &c, &k))
	state, _ := appendState(nil, key, []byte("state"), &c.at, 1, &k)
	f.Add(state)
	f.Add(appendStreamRecord(nil, key, &c.at, 1, &k))
	f.Add([]byte{1, 0, 0, 8, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, record []byte) {
		if len(record) >= envelopeSize {
			binary.BigEndian.PutUint32(record[4:], checksum(key, record))
		}
		var s stored
		if err := decodeEvent(key, record, &s); err == nil && len(s.data)+len(s.kind) > len(record) {
			t.Error("more data than record")
		}
		var got cursor
		_ = decodeCursorRecord(key, record, &got, &k)
		_, _, _ = decodeStreamRecord(key, record, &k)
		_, _, _ = decodeStateHead(key, record, &k)
		_, _ = decodeLowRecord(key, record, &k)
		b := Buffer{}
		_, _ = b.decodeDeadLetter("mes", "M1", key, record)
		if _, err := opaque(key, record); err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, errNewer) {
			t.Error(fmt.Errorf("an error of no kind: %w", err))
		}
	})
}
