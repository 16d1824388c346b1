package modbus

import (
	"math"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// section is the device of the conformance suite, as a plant would write it.
const section = `
driver: modbus
endpoint: ENDPOINT
timeout: 300ms
tags:
  made: holding:100
  signed: {address: "holding:101", type: int16}
  total: {address: "holding:102", type: uint32}
  swapped: {address: "holding:104", type: DINT, word_order: CDAB}
  long: {address: "holding:106", type: uint64, writable: true}
  longer: {address: "holding:110", type: int64, word_order: little}
  weight: {address: "holding:114", type: float32, word_order: byte_swapped}
  energy: {address: "holding:116", type: LREAL}
  level: {address: "40121", type: int16, scale: 0.1, offset: -40, unit: °C}
  order: {address: "holding:121", type: string, length: 6}
  running: holding:130.3
  jam: {address: "holding:130", bit: 15}
  refused: {address: "holding:132", type: uint32}
  speed: input:5
  motor: coil:3
  lid: 10008
  ack: {address: "coil:9", writable: true}
`

func float32Words(f float32) []uint16 {
	u := math.Float32bits(f)
	return []uint16{uint16(u >> 16), uint16(u)}
}

func float64Words(f float64) []uint16 {
	u := math.Float64bits(f)
	return []uint16{uint16(u >> 48), uint16(u >> 32), uint16(u >> 16), uint16(u)}
}

func swap(words []uint16) []uint16 {
	for i, w := range words {
		words[i] = w<<8 | w>>8
	}
	return words
}

// plc is the server side of section, with the words written out by hand: the
// driver's own coding must not check itself.
type plc struct{ *plantsim.Modbus }

var _ driverstest.Server = plc{}

func startPLC(t *testing.T) driverstest.Server {
	t.Helper()
	m, err := plantsim.NewModbus("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.Update(func(b *plantsim.Bank) {
		b.SetHolding(100, 4711, 0xFFFE)                   // 4711, -2
		b.SetHolding(102, 0x0001, 0x86A0)                 // 100000
		b.SetHolding(104, 0x1DC0, 0xFFFE)                 // -123456 as CDAB
		b.SetHolding(106, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF) // the largest uint64
		b.SetHolding(110, 0xFDFF, 0xFFFF, 0xFFFF, 0xFFFF) // -3, every byte reversed
		b.SetHolding(114, swap(float32Words(12.625))...)
		b.SetHolding(116, float64Words(-1e-9)...)
		b.SetHolding(120, 617)                                            // 617 × 0.1 - 40
		b.SetHolding(121, 0x4157, 0x3030, 0x3437, 0x31DC, 0x2020, 0x0000) // "AW00471Ü  "
		b.SetHolding(130, 0x8008)
		b.Fail(plantsim.Holding, 133, 133, plantsim.IllegalDataAddress)
		b.SetInput(5, 60)
		b.SetCoil(3, true)
		b.SetDiscrete(7, true)
	})
	return plc{m}
}

// Set implements driverstest.Server for the tags that the suite changes.
func (p plc) Set(tag plant.TagID, v plant.Value) {
	p.Update(func(b *plantsim.Bank) {
		switch tag {
		case "made":
			i, _ := v.Int()
			b.SetHolding(100, uint16(i))
		default:
			panic("the suite changes " + tag)
		}
	})
}

func openPlan(t testing.TB, text, addr string) drivers.Plan {
	t.Helper()
	s, faults := config.ParseSection("dut", "test.yaml", strings.ReplaceAll(text, "ENDPOINT", addr))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	p, faults := Kind.Check(s)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return p
}

func openDriver(t *testing.T, text, addr string) drivers.Driver {
	t.Helper()
	return openPlan(t, text, addr).Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()})
}

func TestConformance(t *testing.T) {
	driverstest.Run(t, driverstest.Subject{
		Start:   startPLC,
		Open:    func(t *testing.T, addr string) drivers.Driver { return openDriver(t, section, addr) },
		Timeout: 300 * time.Millisecond,
		Values: map[plant.TagID]plant.Value{
			"made": plant.UintValue(4711), "signed": plant.IntValue(-2), "total": plant.UintValue(100000),
			"swapped": plant.IntValue(-123456), "long": plant.UintValue(math.MaxUint64), "longer": plant.IntValue(-3),
			"weight": plant.FloatValue(12.625), "energy": plant.FloatValue(-1e-9),
			"level": plant.ExactValue(plant.Decimal{Unscaled: 217, Scale: 1}),
			"order": plant.TextValue("AW00471Ü"), "running": plant.BoolValue(true), "jam": plant.BoolValue(true),
			"speed": plant.UintValue(60), "motor": plant.BoolValue(true), "lid": plant.BoolValue(true),
			"ack": plant.BoolValue(false),
		},
		Bad:      "refused",
		Changing: "made", NewValue: plant.UintValue(4712),
		Writable: "long", NewWritten: plant.UintValue(1<<63 + 5), ReadOnly: "made",
	})
}
