package buffer

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

// WhenFull says what becomes of new events when the quota, or the disk, is used
// up by events that are not delivered.
type WhenFull string

// The policies.
const (
	// Stop refuses new events: the PLCs keep their totals and what they offer by
	// handshake.
	Stop WhenFull = "stop"
	// EvictOldest deletes the oldest events, parameters before all others.
	EvictOldest WhenFull = "evict_oldest"
)

const (
	// evictAt and evictTo are per cent of the quota: from the first on, events
	// that are not delivered are evicted, down to the second.
	evictAt, evictTo = 95, 90
	// evictEvents is how many events one transaction evicts, evictLook how many it
	// looks at for that: both bound what commits wait for.
	evictEvents, evictLook = 256, 4096
	// evictDisk is the share of what is kept that goes at once, one in so many,
	// where it is the disk that is short; evictDiskLeast is the least.
	evictDisk, evictDiskLeast = 10, 4 << 20
)

// evictable is the class of kinds that are evicted before all others.
func evictable(kind plant.EventKind) bool { return kind == plant.KindParameters }

// evicts reports whether the policy may evict anything that is not delivered.
func (o *Options) evicts() bool { return o.WhenFull == EvictOldest || o.EvictParameters }

// evict makes room where delivered events are not enough. The keeper calls it.
func (b *Buffer) evict(ctx context.Context) error {
	goal := b.evictGoal()
	if goal < 0 {
		b.resume(nil)
		return nil
	}
	busy := map[*stream]bool{}
	stuck := map[*stream]bool{}
	evicted := false
	var err error
	for err == nil && b.liveBytes() > goal {
		s, thin := b.victim(busy, stuck)
		if s == nil {
			break
		}
		var more bool
		if more, err = b.evictFrom(ctx, s, thin, busy); !more {
			stuck[s] = true
		}
		evicted = evicted || more
	}
	b.resume(busy)
	if evicted {
		b.keeper.squeeze = b.space.isShut()
		b.mu.Lock()
		queues := slices.Clone(b.queues)
		b.mu.Unlock()
		for _, q := range queues {
			err = errors.Join(err, q.findOldest())
		}
	}
	return err
}

// evictGoal is the number of bytes to come down to, negative where nothing is to
// be evicted.
func (b *Buffer) evictGoal() int64 {
	if !b.opts.evicts() || b.underFloor() {
		return -1
	}
	live, limit := b.liveBytes(), b.limit()
	if b.opts.Quota > 0 && b.opts.Quota <= limit {
		if live > b.opts.Quota/100*evictAt {
			return b.opts.Quota / 100 * evictTo
		}
		return -1
	}
	// A disk that somebody else fills is not emptied at our cost, but for a tenth
	// at a time, and not the last of it.
	shut := b.space.isShut()
	if live <= MinQuota/2 || live <= limit/100*evictAt || shut && time.Since(b.keeper.evicted) < flattenPauseShut {
		return -1
	}
	b.keeper.evicted = time.Now()
	return max(limit/100*evictTo, live-max(live/evictDisk, evictDiskLeast), MinQuota/2)
}

// victim chooses the stream to evict from: the one with the most parameters, and
// where there are none left the one whose oldest event was recorded first.
func (b *Buffer) victim(busy, stuck map[*stream]bool) (victim *stream, thin bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var most uint64
	for _, s := range b.order {
		if n := b.evictableLeft(s); n > most && !busy[s] && !stuck[s] {
			victim, most = s, n
		}
	}
	if victim != nil && (b.opts.EvictParameters || b.opts.WhenFull == EvictOldest) {
		return victim, true
	}
	if b.opts.WhenFull != EvictOldest {
		return nil, false
	}
	victim = nil
	for _, s := range b.order {
		if s.head.sequence > s.low.sequence && !busy[s] && !stuck[s] &&
			(victim == nil || s.lowRecorded < victim.lowRecorded) {
			victim = s
		}
	}
	return victim, false
}

// evictableLeft is the number of events of s that go before all others. It is
// called with b.mu held.
func (b *Buffer) evictableLeft(s *stream) (n uint64) {
	from := &s.low
	if s.thin.sequence > from.sequence {
		from = &s.thin
	}
	for kind, c := range s.head.counts {
		if evictable(b.kinds.names[kind]) && c > from.count(kind) {
			n += c - from.count(kind)
		}
	}
	return n
}

