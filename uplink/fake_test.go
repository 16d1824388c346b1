package uplink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// fakeQueue is a Queue in memory that checks how it is used: every rule of the
// contract that the Forwarder breaks is kept as a fault.
type fakeQueue struct {
	mu      sync.Mutex
	order   []plant.MachineID
	streams map[plant.MachineID][]plant.Event
	cursor  map[plant.MachineID]plant.Sequence
	leased  map[plant.MachineID]bool
	leases  map[plant.MachineID]int
	dead    []plant.Result
	// unreadable are damaged keys of memory.
	unreadable map[string]bool
	memory     map[string][]byte
	turn       int
	changed    chan struct{}
	faults     []string
	// accepted is what the receiver has; nothing else may be settled.
	accepted map[plant.EventID]bool
	fail     error
	// full makes every Settle find no room; tries counts those.
	full  bool
	tries int
}

var _ Queue = (*fakeQueue)(nil)

func newFakeQueue() *fakeQueue {
	return &fakeQueue{
		streams: map[plant.MachineID][]plant.Event{}, cursor: map[plant.MachineID]plant.Sequence{},
		leased: map[plant.MachineID]bool{}, leases: map[plant.MachineID]int{},
		memory: map[string][]byte{}, changed: make(chan struct{}), accepted: map[plant.EventID]bool{},
	}
}

// add appends n events of that kind to a machine's stream.
func (q *fakeQueue) add(m plant.MachineID, kind plant.EventKind, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Contains(q.order, m) {
		q.order = append(q.order, m)
	}
	for range n {
		s := plant.Sequence(len(q.streams[m]) + 1)
		q.streams[m] = append(q.streams[m], plant.Event{
			Gateway: "gw", Machine: m, Source: "/e/s/a/" + string(m), Sequence: s, Previous: s - 1,
			Kind: kind, Version: 1, Data: fmt.Appendf(nil, `{"n":%d}`, s),
		})
	}
	q.notify()
}

func (q *fakeQueue) notify() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *fakeQueue) Next(ctx context.Context) (plant.MachineID, error) {
	return q.nextOf(ctx, func(plant.MachineID) bool { return true })
}

// nextOf leases the next machine of which of is true.
func (q *fakeQueue) nextOf(ctx context.Context, of func(plant.MachineID) bool) (plant.MachineID, error) {
	for {
		q.mu.Lock()
		if err := cmp.Or(q.fail, ctx.Err()); err != nil {
			defer q.mu.Unlock()
			return "", err
		}
		for i := range q.order {
			m := q.order[(q.turn+i)%len(q.order)]
			if of(m) && !q.leased[m] && int(q.cursor[m]) < len(q.streams[m]) {
				q.turn += i + 1
				q.leased[m] = true
				q.leases[m]++
				q.mu.Unlock()
				return m, nil
			}
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-changed:
		}
	}
}

func (q *fakeQueue) Peek(ctx context.Context, m plant.MachineID, after plant.Sequence, maxEvents, maxBytes int) ([]plant.Event, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.leased[m] {
		q.faults = append(q.faults, fmt.Sprintf("Peek of %s without its lease", m))
	}
	if ctx.Err() != nil {
		q.faults = append(q.faults, "Peek with a context that has ended")
	}
	rest := q.streams[m][max(after, q.cursor[m]):]
	return slices.Clone(rest[:min(len(rest), maxEvents)]), nil
}

func (q *fakeQueue) Settle(ctx context.Context, m plant.MachineID, upTo plant.Sequence, results []plant.Result) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fail != nil {
		return q.fail
	}
	if !q.leased[m] {
		q.faults = append(q.faults, fmt.Sprintf("Settle of %s without its lease", m))
	}
	if q.full {
		q.tries++
		return fmt.Errorf("buffer: settle %s: %w", m, plant.ErrFull)
	}
	rejected := map[plant.Sequence]bool{}
	for _, r := range results {
		for _, kv := range r.Put {
			q.memory[kv.Key] = kv.Value
		}
		if r.Status == plant.Held || r.Status == plant.Retry && r.First > upTo {
			continue
		}
		if r.First > r.Last || r.First <= q.cursor[m] || r.Last > upTo {
			q.faults = append(q.faults, fmt.Sprintf("result %d…%d settled between %d and %d", r.First, r.Last, q.cursor[m], upTo))
		}
		if r.Status == plant.Rejected {
			q.dead = append(q.dead, r)
			for s := r.First; s <= r.Last; s++ {
				rejected[s] = true
			}
		}
	}
	for s := q.cursor[m] + 1; s <= upTo; s++ {
		if !q.accepted[q.streams[m][s-1].ID()] && !rejected[s] {
			q.faults = append(q.faults, fmt.Sprintf("%s %d settled, and the receiver has it not", m, s))
		}
	}
	q.cursor[m] = max(q.cursor[m], upTo)
	q.leased[m] = false
	q.notify()
	return nil
}

func (q *fakeQueue) Memory(key string) ([]byte, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.unreadable[key] {
		return nil, fmt.Errorf("buffer: read memory: %w", plant.ErrUnreadable)
	}
	return q.memory[key], nil
}

// settled reports whether every stream is settled to its end.
func (q *fakeQueue) settled() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for m, stream := range q.streams {
		if int(q.cursor[m]) < len(stream) {
			return false
		}
	}
	return true
}

// fakeSender is a receiver that answers by script.
type fakeSender struct {
	queue *fakeQueue
	// answer gives the results; nil delivers everything.
	answer func(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result

	mu     sync.Mutex
	sends  []sent
	busy   map[plant.MachineID]bool
	most   int
	closed bool
	// farewell is how long Close takes.
	farewell time.Duration
	faults   []string
}

type sent struct {
	machine plant.MachineID
	events  []plant.Event
}

func (s *fakeSender) Send(ctx context.Context, m plant.MachineID, events []plant.Event) []plant.Result {
	s.mu.Lock()
	if s.busy == nil {
		s.busy = map[plant.MachineID]bool{}
	}
	if s.busy[m] {
		s.faults = append(s.faults, fmt.Sprintf("two Sends at once for %s", m))
	}
	if s.closed {
		s.faults = append(s.faults, "Send after Close")
	}
	s.busy[m] = true
	s.most = max(s.most, len(s.busy))
	s.sends = append(s.sends, sent{machine: m, events: slices.Clone(events)})
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.busy, m)
		s.mu.Unlock()
	}()
	if s.answer == nil {
		return s.deliver(events)
	}
	return s.answer(ctx, m, events)
}

// deliver takes the events and answers for each.
func (s *fakeSender) deliver(events []plant.Event) []plant.Result {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	results := make([]plant.Result, len(events))
	for i := range events {
		s.queue.accepted[events[i].ID()] = true
		results[i] = plant.Result{First: events[i].Sequence, Last: events[i].Sequence, Status: plant.Delivered}
	}
	return results
}

func (s *fakeSender) Close() error {
	<-time.After(s.farewell) // a slow farewell is what is tested
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// count returns how many Sends there were for m.
func (s *fakeSender) count(m plant.MachineID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, one := range s.sends {
		if one.machine == m {
			n++
		}
	}
	return n
}

func refuse(e *plant.Event, words string) plant.Result {
	return plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: errors.New(words)}
}

// at returns the cursor of m.
func (q *fakeQueue) at(m plant.MachineID) plant.Sequence {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cursor[m]
}

// deadLetters returns what was refused for good so far.
func (q *fakeQueue) deadLetters() []plant.Result {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.dead)
}

// all returns the Sends so far.
func (s *fakeSender) all() []sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sends)
}
