package prodsmart

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// class is what a request is for. Those before it go first.
type class uint8

const (
	classState class = iota
	classMovement
	classCounter
	classParameters
	classOrders
	classStock
)

const (
	// age is how long a request waits until it counts as one of the class before
	// its own: what must wait waits long, but not for ever.
	age = time.Minute
	// absence is how long a place in the queue is kept for a caller who is not
	// there: it is reading what has come meanwhile.
	absence = 30 * time.Second
)

// budget is the gateway's share of the requests that a company may make in a
// minute. Requests are spread evenly: one each interval and never a burst, so
// that no minute, fixed or sliding, holds more than its share, and a gateway
// that starts again needs to know nothing of what it did before. All requests
// count, refused ones too. It may be used from any goroutine.
type budget struct {
	interval time.Duration

	mu    sync.Mutex
	next  time.Time // nobody goes before
	queue []*ticket
	timer *time.Timer
}

// ticket is a place in the queue.
type ticket struct {
	key   string
	class class
	since time.Time
	// granted is nil while nobody waits; left is then when the caller went away.
	granted chan struct{}
	left    time.Time
}

// newBudget returns the budget of so many requests a minute. The first request is
// one interval after the first wish: the gateway may have been started anew.
func newBudget(perMinute float64) *budget {
	return &budget{interval: time.Duration(math.Ceil(float64(time.Minute) / perMinute))}
}

// take blocks until a request of that class may be made, and reports whether it
// may: false if there was no room until then, or ctx has ended. Who comes again
// with the same key and class has kept the place.
func (b *budget) take(ctx context.Context, key string, c class, until time.Time) bool {
	t := b.enter(key, c)
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-t.granted:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return !b.leave(t)
}

// ahead is about how long who has kept a place still has to wait.
func (b *budget) ahead(key string, c class) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	i := slices.IndexFunc(b.queue, func(t *ticket) bool { return t.key == key && t.class == c })
	if i < 0 {
		return 0
	}
	wait := max(b.next.Sub(now), 0)
	for _, t := range b.queue {
		if before(t, b.queue[i], now) {
			wait += b.interval
		}
	}
	return wait
}

// enter finds the place of key in class c, or gives one at the end.
func (b *budget) enter(key string, c class) *ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.next.IsZero() {
		b.next = now.Add(b.interval)
	}
	b.queue = slices.DeleteFunc(b.queue, func(t *ticket) bool { return t.granted == nil && now.Sub(t.left) > absence })
	i := slices.IndexFunc(b.queue, func(t *ticket) bool { return t.key == key && t.class == c && t.granted == nil })
	if i < 0 {
		i = len(b.queue)
		b.queue = append(b.queue, &ticket{key: key, class: c, since: now})
	}
	t := b.queue[i]
	t.granted = make(chan struct{})
	b.grant(now)
	return t
}

// leave gives up waiting, not the place. It returns false if the leave was
// granted just now.
func (b *budget) leave(t *ticket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-t.granted:
		return false
	default:
	}
	t.granted, t.left = nil, time.Now()
	return true
}

// pause keeps everybody out until then.
func (b *budget) pause(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until.After(b.next) {
		b.next = until
	}
}

// grant lets the first of those who wait go, if it is time, or sees to it that
// somebody looks when it is. The caller has the lock.
func (b *budget) grant(now time.Time) {
	best := -1
	for i, t := range b.queue {
		if t.granted != nil && (best < 0 || before(t, b.queue[best], now)) {
			best = i
		}
	}
	if best < 0 {
		return
	}
	if wait := b.next.Sub(now); wait > 0 {
		if b.timer == nil {
			b.timer = time.AfterFunc(wait, b.look)
		}
		return
	}
	close(b.queue[best].granted)
	b.queue = slices.Delete(b.queue, best, best+1)
	b.next = now.Add(b.interval)
	b.grant(now)
}

func (b *budget) look() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = nil
	b.grant(time.Now())
}

// before reports whether t goes before o: by class, each minute of waiting being
// worth a class, then by the time that they came.
func before(t, o *ticket, now time.Time) bool {
	if c, d := t.rank(now), o.rank(now); c != d {
		return c < d
	}
	return t.since.Before(o.since)
}

func (t *ticket) rank(now time.Time) int {
	return max(int(t.class)-int(now.Sub(t.since)/age), int(classState))
}
