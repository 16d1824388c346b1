package derive

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim/floor"
	"github.com/sluice-edge/sluice/plant"
)

const hopperConfig = `
device: plc
dosing: {method: batch_out, weight: gross, while: gate, component: SUGAR, min_dose: 200 g, division: 5 g}
`

// weighing is what one move changed the hopper by, as an event tells it.
type weighing struct {
	kind  plant.EventKind
	at    time.Time
	grams int64
	drift bool
}

// A day of a hopper on a noisy scale, read twice a second: each dose, refill and
// sample is told once, in order and to a few divisions, and all together are what
// the hopper lost. A gateway that is restarted meanwhile may tell two moves as
// one, but their grams are not missing.
func TestADayAtTheHopper(t *testing.T) {
	length, seeds := 6*time.Hour, uint64(2)
	if testing.Short() || raceDetector {
		length = 2 * time.Hour
	}
	for seed := range seeds {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d restarts %v", seed, restarts), func(t *testing.T) {
				day(t, seed, length, restarts)
			})
		}
	}
}

func day(t *testing.T, seed uint64, length time.Duration, restarts bool) {
	s := &scenario{path: "hopper", files: map[string]string{"config.yaml": hopperConfig, "tags": "plc/gross int32 scaled kg\nplc/gate bool\n"}}
	m := s.model(t, "config.yaml", "tags")
	h := floor.NewHopper(floor.HopperOptions{Seed: seed, Start: base, Every: 20 * time.Second, Removals: 30})
	random := rand.New(rand.NewPCG(seed, 3))
	state := decode(t, m, nil)
	var told []weighing
	take := func(in plant.Input) {
		next, out := m.Step(state, in)
		state = next
		for _, e := range out.Events {
			if e.Kind != plant.KindAlarm {
				told = append(told, weighed(t, e))
			}
		}
	}
	session, snapshot := uint64(1), true
	for end := base.Add(length); h.Now().Before(end.Add(time.Minute)); {
		if h.Now().After(end) {
			h.Stand()
		}
		h.Advance(h.Now().Add(time.Duration(480+random.IntN(40)) * time.Millisecond))
		if restarts && random.IntN(2000) == 0 {
			take(plant.Stop{At: h.Now()})
			state = decode(t, m, encode(t, m, &state))
			h.Advance(h.Now().Add(time.Duration(random.IntN(90)) * time.Second))
			session, snapshot = session+1, true
		}
		tags := h.Tags()
		take(plant.Scan{Device: "plc", Session: session, Snapshot: snapshot, Asked: h.Now(), Received: h.Now().Add(5 * time.Millisecond), Readings: []plant.Reading{
			{Tag: "gross", Value: plant.ExactValue(plant.Decimal{Unscaled: tags.Weight, Scale: 3}), Quality: plant.Good},
			{Tag: "gate", Value: plant.BoolValue(tags.Gate), Quality: plant.Good},
		}})
		snapshot = false
	}
	judgeHopper(t, h, told, restarts)
}

// weighed returns what an event says of the hopper.
func weighed(t *testing.T, e plant.Event) weighing {
	var d struct {
		Quantity plant.Decimal `json:"quantity"`
		Unit     string        `json:"unit"`
		Drift    bool          `json:"drift"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil || d.Unit != "kg" {
		t.Fatalf("%s %s: %v", e.Kind, e.Data, err)
	}
	grams, err := d.Quantity.Rescale(3)
	if err != nil {
		t.Fatal(err)
	}
	return weighing{kind: e.Kind, at: e.Time, grams: grams.Unscaled, drift: d.Drift}
}

// judgeHopper holds what was told against what was moved.
func judgeHopper(t *testing.T, h *floor.Hopper, told []weighing, restarts bool) {
	// Two weights, each read at three deviations of the noise and rounded to a
	// division. All together are off by what is not yet a drift of min_dose.
	const near, untold = 25, 200
	kinds := map[floor.MoveKind]plant.EventKind{floor.Dosed: plant.KindDosing, floor.Refilled: plant.KindRefill, floor.Removed: plant.KindRemoval}
	var really, said int64
	for _, move := range h.Moves() {
		if move.Kind == floor.Refilled {
			really += move.Grams
		} else {
			really -= move.Grams
		}
	}
	var moves []weighing
	for _, w := range told {
		if w.kind == plant.KindRefill {
			said += w.grams
		} else {
			said -= w.grams
		}
		if !w.drift {
			moves = append(moves, w)
		}
	}
	if off := said - really; off > untold+near || off < -untold-near {
		t.Errorf("the hopper changed by %d g, the events say %d g", really, said)
	}
	if restarts {
		return
	}
	if len(moves) != len(h.Moves()) {
		t.Fatalf("%d moves, %d told", len(h.Moves()), len(moves))
	}
	for i, move := range h.Moves() {
		w := moves[i]
		if off := w.grams - move.Grams; w.kind != kinds[move.Kind] || off > near || off < -near || w.at.Before(move.Began) {
			t.Errorf("%v to %v moved %d g (%v), told %d g as %s at %v", move.Began, move.Ended, move.Grams, move.Kind, w.grams, w.kind, w.at)
		}
	}
	if len(moves) < 200 {
		t.Errorf("only %d moves", len(moves))
	}
}
