package buffer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// deleteBatch is how many events one transaction deletes: few enough that
	// the commits behind it do not notice.
	deleteBatch = 256
	// trimAt and trimTo are per cent of the quota: from the first on, delivered
	// events are dropped before keep is over, down to the second.
	trimAt, trimTo = 90, 85
	// flattenSlack is how far the disk may exceed twice the live bytes.
	flattenSlack = 32 << 20
	// flattenPause spaces the compactions that give space back, flattenPauseShut
	// those that commits wait for.
	flattenPause     = time.Minute
	flattenPauseShut = 2 * time.Second
)

// keeper deletes what is delivered and old, and watches the disk. It is one
// goroutine.
type keeper struct {
	wake  chan struct{}
	ended chan struct{}
	ctx   context.Context
	end   context.CancelFunc

	flattened time.Time
	// evicted is when events were last evicted for want of disk space; squeeze asks
	// for a compaction then, since only that gives it back.
	evicted        time.Time
	squeeze        bool
	evictionLogged time.Time
	evictedEvents  uint64
	// ballasted is when the ballast was last made or given up.
	ballasted time.Time
	scrubber  scrubber
	// flatDisk is what the disk held after the last compaction.
	flatDisk int64
	failing  bool
	// registry is the key registry as it was copied last, uncopied set while it cannot
	// be.
	registry fs.FileInfo
	uncopied bool
	// rounds counts what the keeper has done, for tests.
	rounds atomic.Uint64
}

func (k *keeper) init() {
	k.wake = make(chan struct{}, 1)
	k.ended = make(chan struct{})
	k.ctx, k.end = context.WithCancel(context.Background())
}

// kick asks for housework now.
func (k *keeper) kick() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keeper) stop() {
	k.end()
	<-k.ended
}

func (b *Buffer) keepLoop() {
	k := &b.keeper
	defer close(k.ended)
	ticker := time.NewTicker(b.opts.housework)
	defer ticker.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-b.faulted:
			return
		case <-k.wake:
		case <-ticker.C:
		}
		b.measure()
		b.checkWritable()
		b.copyRegistry()
		if b.Err() != nil {
			return
		}
		err := errors.Join(b.registerLate(), b.tellAll(k.ctx), b.scrub(k.ctx), b.boundDead(k.ctx), b.retain(k.ctx))
		b.measureDisk()
		b.note(errors.Join(err, b.giveSpaceBack(), b.keepBallast()))
		k.rounds.Add(1)
	}
}

// copyRegistry keeps the copy of an encrypted store's key registry up to date, to
// which Badger adds a key every ten days. It logs the edges.
func (b *Buffer) copyRegistry() {
	k := &b.keeper
	now, err := b.opts.saveRegistry(b.home.folder, k.registry)
	if k.registry = now; err != nil && !k.uncopied {
		b.log.Warn("the store's key registry cannot be copied; it is tried again", zap.Error(err))
	}
	k.uncopied = err != nil
}

// note logs the first of a row of failures of the housework, none of which
// hurts recording.
func (b *Buffer) note(err error) {
	k := &b.keeper
	if k.ctx.Err() != nil || b.Err() != nil || errors.Is(err, plant.ErrFull) {
		return
	}
	if err != nil && !k.failing {
		b.log.Warn("housework of the store failed; it is tried again", zap.Error(err))
	}
	k.failing = err != nil
}

// registerLate makes uplinks durable that were opened while the disk had no
// room even for that. Nothing is deleted before: the keeper deletes, after this.
func (b *Buffer) registerLate() error {
	b.mu.Lock()
	var late []*Queue
	for _, q := range b.queues {
		if q.late {
			late = append(late, q)
		}
	}
	b.mu.Unlock()
	for _, q := range late {
		if err := q.register(); err != nil {
			return err
		}
	}
	return nil
}

