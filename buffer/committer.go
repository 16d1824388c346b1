package buffer

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// settleWithin is how long a settled cursor may wait for its fsync.
	settleWithin = 150 * time.Millisecond
	// settleRide is the age from which settled cursors join a group that is
	// written anyway; younger ones wait, so that many moves become one write.
	settleRide = 50 * time.Millisecond
	// groupMargin is left free in a transaction for Badger's own marker.
	groupMargin = 4 << 10
)

// committer is the one goroutine that writes. Requests that arrive while an
// fsync is under way are written together by the next.
type committer struct {
	limits limits
	pool   sync.Pool
	wake   chan struct{}
	ended  chan struct{}

	mu      sync.Mutex
	pending []*request
	// want is how many pending requests wake the goroutine.
	want    int
	closing bool
	// dirtySince is when the oldest unwritten settled cursor moved; zero: none.
	dirtySince time.Time

	commits, groups atomic.Uint64

	// Owned by the goroutine.
	spare     []*request
	group     []*request
	lastGroup groupTrace
	prevGroup groupTrace
	cursors   *request
	side      sideChange
}

// groupTrace remembers who was in a group, to know for whom it is worth to
// linger.
type groupTrace struct {
	streams []*stream
	ended   time.Time
}

func (c *committer) init(db *badger.DB) {
	c.limits = limits{size: db.MaxBatchSize() - groupMargin, count: db.MaxBatchCount() - 16}
	c.wake = make(chan struct{}, 1)
	c.ended = make(chan struct{})
	c.want = 1
	c.cursors = &request{class: classSettle}
}

func (c *committer) get() *request {
	if r, ok := c.pool.Get().(*request); ok {
		r.reset()
		return r
	}
	return &request{done: make(chan error, 1)}
}

func (c *committer) put(r *request) { c.pool.Put(r) }

func (c *committer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// stop writes what is pending and ends the goroutine.
func (c *committer) stop() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.signal()
	<-c.ended
}

// submit hands r to the committer and waits until it is durable or refused.
func (b *Buffer) submit(r *request) error {
	c := &b.committer
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return fmt.Errorf("buffer: %w", errClosed)
	}
	c.pending = append(c.pending, r)
	wake := len(c.pending) >= c.want
	c.mu.Unlock()
	if wake {
		c.signal()
	}
	return <-r.done
}

// dirtied notes that a settled cursor waits to be written.
func (c *committer) dirtied(now time.Time) {
	c.mu.Lock()
	first := c.dirtySince.IsZero()
	if first {
		c.dirtySince = now
	}
	c.mu.Unlock()
	if first {
		c.signal()
	}
}

func (b *Buffer) commitLoop() {
	c := &b.committer
	defer close(c.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		requests, closing := c.gather(timer, b.opts.Linger)
		for len(requests) > 0 {
			n := c.fit(requests)
			b.writeGroup(requests[:n])
			requests = requests[n:]
		}
		for c.flushDue(closing) {
			b.writeGroup(nil)
		}
		if closing {
			return
		}
	}
}

// gather waits for something to write and takes all that is pending.
func (c *committer) gather(timer *time.Timer, linger time.Duration) (requests []*request, closing bool) {
	c.mu.Lock()
	for len(c.pending) == 0 && !c.closing {
		c.want = 1
		wait := time.Hour
		if !c.dirtySince.IsZero() {
			wait = time.Until(c.dirtySince.Add(settleWithin))
		}
		if wait <= 0 {
			break
		}
		c.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-c.wake:
		case <-timer.C:
		}
		c.mu.Lock()
	}
	if n := c.expected(linger); len(c.pending) < n && len(c.pending) > 0 && !c.closing {
		c.lingerFor(timer, n, linger)
	}
	requests, c.pending = c.pending, c.spare[:0]
	c.spare = requests
	c.want = math.MaxInt
	closing = c.closing
	c.mu.Unlock()
	return requests, closing
}

