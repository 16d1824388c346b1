package modbus

import (
	"testing"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// The registers of a tag come with it, in the order of their addresses, and no
// further than the table goes.
func TestRegistersOfATag(t *testing.T) {
	m, err := plantsim.NewModbus("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Stop() })
	m.Update(func(b *plantsim.Bank) { b.SetHolding(65534, 0x4148, 0x0000); b.SetCoil(0, true) })
	section, _ := config.ParseSection("plc", "test.yaml", "{driver: modbus, endpoint: \""+m.Addr()+"\", word_order: big, tags: {w: {address: \"holding:65534\", type: float32}, c: coil:0}}")
	p, faults := Kind.Check(section)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if _, ok := p.Registers("c", 1); ok {
		t.Error("a coil has registers")
	}
	if _, ok := p.Registers("none", 1); ok {
		t.Error("a tag that is not there has registers")
	}
	raw, ok := p.Registers("w", 4)
	if !ok || len(raw.Tags) != 3 {
		t.Fatalf("%v %+v", ok, raw.Tags)
	}
	d := raw.Open(drivers.Env{Name: "plc", Log: zap.NewNop()})
	if err := d.Connect(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	scans, err := d.Read(t.Context())
	if err != nil || len(scans) != 1 {
		t.Fatalf("%+v, %v", scans, err)
	}
	want := map[plant.TagID]plant.Value{"w": plant.FloatValue(12.5), "+0": plant.UintValue(0x4148), "+1": plant.UintValue(0)}
	for _, r := range scans[0].Readings {
		if r.Value != want[r.Tag] {
			t.Errorf("%s = %v, want %v", r.Tag, r.Value, want[r.Tag])
		}
	}
}
