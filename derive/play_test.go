package derive

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// TestAReplayWakesByItsOwnDeadlines: a stop that was too short for the gateway that
// recorded it is one for a config with a shorter min_stop, though nothing was read in
// the midst of it; a recorded deadline of the other config is none.
func TestAReplayWakesByItsOwnDeadlines(t *testing.T) {
	steps := func(p *Replay, step func(*Replay, Step) []plant.Event) (kinds []string) {
		for _, in := range []struct {
			after time.Duration
			run   bool
			tick  bool
		}{{0, true, false}, {time.Second, false, false}, {2 * time.Second, false, true}, {9 * time.Second, true, false}, {20 * time.Second, true, false}} {
			at := base.Add(in.after)
			st := Step{In: &plant.Scan{Device: "press", Session: 1, Received: at, Readings: []plant.Reading{{Tag: "run", Value: plant.BoolValue(in.run), Quality: plant.Good}}}}
			if in.tick {
				st.In = plant.Tick{At: at}
			}
			for _, e := range step(p, st) {
				kinds = append(kinds, e.Time.Sub(base).String())
			}
		}
		return kinds
	}
	for _, c := range []struct {
		name, minStop string
		step          func(*Replay, Step) []plant.Event
		want          []string
	}{
		{"as recorded", "1s", (*Replay).Step, []string{"0s", "1s", "9s"}},
		{"a shorter stop", "5s", (*Replay).Play, []string{"0s", "1s", "9s"}},
		{"as recorded, without a deadline of its own", "5s", (*Replay).Step, []string{"0s"}},
		{"a longer stop", "10s", (*Replay).Play, []string{"0s"}},
	} {
		s := &scenario{path: "m.yaml", files: map[string]string{"tags": "press/run bool\n", "config": "device: press\nstartstop: {running: run, min_stop: " + c.minStop + "}\n"}}
		p, err := s.model(t, "config", "tags").NewReplay(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := steps(p, c.step); len(got) != len(c.want) || len(got) > 1 && (got[1] != c.want[1] || got[2] != c.want[2]) {
			t.Errorf("%s: events at %v, want %v", c.name, got, c.want)
		}
	}
}
