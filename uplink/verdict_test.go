package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

func TestJudge(t *testing.T) {
	q := newFakeQueue()
	q.add("m", plant.KindCounter, 6)
	events := q.streams["m"]
	ok := func(first, last plant.Sequence) plant.Result {
		return plant.Result{First: first, Last: last, Status: plant.Delivered}
	}
	with := func(r plant.Result, s plant.Status) plant.Result { r.Status = s; return r }
	for name, test := range map[string]struct {
		results []plant.Result
		upTo    plant.Sequence
		status  plant.Status
		n       int
	}{
		"none":               {nil, 0, plant.Retry, 0},
		"all in one":         {[]plant.Result{ok(1, 6)}, 6, plant.Delivered, 1},
		"each":               {[]plant.Result{ok(1, 2), ok(3, 3), ok(4, 6)}, 6, plant.Delivered, 3},
		"too few":            {[]plant.Result{ok(1, 2)}, 2, plant.Retry, 1},
		"a gap":              {[]plant.Result{ok(1, 2), ok(4, 6)}, 2, plant.Retry, 1},
		"out of order":       {[]plant.Result{ok(2, 2), ok(1, 1)}, 0, plant.Retry, 0},
		"twice":              {[]plant.Result{ok(1, 1), ok(1, 1)}, 1, plant.Retry, 1},
		"backwards":          {[]plant.Result{ok(1, 0)}, 0, plant.Retry, 0},
		"beyond":             {[]plant.Result{ok(1, 7)}, 0, plant.Retry, 0},
		"more than asked":    {[]plant.Result{ok(1, 6), ok(7, 9)}, 6, plant.Delivered, 1},
		"unknown status":     {[]plant.Result{ok(1, 3), with(ok(4, 6), 77)}, 3, plant.Retry, 1},
		"retry in between":   {[]plant.Result{ok(1, 3), with(ok(4, 4), plant.Retry), ok(5, 6)}, 3, plant.Retry, 1},
		"held in between":    {[]plant.Result{ok(1, 3), with(ok(4, 4), plant.Held), ok(5, 6)}, 3, plant.Held, 1},
		"refused in between": {[]plant.Result{ok(1, 3), with(ok(4, 4), plant.Rejected), ok(5, 6)}, 6, plant.Delivered, 3},
		"zero":               {[]plant.Result{{}}, 0, plant.Retry, 0},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(&batch{events: slices.Clone(events)}, test.results, sending{refusals: &refusals{}, holdAfter: 5})
			if v.upTo != test.upTo || v.stop.Status != test.status || len(v.results) != test.n {
				t.Errorf("upTo %d status %v results %v; want %d %v %d", v.upTo, v.stop.Status, v.results, test.upTo, test.status, test.n)
			}
			if sum := v.delivered + v.rejected + v.retried; sum != 6 {
				t.Errorf("%d delivered + %d rejected + %d retried ≠ 6", v.delivered, v.rejected, v.retried)
			}
		})
	}
}

