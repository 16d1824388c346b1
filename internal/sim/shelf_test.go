package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Some doses are children: their sender needs a key that somebody brings later,
// as the id of a parent that was refused and is put right by people. They are set
// aside, and all else goes on.

// childGroup is how many numbers share a parent.
const childGroup = 8

// childKey returns what an event waits for at a receiver; ok is false if it is no
// child.
func (k *sink) childKey(e *plant.Event) (key string, ok bool) {
	if e.Kind != plant.KindDosing || k.w.plan.Orphans == 0 {
		return "", false
	}
	key = fmt.Sprintf("parent/%s/%d", e.Machine, e.Sequence/childGroup)
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, k.w.plan.Seed, k.name, key) // a hash takes everything
	return key, int(h.Sum64()>>1%1000) < k.w.plan.Orphans
}

// takes reports whether a machine's events are for this receiver.
func (k *sink) takes(m plant.MachineID) bool {
	return !k.w.plan.Filtered || k.name != "U2" || uplink.Machines{"M1", "*3"}.Take(m)
}

// want notes that somebody has to bring a key.
func (k *sink) want(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wanted[key] = true
}

// operate brings what is wanted, some time after it was, whether a process lives
// or not.
func (w *world) operate(ended <-chan struct{}) {
	r := dice(w.plan.Seed, "operator")
	for {
		timer := time.NewTimer(among(r, 8*time.Second))
		select {
		case <-ended:
			timer.Stop()
			return
		case <-timer.C:
		}
		for _, k := range w.sinks {
			k.mu.Lock()
			keys := slices.Sorted(maps.Keys(k.wanted))
			clear(k.wanted)
			k.mu.Unlock()
			w.store.mu.Lock()
			for _, key := range keys { // there are none before the first process
				w.store.cursors[k.name].memory[key] = []byte("id")
				w.note("operator", "%s %s", k.name, key)
			}
			w.store.mu.Unlock()
		}
	}
}

// inOrder judges an event that comes for the first time: all of a machine come in
// order, but children, which may come later, in the order of those of one parent.
// It is called with mu held.
func (k *sink) inOrder(e *plant.Event, last plant.Sequence) {
	id := e.ID()
	if key, child := k.childKey(e); child {
		if e.Sequence <= k.children[key] {
			k.w.violated("%s: %s comes for the first time, behind its sibling number %d", k.name, id, k.children[key])
		}
		k.children[key] = e.Sequence
		return
	}
	if e.Sequence <= last {
		k.w.violated("%s: %s comes for the first time, behind number %d", k.name, id, last)
	}
	if k.w.plan.Merge {
		return
	}
	for n := last + 1; n < e.Sequence; n++ {
		between := k.w.store.numbered(e.Machine, n)
		if _, child := k.childKey(&between); !child {
			k.w.violated("%s: %s comes behind number %d, and %d is missing", k.name, id, last, n)
			return
		}
	}
}

// numbered returns an event of the disk.
func (s *store) numbered(m plant.MachineID, n plant.Sequence) plant.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[m].events[n-1]
}

// part splits events into those that can be sent now and those that have to wait
// for a parent; the latter are their Results.
func (s *sender) part(m plant.MachineID, events []plant.Event) (now []plant.Event, held map[plant.Sequence]plant.Result) {
	held = map[plant.Sequence]plant.Result{}
	missing := map[string]bool{}
	for i := range events {
		e := &events[i]
		key, child := s.k.childKey(e)
		if !child {
			now = append(now, *e)
			continue
		}
		if !missing[key] {
			id, err := s.queue.Memory(key)
			missing[key] = err != nil || id == nil || s.forwarder.Shelved(m, key) && s.p.w.plan.Bug != sibling
		}
		if !missing[key] {
			now = append(now, *e)
			continue
		}
		s.k.want(key)
		s.p.w.note("held", "%s %s", s.k.name, e.ID())
		held[e.Sequence] = plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Held, WaitsFor: key, Cause: errors.New("the parent's id is not known")}
	}
	return now, held
}

