package opcua

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/driverstest"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// numbered is a sequence handshake on the device of the text handshake.
var numbered = plant.Record{
	ID: "dose", Device: driverstest.Device, Trigger: "number", On: plant.OnChange,
	Fields: []plant.TagID{"number", "kilos", "lot"}, Writes: []plant.TagID{"ack"},
}

// noRecordUntil reads until made has the value, and fails on a record.
func noRecordUntil(t *testing.T, s *plantsim.OPCUA, d drivers.Driver, made uint32) {
	t.Helper()
	s.Set("Line.Made", made)
	until(t, d, "made", func(scan plant.Scan) bool {
		if scan.Record != "" {
			t.Errorf("a record that nobody offers any more: %+v", scan)
		}
		r, ok := find(scan, "made")
		return ok && r.Value == plant.UintValue(uint64(made))
	})
}

// Between the publish that shows the trigger and the read of the fields a PLC
// may take its record back and begin with the next one.
func TestARecordWhoseTriggerIsGoneIsNone(t *testing.T) {
	for _, limit := range []uint32{0, 3} { // 3: the trigger takes a second request
		s := newScale(t, plantsim.OPCUAOptions{MaxNodesPerRead: limit, MaxItemsPerCall: limit})
		d := openText(t, handshake, s.Addr(), dose)
		connect(t, d, 1)
		until(t, d, "first values", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
		taken := false
		s.OnRead(func(n *plantsim.Nodes, names []string) {
			if slices.Contains(names, "Dose.Lot") && !taken {
				taken = true
				n.Set("Dose.Ready", false)
				n.Set("Dose.Number", uint32(42)) // half of the next one
			}
		})
		s.Update(func(n *plantsim.Nodes) { offer(n, 41, 2500, "L-9") })
		until(t, d, "trigger down", func(scan plant.Scan) bool {
			if scan.Record != "" {
				t.Errorf("limit %d: half of two records: %+v", limit, scan)
			}
			r, ok := find(scan, "ready")
			return ok && r.Value == plant.BoolValue(false)
		})
		s.Update(func(n *plantsim.Nodes) { offer(n, 42, 10, "L-10") })
		if lot, _ := find(until(t, d, "the next one", ofRecord("dose")), "lot"); lot.Value != plant.TextValue("L-10") {
			t.Errorf("%+v", lot)
		}
	}
}

// A trigger that falls and rises between two samples is never reported.
func TestAPulseThatNobodyReportsDelaysARecordOnly(t *testing.T) {
	s := newScale(t, plantsim.OPCUAOptions{})
	d := openText(t, handshake, s.Addr(), dose)
	connect(t, d, 1)
	until(t, d, "first values", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
	reads := 0
	s.OnRead(func(n *plantsim.Nodes, names []string) {
		if slices.Contains(names, "Dose.Lot") {
			reads++
			n.Hide("Dose.Ready", reads > 1)
		}
	})
	s.Update(func(n *plantsim.Nodes) { offer(n, 41, 2500, "L-9") })
	until(t, d, "record", ofRecord("dose"))
	if reads < 2 {
		t.Error("the pulse was not there")
	}
}

// A number that moves on while the fields are read belongs to none of them.
func TestANumberThatMovesOnIsReadAgain(t *testing.T) {
	s := newScale(t, plantsim.OPCUAOptions{MaxNodesPerRead: 3}) // the number once more, in a second request
	d := openText(t, handshake, s.Addr(), numbered)
	connect(t, d, 1)
	until(t, d, "first", ofRecord("dose"))
	s.OnRead(func(n *plantsim.Nodes, names []string) {
		if len(names) == 1 && n.Get("Dose.Number") == uint32(1) {
			offer(n, 2, 20, "lot 2")
		}
	})
	s.Update(func(n *plantsim.Nodes) { offer(n, 1, 10, "lot 1") })
	scan := until(t, d, "record", ofRecord("dose"))
	if number, _ := find(scan, "number"); number.Value != plant.UintValue(2) {
		t.Errorf("%+v", scan)
	}
	noRecordUntil(t, s, d, 1)
}

// A record that the server refuses is handed over with its causes, is named in
// the status, and comes whole once the server gives it.
func TestARefusedRecordIsAskedForAgain(t *testing.T) {
	s := newScale(t, plantsim.OPCUAOptions{})
	p := checkPlan(t, handshake, s.Addr())
	records := make(chan plant.Scan, 1000)
	poller := drivers.NewPoller(p.PollerOptions(driverstest.Device), p.Open(drivers.Env{Name: driverstest.Device, Log: zap.NewNop(), Records: []plant.Record{numbered}}),
		[]drivers.Sink{recordSink(records)}, zap.NewNop())
	runPoller(t, poller)
	next := func() plant.Scan {
		t.Helper()
		select {
		case scan := <-records:
			return scan
		case <-time.After(patience):
			t.Fatal("no record")
			return plant.Scan{}
		}
	}
	next() // number 0
	s.Update(func(n *plantsim.Nodes) {
		n.Remove("Dose.Lot")
		n.Set("Dose.Number", uint32(1))
	})
	started := time.Now()
	for range 3 {
		if lot, _ := find(next(), "lot"); lot.Quality != plant.Bad || !strings.Contains(lot.Cause, "BadNodeIdUnknown") {
			t.Errorf("%+v", lot)
		}
	}
	// 50 ms, then 100 ms: it backs off.
	if d := time.Since(started); d < 140*time.Millisecond {
		t.Errorf("three reads within %v", d)
	}
	if cause := poller.Stats().BadTags["lot"]; !strings.Contains(cause, "BadNodeIdUnknown") {
		t.Errorf("the status says %q", cause)
	}
	s.Update(func(n *plantsim.Nodes) { n.Set("Dose.Lot", "L-1") })
	for lot := (plant.Reading{}); lot.Quality != plant.Good; {
		lot, _ = find(next(), "lot")
	}
	// Done: nothing more comes of this number.
	time.Sleep(500 * time.Millisecond) // five times the next wait
	if n := len(records); n != 0 {
		t.Errorf("%d records more", n)
	}
	if cause, bad := poller.Stats().BadTags["lot"]; bad {
		t.Errorf("the status still says %q", cause)
	}
}

// A toggle is offered while it differs from its answer, whatever its level is,
// and a ring gives the slots between its tail and its head.
func TestWhatIsOfferedWhileItDiffersFromItsAnswer(t *testing.T) {
	toggled := dose
	toggled.On, toggled.Answer = plant.WhileUnanswered, "ack"
	s := newScale(t, plantsim.OPCUAOptions{})
	d := openText(t, handshake, s.Addr(), toggled)
	connect(t, d, 1)
	until(t, d, "first values", func(s plant.Scan) bool { _, ok := find(s, "made"); return ok })
	noRecordUntil(t, s, d, 1)
	s.Update(func(n *plantsim.Nodes) { offer(n, 1, 10, "lot 1") })
	until(t, d, "record behind a rise", ofRecord("dose"))
	until(t, d, "the same again, unanswered", ofRecord("dose"))
	s.Set("Dose.Ack", true)
	until(t, d, "the answer", func(scan plant.Scan) bool { r, ok := find(scan, "ack"); return ok && r.Value == plant.BoolValue(true) })
	noRecordUntil(t, s, d, 2)
	s.Update(func(n *plantsim.Nodes) {
		offer(n, 2, 10, "lot 2")
		n.Set("Dose.Ready", false)
	})
	until(t, d, "record behind a fall", ofRecord("dose"))
	// Behind the fields the trigger moves on: they may be of the next record.
	moved := false
	s.OnRead(func(n *plantsim.Nodes, names []string) {
		if slices.Contains(names, "Dose.Lot") && !moved {
			moved = true
			n.Set("Dose.Ready", true)
		}
	})
	until(t, d, "the trigger that moved", func(scan plant.Scan) bool {
		r, ok := find(scan, "ready")
		return ok && moved && r.Value == plant.BoolValue(true)
	})
	noRecordUntil(t, s, d, 3)

	for slot, want := range []bool{true, false, false, true} {
		r := record{Record: plant.Record{On: plant.WhileUnanswered, Slot: slot, Slots: 4}, kept: plant.UintValue(3)}
		if got := r.offers(plant.UintValue(5)); got != want {
			t.Errorf("slot %d of 3 to 5: %v", slot, got)
		}
	}
}
