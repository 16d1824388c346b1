package derive

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// stamped is a scan of the press n seconds after the base.
func stamped(n int, session uint64, made int64, q plant.Quality, run bool) *plant.Scan {
	return &plant.Scan{Device: "press", Session: session, Received: base.Add(time.Duration(n) * time.Second), Readings: []plant.Reading{
		{Tag: "made", Value: plant.IntValue(made), Quality: q},
		{Tag: "run", Value: plant.BoolValue(run), Quality: plant.Good},
	}}
}

// TestAFullMailboxMerges: totals keep their newest good value, changes of state
// are kept apart, and sessions are not mixed.
func TestAFullMailboxMerges(t *testing.T) {
	b := newMailbox(pressModel(t), 2)
	b.offer(stamped(0, 1, 10, plant.Good, true))
	b.offer(stamped(1, 1, 11, plant.Good, true))
	b.offer(stamped(2, 1, 12, plant.Good, true))  // into the second
	b.offer(stamped(3, 1, 0, plant.Bad, true))    // a bad value takes no good one's place
	b.offer(stamped(4, 2, 13, plant.Good, true))  // another session
	b.offer(stamped(5, 2, 14, plant.Good, false)) // an edge of its own
	items := b.take(nil)
	if len(items) != 4 {
		t.Fatalf("%d inputs wait, want 4", len(items))
	}
	for i, want := range []struct {
		made, at int64
		session  uint64
		edge     bool
	}{{10, 0, 1, true}, {12, 3, 1, false}, {13, 4, 2, false}, {14, 5, 2, true}} {
		s := &items[i].scan
		made, _ := s.Readings[0].Value.Int()
		if at := int64(s.Received.Sub(base).Seconds()); made != want.made || at != want.at || s.Session != want.session || items[i].edge != want.edge || s.Readings[0].Quality != plant.Good {
			t.Errorf("input %d: %d at %d s of session %d (edge %v), want %+v", i, made, at, s.Session, items[i].edge, want)
		}
	}
}

// TestTheEndOfAPollIsHeard: also where its last answer has nothing of the machine,
// which waits for it with a stop and its reason.
func TestTheEndOfAPollIsHeard(t *testing.T) {
	section, _ := config.ParseSection("M", "m.yaml", "{device: press, startstop: {running: run, reason: code}}")
	var o Options
	if faults := section.Decode(&o); len(faults) > 0 {
		t.Fatal(faults)
	}
	m, err := NewModel("M", o, Catalog{"press": {{ID: "run", Type: plant.TypeBool}, {ID: "code", Type: plant.TypeUint16}, {ID: "other", Type: plant.TypeUint16}}})
	if faulty(err) {
		t.Fatal(err)
	}
	b := newMailbox(m, 10)
	answer := func(tag plant.TagID, more bool) {
		b.offer(&plant.Scan{Device: "press", Session: 1, Received: base, More: more, Readings: []plant.Reading{{Tag: tag, Quality: plant.Good, Value: plant.IntValue(1)}}})
	}
	for range 2 {
		answer("run", true)
		answer("other", true)
		answer("other", false)
		answer("other", false)
	}
	answer("other", true)
	answer("run", false)
	var got []int
	for _, it := range b.take(nil) {
		if n := len(it.scan.Readings); it.scan.More {
			got = append(got, n)
		} else {
			got = append(got, -n)
		}
	}
	if want := []int{1, 0, 1, 0, -1}; !slices.Equal(got, want) {
		t.Errorf("readings of the scans, below 0 of the last of a poll: %v, want %v", got, want)
	}
}

// TestAWideMachineIsBoundedByItsReadings: not only by the number of scans.
func TestAWideMachineIsBoundedByItsReadings(t *testing.T) {
	m, scan := wideModel(t)
	b := newMailbox(m, 1<<20)
	for range 200 {
		scan.Received = scan.Received.Add(time.Second)
		b.offer(&scan)
	}
	if b.readings > maxReadings+1000 {
		t.Errorf("%d readings wait", b.readings)
	}
	items := b.take(nil)
	if last := &items[len(items)-1].scan; !last.Received.Equal(scan.Received) {
		t.Errorf("the newest values are of %s, want %s", last.Received, scan.Received)
	}
	b.recycle(items)
	if len(b.free) > maxFree {
		t.Errorf("the memory of %d scans is kept", len(b.free))
	}
}