// together puts the Results of what was sent and of what has to wait into the
// order of the events, up to the first without an answer.
func together(events []plant.Event, sent []plant.Result, held map[plant.Sequence]plant.Result) (all []plant.Result) {
	for i := range events {
		r, waits := held[events[i].Sequence]
		if !waits {
			if len(sent) == 0 {
				break
			}
			r, sent = sent[0], sent[1:]
		}
		all = append(all, r)
		if r.Status == plant.Retry {
			break
		}
	}
	return all
}

// letter names a dead letter.
type letter struct {
	m plant.MachineID
	s plant.Sequence
}

const shelfPrefix = "_shelf/"

// shelves reports whether a result puts an event on the shelf.
func shelves(r *plant.Result) bool {
	return slices.ContainsFunc(r.Put, func(kv plant.KV) bool { return strings.HasPrefix(kv.Key, shelfPrefix) && kv.Value != nil })
}

// put is called with the store's mu held.
func (c *cursors) put(values []plant.KV) {
	for _, kv := range values {
		if kv.Value == nil {
			delete(c.memory, kv.Key)
		} else {
			c.memory[kv.Key] = slices.Clone(kv.Value)
		}
	}
}

// shelved is how many events wait for a parent.
func (c *cursors) shelved() (n int) {
	for key := range c.memory {
		if strings.HasPrefix(key, shelfPrefix) {
			n++
		}
	}
	return n
}

var _ uplink.Shelf = (*queue)(nil)

// Memory implements uplink.Queue.
func (q *queue) Memory(key string) ([]byte, error) {
	s := q.o.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != q.o {
		return nil, errCrashed
	}
	return s.cursors[q.sink.name].memory[key], nil
}

// Each implements uplink.Shelf.
func (q *queue) Each(_ context.Context, prefix string, do func(plant.KV) bool) error {
	s := q.o.s
	s.mu.Lock()
	memory := maps.Clone(s.cursors[q.sink.name].memory)
	s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(memory)) {
		if strings.HasPrefix(key, prefix) && !do(plant.KV{Key: key, Value: memory[key]}) {
			break
		}
	}
	return nil
}

// Letter implements uplink.Shelf.
func (q *queue) Letter(ctx context.Context, m plant.MachineID, n plant.Sequence) (plant.Event, bool, error) {
	if err := q.o.p.sleep(ctx, among(q.shelf, time.Millisecond)); err != nil {
		return plant.Event{}, false, err
	}
	s := q.o.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != q.o {
		return plant.Event{}, false, errCrashed
	}
	return s.streams[m].events[n-1], s.cursors[q.sink.name].letters[letter{m, n}], nil
}

// AnswerLetter implements uplink.Shelf, and judges that the receiver has said so.
func (q *queue) AnswerLetter(ctx context.Context, m plant.MachineID, n plant.Sequence, r plant.Result) error {
	s, name := q.o.s, q.sink.name
	if err := q.o.p.at("letter.before", name); err != nil {
		return err
	}
	if err := q.o.p.sleep(ctx, among(q.shelf, s.w.plan.Commit)); err != nil {
		return err
	}
	e := s.numbered(m, n)
	if r.Status == plant.Delivered || r.Status == plant.Rejected {
		if !q.sink.answered(&e, r.Status == plant.Rejected) {
			s.w.violated("%s: the dead letter %s is answered, and the receiver has not said so", name, e.ID())
		}
	}
	s.mu.Lock()
	if s.opened != q.o {
		s.mu.Unlock()
		return errCrashed
	}
	c := s.cursors[name]
	c.put(r.Put)
	if r.Status == plant.Delivered {
		delete(c.letters, letter{m, n})
	}
	s.w.note("letter", "%s %s %v", name, e.ID(), r.Status)
	s.mu.Unlock()
	return q.o.p.at("letter.durable", name)
}