// retain deletes events that every uplink has settled: those recorded longer
// than keep ago, and the oldest of the others while the store is near its quota.
func (b *Buffer) retain(ctx context.Context) error {
	oldest := nanos(b.opts.now().Add(-b.opts.Keep))
	b.mu.Lock()
	streams := slices.Clone(b.order)
	b.mu.Unlock()
	for _, s := range streams {
		for {
			more, err := b.trim(ctx, s, oldest)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return b.trimToQuota(ctx)
}

func (b *Buffer) trimToQuota(ctx context.Context) error {
	quota := b.quota()
	if b.liveBytes() > quota/100*trimAt {
		for b.liveBytes() > quota/100*trimTo {
			s := b.oldestDelivered()
			if s == nil {
				break
			}
			if _, err := b.trim(ctx, s, noTime); err != nil {
				return err
			}
		}
	}
	if err := b.evict(ctx); err != nil {
		return err
	}
	if b.liveBytes() < b.quota()/100*evictAt {
		b.overQuota(false)
	}
	return nil
}

func (b *Buffer) liveBytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.eventBytes + b.side.bytes()
}

// oldestDelivered returns the stream whose oldest event was recorded first, of
// those that have something to delete.
func (b *Buffer) oldestDelivered() *stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found *stream
	for _, s := range b.order {
		if b.deletable(s) > s.low.sequence && (found == nil || s.lowRecorded < found.lowRecorded) {
			found = s
		}
	}
	return found
}

// deletable is the sequence up to which every uplink, also one that is not
// configured any more, has settled. It is called with b.mu held.
func (b *Buffer) deletable(s *stream) plant.Sequence {
	limit := s.head.sequence
	for _, q := range b.queues {
		limit = min(limit, q.claim(s))
	}
	return limit
}

// trim deletes one batch of settled events recorded before that time (noTime:
// any) from the beginning of s, and reports whether there may be more.
func (b *Buffer) trim(ctx context.Context, s *stream, before int64) (more bool, err error) {
	b.mu.Lock()
	limit, low := b.deletable(s), s.low.clone()
	known, recorded := s.lowKnown, s.lowRecorded
	view := b.kindsNow()
	b.mu.Unlock()
	if limit <= low.sequence || (before != noTime && known && recorded >= before) {
		return false, nil
	}
	to, next := low.clone(), int64(noTime)
	stopped := false
	n := 0 // events, not numbers: where there is a hole they differ
	_, err = b.scan(ctx, s, low.sequence, limit, func(r *stored) bool {
		if n++; n > deleteBatch || (before != noTime && r.recorded >= before) {
			next, stopped = r.recorded, true
			return false
		}
		s.pass(&to, r.sequence, r.size, view.of(r.kind))
		return true
	})
	if err == nil {
		// The low mark must not pass a loss that no gap event tells.
		err = b.tell(ctx, s)
	}
	if err != nil {
		return false, err
	}
	if !stopped {
		b.mu.Lock()
		if limit == s.head.sequence {
			// Damaged events have no size; at the head the sums are exact again.
			to.set(&s.head)
		}
		s.cross(&to, limit+1)
		b.mu.Unlock()
		to.sequence = limit
	}
	if to.sequence == low.sequence {
		b.mu.Lock()
		s.lowRecorded, s.lowKnown = next, stopped
		b.mu.Unlock()
		return false, nil
	}
	return stopped && before == noTime || stopped && next < before, b.delete(s, &low, &to, next, stopped)
}

// delete removes the events after low up to to, and moves the low mark.
func (b *Buffer) delete(s *stream, low, to *position, next int64, nextKnown bool) error {
	b.deletingUpTo(s, to.sequence)
	after, done := low.sequence, false
	var err error
	for err == nil && !done {
		r := &request{class: classDelete, done: make(chan error, 1)}
		if after, done, err = b.deleteKeys(r, s, after, to.sequence); err != nil {
			break
		}
		if done {
			if err = b.putLow(r, s, to); err != nil {
				break
			}
			r.apply = func() {
				b.eventBytes -= s.freed(to)
				s.setLow(to)
				s.lowRecorded, s.lowKnown = next, nextKnown
			}
		}
		fault.Pass("delete.before")
		err = b.submit(r)
		fault.Pass("delete.after")
	}
	b.deletingUpTo(s, 0)
	return err
}

// deletingUpTo notes that a deletion is under way, 0 for its end.
func (b *Buffer) deletingUpTo(s *stream, n plant.Sequence) {
	b.mu.Lock()
	s.deleting = n
	b.mu.Unlock()
}

// putLow adds where the stream begins, and takes away a thin mark that it passes,
// and what else is said of events before it.
func (b *Buffer) putLow(r *request, s *stream, to *position) error {
	r.put(machineKey(classLow, s.machine), func(dst, key []byte) []byte {
		b.mu.Lock()
		defer b.mu.Unlock()
		return appendLowRecord(dst, key, to, &b.kinds)
	})
	if s.thin.sequence > 0 && to.sequence >= s.thin.sequence {
		r.delete(machineKey(classThin, s.machine))
	}
	return b.dropTaken(r, s, to.sequence)
}