// evictFrom evicts one transaction's worth from s and reports whether that made
// room. A stream whose events are on their way to a receiver is busy: it is left
// alone until the answer is there, and not handed out again before.
func (b *Buffer) evictFrom(ctx context.Context, s *stream, thin bool, busy map[*stream]bool) (made bool, err error) {
	if err := s.lock(ctx); err != nil {
		return false, err
	}
	defer s.unlock()
	if !b.beginEviction(s) {
		busy[s] = true
		return false, nil
	}
	defer b.endEviction(s)
	e := b.planEviction(s, thin)
	if err := e.collect(ctx); err != nil || e.to.sequence == e.from.sequence {
		return false, err
	}
	if b.hasUntold(s) {
		// What is damaged there is told first, in an event of its own; not under
		// the turn that this one holds.
		return false, nil
	}
	r := &request{class: classDelete, done: make(chan error, 1)}
	gaps := e.gaps()
	if len(gaps)+len(e.earlier) > 0 {
		if err := b.encodeGaps(r, s, gaps, classDelete, e.earlier...); err != nil {
			return false, err
		}
	}
	if !thin && r.grow >= e.bytes {
		// Only losses that are told already are left: to tell them again is no room.
		return false, nil
	}
	rest, err := e.encode(r)
	if err != nil {
		return false, err
	}
	if !thin {
		// A reader that passes meanwhile misses nothing.
		b.deletingUpTo(s, e.to.sequence)
		defer b.deletingUpTo(s, 0)
	}
	fault.Pass("evict.before")
	if err := b.submit(r); err != nil {
		return false, err
	}
	fault.Pass("evict.after")
	b.logEvicted(s, gaps)
	return true, rest()
}

// beginEviction keeps Peek and Settle of s waiting until endEviction. It reports
// false while a receiver has events of s in its hands.
func (b *Buffer) beginEviction(s *stream) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.queues {
		if c := q.cursor(s); c.lease != nil && c.lease.busy {
			s.wanted = true
			return false
		}
	}
	s.evicting = make(chan struct{})
	return true
}

func (b *Buffer) endEviction(s *stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(s.evicting)
	s.evicting = nil
}

// calm waits until nothing of s is being evicted. It is called with b.mu held,
// and lets go of it while it waits.
func (b *Buffer) calm(s *stream) {
	for s.evicting != nil {
		done := s.evicting
		b.mu.Unlock()
		<-done
		b.mu.Lock()
	}
}

// resume hands machines out again that were held back for an eviction, but for
// those that are still wanted.
func (b *Buffer) resume(busy map[*stream]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.order {
		if !s.wanted || busy[s] {
			continue
		}
		s.wanted = false
		for _, q := range b.queues {
			if c := q.cursor(s); q.carries != nil && c.backlog > 0 {
				q.enqueue(c)
			}
		}
	}
}

// deleteRest deletes records behind the beginning of s.
func (b *Buffer) deleteRest(s *stream, after, upTo plant.Sequence) (err error) {
	for done := false; err == nil && !done; {
		r := &request{class: classDelete, done: make(chan error, 1)}
		if after, done, err = b.deleteKeys(r, s, after, upTo); err == nil && r.count() > 0 {
			err = b.submit(r)
		}
	}
	return err
}

// overtake moves cursors on that stand before the beginning of s, and counts
// backlogs again. It is called with b.mu held, while no lease of s is busy.
func (b *Buffer) overtake(s *stream) {
	for _, q := range b.queues {
		c := q.cursor(s)
		if c.at.sequence < s.low.sequence {
			c.at.set(&s.low)
		}
		if c.lease != nil {
			c.lease.marks = []mark{{at: c.at.clone()}}
		}
		if q.carries == nil {
			continue
		}
		backlog := q.waiting(c)
		q.backlog = q.backlog - c.backlog + backlog
		c.backlog, c.oldestKnown = backlog, false
	}
}

func (b *Buffer) logEvicted(s *stream, gaps []gap) {
	now := b.opts.now()
	for i := range gaps {
		b.keeper.evictedEvents += gaps[i].count
	}
	if len(gaps) == 0 || now.Sub(b.keeper.evictionLogged) < time.Minute {
		return
	}
	b.keeper.evictionLogged = now
	g := &gaps[0]
	b.log.Error("events that are not delivered are evicted to make room: gap events tell each of them", zap.String("machine", string(s.machine)),
		zap.Uint64("first", uint64(g.first)), zap.Uint64("last", uint64(g.last)), zap.Uint64("count", g.count),
		zap.Uint64("evicted_so_far", b.keeper.evictedEvents))
}
