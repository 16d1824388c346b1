package derive

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// routeOf returns the route of a device with n tags, of which the machine uses all
// but each third.
func routeOf(n int) (*route, []plant.TagID) {
	r, tags := &route{uses: map[plant.TagID]*use{}, at: make([]int32, n)}, make([]plant.TagID, n)
	for i := range tags {
		if tags[i] = plant.TagID(fmt.Sprint("t", i)); i%3 != 0 {
			r.uses[tags[i]] = &use{index: i}
		}
	}
	return r, tags
}

// In whatever order tags come, and however many, a route finds what a look-up does,
// and it stays as short as it must.
func TestARouteFindsWhatALookUpDoes(t *testing.T) {
	r, tags := routeOf(2 * mostRoute)
	seed := rand.NewPCG(1, 2)
	random := rand.New(seed)
	for round := range 24 {
		from := random.IntN(len(tags))
		some := tags[from : from+random.IntN(len(tags)-from)]
		if round%4 == 0 {
			random.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
		}
		for _, tag := range some {
			if got := r.find(tag); got != r.uses[tag] {
				t.Fatalf("round %d, %s: %v, want %v", round, tag, got, r.uses[tag])
			}
			if len(r.stops) > mostRoute || r.next > len(r.stops) {
				t.Fatalf("%d stops, %d is next", len(r.stops), r.next)
			}
		}
	}
}

// A poll in one scan or in several, of the machine's own tags and of others', is
// looked up once; one that leaves tags out, only where it goes on behind them; and
// another order is learnt.
func TestARouteIsLearntOnce(t *testing.T) {
	r, tags := routeOf(100)
	poll := func(parts ...[]plant.TagID) (missed int) {
		before := r.missed
		for _, part := range parts {
			for _, tag := range part {
				r.find(tag)
			}
		}
		return r.missed - before
	}
	for i, want := range []int{100, 0, 0} {
		if got := poll(tags); got != want {
			t.Errorf("poll %d: %d look-ups, want %d", i, got, want)
		}
	}
	if got := poll(tags[:40], tags[40:41], tags[41:]); got != 0 {
		t.Errorf("a poll of three scans: %d look-ups", got)
	}
	if got := poll(tags[:10], tags[20:]); got != 1 { // tag 20 is the machine's own
		t.Errorf("a poll without ten tags: %d look-ups", got)
	}
	if got := poll(tags); got != 0 {
		t.Errorf("the poll behind it: %d look-ups", got)
	}
	turned := append(append([]plant.TagID{}, tags[50:]...), tags[:50]...)
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(turned), func(i, j int) { turned[i], turned[j] = turned[j], turned[i] })
	for range 3 * mostRoute / 30 {
		poll(turned)
	}
	if got := poll(turned); got != 0 {
		t.Errorf("another order: %d look-ups after %d polls", got, 3*mostRoute/30)
	}
}

// Each device has a route of its own, and one that no rule uses has none.
func TestRoutesAreOfADevice(t *testing.T) {
	a, b := &use{index: 0}, &use{index: 1}
	m := &Model{devices: map[plant.DeviceID]map[plant.TagID]*use{"a": {"x": a}, "b": {"x": b}}, tags: make([]plant.TagRef, 2)}
	var all routes
	for range 2 {
		if all.of(m, "a").find("x") != a || all.of(m, "b").find("x") != b || all.of(m, "b").find("y") != nil {
			t.Error("a tag of one device was taken for that of another")
		}
	}
	if all.of(m, "c") != nil || len(all) != 2 {
		t.Errorf("%v", all)
	}
}
