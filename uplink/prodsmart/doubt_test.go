package prodsmart

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/central"
	fake "github.com/sluice-edge/sluice/internal/central/prodsmart"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// late makes Prodsmart book the next movement so long after the gateway has given
// it up.
func (r *rig) late(d time.Duration) {
	behind, pending := r.wire.handler, true
	r.wire.handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !pending || q.Method != http.MethodPost || !strings.Contains(q.URL.Path, "movements") {
			behind.ServeHTTP(w, q)
			return
		}
		pending = false
		body, err := io.ReadAll(q.Body)
		if err != nil {
			r.t.Error(err)
		}
		<-q.Context().Done()
		again := q.Clone(r.t.Context())
		time.AfterFunc(d, func() {
			again.Body = io.NopCloser(bytes.NewReader(body))
			behind.ServeHTTP(httptest.NewRecorder(), again)
		})
		panic(http.ErrAbortHandler)
	})
}

// lose sends a dose until its answer is lost.
func (r *rig) lose(e plant.Event) {
	r.t.Helper()
	for range 90 {
		results := r.send(e)
		if stop := results[len(results)-1]; len(r.posts()) > 0 {
			return
		} else if stop.Status == plant.Delivered {
			break
		}
		elapse(time.Second)
	}
	r.t.Fatal("the dose was not sent, or its answer was not lost")
}

// TestALateMovementIsFound: Prodsmart ends a movement after the gateway has given
// it up, also if that was started anew or killed meanwhile.
func TestALateMovementIsFound(t *testing.T) {
	for _, test := range []struct {
		name            string
		late            time.Duration
		restart, killed bool
	}{
		{"at once", 300 * time.Millisecond, false, false},
		{"a while later", 3 * time.Second, false, false},
		{"nearly a minute later", 50 * time.Second, false, false},
		{"minutes later", 4 * time.Minute, false, false},
		{"minutes later, with a restart", 4 * time.Minute, true, false},
		{"minutes later, with a kill", 3 * time.Minute, true, true},
		{"with a restart", 50 * time.Second, true, false},
		{"with a kill", 40 * time.Second, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, dosingCompany(), materials())
				e := r.dose("SUGAR", "2", "kg")
				r.send(e) // noted
				kept := maps.Clone(r.memory)
				r.late(test.late)
				r.lose(e)
				elapse(10 * time.Second)
				if test.killed {
					r.memory = kept
				}
				if test.restart {
					r.open()
				}
				began := time.Now()
				r.deliver(e)
				most := 55 * time.Second
				if test.late > time.Minute {
					most = 295 * time.Second
				}
				if took := time.Since(began); test.restart && !test.killed && took > most {
					t.Errorf("it waited for %v after a restart, as if the answer had been lost then", took)
				}
				if got := r.booked(); got != "SUGAR 2 consumption" || len(r.posts()) != 0 {
					t.Errorf("booked %s", got)
				}
				r.strict()
			})
		})
	}
}

// TestAMovementThatAProxyLostIsLookedUp: it may be booked.
func TestAMovementThatAProxyLostIsLookedUp(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, dosingCompany(), materials())
			r.fake.Faults.Add(central.BookedBut(status, "upstream").On("movements"))
			r.deliver(r.dose("SUGAR", "2", "kg"))
			if got := r.booked(); got != "SUGAR 2 consumption" || len(r.posts()) != 1 {
				t.Errorf("%d: booked %s", status, got)
			}
			r.strict()
		})
	}
}

// TestTheRestGoesOnWhileAMovementWaits for its search.
func TestTheRestGoesOnWhileAMovementWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		dose := r.dose("SUGAR", "2", "kg")
		r.send(dose)
		r.late(50 * time.Second)
		r.lose(dose)
		count, stop := r.event("M-1", plant.KindCounter, counter(5, 5)), r.stop(1, "Jam")
		results := r.send(dose, count, stop)
		if last := results[len(results)-1]; last.Status != plant.Retry || last.Wait > 2*time.Second {
			t.Errorf("%+v", last)
		}
		r.want(jamOn, `M-1 counter {"count":5}`)
		r.deliver(dose, count, stop)
		r.strict()
	})
}

