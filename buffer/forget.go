package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
)

// Start is where a new uplink begins.
type Start string

// The starts.
const (
	// FromOldest is the oldest event that is kept.
	FromOldest Start = "oldest"
	// FromNow is behind the newest event.
	FromNow Start = "now"
)

// startNow puts the cursors of a new uplink behind what is recorded, and adds
// them to the request that makes its claim durable.
func (q *Queue) startNow(r *request) {
	b := q.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.order {
		c := q.cursor(s)
		c.at.set(&s.head)
		r.put(cursorKey(q.name, s.machine), func(dst, key []byte) []byte {
			return appendCursorRecord(dst, key, c, &b.kinds)
		})
	}
}

// ErrNoUplink says that the store has nothing of an uplink of that name.
var ErrNoUplink = errors.New("the store knows no uplink of that name")

// ownReader reports whether a queue is no uplink's but the gateway's own, as the
// books of material are: no uplink of a config may be called so.
func ownReader(name string) bool { return strings.HasPrefix(name, "_") }

// ErrUplinkInUse says that an uplink of the config cannot be forgotten.
var ErrUplinkInUse = errors.New("the uplink is in the config: take it out first")

// Forget drops the claim of an uplink that is not in the config any more, with
// its cursors, its memory and its dead letters, and returns what was kept for
// it: events that nobody else waits for go then as delivered ones do. An uplink
// that comes back under the name later is a new one. It blocks on the disk; a
// kill in the middle leaves the claim as it was, and Forget can be called again.
// Errors are ErrNoUplink, ErrUplinkInUse, plant.ErrFull and the store's fault.
func (b *Buffer) Forget(ctx context.Context, uplink string) (QueueStats, error) {
	if err := b.usable(ctx); err != nil {
		return QueueStats{}, err
	}
	b.deadTurn.Lock()
	defer b.deadTurn.Unlock()
	b.mu.Lock()
	q := b.queueLocked(uplink)
	var kept QueueStats
	if q != nil {
		kept = q.stats()
	}
	b.mu.Unlock()
	switch {
	case q == nil:
		return kept, fmt.Errorf("buffer: forget uplink %q: %w", uplink, ErrNoUplink)
	case q.carries != nil:
		return kept, fmt.Errorf("buffer: forget uplink %q: %w", uplink, ErrUplinkInUse)
	}
	for _, c := range []class{classDead, classMemory} {
		if err := b.deleteAll(ctx, uplinkKey(c, uplink)); err != nil {
			return kept, fmt.Errorf("buffer: forget uplink %q: %w", uplink, err)
		}
	}
	// The claim goes last, and with it the cursors: a claim without a cursor would
	// hold everything.
	r := &request{class: classDelete, done: make(chan error, 1)}
	b.mu.Lock()
	for _, s := range b.order {
		r.delete(cursorKey(uplink, s.machine))
	}
	b.mu.Unlock()
	r.delete(uplinkKey(classUplink, uplink))
	r.apply = func() {
		b.queues = slices.DeleteFunc(b.queues, func(o *Queue) bool { return o == q })
	}
	fault.Pass("forget.before")
	if err := b.submit(r); err != nil {
		return kept, fmt.Errorf("buffer: forget uplink %q: %w", uplink, err)
	}
	fault.Pass("forget.after")
	b.log.Warn("an uplink was forgotten, with all that was kept for it", zap.String("uplink", uplink),
		zap.Uint64("events", kept.Backlog), zap.Int64("bytes", kept.Bytes), zap.Uint64("dead_letters", kept.DeadLetters))
	b.keeper.kick()
	return kept, nil
}

// deleteAll deletes every key with the prefix, a batch at a time.
func (b *Buffer) deleteAll(ctx context.Context, prefix []byte) error {
	after := prefix
	for {
		r := &request{class: classDelete, done: make(chan error, 1)}
		err := b.view(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
			defer it.Close()
			for it.Seek(after); it.Valid() && r.count() < deleteBatch; it.Next() {
				if err := ctx.Err(); err != nil {
					return err
				}
				r.delete(it.Item().KeyCopy(nil))
			}
			return nil
		})
		if err != nil || r.count() == 0 {
			return err
		}
		after = r.deletes[len(r.deletes)-1]
		if err := b.submit(r); err != nil {
			return err
		}
	}
}

// held is what is kept of all streams for an uplink that is not configured. It
// is called with b.mu held.
func (q *Queue) held() (bytes int64) {
	for _, s := range q.b.order {
		c := q.cursor(s)
		if c.at.sequence >= s.head.sequence {
			continue
		}
		from := max(c.at.bytes, s.low.bytes)
		bytes += min(int64(s.head.bytes-min(from, s.head.bytes)), s.live())
	}
	return bytes
}
