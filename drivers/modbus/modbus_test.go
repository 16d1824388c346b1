package modbus

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
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
timeout: 1s
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
  offer: discrete:8
  kept: coil:10
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
		case "offer":
			on, _ := v.Bool()
			b.SetDiscrete(8, on)
		case "order":
			if v != nextOrder {
				panic("the suite knows one more order")
			}
			b.SetHolding(121, 0x4157, 0x3030, 0x3437, 0x3200, 0, 0) // "AW00472"
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

// conformanceRecord is handed over by the device of section.
var conformanceRecord = plant.Record{
	ID: "M/dosing", Device: driverstest.Device, Trigger: "offer", On: plant.WhileHigh,
	Fields: []plant.TagID{"order", "total", "signed"}, Writes: []plant.TagID{"kept"},
}

// orderRecord is read when the order of section changes, nextOrder to what.
var (
	orderRecord = plant.Record{
		ID: "M/order", Device: driverstest.Device, Trigger: "order", On: plant.OnChange, Optional: true,
		Fields: []plant.TagID{"order", "total", "signed"},
	}
	nextOrder = plant.TextValue("AW00472")
)

// sectionValues are what section holds.
var sectionValues = map[plant.TagID]plant.Value{
	"made": plant.UintValue(4711), "signed": plant.IntValue(-2), "total": plant.UintValue(100000),
	"swapped": plant.IntValue(-123456), "long": plant.UintValue(math.MaxUint64), "longer": plant.IntValue(-3),
	"weight": plant.FloatValue(12.625), "energy": plant.FloatValue(-1e-9),
	"level": plant.ExactValue(plant.Decimal{Unscaled: 217, Scale: 1}),
	"order": plant.TextValue("AW00471Ü"), "running": plant.BoolValue(true), "jam": plant.BoolValue(true),
	"speed": plant.UintValue(60), "motor": plant.BoolValue(true), "lid": plant.BoolValue(true),
	"ack": plant.BoolValue(false), "offer": plant.BoolValue(false), "kept": plant.BoolValue(false),
}

func TestConformance(t *testing.T) {
	driverstest.Run(t, driverstest.Subject{
		Start: startPLC,
		Open: func(t *testing.T, addr string) drivers.Driver {
			return openPlan(t, section, addr).Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Records: []plant.Record{conformanceRecord}})
		},
		Timeout:  time.Second,
		Values:   sectionValues,
		Bad:      "refused",
		Changing: "made", NewValue: plant.UintValue(4712),
		Record: conformanceRecord, Offered: plant.BoolValue(true),
		Order: orderRecord, Changed: nextOrder,
		OpenOrder: func(t *testing.T, addr string) drivers.Driver {
			return openPlan(t, section, addr).Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Records: []plant.Record{orderRecord}})
		},
		Writable: "long", NewWritten: plant.UintValue(1<<63 + 5), ReadOnly: "made",
	})
}

// recorder is a Sink that keeps copies.
type recorder struct {
	mu     sync.Mutex
	inputs []plant.Input
}

func (r *recorder) Offer(in plant.Input) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := in.(plant.Scan); ok {
		s.Readings = slices.Clone(s.Readings)
		in = s
	}
	r.inputs = append(r.inputs, in)
}

// await waits until an input satisfies seen.
func (r *recorder) await(t *testing.T, what string, seen func(plant.Input) bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		found := slices.ContainsFunc(r.inputs, seen)
		r.mu.Unlock()
		if found {
			return
		}
	}
	t.Fatalf("no input with %s", what)
}

// Driver and Poller together, with a PLC that is switched off and on.
func TestUnderThePoller(t *testing.T) {
	server := startPLC(t).(plc)
	defer server.Stop()
	plan := openPlan(t, strings.Replace(section, "timeout: 1s", "timeout: 20s\ninterval: 10ms", 1), server.Addr())
	options := plan.PollerOptions(driverstest.Device)
	options.MinBackoff, options.MaxBackoff = time.Millisecond, 20*time.Millisecond
	var sink recorder
	p := drivers.NewPoller(options, plan.Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop()}), []drivers.Sink{&sink}, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	scan := func(session uint64, made uint64) func(plant.Input) bool {
		return func(in plant.Input) bool {
			s, ok := in.(plant.Scan)
			return ok && s.Session == session && slices.ContainsFunc(s.Readings, func(r plant.Reading) bool {
				return r.Tag == "made" && r.Value == plant.UintValue(made)
			})
		}
	}
	state := func(session uint64, connected bool) func(plant.Input) bool {
		return func(in plant.Input) bool {
			s, ok := in.(plant.DeviceState)
			return ok && s.Session == session && s.Connected == connected && (s.Cause != "") == !connected
		}
	}
	sink.await(t, "the count", scan(1, 4711))
	if bad := p.Stats().BadTags["refused"]; !strings.Contains(bad, "exception 2") {
		t.Errorf("the refused tag: %q", bad)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	sink.await(t, "the loss", state(1, false))
	server.Set("made", plant.UintValue(4720))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	sink.await(t, "the return", state(2, true))
	sink.await(t, "the new count", scan(2, 4720))
	if err := p.Write(ctx, plant.Write{Device: driverstest.Device, Session: 2, Tag: "ack", Value: plant.BoolValue(true)}); err != nil {
		t.Error(err)
	}
	server.Update(func(b *plantsim.Bank) {
		if !b.Coil(9) {
			t.Error("the acknowledgement did not arrive")
		}
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