// TestPairsAreNamed: Prodsmart ends a movement only after it was searched in vain
// and sent again. Nobody can prevent that; a person takes one of the two out.
func TestPairsAreNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		for i := range 30 { // more than a page
			r.deliver(r.dose("SUGAR", fmt.Sprint(i+1), "kg"))
		}
		e := r.dose("SUGAR", "99", "kg")
		r.send(e)
		r.late(6 * time.Minute)
		r.lose(e)
		r.deliver(e)
		next := func(d time.Duration) []uplink.Notice {
			r.open() // what is known outlives the process
			elapse(d)
			r.deliver(r.event("M-1", plant.KindCounter, counter(int64(r.next["M-1"]), 1)))
			var s uplink.Stats
			r.sender.Inform(&s)
			return s.Notices
		}
		if got := next(2 * time.Minute); len(got) != 0 {
			t.Fatalf("too early: %+v", got)
		}
		var ids []int
		for _, m := range r.fake.Movements() {
			if m.Quantity == 99 {
				ids = append(ids, m.ID)
			}
		}
		if len(ids) != 2 {
			t.Fatalf("booked as %v, and the test wants two", ids)
		}
		for range 2 {
			got := next(pairEvery)
			if len(got) != 1 || !strings.Contains(got[0].Text, fmt.Sprintf("2 times (99 SUGAR consumption; ids %d, %d)", ids[0], ids[1])) || !strings.Contains(got[0].Do, "gw/M-1/0000000000000007-31#1") {
				t.Fatalf("named %+v", got)
			}
		}
		var s uplink.Stats
		r.open()
		r.sender.MissedStops("M-1") // as the page does: what is known is read
		if r.sender.Inform(&s); len(s.Notices) != 1 {
			t.Errorf("after a restart %+v", s.Notices)
		}
		r.fake.TakeOut(ids[1])
		if got := next(pairEvery); len(got) != 0 {
			t.Errorf("still named: %+v", got)
		}
		r.wire.asked()
		next(pairEvery)
		if n := len(r.wire.asked()); n != 1 {
			t.Errorf("%d requests, and only the count was to be sent", n)
		}
		r.strict()
	})
}

// TestARepeatThatIsThereOnce is looked at twice, and then forgotten.
func TestARepeatThatIsThereOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		e := r.dose("SUGAR", "2", "kg")
		r.fake.Faults.Add(central.Dropped().On("movements"))
		r.deliver(e)
		r.wire.asked()
		looks := 0
		for range 5 {
			elapse(pairEvery)
			r.deliver(r.event("M-1", plant.KindCounter, counter(int64(r.next["M-1"]), 1)))
			for _, line := range r.wire.asked() {
				if strings.HasPrefix(line, "GET /api/inventory-movements/") {
					looks++
				}
			}
		}
		if looks < pairLooks || looks > pairLooks+1 { // one may find the token over
			t.Errorf("%d looks", looks)
		}
		if got := r.booked(); got != "SUGAR 2 consumption" {
			t.Errorf("booked %s", got)
		}
	})
}

// TestASearchInVainIsNotBegunAnew while the movement waits for its turn: there
// would never be an end where the share is small.
func TestASearchInVainIsNotBegunAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials(), func(o *Options) { o.RequestsPerMinute = 12 })
		for i := range 60 {
			r.fake.BookMovement(fake.Movement{Product: "SUGAR", Type: "in", Quantity: 1, Comment: fmt.Sprint("other ", i)})
		}
		r.fake.Faults.Add(central.Dropped().On("movements"))
		e := r.dose("SUGAR", "2", "kg")
		r.send(e)
		r.lose(e)
		r.deliver(e)
		pages := 0
		for _, line := range r.wire.asked() {
			if strings.HasPrefix(line, "GET /api/inventory-movements/") {
				pages++
			}
		}
		if pages != 6 {
			t.Errorf("%d pages were read, of 3, in two searches", pages)
		}
		r.strict()
	})
}

