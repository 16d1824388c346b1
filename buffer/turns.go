package buffer

import (
	"context"

	"github.com/sluice-edge/sluice/plant"
)

// enqueue makes a machine available to Next.
func (q *Queue) enqueue(c *cursor) {
	if c.queued || c.lease != nil {
		return
	}
	if c.stream.wanted {
		// Handed out again when the keeper has evicted what must go.
		q.b.keeper.kick()
		return
	}
	c.queued = true
	if c.late {
		q.ready = append(q.ready, c)
	} else {
		q.fresh = append(q.fresh, c)
	}
	q.signal()
}

func (q *Queue) signal() {
	ring(q.wake)
	if len(q.fresh) > 0 {
		ring(q.wakeFresh)
	}
	if len(q.ready) > 0 {
		ring(q.wakeLate)
	}
}

// ring wakes whoever waits at a bell, or the next one who comes there.
func ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// freshTurns is how many machines without a backlog are served before one that
// has one: after an outage what happens now does not wait until every machine
// with a backlog has had its turn.
const freshTurns = 3

// Next blocks until a machine has an event for this uplink and leases it until
// its Settle; machines take turns, those that were up to date first, but for
// every fourth turn. It returns ctx's error when ctx ends, and the
// store's fault.
func (q *Queue) Next(ctx context.Context) (plant.MachineID, error) {
	return q.next(ctx, q.wake, q.turn)
}

// NextOf is Next for the machines that have a backlog, or for those that have
// none: an uplink can serve both at once.
func (q *Queue) NextOf(ctx context.Context, backlog bool) (plant.MachineID, error) {
	if backlog {
		return q.next(ctx, q.wakeLate, func() *[]*cursor { return &q.ready })
	}
	return q.next(ctx, q.wakeFresh, func() *[]*cursor { return &q.fresh })
}

func (q *Queue) next(ctx context.Context, bell <-chan struct{}, from func() *[]*cursor) (plant.MachineID, error) {
	for {
		if err := q.b.usable(ctx); err != nil {
			return "", err
		}
		if m, ok := q.takeFrom(from); ok {
			return m, nil
		}
		select {
		case <-bell:
		case <-ctx.Done():
		case <-q.b.faulted:
		}
	}
}

// turn says whose turn it is. It is called with b.mu held.
func (q *Queue) turn() *[]*cursor {
	if len(q.fresh) == 0 || q.turns == freshTurns && len(q.ready) > 0 {
		q.turns = 0
		return &q.ready
	}
	q.turns = min(q.turns+1, freshTurns)
	return &q.fresh
}

// takeFrom leases the first machine of those that from, called with b.mu held,
// names.
func (q *Queue) takeFrom(from func() *[]*cursor) (plant.MachineID, bool) {
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	if len(q.ready)+len(q.fresh) == 0 {
		return "", false
	}
	line := from()
	if len(*line) == 0 {
		return "", false
	}
	c := (*line)[0]
	copy(*line, (*line)[1:])
	(*line)[len(*line)-1] = nil
	*line = (*line)[:len(*line)-1]
	c.queued = false
	c.lease = &lease{marks: []mark{{at: c.at.clone()}}}
	if len(q.ready)+len(q.fresh) > 0 {
		q.signal()
	}
	return c.stream.machine, true
}
