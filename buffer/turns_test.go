package buffer

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// take leases the machine whose turn it is, without waiting for one.
func (q *Queue) take() (plant.MachineID, bool) { return q.takeFrom(q.turn) }

// lateBuffer is a buffer after an outage: that many machines have more events than
// are ever taken at once.
func lateBuffer(t *testing.T, machines int) (*Buffer, *Queue) {
	t.Helper()
	o := testOptions(t.TempDir())
	b := open(t, o)
	queue(t, b, "mes", all)
	for i := range machines {
		var events []plant.Event
		for n := range 100 {
			events = append(events, count(n))
		}
		commit(t, b, plant.MachineID(fmt.Sprintf("LATE-%02d", i)), events...)
	}
	mustClose(t, b)
	b = open(t, o)
	return b, queue(t, b, "mes", all)
}

// serve takes one event of the next machine and returns which that was.
func serve(t *testing.T, q *Queue) plant.MachineID {
	t.Helper()
	m := next(t, q)
	e := peekAll(t, q, m, 0, 1)
	settle(t, q, m, e[0].Sequence, delivered(e[0].Sequence, e[0].Sequence))
	return m
}

func TestAMachineWithoutABacklogDoesNotWaitForTheOthers(t *testing.T) {
	b, q := lateBuffer(t, 20)
	for range 5 {
		serve(t, q)
	}
	commit(t, b, "LIVE", count(1))
	served := []plant.MachineID{serve(t, q), serve(t, q)}
	if !slices.Contains(served, "LIVE") {
		t.Fatalf("with 20 machines that have a backlog, %v were served before one that has none", served)
	}
	// An event that comes while the machine is served is no backlog either.
	commit(t, b, "LIVE", count(2))
	for m := next(t, q); ; m = next(t, q) {
		e := peekAll(t, q, m, 0, 1)
		if m == "LIVE" {
			commit(t, b, "LIVE", count(3))
		}
		settle(t, q, m, e[0].Sequence, delivered(e[0].Sequence, e[0].Sequence))
		if m == "LIVE" {
			break
		}
	}
	served = []plant.MachineID{serve(t, q), serve(t, q)}
	if !slices.Contains(served, "LIVE") {
		t.Fatalf("%v were served before a machine whose event came while it was served", served)
	}
}

func TestABacklogIsServedBesideBusyMachines(t *testing.T) {
	b, q := lateBuffer(t, 2)
	const live, turns = 8, 80
	for i := range live {
		commit(t, b, plant.MachineID(fmt.Sprintf("LIVE-%d", i)), count(0))
	}
	late := 0
	for n := range turns {
		m, err := q.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		e := peekAll(t, q, m, 0, 1)
		settle(t, q, m, e[0].Sequence, delivered(e[0].Sequence, e[0].Sequence))
		if m[:4] == "LATE" {
			late++
		} else {
			commit(t, b, m, count(n)) // always has another one
		}
	}
	if late < turns/(freshTurns+1) {
		t.Errorf("of %d turns the machines with a backlog had %d", turns, late)
	}
}

// TestBothCanBeLeasedAtOnce: who asks for a machine without a backlog gets none
// that has one, and is woken by an event of one; and the other way round.
func TestBothCanBeLeasedAtOnce(t *testing.T) {
	b, q := lateBuffer(t, 2)
	nextOf := func(backlog bool) <-chan plant.MachineID {
		got := make(chan plant.MachineID, 1)
		go func() {
			m, err := q.NextOf(t.Context(), backlog)
			if err != nil {
				t.Error(err)
			}
			got <- m
		}()
		return got
	}
	fresh := nextOf(false)
	for range 2 {
		if m := <-nextOf(true); m[:4] != "LATE" {
			t.Errorf("%s has no backlog", m)
		}
	}
	late := nextOf(true)
	select {
	case m := <-fresh:
		t.Fatalf("%s has a backlog", m)
	case m := <-late:
		t.Fatalf("%s was leased twice, or has no backlog", m)
	default:
	}
	commit(t, b, "LIVE", count(1))
	if m := <-fresh; m != "LIVE" {
		t.Fatalf("%s was leased for LIVE", m)
	}
	e := peekAll(t, q, "LATE-00", 0, 1)
	settle(t, q, "LATE-00", e[0].Sequence, delivered(e[0].Sequence, e[0].Sequence))
	if m := <-late; m != "LATE-00" {
		t.Fatalf("%s was leased for LATE-00", m)
	}
}
