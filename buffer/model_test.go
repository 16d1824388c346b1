package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/sluice-edge/sluice/plant"
)

// modelEvent is what the model remembers of an event.
type modelEvent struct {
	id   plant.EventID
	kind plant.EventKind
	data string
}

type modelCursor struct {
	at, delivered plant.Sequence
	// durable is what a crash cannot undo.
	durable, durableDelivered plant.Sequence
	dead                      []plant.Sequence
	memory                    map[string]string
}

// model is the store as its contract has it.
type model struct {
	t       *testing.T
	b       *Buffer
	opts    Options
	queues  map[string]*Queue
	carries map[string]func(plant.EventKind) bool

	streams map[plant.MachineID][]modelEvent
	states  map[plant.MachineID]string
	kv      map[plant.MachineID]map[string]string
	cursors map[string]map[plant.MachineID]*modelCursor
	ids     map[plant.EventID]bool
	epochs  map[plant.Epoch]bool
	// base is the number before each stream's first event.
	base map[plant.MachineID]plant.Sequence
	// steps since the last look at everything.
	steps int
}

// One name is the beginning of others, and one is as long as names may be.
var (
	modelMachines = []plant.MachineID{"M", "M1", plant.MachineID(strings.Repeat("M", maxName))}
	modelUplinks  = []string{"mes", strings.Repeat("u", maxName)}
	modelKinds    = []plant.EventKind{plant.KindCounter, plant.KindParameters, plant.KindStartStop}
)

func newModel(t *testing.T, path string) *model {
	m := &model{
		t: t, opts: testOptions(path), streams: map[plant.MachineID][]modelEvent{}, states: map[plant.MachineID]string{},
		kv: map[plant.MachineID]map[string]string{}, cursors: map[string]map[plant.MachineID]*modelCursor{},
		carries: map[string]func(plant.EventKind) bool{modelUplinks[0]: only(plant.KindCounter, plant.KindStartStop), modelUplinks[1]: all},
		ids:     map[plant.EventID]bool{}, epochs: map[plant.Epoch]bool{}, base: map[plant.MachineID]plant.Sequence{},
	}
	for _, u := range modelUplinks {
		m.cursors[u] = map[plant.MachineID]*modelCursor{}
		for _, id := range modelMachines {
			m.cursors[u][id] = &modelCursor{memory: map[string]string{}}
		}
	}
	for _, id := range modelMachines {
		m.kv[id] = map[string]string{}
	}
	return m
}

func (m *model) open(rt *rapid.T) {
	b, err := Open(context.Background(), m.opts, zap.NewNop())
	if err != nil {
		rt.Fatalf("open: %v", err)
	}
	if m.epochs[b.Epoch()] {
		rt.Fatalf("epoch %s was given twice", b.Epoch())
	}
	m.epochs[b.Epoch()] = true
	// Reading from memory, from disk, and from both must be the same.
	b.recent.limit = rapid.SampledFrom([]int{0, 700, 3000, recentBytes}).Draw(rt, "recent")
	m.b, m.queues = b, map[string]*Queue{}
	for _, u := range modelUplinks {
		q, err := b.Queue(u, m.carries[u])
		if err != nil {
			rt.Fatalf("queue: %v", err)
		}
		m.queues[u] = q
	}
}

// begin lets some streams begin just before a number that takes one byte, one
// bit or one digit more.
func (m *model) begin(rt *rapid.T) {
	if rapid.IntRange(0, 3).Draw(rt, "far") > 0 {
		m.open(rt)
		return
	}
	for _, id := range modelMachines {
		limit := rapid.SampledFrom([]plant.Sequence{3, 1 << 8, 1 << 16, 1 << 32, 1 << 53, 1 << 63}).Draw(rt, "limit")
		m.base[id] = limit - rapid.SampledFrom([]plant.Sequence{1, 2, 3}).Draw(rt, "before")
		for _, u := range modelUplinks {
			c := m.cursors[u][id]
			c.at, c.durable = m.base[id], m.base[id]
		}
	}
	beginAt(m.t, m.opts, m.base)
	m.open(rt)
}

// head is the number of the newest event.
func (m *model) head(id plant.MachineID) plant.Sequence {
	return m.base[id] + plant.Sequence(len(m.streams[id]))
}

