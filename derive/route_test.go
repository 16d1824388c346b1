package derive

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// In whatever order tags come, and however many, a route finds what a look-up does.
func TestARouteFindsWhatALookUpDoes(t *testing.T) {
	uses := map[plant.TagID]*use{}
	tags := make([]plant.TagID, 2*mostRoute)
	for i := range tags {
		tags[i] = plant.TagID(fmt.Sprint("t", i))
		if i%3 != 0 { // the others are another machine's
			uses[tags[i]] = &use{index: i}
		}
	}
	r := route{uses: uses}
	seed := rand.NewPCG(1, 2)
	random := rand.New(seed)
	for round := range 20 {
		n := random.IntN(len(tags))
		if round%3 == 0 {
			random.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
		}
		for i, tag := range tags[:n] {
			if got := r.find(i, tag); got != uses[tag] {
				t.Fatalf("round %d, place %d: %v, want %v", round, i, got, uses[tag])
			}
		}
		if len(r.stops) > mostRoute {
			t.Fatalf("%d places are remembered", len(r.stops))
		}
	}
}

// Each device has a route of its own, and one that no rule uses has none.
func TestRoutesAreOfADevice(t *testing.T) {
	a, b := &use{index: 1}, &use{index: 2}
	m := &Model{devices: map[plant.DeviceID]map[plant.TagID]*use{"a": {"x": a}, "b": {"x": b}}}
	var all routes
	for range 2 {
		if all.of(m, "a").find(0, "x") != a || all.of(m, "b").find(0, "x") != b || all.of(m, "b").find(0, "y") != nil {
			t.Error("a tag of one device was taken for that of another")
		}
	}
	if all.of(m, "c") != nil || len(all) != 2 {
		t.Errorf("%v", all)
	}
}
