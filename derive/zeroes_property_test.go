package derive

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// tared is a scale that gets other zeros while it doses, by turns the present
// weight and none, each shown by its weight a reading before its bit or with it.
type tared struct {
	random *rand.Rand
	every  time.Duration
	now    time.Time
	grams  int64
	zero   int64
	rate   int64
	bit    bool
	late   bool
	on     int64
	gains  bool
	take   func(plant.Input)
	first  bool
}

// run has the scale read n times, with what comes or leaves in between.
func (s *tared) run(n int) (grams int64) {
	for range n {
		s.now = s.now.Add(s.every)
		flowed := s.rate * s.every.Milliseconds() / 1000
		grams += flowed
		if !s.gains {
			flowed = -flowed
		}
		s.grams += flowed
		bit := s.bit != s.late
		s.late = false
		shown := (s.grams - s.zero + s.random.Int64N(5) - 2) / 5 * 5
		s.take(&plant.Scan{Device: "plc", Session: 1, Snapshot: s.first, Asked: s.now, Received: s.now.Add(5 * time.Millisecond), Readings: []plant.Reading{
			{Tag: "gross", Value: plant.ExactValue(plant.Decimal{Unscaled: shown, Scale: 3}), Quality: plant.Good},
			{Tag: "comp", Value: plant.IntValue(s.on), Quality: plant.Good},
			{Tag: "gate", Value: plant.BoolValue(s.on != 0), Quality: plant.Good},
			{Tag: "zeroed", Value: plant.BoolValue(bit), Quality: plant.Good},
		}})
		s.first = false
	}
	return grams
}

// tare gives the scale another zero, or takes it back.
func (s *tared) tare() {
	if s.zero = s.grams / 5 * 5; s.random.IntN(2) == 0 {
		s.zero = 0
	}
	s.bit, s.late = !s.bit, s.random.IntN(2) == 0
}

// Whatever zeros a scale gets while it doses, a few readings apart as well, what is
// told of a component is what was dosed but for a few readings of its flow for each
// zero, and says that it is estimated. A zero of tens of kilograms is never a dose.
func TestNoZeroIsADose(t *testing.T) {
	seeds := 6
	if testing.Short() || raceDetector {
		seeds = 2
	}
	for _, method := range []string{"batch_out, while: gate", "gain_in_weight"} {
		for _, every := range []int{100, 250, 500, 1000} {
			t.Run(fmt.Sprintf("%s %d ms", method, every), func(t *testing.T) {
				for seed := range seeds {
					zeroes(t, method, time.Duration(every)*time.Millisecond, uint64(seed))
				}
			})
		}
	}
}

func zeroes(t *testing.T, method string, every time.Duration, seed uint64) {
	s := &scenario{path: "zeroes", files: map[string]string{
		"config.yaml": "device: plc\ndosing: {method: " + method + ", weight: gross, component: {tag: comp}, min_dose: 200 g, division: 5 g, rebase: [zeroed]}\n",
		"tags":        "plc/gross int32 scaled kg\nplc/comp uint32\nplc/gate bool\nplc/zeroed bool\n",
	}}
	m := s.model(t, "config.yaml", "tags")
	state := decode(t, m, nil)
	type sum struct {
		grams     int64
		estimated bool
	}
	told := map[string]sum{}
	type dose struct {
		component    string
		grams, zeros int64
	}
	var doses []dose
	scale := &tared{random: rand.New(rand.NewPCG(seed, 7)), every: every, now: base, grams: 60_000, gains: method == "gain_in_weight", first: true}
	scale.take = func(in plant.Input) {
		next, out := m.Step(state, in)
		state = next
		for _, e := range out.Events {
			if e.Kind != plant.KindDosing {
				continue
			}
			var d plant.Dosing
			if err := json.Unmarshal(e.Data, &d); err != nil {
				t.Fatalf("%s: %v", e.Data, err)
			}
			parts, err := d.Quantity.Rescale(9)
			if err != nil {
				t.Fatal(err)
			}
			was := told[d.Component]
			told[d.Component] = sum{was.grams + parts.Unscaled/1_000_000, was.estimated || d.Estimated}
		}
	}
	calm := int(5*time.Second/every) + 3
	scale.run(calm + 3)
	for i := range 25 {
		d := dose{component: fmt.Sprint(100 + i)}
		scale.on, scale.rate = int64(100+i), 0
		scale.run(scale.random.IntN(4))
		scale.rate = int64(200 + 100*scale.random.IntN(4))
		for range 4 {
			if i < 24 && scale.random.IntN(4) == 0 {
				scale.tare()
				d.zeros++
			}
			d.grams += scale.run(2 + scale.random.IntN(6))
		}
		scale.on, scale.rate = 0, 0
		scale.run(2 * calm)
		doses = append(doses, d)
	}
	reading := 500 * every.Milliseconds() / 1000
	for _, d := range doses {
		got := told[d.component]
		if off, near := got.grams-d.grams, 30+d.zeros*(25+2*reading); off > near || off < -near {
			t.Errorf("seed %d: %d g of component %s were dosed with %d zeros, %d g are told", seed, d.grams, d.component, d.zeros, got.grams)
		}
		if d.zeros > 0 && got.grams != 0 && !got.estimated {
			t.Errorf("seed %d: what is told of component %s with %d zeros is not estimated", seed, d.component, d.zeros)
		}
	}
}
