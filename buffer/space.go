package buffer

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// space guards the disk: Badger maps its files, and on a full disk the kernel
// kills the process in the middle of a write.
type space struct {
	mu sync.Mutex
	// free is the last measured free space; failed is since when it could not be
	// measured, zero if it could, and blind is set when that has lasted too long.
	free   int64
	failed time.Time
	blind  bool
	// shut is set while the disk, over while the quota refuses commits.
	shut, over bool
	// overSince is since when the quota refuses commits.
	overSince time.Time
	since     time.Time
	disk      int64
	// ballast is the size of the ballast file, 0 for none; lowSince is since when
	// nothing may be written, zero if it may.
	ballast  int64
	lowSince time.Time
}

// floor is the free space under which even cursors and deletions wait. It is
// not a share of the reserve: what a ballast has given up must be above it, or
// nothing could be delivered with it.
func (o *Options) floor() int64 { return min(o.Reserve/2, MinReserve/2) }

// reopen is the free space at which commits are taken again.
func (o *Options) reopen() int64 { return o.Reserve + max(o.Reserve/8, 4<<20) }

// blindAfter is how long the free space may stay unknown before it counts as
// none.
const blindAfter = 3 * time.Second

// measure looks whether the store's folder is still there, reads the free space
// and opens or shuts the guard.
func (b *Buffer) measure() {
	free, err := int64(0), b.checkHome()
	if err == nil {
		free, err = b.opts.freeSpace(b.opts.Path)
	}
	s := &b.space
	s.mu.Lock()
	defer s.mu.Unlock()
	defer b.stamp()
	if err != nil {
		b.unknown(err)
		return
	}
	if s.blind {
		b.log.Info("the free disk space can be read again", zap.Int64("free_bytes", free))
	}
	s.failed, s.blind = time.Time{}, false
	s.free = free
	s.low(free < b.opts.floor(), b.opts.now())
	switch {
	case !s.shut && free < b.opts.Reserve:
		s.shut = true
		b.log.Error("the disk is nearly full: no event is accepted until there is space",
			zap.Int64("free_bytes", free), zap.Int64("reserve_bytes", b.opts.Reserve))
	case s.shut && free >= b.opts.reopen():
		s.shut = false
		b.log.Info("the disk has space again: events are accepted", zap.Int64("free_bytes", free),
			zap.Duration("after", b.opts.now().Sub(s.since)))
	}
}

// low notes since when the disk has been under the floor. It is called with mu
// held.
func (s *space) low(low bool, now time.Time) {
	switch {
	case !low:
		s.lowSince = time.Time{}
	case s.lowSince.IsZero():
		s.lowSince = now
	}
}

// unknown notes that the free space could not be read. What was measured last
// holds for a moment, then nothing is written. It is called with space.mu held.
func (b *Buffer) unknown(err error) {
	s := &b.space
	now := b.opts.now()
	if s.failed.IsZero() {
		s.failed = now
	}
	if !s.blind && now.Sub(s.failed) >= blindAfter {
		s.blind = true
		b.log.Error("the free disk space cannot be read: no event is accepted until it can", zap.Error(err))
	}
}

// overQuota notes whether the quota refuses commits.
func (b *Buffer) overQuota(over bool) {
	s := &b.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != over {
		s.over, s.overSince = over, b.opts.now()
		switch {
		case b.opts.WhenFull == EvictOldest:
			// For a moment only; what is evicted is logged.
		case over:
			b.log.Error("the room is used up by events that are not delivered: no event is accepted", zap.Int64("quota_bytes", b.opts.Quota),
				zap.Int64("disk_free_bytes", s.free), zap.Int64("disk_used_bytes", s.disk))
		default:
			b.log.Info("there is room again: events are accepted")
		}
	}
	b.stamp()
}

func (b *Buffer) stamp() {
	s := &b.space
	switch full := b.full(); {
	case full && s.since.IsZero():
		s.since = b.opts.now()
	case !full:
		s.since = time.Time{}
	}
}

func (s *space) isShut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shut || s.blind
}

// evictWithin is how long a commit may be refused under EvictOldest before that
// is shown: the keeper makes room meanwhile, and who commits tries again.
const evictWithin = 5 * time.Second

// full reports whether commits are refused, and not for a moment only. It is
// called with space.mu held.
func (b *Buffer) full() bool {
	s := &b.space
	over := s.over && (b.opts.WhenFull != EvictOldest || b.opts.now().Sub(s.overSince) >= evictWithin)
	return s.shut || s.blind || over
}

// underFloor reports whether nothing at all may be written.
func (b *Buffer) underFloor() bool {
	s := &b.space
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blind || s.free < b.opts.floor()
}

// admit answers the requests that there is no space for and returns the others,
// in the group's own memory.
func (b *Buffer) admit(requests []*request) []*request {
	b.measure()
	c := &b.committer
	c.group = c.group[:0]
	shut, floored := b.space.isShut(), b.underFloor()
	room := b.room()
	for _, r := range requests {
		grow := r.grow + r.growState + r.growSide
		refused := floored || (r.class == classCommit && (shut || (grow > 0 && grow > room)))
		if refused {
			if !shut && !floored {
				b.overQuota(true)
				b.keeper.kick()
			}
			r.done <- plant.ErrFull
			continue
		}
		if r.class == classCommit {
			room -= grow
		}
		c.group = append(c.group, r)
	}
	return c.group
}

// maxHeadroom is what a large store leaves for its compactions.
const maxHeadroom = 256 << 20

// limit is what the events kept may take on this disk, beside what Badger needs
// to write tables anew before it removes the old ones: on a small disk half of
// what there is. Without it a compaction ends the process: with 64 MiB free, one
// of a store of 110 MiB took them all.
func (b *Buffer) limit() int64 {
	s := &b.space
	s.mu.Lock()
	defer s.mu.Unlock()
	available := max(s.free+s.disk-b.opts.Reserve, 0)
	return available - min(available/2, maxHeadroom)
}

// quota is the smaller of the configured one and what the disk has room for.
func (b *Buffer) quota() int64 {
	if limit := b.limit(); b.opts.Quota == 0 || limit < b.opts.Quota {
		return limit
	}
	return b.opts.Quota
}

// room is what the quota leaves. A store that nears its quota wakes the keeper,
// who drops delivered events before anything is refused.
func (b *Buffer) room() int64 {
	live, quota := b.liveBytes(), b.quota()
	if live > quota/100*trimAt {
		b.keeper.kick()
	}
	return quota - live
}
