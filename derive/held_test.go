package derive

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// TestHeldRecordsAreBoundedAndWhole offers more records than may wait beside an
// order that was read once. None is lost or booked twice, and none is changed by
// a state that is written and read: what a PLC holds need not be UTF-8.
func TestHeldRecordsAreBoundedAndWhole(t *testing.T) {
	s := &scenario{path: "held", files: map[string]string{
		"config.yaml": "device: press\norder: order\ndosing: {trigger: no, protocol: counter, component: {tag: comp}, quantity: qty}\n",
		"tags":        "press/no uint16\npress/comp string\npress/qty float32 kg\npress/order string\n",
	}}
	const offered = maxHeld + 6
	play := func(reload bool) (events []plant.Event, most int) {
		p := newPlayer(t, s)
		p.reload = func(int) bool { return reload }
		now := base
		scan := func(record plant.RecordID, readings ...plant.Reading) {
			p.step(plant.Scan{Device: "press", Session: 1, Record: record, Received: now, Readings: readings})
			most = max(most, len(p.state.held))
			now = now.Add(10 * time.Millisecond)
		}
		good := func(tag plant.TagID, v plant.Value) plant.Reading {
			return plant.Reading{Tag: tag, Value: v, Quality: plant.Good}
		}
		record := func(n int64) {
			scan("PRESS-01/dosing", good("no", plant.IntValue(n)), good("comp", plant.TextValue("M\xe9l "+strconv.FormatInt(n, 10))), good("qty", plant.FloatValue(float64(n)/4)))
		}
		scan("", good("no", plant.IntValue(0)), good("order", plant.TextValue("A")))
		record(0)
		scan("", good("no", plant.IntValue(0)), good("order", plant.TextValue("A")))
		scan("", good("no", plant.IntValue(1)), good("order", plant.TextValue("B")))
		for n := int64(1); n <= offered; n++ {
			record(n)
			record(n) // as of a driver that reads it again
		}
		scan("", good("no", plant.IntValue(offered)), good("order", plant.TextValue("B")))
		for _, e := range p.events {
			if e.Kind == plant.KindDosing {
				events = append(events, e)
			}
		}
		return events, most
	}
	straight, most := play(false)
	if most != maxHeld {
		t.Errorf("%d records waited at once, want %d", most, maxHeld)
	}
	next := 1
	for _, e := range straight {
		var d plant.Dosing
		if err := json.Unmarshal(e.Data, &d); err != nil {
			t.Fatal(err)
		}
		if want := strconv.Itoa(next); d.Dose != want || d.Quantity.Normal().String() != strconv.FormatFloat(float64(next)/4, 'f', -1, 64) {
			t.Fatalf("dose %s of %s, want dose %s", d.Dose, d.Quantity, want)
		}
		next++
	}
	if next-1 != offered {
		t.Errorf("%d doses were booked, want %d", next-1, offered)
	}
	reloaded, _ := play(true)
	if got, want := full(t, reloaded), full(t, straight); got != want {
		t.Errorf("a state that is written and read gives other doses:\n%swant:\n%s", got, want)
	}
}
