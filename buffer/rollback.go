package buffer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// rollbackKey is the key in an uplink's memory under which the event stands that
// a rollback was last told by.
func rollbackKey(uplink string, m plant.MachineID) []byte {
	return append(uplinkKey(classMemory, uplink), "\x00rollback/"+string(m)...)
}

// Reconcile compares the last event of a machine that the receiver has had with
// what is stored. A receiver that has an event of this gateway which the store
// never had shows that store and mark are both of an older day: nothing else
// can. The numbers then go on behind that event, and a gap event says so, once
// for each such event, also over restarts. An id of another gateway says
// nothing. Reconcile blocks on a commit in that case; plant.ErrFull means that
// there was no room for it, any other error is the store's fault.
func (q *Queue) Reconcile(ctx context.Context, m plant.MachineID, last plant.EventID) error {
	if err := q.b.usable(ctx); err != nil {
		return err
	}
	if last.Sequence == 0 || last.Sequence > plant.MostSequence || last.Machine != m {
		return nil
	}
	b := q.b
	s := b.stream(m)
	foreign, err := b.foreign(ctx, s, last)
	if err != nil || !foreign {
		return err
	}
	told, err := q.Memory("\x00rollback/" + string(m))
	if errors.Is(err, plant.ErrUnreadable) {
		told, err = nil, nil // a loss that is told twice is better than one that is not
	}
	if err != nil || string(told) == last.String() {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return fmt.Errorf("buffer: reconcile %s with uplink %s: %w", m, q.name, err)
	}
	defer s.unlock()
	g := gap{cause: plant.GapRestoredCopy, reason: fmt.Sprintf("uplink %s has had event %s, which the store does not know: store and high-water mark are an older copy", q.name, last)}
	b.mu.Lock()
	if head := s.head.sequence; last.Sequence > head {
		g.first, g.last = head+1, last.Sequence
		g.count = uint64(g.last-g.first) + 1
		s.lost.add(g.first, g.last)
		s.head.sequence = last.Sequence
		b.lost.Add(g.count)
	}
	s.addUntold(g)
	b.noteDamage(Damage{Machine: m, First: g.first, Last: g.last, Reason: g.reason, Found: b.opts.now()})
	b.mu.Unlock()
	r := &request{done: make(chan error, 1)}
	gaps, err := b.encodeUntold(r, s)
	if err == nil {
		r.put(rollbackKey(q.name, m), func(dst, key []byte) []byte { return appendOpaque(dst, key, []byte(last.String())) })
		err = b.submit(r)
	}
	if err != nil {
		b.untell(s, gaps)
		return err
	}
	b.logGaps(s, gaps)
	b.committer.dirtied(time.Now())
	return nil
}

// foreign reports whether an id is of this gateway and yet not of this store.
func (b *Buffer) foreign(ctx context.Context, s *stream, id plant.EventID) (bool, error) {
	from, known := b.origins[id.Epoch]
	if known && from.gateway != id.Gateway {
		return false, nil
	}
	if !known && !b.isGateway(id.Gateway) {
		return false, nil
	}
	b.mu.Lock()
	head := s.head.sequence
	b.mu.Unlock()
	if !known || id.Sequence > head {
		return true, nil
	}
	other := false
	_, err := b.scan(ctx, s, id.Sequence-1, id.Sequence, func(r *stored) bool {
		other = r.epoch != id.Epoch
		return true
	})
	if errors.Is(err, errDamaged) {
		err = nil
	}
	return other, err
}

// isGateway reports whether events were ever recorded under that name.
func (b *Buffer) isGateway(name string) bool {
	for _, from := range b.origins {
		if from.gateway == name {
			return true
		}
	}
	return name == b.opts.Gateway
}