// lingerFor waits until n requests are pending or linger is over. It is called
// with c.mu held.
func (c *committer) lingerFor(timer *time.Timer, n int, linger time.Duration) {
	c.want = n
	deadline := time.Now().Add(linger)
	for len(c.pending) < n && !c.closing {
		wait := time.Until(deadline)
		if wait <= 0 {
			return
		}
		c.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-c.wake:
		case <-timer.C:
		}
		c.mu.Lock()
	}
}

// expected returns how many requests are worth waiting for: the machines of the
// last two groups, if the last one was shared and ended just now. Machines that
// commit in step then share one fsync, and nobody waits for one that is quiet.
func (c *committer) expected(linger time.Duration) int {
	last := &c.lastGroup
	if linger <= 0 || len(last.streams) < 2 || time.Since(last.ended) > 2*linger {
		return 0
	}
	n := len(last.streams)
	for _, s := range c.prevGroup.streams {
		if !containsStream(last.streams, s) {
			n++
		}
	}
	return n
}

func containsStream(list []*stream, s *stream) bool {
	for _, o := range list {
		if o == s {
			return true
		}
	}
	return false
}

// fit returns how many of the requests go into one transaction. A request is
// never split, and deletions do not travel with others.
func (c *committer) fit(requests []*request) int {
	size, count := int64(0), int64(0)
	for i, r := range requests {
		size += r.size
		count += r.count()
		if i > 0 && (size > c.limits.size || count > c.limits.count || r.class == classDelete || requests[0].class == classDelete) {
			return i
		}
	}
	return len(requests)
}

// flushDue reports whether settled cursors must be written now.
func (c *committer) flushDue(closing bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.dirtySince.IsZero() && (closing || time.Since(c.dirtySince) >= settleWithin)
}

// writeGroup makes the requests, and settled cursors that are due, durable in
// one transaction and answers them.
func (b *Buffer) writeGroup(requests []*request) {
	c := &b.committer
	if err := b.Err(); err != nil {
		c.forgetDirty()
		answer(requests, err)
		return
	}
	admitted := b.admit(requests)
	if err := b.Err(); err != nil {
		// The folder was taken away: what is written now would be nowhere.
		c.forgetDirty()
		answer(admitted, err)
		return
	}
	cursors, moved := b.takeCursors(admitted)
	if len(admitted) == 0 && len(moved) == 0 {
		return
	}
	if len(moved) > 0 {
		fault.Pass("cursors.before")
	}
	err := b.writeTxn(admitted, cursors)
	if err != nil {
		switch {
		case errors.Is(err, plant.ErrTooBig):
		case fault.Enabled("failstop.off"):
			err = plant.ErrFull // the caller tries again, as if Badger could be trusted
		default:
			b.latch(fmt.Errorf("commit: %w", err))
			err = b.Err()
		}
		b.moveAgain(moved)
		answer(admitted, err)
		return
	}
	b.mu.Lock()
	for _, r := range admitted {
		b.committed(r)
		if r.apply != nil {
			r.apply()
		}
	}
	b.mu.Unlock()
	c.groups.Add(1)
	c.trace(admitted)
	answer(admitted, nil)
}

// trace must run before the answers: after them a request is its owner's.
func (c *committer) trace(group []*request) {
	c.prevGroup, c.lastGroup = c.lastGroup, c.prevGroup
	last := &c.lastGroup
	last.streams = last.streams[:0]
	for _, r := range group {
		if r.class == classCommit {
			c.commits.Add(1)
			last.streams = append(last.streams, r.stream)
		}
	}
	last.ended = time.Now()
}

func answer(requests []*request, err error) {
	for _, r := range requests {
		r.done <- err
	}
}

