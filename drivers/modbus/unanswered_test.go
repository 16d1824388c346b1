package modbus

import (
	"slices"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

var toggled = plant.Record{
	ID: "MIXER-01/dosing", Device: driverstest.Device, Trigger: "offer", On: plant.WhileUnanswered,
	Fields: []plant.TagID{"number", "weight"}, Writes: []plant.TagID{"ack"}, Answer: "ack",
}

// TestAToggleOffersWhileItDiffersFromItsAnswer: level does not matter, and a
// trigger that moved on behind the fields takes them along.
func TestAToggleOffersWhileItDiffersFromItsAnswer(t *testing.T) {
	m := startScale(t)
	d := connectScale(t, m, toggled)
	set := func(offer, ack bool) { m.Update(func(b *plantsim.Bank) { b.SetCoil(0, offer, ack) }) }
	expect(t, "both low", readRecords(t, d))
	set(true, false)
	expect(t, "offered", readRecords(t, d), "number=7 weight=12.500")
	expect(t, "offered again while nobody answers", readRecords(t, d), "number=7 weight=12.500")
	set(true, true)
	expect(t, "both high", readRecords(t, d))
	set(false, true)
	expect(t, "offered by going low", readRecords(t, d), "number=7 weight=12.500")
	reads := 0
	m.OnRead(func(b *plantsim.Bank) {
		// The blocks, the record, and then the trigger behind it.
		if reads++; reads == len(d.blocks)+2 {
			b.SetCoil(0, true)
		}
	})
	set(false, true)
	expect(t, "moved on behind the fields", readRecords(t, d))
	if reads < len(d.blocks)+2 {
		t.Errorf("%d reads", reads)
	}
}

func TestAnAnswerThatCannotBeReadOffersNothing(t *testing.T) {
	m := startScale(t)
	d := connectScale(t, m, toggled)
	m.Update(func(b *plantsim.Bank) {
		b.SetCoil(0, true)
		b.Fail(plantsim.Coil, 1, 1, plantsim.DeviceBusy)
	})
	d.roots = []*block{newBlock([]*point{d.points["offer"]}), newBlock([]*point{d.points["ack"]})}
	expect(t, "the answer is not known", readRecords(t, d))
	m.Update(func(b *plantsim.Bank) { b.Heal() })
	expect(t, "known again", readRecords(t, d), "number=7 weight=12.500")
}

const ringOfFour = `
driver: modbus
endpoint: ENDPOINT
timeout: 2s
tags:
  head: holding:0
  tail: holding:1
  no0: holding:10
  no1: holding:12
  no2: holding:14
  no3: holding:16
`

// TestARingGivesTheSlotsBetweenTailAndHead, also round the end of the numbers.
func TestARingGivesTheSlotsBetweenTailAndHead(t *testing.T) {
	m := startScale(t)
	p := openPlan(t, ringOfFour, m.Addr())
	var records []plant.Record
	for slot, field := range []plant.TagID{"no0", "no1", "no2", "no3"} {
		records = append(records, plant.Record{
			ID: plant.RecordID("M/serial#" + string(field[2])), Device: driverstest.Device, Trigger: "head", On: plant.WhileUnanswered,
			Fields: []plant.TagID{field}, Writes: []plant.TagID{"tail"}, Answer: "tail", Slot: slot, Slots: 4,
		})
	}
	if err := p.CheckRecords(records); err != nil {
		t.Fatal(err)
	}
	d := openRecords(t, p, records)
	for _, c := range []struct {
		head, tail uint16
		want       string
	}{
		{0, 0, ""}, {1, 0, "0"}, {3, 1, "1 2"}, {5, 3, "0 3"}, {4, 0, "0 1 2 3"}, {9, 9, ""}, {1, 65534, "0 2 3"},
	} {
		m.Update(func(b *plantsim.Bank) { b.SetHolding(0, c.head, c.tail) })
		scans, err := d.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range scans {
			if s.Record != "" {
				got = append(got, string(s.Record[len(s.Record)-1]))
			}
		}
		slices.Sort(got)
		// Round the end of the type all slots may be read: the rule knows better.
		if text := strings.Join(got, " "); text != c.want && (c.head > c.tail || text == "") {
			t.Errorf("head %d tail %d: slots %q, want %q", c.head, c.tail, text, c.want)
		}
	}
}