// TestWhatAMachineDoesNotUseIsNotKept: scans of other devices and tags cost
// nothing.
func TestWhatAMachineDoesNotUseIsNotKept(t *testing.T) {
	b := newMailbox(pressModel(t), 2)
	b.offer(&plant.Scan{Device: "camera", Readings: []plant.Reading{{Tag: "made"}}})
	b.offer(&plant.Scan{Device: "press", Readings: []plant.Reading{{Tag: "spare"}}})
	b.offer(plant.DeviceState{Device: "camera"})
	if items := b.take(nil); len(items) != 0 {
		t.Errorf("kept %+v", items)
	}
}

// numberedModel is a machine with a handshake whose records are read once.
func numberedModel(t *testing.T, protocol string) *Model {
	t.Helper()
	text := "device: press\ndosing: {trigger: no, ack: kept, protocol: " + protocol + ", component: SUGAR, quantity: qty}"
	section, faults := config.ParseSection("PRESS-01", "m.yaml", text)
	var o Options
	faults = append(faults, section.Decode(&o)...)
	if len(faults.Errors()) > 0 {
		t.Fatal(faults)
	}
	m, err := NewModel("PRESS-01", o, Catalog{"press": {
		{ID: "no", Type: plant.TypeUint16}, {ID: "kept", Type: plant.TypeUint16, Writable: true}, {ID: "qty", Type: plant.TypeInt32, Scaled: true, Unit: "kg"},
	}})
	if faulty(err) {
		t.Fatal(section.Faults(err))
	}
	return m
}

// offeredRecord is record n of the press.
func offeredRecord(n int64) *plant.Scan {
	return &plant.Scan{Device: "press", Session: 1, Record: "PRESS-01/dosing", Received: base.Add(time.Duration(n) * time.Second), Readings: []plant.Reading{
		{Tag: "no", Value: plant.IntValue(n), Quality: plant.Good},
		{Tag: "qty", Value: plant.ExactValue(plant.Decimal{Unscaled: n, Scale: 1}), Quality: plant.Good},
	}}
}

// TestARecordThatDoesNotFitIsPutAside: a driver reads it once, and the PLC may wait
// for its answer. The newest comes behind what waits; those before it are a gap.
func TestARecordThatDoesNotFitIsPutAside(t *testing.T) {
	for _, protocol := range []string{"sequence", "counter"} {
		b := newMailbox(numberedModel(t, protocol), 1)
		for n := range int64(3) {
			b.offer(offeredRecord(n + 1)) // as many as fit
		}
		b.offer(offeredRecord(4))
		b.offer(offeredRecord(4)) // once more in the next session, say
		if lost := b.lost(); lost != 0 {
			t.Errorf("%s: %d lost while the newest is put aside", protocol, lost)
		}
		b.offer(offeredRecord(5))
		items := b.take(nil)
		var numbers []int64
		for i := range items {
			if items[i].in != nil {
				continue
			}
			n, _ := items[i].scan.Readings[0].Value.Int()
			numbers = append(numbers, n)
		}
		if !slices.Equal(numbers, []int64{1, 2, 3, 5}) {
			t.Errorf("%s: records %v, want 1, 2, 3 and the newest", protocol, numbers)
		}
		gap, ok := items[len(items)-1].in.(plant.Gap)
		if !ok || gap.Count != 1 || gap.Cause != plant.GapMailbox || gap.Device != "press" || !gap.At.Equal(base.Add(4*time.Second)) || b.lost() != 1 {
			t.Errorf("%s: gap %+v, %d lost", protocol, items[len(items)-1].in, b.lost())
		}
		b.recycle(items)
		if again := b.take(nil); len(again) != 0 {
			t.Errorf("%s: told twice: %+v", protocol, again)
		}
	}
}