// TestAWaitingMovementIsNamed while it waits for its second search, over a restart
// too, and no longer.
func TestAWaitingMovementIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		e := r.dose("SUGAR", "2", "kg")
		r.send(e)
		r.fake.Faults.Add(central.Dropped().On("movements"))
		r.lose(e)
		notices := func() []uplink.Notice {
			var s uplink.Stats
			r.sender.Inform(&s)
			return s.Notices
		}
		if got := notices(); len(got) != 0 {
			t.Errorf("before it was searched: %+v", got)
		}
		for range 100 {
			elapse(time.Second)
			r.send(e)
		}
		named := func() {
			t.Helper()
			got := notices()
			if len(got) != 1 || !strings.Contains(got[0].Text, "M-1 waits (2 SUGAR consumption)") || !strings.Contains(got[0].Do, "5m0s") {
				t.Errorf("named %+v", got)
			}
		}
		named()
		r.open()
		r.sender.MissedStops("M-1") // as the page does: what is known is read
		named()
		r.deliver(e)
		if got := notices(); len(got) != 0 {
			t.Errorf("after it was booked: %+v", got)
		}
		if got := r.booked(); got != "SUGAR 2 consumption" {
			t.Errorf("booked %s", got)
		}
		r.strict()
	})
}

// TestAMovementThatNeverWentOut is sent as soon as there is a connection: nobody
// can have booked it.
func TestAMovementThatNeverWentOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		r.deliver(r.dose("SUGAR", "1", "kg")) // the token is there
		r.wire.away = true
		e := r.dose("SUGAR", "2", "kg")
		for range 30 {
			r.send(e)
			elapse(time.Second)
		}
		r.wire.away = false
		r.wire.asked()
		began := time.Now()
		r.deliver(e)
		if took := time.Since(began); took > 10*time.Second || len(r.posts()) != 1 {
			t.Errorf("it waited for %v", took)
		}
		if got := r.booked(); got != "SUGAR 1 consumption, SUGAR 2 consumption" {
			t.Errorf("booked %s", got)
		}
		r.strict()
	})
}

// TestDosesPassOneThatWaits for its search, a bounded number of them; what is
// filled in or taken out keeps its order.
func TestDosesPassOneThatWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials(func(m *Movements) {
			m.Kinds = []plant.EventKind{plant.KindDosing, plant.KindRemoval}
		}))
		lost := r.dose("SUGAR", "1", "kg")
		r.send(lost)
		r.fake.Faults.Add(central.Dropped().On("movements"))
		r.lose(lost)
		all := []plant.Event{lost, r.dose("SUGAR", "2", "kg"), r.dose("YEAST", "3", "g")}
		all = append(all, r.event("M-1", plant.KindRemoval, `{"component":"SUGAR","quantity":5,"unit":"kg","time":"2026-11-22T06:00:00.000Z"}`), r.dose("SUGAR", "4", "kg"))
		for range 30 {
			r.send(all...)
			elapse(time.Second)
		}
		if got := r.booked(); got != "SUGAR 2 consumption, YEAST 3 consumption" {
			t.Errorf("while it waits: booked %s", got)
		}
		r.deliver(all...)
		if got := r.booked(); got != "SUGAR 2 consumption, YEAST 3 consumption, SUGAR 1 consumption, SUGAR 5 out, SUGAR 4 consumption" {
			t.Errorf("booked %s", got)
		}
		r.strict()
	})
}

// TestFewAreInDoubtAtATime: a Prodsmart that loses every answer is not asked to
// book on and on, and everything is booked once in the end.
func TestFewAreInDoubtAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, dosingCompany(), materials())
		var all []plant.Event
		for i := range 30 {
			all = append(all, r.dose("SUGAR", fmt.Sprint(i+1), "kg"))
		}
		for range 2 * mostPassed {
			r.fake.Faults.Add(central.LostReply().On("movements"))
		}
		posts := 0
		for range 50 {
			r.send(all...)
			posts += len(r.posts())
			elapse(time.Second)
		}
		if posts == 0 || posts > mostPassed+1 {
			t.Errorf("%d were sent in a minute that loses all answers", posts)
		}
		r.deliver(all...)
		times := map[float64]int{}
		for _, m := range r.fake.Movements() {
			times[m.Quantity]++
		}
		for i := range all {
			if times[float64(i+1)] != 1 {
				t.Errorf("%d was booked %d times", i+1, times[float64(i+1)])
			}
		}
		r.strict()
	})
}
