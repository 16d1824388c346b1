package modbus

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/plant"
)

// registersAt answers reads of holding registers from words, whose first is 0.
func registersAt(t *testing.T, words []uint16) string {
	t.Helper()
	return peer(t, func(r []byte) [][]byte {
		start, count := int(binary.BigEndian.Uint16(r[8:])), int(binary.BigEndian.Uint16(r[10:]))
		if start+count > len(words) {
			return [][]byte{frame(r, 1, 0x83, 2)}
		}
		data := []byte{1, 3, byte(2 * count)}
		for _, w := range words[start : start+count] {
			data = binary.BigEndian.AppendUint16(data, w)
		}
		return [][]byte{frame(r, data...)}
	})
}

// What devices put together in their own ways; the facts are those of scales and
// meters (devices.md 0.1).
func TestComposedTags(t *testing.T) {
	words := []uint16{
		0x0000, 0x3039, // 0: 12345, the weight
		0x0030,         // 2: bits 4..6 say 3 decimals
		0x0082,         // 3: bits 1 and 7: negative, stable
		0x1234, 0x5678, // 4: BCD
		0x0A00,  // 6: no BCD
		0x81FE,  // 7: two bytes
		7, 8, 9, // 8: an array
		0x2020, 0x4142, 0x2020, // 11: "  AB  "
		0x00C0,         // 14: 12 decimals
		0xFFFF, 0xFFF6, // 15: -10
	}
	for _, c := range []struct {
		tag  string
		want plant.Value
		bad  string
	}{
		{"{address: holding:0, type: uint32, decimals: holding:2.4..6, negative: holding:3.7}", plant.ExactValue(plant.Decimal{Unscaled: -12345, Scale: 3}), ""},
		{"{address: holding:0, type: uint32, decimals: holding:2.4..6}", plant.ExactValue(plant.Decimal{Unscaled: 12345, Scale: 3}), ""},
		{"{address: holding:0, type: uint32, negative: holding:3.0}", plant.ExactValue(plant.WholeDecimal(12345)), ""},
		{"{address: holding:15, type: int32, decimals: holding:2.4..6}", plant.ExactValue(plant.Decimal{Unscaled: -10, Scale: 3}), ""},
		{"{address: holding:0, type: uint32, decimals: holding:14}", plant.Value{}, "192 decimals"},
		{"{address: holding:0, type: uint32, decimals: holding:14.4..7}", plant.Value{}, "12 decimals"},
		{"{address: holding:0, type: uint32, scale: 2, decimals: holding:2.4..6}", plant.ExactValue(plant.Decimal{Unscaled: 24690, Scale: 3}), ""},
		{"{address: holding:4, type: bcd16}", plant.ExactValue(plant.WholeDecimal(1234)), ""},
		{"{address: holding:4, type: BCD32}", plant.ExactValue(plant.WholeDecimal(12345678)), ""},
		{"{address: holding:4, type: bcd32, word_order: CDAB}", plant.ExactValue(plant.WholeDecimal(56781234)), ""},
		{"{address: holding:6, type: bcd}", plant.Value{}, "0x0A00, which is no BCD"},
		{"{address: holding:7, type: uint8}", plant.UintValue(0xFE), ""},
		{"{address: holding:7, type: int8}", plant.IntValue(-2), ""},
		{"{address: holding:7, type: uint8, byte: high}", plant.UintValue(0x81), ""},
		{"{address: holding:7, type: SINT, byte: high}", plant.IntValue(-127), ""},
		{"{address: holding:2, bits: 4..6}", plant.ExactValue(plant.WholeDecimal(3)), ""},
		{"{address: holding:4, type: uint32, bits: 8..19}", plant.ExactValue(plant.WholeDecimal(0x456)), ""},
		{"{address: holding:11, type: string, length: 3}", plant.TextValue("  AB"), ""},
		{"{address: holding:11, type: string, length: 3, trim: both}", plant.TextValue("AB"), ""},
		{"{address: holding:11, type: string, length: 3, trim: none}", plant.TextValue("  AB  "), ""},
	} {
		t.Run(c.tag, func(t *testing.T) {
			d := openDriver(t, "driver: modbus\nendpoint: ENDPOINT\ntags:\n  x: "+c.tag, registersAt(t, words)).(*driver)
			defer d.Close()
			if err := d.Connect(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			scans, err := d.Read(t.Context())
			if err != nil || len(scans) != 1 || len(scans[0].Readings) != 1 {
				t.Fatal(scans, err)
			}
			r := scans[0].Readings[0]
			if c.bad != "" {
				if r.Quality == plant.Good || !strings.Contains(r.Cause, c.bad) {
					t.Errorf("%v (%v %s), want bad: %s", r.Value, r.Quality, r.Cause, c.bad)
				}
				return
			}
			if r.Value != c.want || r.Quality != plant.Good {
				t.Errorf("%v (%v %s), want %v", r.Value, r.Quality, r.Cause, c.want)
			}
		})
	}
}

func TestArrays(t *testing.T) {
	p := openPlan(t, "driver: modbus\nendpoint: ENDPOINT\nbase: 1\ntags:\n  speed: {address: 9, count: 3}\n  wide: {address: 4x1, type: uint32, count: 2}\n  lamps: {address: coil:1, count: 2}\n", registersAt(t, []uint16{0, 1, 0, 2, 0, 0, 0, 0, 7, 8, 9}))
	var names []string
	for _, tag := range p.Tags {
		names = append(names, string(tag.ID)+" "+tag.Address)
	}
	want := "speed_0 holding:8 (40009), speed_1 holding:9 (40010), speed_2 holding:10 (40011), wide_0 holding:0 (40001), wide_1 holding:2 (40003), lamps_0 coil:0 (00001), lamps_1 coil:1 (00002)"
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("tags %s, want %s", got, want)
	}
	d := p.Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()})
	defer d.Close()
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	scans, err := d.Read(t.Context())
	if err == nil && len(scans) > 0 {
		t.Fatal("a peer that answers coils by registers was believed")
	}
}

// A slow tag is read in its own pace, a fast one at each poll.
func TestPace(t *testing.T) {
	m := newMoodyText(t, "interval: 1s\ntags:\n  fast: holding:0\n  slow: {address: holding:1, every: 5s}\n", nil)
	defer m.driver.Close()
	asked := map[string]int{}
	now := time.Now()
	for i := range 11 {
		for _, b := range m.driver.roots {
			// Polls are late by up to a third of the interval.
			if !b.waits(now.Add(time.Duration(i)*time.Second+time.Duration(i%3)*150*time.Millisecond), time.Second) {
				asked[string(b.points[0].tag)]++
			}
		}
	}
	if asked["fast"] != 11 || asked["slow"] != 3 {
		t.Errorf("asked %v, want fast 11 times and slow 3 times", asked)
	}
}
