package opcua

import (
	"context"
	"math"
	"reflect"
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
driver: opcua
endpoint: opc.tcp://ENDPOINT
timeout: 1s
publishing: 50ms
tags:
  made: ns=2;s=Line.Made
  small: {node: "nsu=urn:sluice:plantsim:line;s=Line.Small", type: SByte}
  byte: ns=2;s=Line.Byte
  signed: {node: "ns=2;s=Line.Signed", type: int16}
  word: ns=2;s=Line.Word
  total: {node: "ns=2;s=Line.Total", type: DINT}
  longer: ns=2;s=Line.Longer
  long: {node: "ns=2;s=Line.Long", type: uint64, writable: true}
  weight: {node: "ns=2;s=Line.Weight", type: REAL, unit: kg}
  energy: ns=2;s=Line.Energy
  level: {node: "ns=2;s=Line.Level", scale: 0.1, unit: Cel}
  order: {node: "ns=2;s=Line.Order", type: string}
  running: ns=2;s=Line.Running
  refused: ns=2;s=Line.Nothing
  ack: {node: "ns=2;s=Line.Ack", writable: true}
  offer: ns=2;s=Line.Offer
`

// conformanceRecord is handed over by the device of section.
var conformanceRecord = plant.Record{
	ID: "r", Device: driverstest.Device, Trigger: "offer", On: plant.WhileHigh,
	Fields: []plant.TagID{"level", "order", "word"}, Writes: []plant.TagID{"ack"},
}

// plc is the server side of section.
type plc struct{ *plantsim.OPCUA }

var _ driverstest.Server = plc{}

// ordinary is the server of all tests that ask for nothing special, since making
// one takes a second. It is stopped after each.
var ordinary = sync.OnceValues(func() (*plantsim.OPCUA, error) {
	return plantsim.NewOPCUA(plantsim.OPCUAOptions{Addr: "127.0.0.1:0"})
})

func newPLC(t testing.TB, o plantsim.OPCUAOptions) *plantsim.OPCUA {
	t.Helper()
	if reflect.ValueOf(o).IsZero() {
		s, err := ordinary()
		if err != nil {
			t.Fatal(err)
		}
		s.OnWrite(nil)
		s.OnRead(nil)
		fill(s)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	o.Addr = "127.0.0.1:0"
	s, err := plantsim.NewOPCUA(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	fill(s)
	return s
}

// fill gives every node of section its first value.
func fill(s *plantsim.OPCUA) {
	s.Update(func(n *plantsim.Nodes) {
		n.Clear()
		for name, v := range map[string]any{
			"Made": uint32(4711), "Small": int8(-5), "Byte": uint8(200), "Signed": int16(-2), "Word": uint16(65535),
			"Total": int32(-123456), "Longer": int64(-3), "Long": uint64(math.MaxUint64), "Weight": float32(12.625), "Energy": -1e-9,
			"Level": int16(617), "Order": "AW00471Ü", "Running": true, "Ack": false, "Offer": false,
		} {
			n.Set("Line."+name, v)
		}
	})
}

// Set implements driverstest.Server for the tags that the suite changes.
func (p plc) Set(tag plant.TagID, v plant.Value) {
	switch tag {
	case "made":
		i, _ := v.Int()
		p.OPCUA.Set("Line.Made", uint32(i))
	case "offer":
		b, _ := v.Bool()
		p.OPCUA.Set("Line.Offer", b)
	case "order":
		p.OPCUA.Set("Line.Order", v.Text())
	default:
		panic("the suite changes " + tag)
	}
}

func checkPlan(t testing.TB, text, addr string) drivers.Plan {
	t.Helper()
	s, faults := config.ParseSection("dut", "test.yaml", strings.ReplaceAll(text, "ENDPOINT", addr))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	p, faults := Kind.Check(s)
	if len(faults.Errors()) > 0 {
		t.Fatal(faults)
	}
	return p
}

func openText(t testing.TB, text, addr string, records ...plant.Record) drivers.Driver {
	t.Helper()
	d := checkPlan(t, text, addr).Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Records: records})
	t.Cleanup(func() { d.Close() })
	return d
}

func subject(s *plantsim.OPCUA, text string, subscribing bool) driverstest.Subject {
	return driverstest.Subject{
		Start: func(t *testing.T) driverstest.Server {
			fill(s)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			return plc{s}
		},
		Open:        func(t *testing.T, addr string) drivers.Driver { return openText(t, text, addr, conformanceRecord) },
		Subscribing: subscribing,
		Timeout:     time.Second,
		Values: map[plant.TagID]plant.Value{
			"made": plant.UintValue(4711), "small": plant.IntValue(-5), "byte": plant.UintValue(200), "signed": plant.IntValue(-2),
			"word": plant.UintValue(65535), "total": plant.IntValue(-123456), "longer": plant.IntValue(-3), "long": plant.UintValue(math.MaxUint64),
			"weight": plant.FloatValue(12.625), "energy": plant.FloatValue(-1e-9), "level": plant.ExactValue(plant.Decimal{Unscaled: 617, Scale: 1}),
			"order": plant.TextValue("AW00471Ü"), "running": plant.BoolValue(true), "ack": plant.BoolValue(false), "offer": plant.BoolValue(false),
		},
		Bad:      "refused",
		Changing: "made", NewValue: plant.UintValue(4712),
		Writable: "long", NewWritten: plant.UintValue(1 << 63), ReadOnly: "made",
		Record: conformanceRecord, Offered: plant.BoolValue(true),
		Order: orderRecord, Changed: plant.TextValue("AW00472"),
		OpenOrder: func(t *testing.T, addr string) drivers.Driver { return openText(t, text, addr, orderRecord) },
	}
}

// orderRecord is read when the order of section changes.
var orderRecord = plant.Record{
	ID: "M/order", Device: driverstest.Device, Trigger: "order", On: plant.OnChange, Optional: true,
	Fields: []plant.TagID{"order", "total", "signed"},
}

func TestConformance(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	t.Run("subscribing", func(t *testing.T) { driverstest.Run(t, subject(s, section, true)) })
	t.Run("polling", func(t *testing.T) {
		polling := subject(s, strings.Replace(section, "timeout: 1s\npublishing: 50ms", "timeout: 1s\npoll: 50ms", 1), false)
		polling.Timeout = time.Second
		driverstest.Run(t, polling)
	})
}

// patience bounds what must happen; reaching it is a failure.
const patience = 30 * time.Second

func connect(t testing.TB, d drivers.Driver, session uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := d.Connect(ctx, session); err != nil {
		t.Fatal(err)
	}
}

// until reads until done says so.
func until(t testing.TB, d drivers.Driver, what string, done func(plant.Scan) bool) plant.Scan {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		scans, err := d.Read(ctx)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for _, s := range scans {
			if done(s) {
				return s
			}
		}
	}
}

func find(s plant.Scan, tag plant.TagID) (plant.Reading, bool) {
	for _, r := range s.Readings {
		if r.Tag == tag {
			return r, true
		}
	}
	return plant.Reading{}, false
}

// recordSink hands on the records among the scans.
type recordSink chan plant.Scan

func (s recordSink) Offer(in plant.Input) {
	if scan, ok := in.(plant.Scan); ok && scan.Record != "" {
		s <- scan
	}
}

// runPoller runs a poller until the test ends.
func runPoller(t *testing.T, p *drivers.Poller) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}
