package buffer

import (
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// An uplink that gets the events of some machines only is not offered those of
// the others, keeps nothing of theirs, and counts none of them; once it gets
// them it begins with what is still kept. What belongs to no machine is for all.
func TestAQueueOfSomeMachines(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	commit(t, b, "M1", count(1)) // before the uplink is there
	press := func(m plant.MachineID) bool { return m == "M2" }
	q, err := b.QueueOf("mes", all, press, FromOldest)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, b, "M1", count(2))
	commit(t, b, "M2", count(1))
	commit(t, b, "M3", count(1)) // a stream that is new
	commit(t, b, plant.GatewayStream, count(1))
	if got := queueStats(t, b, "mes"); got.Backlog != 2 {
		t.Errorf("a backlog of %d, want 2", got.Backlog)
	}
	served := map[plant.MachineID]bool{}
	for range 2 {
		m := next(t, q)
		served[m] = true
		e := peekAll(t, q, m, 0, 10)
		settle(t, q, m, e[len(e)-1].Sequence, delivered(1, e[len(e)-1].Sequence))
	}
	if !served["M2"] || !served[plant.GatewayStream] {
		t.Errorf("served %v", served)
	}
	b.mu.Lock()
	for _, s := range b.order {
		if claim := q.claim(s); claim != s.head.sequence {
			t.Errorf("%s is kept from %d on for an uplink that needs nothing of it", s.machine, claim)
		}
		if c := q.cursor(s); c.queued || c.lease != nil {
			t.Errorf("%s is offered", s.machine)
		}
	}
	b.mu.Unlock()
	mustClose(t, b)
	b = open(t, testOptions(path))
	if _, err := b.QueueOf("mes", all, nil, FromOldest); err != nil {
		t.Fatal(err)
	}
	// M1 and M3 were never delivered; of them the uplink gets what is kept.
	if got := queueStats(t, b, "mes"); got.Backlog != 3 {
		t.Errorf("a backlog of %d of the machines that were let in, want 3", got.Backlog)
	}
}