// event is the one of that number.
func (m *model) event(id plant.MachineID, s plant.Sequence) modelEvent {
	return m.streams[id][s-m.base[id]-1]
}

// tooBig commits what is larger than anything may be: nothing changes.
func (m *model) tooBig(rt *rapid.T) {
	id := rapid.SampledFrom(modelMachines).Draw(rt, "machine")
	long := make([]byte, maxEvent+1)
	for _, batch := range []plant.Batch{
		{State: long},
		{Events: []plant.Event{count(1), {Kind: plant.KindCounter, Data: long}}},
		{Events: []plant.Event{{Kind: plant.EventKind(strings.Repeat("k", maxName+1))}}},
		{State: []byte("never"), Put: []plant.KV{{Key: "a", Value: long}}},
		{State: []byte("never"), Put: []plant.KV{{Key: strings.Repeat("k", maxKVKey+1)}}},
	} {
		if first, err := m.b.Commit(context.Background(), id, batch); !errors.Is(err, plant.ErrTooBig) || first != 0 {
			rt.Fatalf("a commit that is too big gives %d, %v", first, err)
		}
	}
}

func (m *model) commit(rt *rapid.T) {
	id := rapid.SampledFrom(modelMachines).Draw(rt, "machine")
	n := rapid.IntRange(0, 6).Draw(rt, "events")
	batch := plant.Batch{}
	want := plant.Sequence(0)
	if n > 0 {
		want = m.head(id) + 1
	}
	long := 0 // with a third one the batch would be refused, which tooBig does
	for range n {
		e := count(len(m.ids))
		e.Kind = rapid.SampledFrom(modelKinds).Draw(rt, "kind")
		e.Data = fmt.Appendf(nil, `{"n":%d}`, len(m.ids))
		if rapid.IntRange(0, 499).Draw(rt, "long") == 499 && long < 2 {
			long++
			e.Data = append(e.Data, bytes.Repeat([]byte{' '}, maxEvent-len(e.Data))...)
		}
		batch.Events = append(batch.Events, e)
		ev := modelEvent{
			id:   plant.EventID{Gateway: m.opts.Gateway, Machine: id, Epoch: m.b.Epoch(), Sequence: m.head(id) + 1},
			kind: e.Kind, data: string(e.Data),
		}
		if m.ids[ev.id] {
			rt.Fatalf("the model gave %s twice", ev.id)
		}
		m.ids[ev.id] = true
		m.streams[id] = append(m.streams[id], ev)
	}
	if rapid.Bool().Draw(rt, "state") {
		m.states[id] = fmt.Sprintf("state at %d", len(m.ids))
		batch.State = []byte(m.states[id])
	}
	for _, k := range []string{"a", "b"} {
		switch rapid.IntRange(0, 3).Draw(rt, "kv "+k) {
		case 0:
			m.kv[id][k] = fmt.Sprint(len(m.ids))
			batch.Put = append(batch.Put, plant.KV{Key: k, Value: []byte(m.kv[id][k])})
		case 1:
			delete(m.kv[id], k)
			batch.Delete = append(batch.Delete, k)
		}
	}
	first, err := m.b.Commit(context.Background(), id, batch)
	if err != nil || first != want {
		rt.Fatalf("commit to %s: first %d, want %d, err %v", id, first, want, err)
	}
}

// pending is what the uplink should still be given.
func (m *model) pending(uplink string, id plant.MachineID, after plant.Sequence) (events []modelEvent) {
	for _, e := range m.streams[id][min(int(after-m.base[id]), len(m.streams[id])):] {
		if m.carries[uplink](e.kind) {
			events = append(events, e)
		}
	}
	return events
}