// writeTxn commits everything in one Badger transaction, with the sums of what
// is kept beside events.
func (b *Buffer) writeTxn(requests []*request, cursors *request) error {
	txn := b.db.NewTransaction(true)
	defer txn.Discard()
	change := &b.committer.side
	change.reset()
	for _, r := range requests {
		if err := fill(txn, r, change); err != nil {
			return err
		}
	}
	if cursors != nil {
		if err := fill(txn, cursors, nil); err != nil {
			return err
		}
	}
	if err := change.put(b, txn); err != nil {
		return err
	}
	if err := fault.Hit("commit.before"); err != nil {
		return err
	}
	if err := b.opts.commit(txn); err != nil {
		fault.Pass("commit.failed")
		return err
	}
	// A file system that has found an error of its own may say that all is synced
	// while it throws away what it had not noted down: what it has become meanwhile
	// says whether to believe it.
	askJournal(b.home.folder)
	if err := b.opts.writable(b.home.folder); errors.Is(err, errReadOnly) {
		return fmt.Errorf("the disk became read-only while it was written: %w", err)
	}
	b.mu.Lock()
	b.applySide(change)
	b.mu.Unlock()
	return fault.Hit("commit.after")
}

// fill adds r to the transaction; change, if there is one, learns what that does
// to the sums.
func fill(txn *badger.Txn, r *request, change *sideChange) error {
	if change != nil && r.unreadable != nil {
		d := change.deadOf(r.unreadable.of)
		d.count += r.unreadable.count
		d.bytes += r.unreadable.bytes
	}
	for i := range r.entries {
		if change != nil {
			change.measure(txn, r.entries[i].Key, len(r.entries[i].Value))
		}
		if err := txn.SetEntry(&r.entries[i]); err != nil {
			return refusal(err)
		}
	}
	for _, key := range r.deletes {
		if change != nil {
			change.measure(txn, key, -1)
		}
		if err := txn.Delete(key); err != nil {
			return refusal(err)
		}
	}
	return nil
}

// refusal maps what Badger says before anything is written.
func refusal(err error) error {
	if errors.Is(err, badger.ErrTxnTooBig) {
		return fmt.Errorf("buffer: commit: %w", plant.ErrTooBig)
	}
	return err
}

// takeCursors encodes settled cursors that are due, as many as fit beside the
// group.
func (b *Buffer) takeCursors(group []*request) (*request, []*cursor) {
	c := &b.committer
	since := c.takeDirty(len(group) == 0)
	if since.IsZero() {
		return nil, nil
	}
	if b.underFloor() {
		c.postpone()
		return nil, nil
	}
	size, count := int64(0), int64(0)
	for _, r := range group {
		size += r.size
		count += r.count()
	}
	r := c.cursors
	r.reset()
	var moved []*cursor
	rest := false
	b.mu.Lock()
	for _, q := range b.queues {
		for _, cur := range q.cursors {
			if cur == nil || !cur.dirty || cur.settling {
				continue
			}
			if cur.stream.waits() {
				// Its gap event comes first; tell has the cursors written then.
				continue
			}
			if size+r.size+maxCursorRecord > c.limits.size || count+r.count()+1 > c.limits.count {
				rest = true
				continue
			}
			r.put(cursorKey(q.name, cur.stream.machine), func(dst, key []byte) []byte {
				return appendCursorRecord(dst, key, cur, &b.kinds)
			})
			cur.dirty = false
			moved = append(moved, cur)
		}
	}
	b.mu.Unlock()
	if rest {
		c.dirtied(since)
	}
	return r, moved
}

// takeDirty returns since when settled cursors wait if they are due, and takes
// that note down before they are looked at, so that a later move makes its own.
func (c *committer) takeDirty(alone bool) (since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since = c.dirtySince
	if since.IsZero() || !(alone || c.closing || time.Since(since) >= settleRide) {
		return time.Time{}
	}
	c.dirtySince = time.Time{}
	return since
}

// moveAgain marks cursors that a refused transaction has not written.
func (b *Buffer) moveAgain(moved []*cursor) {
	if len(moved) == 0 {
		return
	}
	b.mu.Lock()
	for _, cur := range moved {
		cur.dirty = true
	}
	b.mu.Unlock()
	b.committer.dirtied(time.Now())
}

// postpone waits another period with cursors that the disk has no room for.
func (c *committer) postpone() {
	c.mu.Lock()
	c.dirtySince = time.Now()
	if c.closing {
		c.dirtySince = time.Time{}
	}
	c.mu.Unlock()
}

func (c *committer) forgetDirty() {
	c.mu.Lock()
	c.dirtySince = time.Time{}
	c.mu.Unlock()
}