// deleteKeys adds the keys that are really there, damaged or not, at most twice
// a batch of them, and reports whether that was all.
func (b *Buffer) deleteKeys(r *request, s *stream, after, upTo plant.Sequence) (last plant.Sequence, done bool, err error) {
	prefix := machineKey(classEvent, s.machine)
	last, done = after, true
	err = b.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Seek(appendSequence(prefix[:len(prefix):len(prefix)], after+1)); it.Valid(); it.Next() {
			sequence := sequenceOf(it.Item().Key())
			if sequence > upTo {
				return nil
			}
			if r.count() >= 2*deleteBatch {
				done = false
				return nil
			}
			r.delete(it.Item().KeyCopy(nil))
			last = sequence
		}
		return nil
	})
	return last, done, err
}

// diskUse sums what the store's files take in blocks.
func (b *Buffer) diskUse() (use int64) {
	// A table that Badger removes while we look counts as gone.
	_ = filepath.WalkDir(b.opts.Path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			use += diskUse(info)
		}
		return nil
	})
	return use
}

// measureDisk reads what the store takes on disk.
func (b *Buffer) measureDisk() {
	use := b.diskUse()
	b.space.mu.Lock()
	b.space.disk = use
	b.space.mu.Unlock()
}

// giveSpaceBack compacts when the disk holds much more than what is kept and
// that hurts, or nothing is waiting: after a drain Badger itself leaves the
// deleted events where they are, and the guard would stay shut for ever.
func (b *Buffer) giveSpaceBack() error {
	b.space.mu.Lock()
	disk, shut := b.space.disk, b.space.shut
	b.space.mu.Unlock()
	b.mu.Lock()
	live := b.eventBytes + b.side.bytes()
	idle := true
	for _, q := range b.queues {
		idle = idle && q.backlog == 0
	}
	b.mu.Unlock()
	pause := flattenPause
	if shut {
		pause = flattenPauseShut
	}
	eager := fault.Enabled("compact.eager") // the rig has no hour to wait
	if !shut && !eager && disk < b.keeper.flatDisk+flattenSlack/2 {
		// The last compaction has given back what there was.
		return nil
	}
	slack := 2*live + flattenSlack
	if b.keeper.squeeze {
		slack = live
	}
	if eager {
		slack, pause = 0, 0
	}
	if disk <= slack || !(shut || idle) || b.underFloor() || time.Since(b.keeper.flattened) < pause {
		return nil
	}
	b.keeper.squeeze = false
	b.keeper.flattened = time.Now()
	fault.Pass("compact.before")
	if err := b.turnLog(); err != nil {
		return err
	}
	fault.Pass("compact.between")
	err := b.db.Flatten(1)
	fault.Pass("compact.after")
	if err != nil && diskFailed(err) {
		b.latch(fmt.Errorf("compact: %w", err))
	}
	b.log.Info("the store was compacted", zap.Int64("disk_bytes", disk), zap.Int64("live_bytes", live),
		zap.Duration("took", time.Since(b.keeper.flattened)), zap.Error(err))
	b.measure()
	b.keeper.flatDisk = b.diskUse()
	return err
}

// fillerSize is one write of turnLog, as large as a value may be that stays out
// of the value log.
const fillerSize = 480 << 10

// turnLog makes Badger write the log under way into a table. The newest
// deletions are in it, and a compaction does not see them there.
func (b *Buffer) turnLog() error {
	key := appendClass(nil, classFiller)
	filler := make([]byte, fillerSize)
	for range memTableSize/fillerSize + 1 {
		r := &request{class: classDelete, done: make(chan error, 1)}
		r.put(key, func(dst, _ []byte) []byte { return append(dst, filler...) })
		if err := b.submit(r); err != nil {
			return err
		}
	}
	r := &request{class: classDelete, done: make(chan error, 1)}
	r.delete(key)
	if err := b.submit(r); err != nil {
		return err
	}
	const tries, pause = 100, 20 * time.Millisecond
	for range tries {
		if b.db.Levels()[0].NumTables > 0 {
			break
		}
		select {
		case <-b.keeper.ctx.Done():
			return b.keeper.ctx.Err()
		case <-time.After(pause):
		}
	}
	return nil
}
