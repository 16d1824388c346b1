package prodsmart

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestParkedMovements are not sent again by themselves: a person looks, and what is
// there after all is not booked twice by a retry either.
func TestParkedMovements(t *testing.T) {
	for name, there := range map[string]bool{"it never arrived": false, "it arrived very late": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, dosingCompany(), materials(func(m *Movements) { m.OnLostReply = lostPark }))
				e := r.dose("SUGAR", "2", "kg")
				r.send(e)
				if there {
					r.late(20 * time.Minute)
				} else {
					r.fake.Faults.Add(central.Dropped().On("movements"))
				}
				r.lose(e)
				next := r.dose("SUGAR", "3", "kg")
				var first plant.Result
				for end := time.Now().Add(10 * time.Minute); first.Status != plant.Rejected && time.Now().Before(end); elapse(time.Second) {
					first = r.send(e, next)[0]
				}
				var f uplink.Final
				if first.Status != plant.Rejected || !errors.As(first.Cause, &f) || !f.Final() || !strings.Contains(first.Cause.Error(), "sluice:gw/M-1/0000000000000007-1#1") {
					t.Fatalf("%+v", first)
				}
				r.deliver(next)
				elapse(15 * time.Minute)
				if _, may := r.sender.load("M-1").mayBeBooked(place{e.Sequence, 1}, true); !may {
					t.Error("a retry in the same run would not search it")
				}
				l := newLine(0, 0)
				l.memory = maps.Clone(r.memory)
				l.run(t, r.fake, r.options, func(f *uplink.Forwarder) {
					for range 60 {
						results, err := f.Resend(t.Context(), e.Machine, []plant.Event{e})
						if err != nil || len(results) != 1 {
							t.Fatalf("%+v, %v", results, err)
						}
						if results[0].Status == plant.Delivered {
							return
						}
						elapse(max(results[0].Wait, time.Second))
					}
					t.Error("the retry is never answered")
				})
				if got := strings.Count(r.booked(), "SUGAR 2 consumption"); got != 1 {
					t.Errorf("booked %s", r.booked())
				}
				r.strict()
			})
		})
	}
}

// TestWhenAMovementIsSentAgain is a setting: with both times alike it is searched
// once.
func TestWhenAMovementIsSentAgain(t *testing.T) {
	for _, test := range []struct{ search, repeat, want time.Duration }{
		{10 * time.Second, 10 * time.Second, 10 * time.Second},
		{10 * time.Second, 40 * time.Second, 40 * time.Second},
		{2 * time.Minute, 12 * time.Minute, 12 * time.Minute},
		{10 * time.Minute, 0, 10 * time.Minute}, // at least search_after
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, dosingCompany(), materials(func(m *Movements) {
				m.SearchAfter, m.RepeatAfter = config.Duration(test.search), config.Duration(test.repeat)
			}))
			e := r.dose("SUGAR", "2", "kg")
			r.send(e)
			r.fake.Faults.Add(central.Dropped().On("movements"))
			r.lose(e)
			began := time.Now()
			r.deliver(e)
			if took := time.Since(began); took < test.want || took > test.want+20*time.Second || len(r.posts()) != 1 {
				t.Errorf("%v and %v: sent again after %v", test.search, test.repeat, took)
			}
			if got := r.booked(); got != "SUGAR 2 consumption" {
				t.Errorf("booked %s", got)
			}
			r.strict()
		})
	}
}

// TestOneReadingAnswersForMany: after a kill nobody knows of many movements; the list
// is read once for those that are there, not once for each.
func TestOneReadingAnswersForMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		for i := range 60 {
			r.fake.BookMovement(fake.Movement{Product: "SUGAR", Type: "in", Quantity: 1, Comment: fmt.Sprint("other ", i)})
		}
		var all []plant.Event
		for i := range 30 {
			all = append(all, r.dose("SUGAR", fmt.Sprint(i+1), "kg"))
		}
		r.deliver(all...)
		clear(r.sent) // the cursor was not moved when the gateway was killed
		r.open()
		r.wire.asked()
		r.deliver(all...)
		gets, posts := 0, 0
		for _, line := range r.wire.asked() {
			if strings.HasPrefix(line, "GET /api/inventory-movements/") {
				gets++
			}
			if strings.HasPrefix(line, "POST /api/inventory-movements/") {
				posts++
			}
		}
		if gets > 8 || posts != 0 { // 90 movements are 4 pages
			t.Errorf("%d pages were read, %d sent", gets, posts)
		}
		r.strict()
	})
}

// TestWhatIsSettledIsNotHeldUp by a movement that has no turn: a count that Prodsmart
// has, in a newer one, is settled, so that the events before the movement are.
func TestWhatIsSettledIsNotHeldUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		order := func(n string, good int64) plant.Event {
			return r.event("M-1", plant.KindCounter, strings.Replace(counter(good, 5), "{", fmt.Sprintf(`{"order":{"number":%q},`, n), 1))
		}
		all := []plant.Event{order("A", 5), order("B", 10), r.dose("SUGAR", "1", "kg")}
		r.deliver(all...)
		clear(r.sent)
		r.options.RequestsPerMinute = 1 // no room for a search
		r.open()
		r.send(all...)
		elapse(2 * time.Minute)
		results := r.send(all...)
		if len(results) != 2 || results[0].Status != plant.Delivered || results[0].Last != 2 || results[1].Status != plant.Retry {
			t.Errorf("%+v", results)
		}
	})
}
