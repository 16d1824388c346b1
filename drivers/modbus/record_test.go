package modbus

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// scale is a device that hands over doses.
const scale = `
driver: modbus
endpoint: ENDPOINT
timeout: 2s
max_registers: 20
tags:
  offer: coil:0
  ack: coil:1
  bit: holding:9.3
  number: holding:10
  weight: {address: "holding:11", type: int32, scale: 0.001, unit: kg}
  component: {address: "holding:13", type: string, length: 4}
  echo: holding:18
  seventh: holding:19
  far: holding:40
  state: input:5
`

var dose = plant.Record{
	ID: "MIXER-01/dosing", Device: driverstest.Device, Trigger: "offer", On: plant.WhileHigh,
	Fields: []plant.TagID{"component", "weight", "number"}, Writes: []plant.TagID{"ack"},
}

var numbered = plant.Record{
	ID: "MIXER-01/dosing", Device: driverstest.Device, Trigger: "number", On: plant.OnChange,
	Fields: []plant.TagID{"number", "weight"}, Writes: []plant.TagID{"echo"},
}

func startScale(t *testing.T) *plantsim.Modbus {
	t.Helper()
	m, err := plantsim.NewModbus("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Stop() })
	m.Update(func(b *plantsim.Bank) { b.SetHolding(10, 7, 0, 12500, 0x5355, 0x4741, 0x5200) })
	return m
}

// connectScale returns a driver in its first session.
func connectScale(t *testing.T, m *plantsim.Modbus, records ...plant.Record) *driver {
	t.Helper()
	p := openPlan(t, scale, m.Addr())
	if err := p.CheckRecords(records); err != nil {
		t.Fatal(err)
	}
	return openRecords(t, p, records)
}

func openRecords(t *testing.T, p drivers.Plan, records []plant.Record) *driver {
	t.Helper()
	d := p.Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Records: records}).(*driver)
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// readRecords does one Read and returns its records, as "tag=value …".
func readRecords(t *testing.T, d *driver) (found []string) {
	t.Helper()
	scans, err := d.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range scans {
		if s.Record == "" {
			continue
		}
		if i == 0 || s.Record != dose.ID || s.Snapshot || s.Session != d.session || s.Device != driverstest.Device || s.Received.Before(scans[i-1].Received) {
			t.Errorf("record %+v", s)
		}
		var b strings.Builder
		for _, v := range s.Readings {
			b.WriteString(string(v.Tag) + "=" + v.Value.Text())
			if v.Quality != plant.Good {
				b.WriteString("?" + v.Cause)
			}
			b.WriteString(" ")
		}
		found = append(found, strings.TrimSpace(b.String()))
	}
	return found
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestALevelOffersItsRecordWhileItIsHigh(t *testing.T) {
	m := startScale(t)
	d := connectScale(t, m, dose)
	expect(t, "nothing offered", readRecords(t, d))
	m.Update(func(b *plantsim.Bank) { b.SetCoil(0, true) })
	before := m.Counts().Reads
	expect(t, "offered", readRecords(t, d), "component=SUGAR weight=12.500 number=7")
	// Coils, two blocks of holding registers, one of input registers; then the
	// record, and the trigger behind it.
	if n := m.Counts().Reads - before; n != uint64(len(d.blocks)+2) {
		t.Errorf("%d requests, want one for each of %d blocks and two for the record", n, len(d.blocks))
	}
	expect(t, "still offered", readRecords(t, d), "component=SUGAR weight=12.500 number=7")
	m.Update(func(b *plantsim.Bank) { b.SetCoil(0, false) })
	expect(t, "taken back", readRecords(t, d))
}

// TestARecordWhoseTriggerIsGoneIsNone: between the read of the trigger and that
// of the fields a PLC that has its acknowledgement may begin with the next
// record.
func TestARecordWhoseTriggerIsGoneIsNone(t *testing.T) {
	m := startScale(t)
	d := connectScale(t, m, dose)
	readRecords(t, d) // the trigger is low now, and was high a moment ago
	d.scans = d.scans[:0]
	if err := d.readRecord(t.Context(), d.records[0], plant.BoolValue(true)); err != nil || len(d.scans) > 0 {
		t.Errorf("%v, scans %+v", err, d.scans)
	}
}

func TestTheTriggerIsReadWithTheRecordWhereItIsNear(t *testing.T) {
	m := startScale(t)
	near := dose
	near.Trigger, near.Writes = "bit", []plant.TagID{"echo"}
	d := connectScale(t, m, near)
	m.Update(func(b *plantsim.Bank) { b.SetHolding(9, 1<<3) })
	before := m.Counts().Reads
	expect(t, "offered", readRecords(t, d), "component=SUGAR weight=12.500 number=7")
	if n := m.Counts().Reads - before; n != uint64(len(d.blocks)+1) {
		t.Errorf("%d requests, want one for each of %d blocks and one for the record", n, len(d.blocks))
	}
	m.Update(func(b *plantsim.Bank) { b.SetHolding(9, 1<<4) })
	d.scans = d.scans[:0]
	if err := d.readRecord(t.Context(), d.records[0], plant.BoolValue(true)); err != nil || len(d.scans) > 0 {
		t.Errorf("behind a trigger that is gone: %v, scans %+v", err, d.scans)
	}
}

func TestANumberOffersItsRecordOnce(t *testing.T) {
	m := startScale(t)
	d := connectScale(t, m, numbered)
	expect(t, "the first of a session", readRecords(t, d), "number=7 weight=12.500")
	expect(t, "the same number", readRecords(t, d))
	m.Update(func(b *plantsim.Bank) { b.SetHolding(10, 8, 0, 300) })
	expect(t, "the next number", readRecords(t, d), "number=8 weight=0.300")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Connect(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	expect(t, "the next session", readRecords(t, d), "number=8 weight=0.300")
}

// TestARefusedRecordIsAskedForAgain: the rule sees it with the device's words,
// and it comes as soon as the device gives it.
func TestARefusedRecordIsAskedForAgain(t *testing.T) {
	m := startScale(t)
	d := connectScale(t, m, numbered)
	expect(t, "the first", readRecords(t, d), "number=7 weight=12.500")
	m.Update(func(b *plantsim.Bank) { b.SetHolding(10, 8) })
	// The number can be read, the weight behind it cannot.
	m.Update(func(b *plantsim.Bank) { b.Fail(plantsim.Holding, 11, 12, plantsim.DeviceBusy) })
	d.roots = []*block{newBlock([]*point{d.points["number"]}), newBlock([]*point{d.points["weight"]})}
	for range 2 {
		got := readRecords(t, d)
		if len(got) != 1 || strings.Count(got[0], "exception 6 (server device busy)") != 2 {
			t.Errorf("refused: %q", got)
		}
	}
	m.Update(func(b *plantsim.Bank) { b.Heal() })
	expect(t, "healed", readRecords(t, d), "number=8 weight=12.500")
	expect(t, "once", readRecords(t, d))
}

// TestAnOptionalRecordIsAskedForOnce: what is refused then is not worth a request
// with each poll.
func TestAnOptionalRecordIsAskedForOnce(t *testing.T) {
	m := startScale(t)
	order := plant.Record{
		ID: dose.ID, Device: driverstest.Device, Trigger: "component", On: plant.OnChange, Optional: true,
		Fields: []plant.TagID{"component", "weight"},
	}
	d := connectScale(t, m, order)
	expect(t, "the first", readRecords(t, d), "component=SUGAR weight=12.500")
	m.Update(func(b *plantsim.Bank) {
		b.SetHolding(13, 0x5341, 0x4C54, 0)
		b.Fail(plantsim.Holding, 11, 12, plantsim.DeviceBusy)
	})
	d.roots = []*block{newBlock([]*point{d.points["component"]}), newBlock([]*point{d.points["weight"]})}
	if got := readRecords(t, d); len(got) != 1 || strings.Count(got[0], "exception 6 (server device busy)") != 2 {
		t.Errorf("refused: %q", got)
	}
	expect(t, "the same text", readRecords(t, d))
	m.Update(func(b *plantsim.Bank) { b.Heal(); b.SetHolding(13, 0x4F49, 0x4C00, 0) })
	expect(t, "the next", readRecords(t, d), "component=OIL weight=12.500")
}

func TestABadTriggerOffersNothing(t *testing.T) {
	m := startScale(t)
	d := connectScale(t, m, dose)
	m.Update(func(b *plantsim.Bank) {
		b.SetCoil(0, true)
		b.Fail(plantsim.Coil, 0, 0, plantsim.DeviceFailure)
	})
	expect(t, "bad", readRecords(t, d))
}

func TestAnAnswerNeedsNoWordInTheConfig(t *testing.T) {
	m := startScale(t)
	d := connectScale(t, m, dose)
	write := func(session uint64, tag plant.TagID) error {
		return d.Write(t.Context(), plant.Write{Device: driverstest.Device, Session: session, Tag: tag, Value: plant.BoolValue(true)})
	}
	if err := write(1, "ack"); err != nil {
		t.Error(err)
	}
	m.Update(func(b *plantsim.Bank) {
		if !b.Coil(1) {
			t.Error("the acknowledgement did not arrive")
		}
	})
	if err := write(1, "offer"); !errors.Is(err, drivers.ErrNotWritable) {
		t.Errorf("the trigger: %v", err)
	}
	if err := write(2, "ack"); !errors.Is(err, drivers.ErrSessionOver) {
		t.Errorf("another session: %v", err)
	}
}

func TestRecordsThatTheDeviceCannotGive(t *testing.T) {
	p := openPlan(t, scale, "127.0.0.1:502")
	for _, c := range []struct {
		what   string
		change func(*plant.Record)
		path   string
		want   string
	}{
		{"two tables", func(r *plant.Record) { r.Fields = append(r.Fields, "state") }, "state", "tag state is in the input table, but component of the same record in the holding table"},
		{"too long", func(r *plant.Record) { r.Fields = append(r.Fields, "far") }, "far", "with tag far the record is 31 registers long, one request may ask for 20"},
		{"a bit as an answer", func(r *plant.Record) { r.Writes = []plant.TagID{"bit"} }, "bit", "one bit of a register cannot be written"},
		{"an input as an answer", func(r *plant.Record) { r.Writes = []plant.TagID{"state"} }, "state", "nothing can be written to the input table"},
		{"over a hole, for what need not be", func(r *plant.Record) { r.Fields, r.Optional = []plant.TagID{"bit", "seventh"}, true }, "seventh", "between tag bit and tag seventh are 9 registers that nobody asked for, max_gap allows 8"},
		{"an unknown tag", func(r *plant.Record) { r.Trigger = "offered" }, "offered", "the device has no tag `offered`"},
	} {
		r := dose
		r.Fields = slices.Clone(dose.Fields)
		c.change(&r)
		err := p.CheckRecords([]plant.Record{r})
		var field *config.FieldError
		if !errors.As(err, &field) || field.Path != c.path || !strings.Contains(field.Problem, c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if err := p.CheckRecords([]plant.Record{dose, numbered}); err != nil {
		t.Error(err)
	}
}
