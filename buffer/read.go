package buffer

import (
	"context"
	"errors"
	"iter"

	"github.com/sluice-edge/sluice/plant"
)

// errStop ends a listing early.
var errStop = errors.New("stopped")

// Events returns the stored events of a machine after that sequence, at most
// limit of them, in order. What is damaged is counted and passed over; an error
// ends the listing. It holds no claim on the events: what is deleted meanwhile
// is not listed. It blocks on disk reads.
func (b *Buffer) Events(ctx context.Context, m plant.MachineID, after plant.Sequence, limit int) iter.Seq2[plant.Event, error] {
	return func(yield func(plant.Event, error) bool) {
		if err := b.usable(ctx); err != nil {
			yield(plant.Event{}, err)
			return
		}
		b.mu.Lock()
		s := b.streams[m]
		view := b.kindsNow()
		var head, low plant.Sequence
		if s != nil {
			head, low = s.head.sequence, s.low.sequence
		}
		b.mu.Unlock()
		if s == nil || limit <= 0 {
			return
		}
		n := 0
		stopped := false
		_, err := b.scan(ctx, s, max(after, low), head, func(r *stored) bool {
			e := b.event(m, b.sourceOf(r.epoch, m), r, view.name(view.of(r.kind)), append([]byte{}, r.data...))
			n++
			stopped = !yield(e, nil)
			return !stopped && n < limit
		})
		if err != nil && !stopped {
			yield(plant.Event{}, err)
		}
	}
}

// Machines returns the machines that have a stream, in the order in which they
// first committed or were found at Open.
func (b *Buffer) Machines() []plant.MachineID {
	b.mu.Lock()
	defer b.mu.Unlock()
	machines := make([]plant.MachineID, len(b.order))
	for i, s := range b.order {
		machines[i] = s.machine
	}
	return machines
}