// deliver takes a machine, peeks once or twice, and settles some of it.
func (m *model) deliver(rt *rapid.T) {
	u := rapid.SampledFrom(modelUplinks).Draw(rt, "uplink")
	q := m.queues[u]
	id, ok := q.take()
	if !ok {
		for _, id := range modelMachines {
			if c := m.cursors[u][id]; len(m.pending(u, id, c.at)) > 0 {
				rt.Fatalf("queue %s is idle but %s has events after %d", u, id, c.at)
			}
		}
		return
	}
	c := m.cursors[u][id]
	want := m.pending(u, id, c.at)
	limit := rapid.IntRange(1, 5).Draw(rt, "max")
	got, err := q.Peek(context.Background(), id, 0, limit, math.MaxInt)
	if err != nil {
		rt.Fatal(err)
	}
	if len(got) > 0 && rapid.Bool().Draw(rt, "again") {
		more, err := q.Peek(context.Background(), id, got[len(got)-1].Sequence, limit, math.MaxInt)
		if err != nil {
			rt.Fatal(err)
		}
		got = append(got, more...)
		limit *= 2
	}
	m.compare(rt, u, id, c, got, want[:min(limit, len(want))])
	settled := rapid.IntRange(0, len(got)).Draw(rt, "settled")
	upTo, results := plant.Sequence(0), []plant.Result(nil)
	durable := false
	for i, e := range got[:settled] {
		upTo = e.Sequence
		r := delivered(e.Sequence, e.Sequence)
		switch rapid.IntRange(0, 5).Draw(rt, "status") {
		case 0:
			r.Status, r.Cause = plant.Rejected, errors.New("unknown order")
			c.dead = append(c.dead, e.Sequence)
			durable = true
		case 1:
			key := string(id) + "/id"
			r.Put = []plant.KV{{Key: key, Value: fmt.Append(nil, e.Sequence, i)}}
			c.memory[key] = fmt.Sprint(e.Sequence, i)
			durable = true
		}
		if r.Status == plant.Delivered {
			c.delivered = e.Sequence
		}
		results = append(results, r)
	}
	if err := q.Settle(context.Background(), id, upTo, results); err != nil {
		rt.Fatalf("settle %s of %s up to %d: %v", id, u, upTo, err)
	}
	c.at = max(c.at, upTo)
	if durable {
		c.durable, c.durableDelivered = c.at, c.delivered
	}
}

func (m *model) compare(rt *rapid.T, u string, id plant.MachineID, c *modelCursor, got []plant.Event, want []modelEvent) {
	if len(got) != len(want) {
		rt.Fatalf("queue %s gives %d events of %s after %d, want %d", u, len(got), id, c.at, len(want))
	}
	previous := c.delivered
	for i := range got {
		e := &got[i]
		if e.ID() != want[i].id || e.Kind != want[i].kind || !bytes.Equal(e.Data, []byte(want[i].data)) || e.Source != m.opts.Source+"/"+string(id) {
			rt.Fatalf("queue %s gives %s %s %s, want %s %s %s", u, e.ID(), e.Kind, e.Data, want[i].id, want[i].kind, want[i].data)
		}
		if e.Previous != previous {
			rt.Fatalf("queue %s: %s has previous %d, want %d", u, e.ID(), e.Previous, previous)
		}
		previous = e.Sequence
	}
}

// check looks at what the store says of itself.
func (m *model) check(rt *rapid.T) {
	s := m.b.Stats()
	if s.Lost != 0 || s.Fault != "" || s.Full {
		rt.Fatalf("stats %+v", s)
	}
	if m.steps++; m.steps%64 == 0 {
		m.checkAll(rt)
	}
	for _, q := range s.Queues {
		backlog, dead := 0, 0
		for _, id := range modelMachines {
			c := m.cursors[q.Uplink][id]
			backlog += len(m.pending(q.Uplink, id, c.at))
			dead += len(c.dead)
		}
		if q.Backlog != uint64(backlog) || q.DeadLetters != uint64(dead) || q.Oldest.IsZero() != (backlog == 0) {
			rt.Fatalf("queue %s has a backlog of %d since %s and %d dead letters, want %d and %d", q.Uplink, q.Backlog, q.Oldest, q.DeadLetters, backlog, dead)
		}
	}
}

