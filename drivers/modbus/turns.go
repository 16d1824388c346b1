package modbus

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turns says who may use a line next: writes first, since a PLC waits for its
// acknowledgement, then who has used the line least (start-time fair queueing).
// A unit that answers slowly so waits for the others more often than they for
// it; the one request under way is always waited for.
type turns struct {
	mu      sync.Mutex
	busy    bool
	served  time.Duration // the start tag of the turn under way
	waiting []*waiter
}

type waiter struct {
	urgent  bool
	start   time.Duration
	granted chan struct{}
}

// take waits for a turn. used is the caller's account, which give charges; it
// belongs to turns.
func (t *turns) take(ctx context.Context, used *time.Duration, urgent bool) error {
	t.mu.Lock()
	start := max(t.served, *used)
	if !t.busy {
		t.busy, t.served = true, start
		t.mu.Unlock()
		return nil
	}
	w := &waiter{urgent: urgent, start: start, granted: make(chan struct{})}
	t.waiting = append(t.waiting, w)
	t.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.waiting, w); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	} else {
		t.next() // it was granted in the same moment
	}
	return ctx.Err()
}

// give ends a turn that took so long.
func (t *turns) give(used *time.Duration, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*used = max(t.served, *used) + took
	t.next()
}

// next grants the turn to who is to have it; mu is held.
func (t *turns) next() {
	if len(t.waiting) == 0 {
		t.busy = false
		return
	}
	best := 0
	for i, w := range t.waiting {
		if b := t.waiting[best]; w.urgent && !b.urgent || w.urgent == b.urgent && w.start < b.start {
			best = i
		}
	}
	w := t.waiting[best]
	t.waiting = slices.Delete(t.waiting, best, best+1)
	t.served = max(t.served, w.start)
	close(w.granted)
}
