package derive

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// TestACounterThatGoesRoundSoonIsInNoDoubtAfterACrash: a counter stands, the gateway
// is killed at any moment and is back two seconds later. The time of the last reading
// was saved lately enough for the gap not to look as if the counter could have gone
// round: nothing is told. One that goes round seldom is saved once a minute.
func TestACounterThatGoesRoundSoonIsInNoDoubtAfterACrash(t *testing.T) {
	for _, c := range []struct {
		config string
		most   int // saves in 100 s
	}{
		{"good: made, modulus: 1000, max_rate: 50/s", 42},
		{"total: made, scrap: {BURR: burr}, modulus: 60000, scrap_modulus: 1000, max_rate: 50/s", 42},
		{"good: made, direction: down, reload: 1000, max_rate: 50/s", 42},
		{"good: made, max_rate: 50/s", 3},
	} {
		t.Run(c.config, func(t *testing.T) {
			section, faults := config.ParseSection("PRESS-01", "m.yaml", "device: press\ncounter: {"+c.config+"}")
			var o Options
			if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
				t.Fatal(faults)
			}
			m, err := NewModel("PRESS-01", o, Catalog{"press": {{ID: "made", Type: plant.TypeUint16}, {ID: "burr", Type: plant.TypeUint16}}})
			if faulty(err) {
				t.Fatal(section.Faults(err))
			}
			for seconds := 30; seconds <= 100; seconds += 7 {
				standAndCrash(t, m, time.Duration(seconds)*time.Second, c.most)
			}
		})
	}
}

func standAndCrash(t *testing.T, m *Model, length time.Duration, most int) {
	t.Helper()
	s, r, out := decode(t, m, nil), run{m: m}, Output{}
	saved, savedAt, saves := encode(t, m, &s), base, 0
	now := base
	scan := func(snapshot bool) {
		out = Output{Events: out.Events}
		changed := r.step(&s, plant.Scan{Device: "press", Session: 1, Snapshot: snapshot, Received: now, Readings: []plant.Reading{
			{Tag: "made", Value: plant.UintValue(900), Quality: plant.Good}, {Tag: "burr", Value: plant.UintValue(7), Quality: plant.Good},
		}}, &out)
		if changed && now.Sub(savedAt) >= m.commitEvery || now.Sub(savedAt) >= idleCommit {
			saved, savedAt = encode(t, m, &s), now
			saves++
		}
	}
	scan(true)
	for end := base.Add(length); now.Before(end); now = now.Add(500 * time.Millisecond) {
		scan(false)
	}
	if saves > most {
		t.Errorf("the state was saved %d times in %s, want %d at most", saves, length, most)
	}
	s, r = decode(t, m, saved), run{m: m}
	s.GoOn()
	now = now.Add(2 * time.Second)
	scan(true)
	for range 20 {
		now = now.Add(500 * time.Millisecond)
		scan(false)
	}
	for _, e := range out.Events {
		t.Errorf("killed after %s: %s %s", length, e.Kind, e.Data)
	}
}
