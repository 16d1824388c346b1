package derive

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// TestATotalThatGoesRoundSoonIsInNoDoubtAfterACrash: a total stands, the gateway is
// killed at any moment and is back two seconds later. The time of the last reading
// was saved lately enough for the gap not to look as if the total could have gone
// round: nothing is told.
func TestATotalThatGoesRoundSoonIsInNoDoubtAfterACrash(t *testing.T) {
	m := hopperModel(t, "method: totalizer, total: net, component: OIL, min_dose: 200 g, division: 5 g, modulus: 100 kg, max_rate: 5 kg/s", "kg")
	for seconds := 30; seconds < 100; seconds += 7 {
		s, r, out := decode(t, m, nil), run{m: m}, Output{}
		saved, savedAt := encode(t, m, &s), base
		now := base
		scan := func(snapshot bool, grams int64) {
			out = Output{Events: out.Events}
			changed := r.step(&s, plant.Scan{Device: "press", Session: 1, Snapshot: snapshot, Received: now, Readings: []plant.Reading{
				{Tag: "net", Value: plant.ExactValue(plant.Decimal{Unscaled: grams, Scale: 3}), Quality: plant.Good},
			}}, &out)
			if changed && now.Sub(savedAt) >= time.Second || now.Sub(savedAt) >= idleCommit {
				saved, savedAt = encode(t, m, &s), now
			}
		}
		scan(true, 90_000)
		for end := base.Add(time.Duration(seconds) * time.Second); now.Before(end); now = now.Add(500 * time.Millisecond) {
			scan(false, 90_000)
		}
		s, r = decode(t, m, saved), run{m: m}
		s.GoOn()
		now = now.Add(2 * time.Second)
		for range 20 {
			scan(now.Sub(base) <= time.Duration(seconds+2)*time.Second, 90_000)
			now = now.Add(500 * time.Millisecond)
		}
		for _, e := range out.Events {
			t.Errorf("killed after %d s: %s %s", seconds, e.Kind, e.Data)
		}
	}
}
