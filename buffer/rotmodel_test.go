package buffer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// rotModel drives a store that rots between its openings, and knows what was
// committed and what was damaged.
type rotModel struct {
	t    *testing.T
	r    *rand.Rand
	o    Options
	b    *Buffer
	q    *Queue
	data map[plant.MachineID]map[plant.Sequence]string
	rot  map[plant.MachineID]map[plant.Sequence]bool
	n    int
}

func (m *rotModel) open() {
	b, err := Open(context.Background(), m.o, zap.NewNop())
	if err != nil {
		m.t.Fatal(err)
	}
	m.b, m.q = b, queue(m.t, b, "mes", all)
}

func (m *rotModel) machine() plant.MachineID { return plant.MachineID(fmt.Sprint("M", m.r.IntN(2))) }

func (m *rotModel) commit() {
	id := m.machine()
	var batch plant.Batch
	for range 1 + m.r.IntN(5) {
		m.n++
		batch.Events = append(batch.Events, count(m.n))
	}
	first, err := m.b.Commit(context.Background(), id, batch)
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range batch.Events {
		s := first + plant.Sequence(i)
		if _, twice := m.data[id][s]; twice {
			m.t.Fatalf("%s: the number %d is given twice", id, s)
		}
		m.data[id][s] = string(batch.Events[i].Data)
	}
}

// damage flips or removes events of a store that is closed.
func (m *rotModel) damage() {
	mustClose(m.t, m.b)
	for range 1 + m.r.IntN(4) {
		id := m.machine()
		all := make([]plant.Sequence, 0, len(m.data[id]))
		for s := range m.data[id] {
			all = append(all, s)
		}
		if len(all) == 0 {
			continue
		}
		slices.Sort(all)
		s := all[m.r.IntN(len(all))]
		if m.rot[id][s] {
			continue
		}
		m.rot[id][s] = true
		change := flip(eventKey(id, s))
		if m.r.IntN(3) == 0 {
			change = func(txn *badger.Txn) error { return txn.Delete(eventKey(id, s)) }
		}
		damage(m.t, m.o.Path, change)
	}
	m.open()
}

func (m *rotModel) step() {
	switch m.r.IntN(8) {
	case 0:
		m.damage()
	case 1:
		mustClose(m.t, m.b)
		m.open()
	case 2:
		old := m.b
		m.o.Path = crash(m.t, old)
		m.open()
		mustClose(m.t, old)
	case 3:
		drainGaps(m.t, m.q)
	case 4:
		for _, err := range m.b.Events(context.Background(), m.machine(), 0, 1+m.r.IntN(40)) {
			if err != nil {
				m.t.Fatal(err)
			}
		}
	default:
		m.commit()
	}
}

// check gives everything to an uplink that never had anything: each event comes
// unharmed or is told, and never both or twice.
func (m *rotModel) check() {
	fresh := queue(m.t, m.b, "oracle", all)
	seen := map[plant.MachineID]map[plant.Sequence]int{"M0": {}, "M1": {}}
	for id, got := range drainGaps(m.t, fresh) {
		for _, e := range got.events {
			seen[id][e.Sequence]++
			if want := m.data[id][e.Sequence]; want != string(e.Data) || m.rot[id][e.Sequence] {
				m.t.Errorf("%s %d comes as %s, committed was %s, damaged %t", id, e.Sequence, e.Data, want, m.rot[id][e.Sequence])
			}
		}
		for _, g := range got.gaps {
			for s := g.First; s <= g.Last; s++ {
				seen[id][s]++
			}
			if g.Reason == "" || g.Count != uint64(g.Last-g.First)+1 {
				m.t.Errorf("%s: the gap %+v", id, g)
			}
		}
	}
	for id, all := range m.data {
		for s := range all {
			if n := seen[id][s]; n != 1 {
				m.t.Errorf("%s %d, damaged %t, was delivered or told %d times", id, s, m.rot[id][s], n)
			}
		}
	}
}

// TestModelWithRot drives a store at random through commits, deliveries, kills
// and rot between two openings.
func TestModelWithRot(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &rotModel{
				t: t, r: rand.New(rand.NewPCG(seed, 7)), o: testOptions(quickDir(t)),
				data: map[plant.MachineID]map[plant.Sequence]string{"M0": {}, "M1": {}},
				rot:  map[plant.MachineID]map[plant.Sequence]bool{"M0": {}, "M1": {}},
			}
			m.open()
			for range 40 {
				m.step()
			}
			m.damage()
			m.check()
			mustClose(t, m.b)
		})
	}
}
