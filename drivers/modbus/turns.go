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
//
// Who asks for one thing after the other is never waiting when its turn ends. So
// where the best of those who wait has used much more, the line is kept for a
// moment for the one who has just had it (as anticipatory disk schedulers do);
// else of two units the one that costs most would have every second turn.
type turns struct {
	mu      sync.Mutex
	busy    bool
	served  time.Duration // the start tag of the turn under way
	waiting []*waiter
	kept    *keeping // nil unless the line waits for its last user
}

// keeping is a moment in which the line is kept for one account.
type keeping struct {
	of    *time.Duration
	timer *time.Timer
}

const (
	// keepFor is how long the line is kept: enough to begin the next request, and
	// little beside what one takes.
	keepFor = 3 * time.Millisecond
	// keepAbove is how much more than the last user the best of those who wait must
	// have used.
	keepAbove = 20 * time.Millisecond
)

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
	if t.kept != nil && (t.kept.of == used || urgent) {
		t.kept.timer.Stop()
		t.kept, t.busy = nil, false
	}
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
		t.next(nil) // it was granted in the same moment
	}
	return ctx.Err()
}

// give ends a turn that took so long.
func (t *turns) give(used *time.Duration, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*used = max(t.served, *used) + took
	t.next(used)
}

// keep keeps the line for the account that has just had it; mu is held.
func (t *turns) keep(last *time.Duration) {
	k := &keeping{of: last}
	t.kept = k
	k.timer = time.AfterFunc(keepFor, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.kept == k {
			t.kept = nil
			t.next(nil)
		}
	})
}

// next grants the turn to who is to have it, or keeps the line for the account
// that has just had it, nil for none; mu is held.
func (t *turns) next(last *time.Duration) {
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
	if last != nil && !w.urgent && w.start > *last+keepAbove {
		t.keep(last)
		return
	}
	t.waiting = slices.Delete(t.waiting, best, best+1)
	t.served = max(t.served, w.start)
	close(w.granted)
}