// checkAll looks at every record.
func (m *model) checkAll(rt *rapid.T) {
	ctx := context.Background()
	if err := checkRecent(m.b); err != nil {
		rt.Fatal(err)
	}
	for _, id := range modelMachines {
		kv := map[string]string{}
		state, err := m.b.Load(ctx, id, func(p plant.KV) error { kv[p.Key] = string(p.Value); return nil })
		if err != nil || string(state) != m.states[id] || fmt.Sprint(kv) != fmt.Sprint(m.kv[id]) {
			rt.Fatalf("%s has state %q and %v, err %v; want %q and %v", id, state, kv, err, m.states[id], m.kv[id])
		}
		want := m.streams[id]
		n := 0
		for e, err := range m.b.Events(ctx, id, 0, 1<<30) {
			if err != nil || n >= len(want) || e.ID() != want[n].id {
				rt.Fatalf("event %d of %s is %s, err %v", n, id, e.ID(), err)
			}
			n++
		}
		if n != len(want) {
			rt.Fatalf("%s has %d events, want %d", id, n, len(want))
		}
	}
	for _, u := range modelUplinks {
		want, got := "", ""
		for _, id := range modelMachines {
			for _, s := range m.cursors[u][id].dead {
				want += fmt.Sprintf("%s/%d unknown order;", id, s)
			}
			for k, v := range m.cursors[u][id].memory {
				if value, err := m.queues[u].Memory(k); err != nil || string(value) != v {
					rt.Fatalf("memory %s of %s is %q, %v, want %q", k, u, value, err, v)
				}
			}
		}
		for d, err := range m.b.DeadLetters(ctx, u) {
			if err != nil || d.Event.ID() != m.event(d.Event.Machine, d.Event.Sequence).id {
				rt.Fatalf("dead letter %s, err %v", d.Event.ID(), err)
			}
			got += fmt.Sprintf("%s/%d %s;", d.Event.Machine, d.Event.Sequence, d.Cause)
		}
		if got != want {
			rt.Fatalf("dead letters of %s: %s, want %s", u, got, want)
		}
	}
}

// reopen closes in order: nothing is forgotten. It is rare, since it takes as long
// as a hundred commits.
func (m *model) reopen(rt *rapid.T) {
	if rapid.IntRange(0, 7).Draw(rt, "reopen") > 0 {
		m.commit(rt)
		return
	}
	if err := m.b.Close(); err != nil {
		rt.Fatal(err)
	}
	for _, u := range modelUplinks {
		for _, c := range m.cursors[u] {
			c.durable, c.durableDelivered = c.at, c.delivered
		}
	}
	m.open(rt)
	m.checkAll(rt)
}

// kill goes on from a copy of the files as they are: commits and durable
// settlements are there; other cursors may have been written or not.
func (m *model) kill(rt *rapid.T) {
	if rapid.IntRange(0, 7).Draw(rt, "kill") > 0 {
		m.deliver(rt)
		return
	}
	old := m.b
	m.opts.Path = crash(m.t, old)
	m.open(rt)
	if err := old.Close(); err != nil {
		rt.Fatal(err)
	}
	for _, u := range modelUplinks {
		q := m.queues[u]
		for _, id := range modelMachines {
			m.recovered(rt, q, id, m.cursors[u][id])
		}
	}
	m.checkAll(rt)
}

// recovered finds where the uplink goes on after a kill: not before what was
// durable, not behind what was settled.
func (m *model) recovered(rt *rapid.T, q *Queue, id plant.MachineID, c *modelCursor) {
	backlog, last := 0, plant.Sequence(0)
	m.b.mu.Lock()
	if s := m.b.streams[id]; s != nil {
		cur := q.cursor(s)
		backlog, last = int(cur.backlog), cur.delivered
	}
	m.b.mu.Unlock()
	at := c.at
	for len(m.pending(q.name, id, at)) < backlog {
		if at == c.durable {
			rt.Fatalf("after the kill %s has a backlog of %d of %s, more than behind %d", q.name, backlog, id, c.durable)
		}
		at--
	}
	if len(m.pending(q.name, id, at)) != backlog || last < c.durableDelivered || last > c.delivered {
		rt.Fatalf("after the kill %s has a backlog of %d of %s and was sent %d; it was sent %d", q.name, backlog, id, last, c.delivered)
	}
	c.at, c.delivered, c.durable, c.durableDelivered = at, last, at, last
}

func TestModel(t *testing.T) {
	steps := 0
	defer func() { t.Logf("%d steps", steps) }()
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t, quickDir(t))
		m.begin(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"commit":  m.commit,
			"deliver": m.deliver,
			"commit2": m.commit,
			"reopen":  m.reopen,
			"kill":    m.kill,
			"tooBig":  m.tooBig,
			"":        m.check,
		})
		m.checkAll(rt)
		steps += m.steps
		if err := m.b.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}