// TestForwarderLosesNothing throws random failures at it. Whatever the Sender
// does, each event arrives, in order of first arrival, and nothing is settled
// that the receiver has not accepted or refused.
func TestForwarderLosesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script := rapid.SliceOfN(rapid.IntRange(0, 99), 1, 120).Draw(rt, "script")
		machines := rapid.IntRange(1, 6).Draw(rt, "machines")
		events := rapid.IntRange(1, 40).Draw(rt, "events")
		batch := rapid.IntRange(1, 10).Draw(rt, "batch")
		var faults []string
		synctest.Test(t, func(t *testing.T) {
			q, s := scripted(nil)
			arrived := map[plant.MachineID]plant.Sequence{}
			step := 0
			s.answer = func(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
				q.mu.Lock()
				// When the script is over the system is well for good.
				do := 99
				if step < len(script) {
					do = script[step]
				}
				step++
				n := do % (len(events) + 1)
				took := len(events)
				if do < 80 {
					took = n
				}
				for i := range events[:took] {
					if s := events[i].Sequence; s > arrived[m]+1 {
						faults = append(faults, fmt.Sprintf("%s: %d arrived after %d", m, s, arrived[m]))
					} else {
						arrived[m] = max(arrived[m], s)
					}
				}
				refuses := do >= 65 && do < 70 && took < len(events)
				if refuses {
					arrived[m] = max(arrived[m], events[took].Sequence)
				}
				q.mu.Unlock()
				results := s.deliver(events[:took])
				switch {
				case do < 10: // the reply is lost
					return nil
				case do < 20:
					return append(results, plant.Result{Cause: &LinkError{Err: errors.New("cut")}})
				case do < 30:
					return append(results, plant.Result{First: 1, Last: 1 << 40, Status: plant.Delivered})
				case do < 40:
					panic("careless")
				case do < 50:
					<-ctx.Done()
					return results
				case do < 60:
					slices.Reverse(results)
					return results
				case do < 65:
					return append(results, plant.Result{Wait: 5 * time.Second, Cause: errors.New("later")})
				case refuses:
					return append(results, refuse(&events[took], fmt.Sprint("sort ", string(rune('a'+do)))))
				}
				return results
			}
			for i := range machines {
				q.add(plant.MachineID(fmt.Sprint("m", i)), plant.KindCounter, events)
			}
			r := start(t, q, s, s, func(o *Options) { o.BatchEvents, o.Concurrent = batch, 3 })
			for range 24 * 60 {
				if q.settled() {
					break
				}
				elapse(time.Minute)
			}
			if !q.settled() {
				faults = append(faults, fmt.Sprintf("not settled after a day: %v", q.cursor))
			}
			r.finish()
			faults = append(faults, append(q.faults, s.faults...)...)
		})
		if len(faults) > 0 {
			rt.Fatal(strings.Join(faults, "\n"))
		}
	})
}

// TestRefusalsOfOneSort are told by their words, without what differs each time.
func TestRefusalsOfOneSort(t *testing.T) {
	data := []byte(`{"machine":"M-A","serial":"GB-VLIFRGJG"}`)
	for name, test := range map[string]struct {
		a, b string
		same bool
	}{
		"a number":        {"order 7 is unknown", "order 12 is unknown", true},
		"a UUID":          {"no machine (trace 9e0bfbda-e3e4-4bee-9df8-495df1c468e2)", "no machine (trace 0f9f1f9a-aaaa-4bee-9df8-495df1c46800)", true},
		"hexadecimal":     {"no machine [ref deadbeef]", "no machine [ref d90a1e1c]", true},
		"base64":          {"no machine, req EXlLCxZVwuAb", "no machine, req abCDefgHiJKl", true},
		"what is quoted":  {`unit "red" is unknown`, `unit "a b" is unknown`, true},
		"the event's own": {"unit GB-VLIFRGJG: not here", "unit GB-: not here", true},
		"another reason":  {"the machine is unknown", "the order is closed", false},
		"another status":  {"answers Bad Request: no", "answers Not Found: no", false},
	} {
		a, b := sortOf(errors.New(test.a), data), sortOf(errors.New(test.b), data)
		if (a == b) != test.same {
			t.Errorf("%s: %q and %q, want the same sort: %v", name, a, b, test.same)
		}
	}
}

// inDoubt is the Cause of an event that the receiver may have.
type inDoubt struct{}

func (inDoubt) Error() string { return "nobody knows whether it is booked" }
func (inDoubt) Final() bool   { return true }

// TestWhatMayBeBookedHoldsNoStream: it would be sent again and again.
func TestWhatMayBeBookedHoldsNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := scripted(nil)
		q.add("m", plant.KindCounter, 20)
		sent := map[plant.Sequence]int{}
		s.answer = func(_ context.Context, _ plant.MachineID, events []plant.Event) []plant.Result {
			sent[events[0].Sequence]++
			return []plant.Result{{First: events[0].Sequence, Last: events[0].Sequence, Status: plant.Rejected, Cause: fmt.Errorf("cut: %w", inDoubt{})}}
		}
		start(t, q, s, s)
		elapse(10 * time.Minute)
		if got := len(q.deadLetters()); got != 20 {
			t.Errorf("%d dead letters of 20", got)
		}
		for n, times := range sent {
			if times != 1 {
				t.Errorf("event %d was sent %d times", n, times)
			}
		}
	})
}
