package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

// maxCause bounds the receiver's words in a dead letter.
const maxCause = 4 << 10

// maxCursorRecord is more than a cursor's key and record take.
const maxCursorRecord = 2 << 10

// Settle moves the cursor of the leased machine to upTo, keeps the dead letters
// and what the results Put in the same transaction, and ends the lease. An upTo
// at or before the cursor settles nothing and only gives the machine back;
// results beyond upTo settle nothing either, but what they Put is kept. It is
// durable on return if a result carries Put, Rejected or Held, else within
// 200 ms. plant.ErrFull means that even cursors have no disk space: the lease goes
// on, and the caller settles the same again when there may be room (what did fit
// into a first transaction is not settled twice). Any other error but one about
// the caller's own arguments is the store's fault.
func (q *Queue) Settle(ctx context.Context, m plant.MachineID, upTo plant.Sequence, results []plant.Result) error {
	if err := q.b.Err(); err != nil {
		return err
	}
	if q.b.closed.Load() {
		return fmt.Errorf("buffer: settle %s: %w", m, errClosed)
	}
	// What the receiver has acknowledged is noted even while the gateway stops.
	ctx = context.WithoutCancel(ctx)
	fault.Pass("settle.before")
	w, err := q.openSettle(m, upTo)
	if err != nil {
		return err
	}
	if err := w.locate(ctx); err != nil {
		q.giveBack(w)
		return err
	}
	// The cursor must not pass a loss that no gap event tells.
	if err := q.b.tell(ctx, w.cursor.stream); err != nil {
		return q.unsettled(w, err)
	}
	for _, r := range results {
		w.durable = w.durable || len(r.Put) > 0 || r.Status == plant.Rejected || r.Status == plant.Held
		if r.Status == plant.Delivered && r.Last <= upTo {
			w.delivered = max(w.delivered, r.Last)
		}
	}
	if w.durable {
		if err := q.settleDurably(ctx, w, results); err != nil {
			return q.unsettled(w, err)
		}
		fault.Pass("settle.durable")
	}
	q.closeSettle(w)
	fault.Pass("settle.after")
	return nil
}

// settlement is one Settle under way. Nobody else moves the cursor meanwhile:
// the caller has the lease.
type settlement struct {
	queue   *Queue
	cursor  *cursor
	lease   *lease
	upTo    plant.Sequence
	at      position
	mark    mark
	durable bool

	delivered plant.Sequence
}

func (q *Queue) openSettle(m plant.MachineID, upTo plant.Sequence) (*settlement, error) {
	b := q.b
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := q.leased(m)
	if err != nil {
		return nil, err
	}
	b.calm(c.stream)
	l := c.lease
	l.busy = true
	if last := l.marks[len(l.marks)-1].at.sequence; upTo > last {
		return nil, fmt.Errorf("buffer: settle %s of queue %s up to %d: only %d was read", m, q.name, upTo, last)
	}
	w := &settlement{queue: q, cursor: c, lease: l, upTo: max(upTo, c.at.sequence), delivered: c.delivered}
	w.mark = *l.markAt(w.upTo)
	w.at = w.mark.at.clone()
	return w, nil
}

// locate finds the position of upTo and passes over what is behind it and not
// for this uplink.
func (w *settlement) locate(ctx context.Context) error {
	q, b := w.queue, w.queue.b
	if w.at.sequence < w.upTo {
		b.mu.Lock()
		view := b.kindsNow()
		b.mu.Unlock()
		carried := w.mark.carried
		_, err := b.scan(ctx, w.cursor.stream, w.at.sequence, w.upTo, func(r *stored) bool {
			kind := view.of(r.kind)
			b.mu.Lock()
			if q.carriesKind(kind) {
				carried++
			}
			b.mu.Unlock()
			w.cursor.stream.pass(&w.at, r.sequence, r.size, kind)
			return true
		})
		if err != nil {
			return err
		}
		w.cursor.stream.cross(&w.at, w.upTo+1)
		w.at.sequence = w.upTo
		w.mark = mark{at: w.at, carried: carried}
	}
	for i := range w.lease.marks {
		if m := &w.lease.marks[i]; m.at.sequence > w.at.sequence && m.carried == w.mark.carried {
			w.mark = *m
			w.at = m.at.clone()
		}
	}
	return nil
}

// settleDurably writes dead letters, memory and cursor. What does not fit into
// one transaction is cut between results: each part is a settlement of its own.
func (q *Queue) settleDurably(ctx context.Context, w *settlement, results []plant.Result) error {
	b := q.b
	if slices.ContainsFunc(results, func(r plant.Result) bool { return r.Status == plant.Rejected }) {
		b.deadTurn.Lock()
		defer b.deadTurn.Unlock()
	}
	r := &request{class: classSettle, done: make(chan error, 1)}
	delivered := w.cursor.delivered
	for i := range results {
		result := &results[i]
		before, grown, entries := r.size, r.growSide, len(r.entries)
		if err := w.encodeResult(ctx, r, result); err != nil {
			return err
		}
		if entries > 0 && (r.size+maxCursorRecord > b.committer.limits.size || len(r.entries) > deadPart) {
			r.entries, r.size, r.growSide = r.entries[:entries], before, grown
			if err := q.settlePart(ctx, w, r, results[i-1].Last, delivered); err != nil {
				return err
			}
			r = &request{class: classSettle, done: make(chan error, 1)}
			if err := w.encodeResult(ctx, r, result); err != nil {
				return err
			}
		}
		if result.Status == plant.Delivered && result.Last <= w.upTo {
			delivered = max(delivered, result.Last)
		}
	}
	w.putCursor(r, &w.at, w.delivered)
	return q.submitSettle(ctx, r)
}

// submitSettle makes room for the dead letters of r first.
func (q *Queue) submitSettle(ctx context.Context, r *request) error {
	if count, bytes := deadIn(r); count > 0 {
		if err := q.b.makeDeadRoom(ctx, count, bytes); err != nil {
			return err
		}
	}
	return q.b.submit(r)
}

// settlePart makes the results up to one of them durable.
func (q *Queue) settlePart(ctx context.Context, w *settlement, r *request, upTo, delivered plant.Sequence) error {
	part, err := q.openSettle(w.cursor.stream.machine, min(upTo, w.upTo))
	if err != nil {
		return err
	}
	if err := part.locate(ctx); err != nil {
		return err
	}
	part.delivered = delivered
	part.putCursor(r, &part.at, delivered)
	if err := q.submitSettle(ctx, r); err != nil {
		return err
	}
	q.b.mu.Lock()
	q.moved(part)
	q.b.mu.Unlock()
	return nil
}

// encodeResult adds what a result leaves behind.
func (w *settlement) encodeResult(ctx context.Context, r *request, result *plant.Result) error {
	q := w.queue
	for _, kv := range result.Put {
		if err := r.memory(q.name, kv); err != nil {
			return fmt.Errorf("buffer: settle %s of queue %s: %w", w.cursor.stream.machine, q.name, err)
		}
	}
	if result.Status != plant.Rejected || result.Last > w.upTo || result.Last <= w.cursor.at.sequence {
		return nil
	}
	return w.encodeDead(ctx, r, result)
}

// encodeDead copies the refused event beside its cause. Of several that were
// merged into one call it is the last one, which contains the others.
func (w *settlement) encodeDead(ctx context.Context, r *request, result *plant.Result) error {
	b, m := w.queue.b, w.cursor.stream.machine
	found := false
	_, err := b.scan(ctx, w.cursor.stream, result.Last-1, result.Last, func(e *stored) bool {
		found = true
		r.put(deadKey(w.queue.name, m, result.Last), func(dst, key []byte) []byte {
			return appendDeadLetter(dst, key, result, e, b.opts.now())
		})
		return true
	})
	if err != nil {
		return err
	}
	if found {
		r.growSide += int64(r.lastSize())
	}
	return nil
}

// putCursor adds the cursor's record as it will be.
func (w *settlement) putCursor(r *request, at *position, delivered plant.Sequence) {
	b := w.queue.b
	b.mu.Lock()
	defer b.mu.Unlock()
	w.cursor.settling = true
	next := cursor{at: *at, delivered: delivered}
	r.put(cursorKey(w.queue.name, w.cursor.stream.machine), func(dst, key []byte) []byte {
		return appendCursorRecord(dst, key, &next, &b.kinds)
	})
}

// unsettled gives the machine back, but not where the caller has to settle again.
func (q *Queue) unsettled(w *settlement, err error) error {
	if !errors.Is(err, plant.ErrFull) {
		q.giveBack(w)
		return err
	}
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	q.unsettle(w)
	return err
}

// giveBack ends a lease with nothing moved.
func (q *Queue) giveBack(w *settlement) {
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	q.unsettle(w)
	q.release(w.cursor)
}

// unsettle notes that no newer record of the cursor is on its way to the disk. It
// is called with b.mu held.
func (q *Queue) unsettle(w *settlement) {
	w.cursor.settling = false
	if w.cursor.dirty {
		q.b.committer.dirtied(time.Now())
	}
}

// closeSettle moves the cursor in memory and ends the lease.
func (q *Queue) closeSettle(w *settlement) {
	b := q.b
	b.mu.Lock()
	changed := w.at.sequence != w.cursor.at.sequence
	q.moved(w)
	search := w.cursor.backlog > 0 && !w.cursor.oldestKnown
	w.cursor.settling = false
	if w.durable {
		w.cursor.dirty = false // the record on disk is the newest
	} else if changed {
		w.cursor.dirty = true
	}
	q.release(w.cursor)
	b.passed(w.cursor.stream)
	b.mu.Unlock()
	if changed && !w.durable {
		b.committer.dirtied(time.Now())
	}
	if search {
		if err := q.findOldest(); err != nil && !errors.Is(err, errClosed) {
			b.log.Warn("the age of a backlog cannot be read: " + err.Error())
		}
	}
}

// moved enters a settlement into the index. It is called with b.mu held.
func (q *Queue) moved(w *settlement) {
	c, s := w.cursor, w.cursor.stream
	changed := w.at.sequence != c.at.sequence
	c.at.set(&w.at)
	if c.at.sequence == s.head.sequence {
		// Lost events were never passed one by one; here the count is exact again.
		c.at.set(&s.head)
	}
	q.b.marker.note()
	c.delivered = w.delivered
	backlog := q.waiting(c)
	q.backlog = q.backlog - c.backlog + backlog
	c.backlog = backlog
	switch {
	case !changed:
	case w.mark.nextKnown:
		c.oldest, c.oldestKnown = w.mark.next, true
	case w.at.sequence >= w.lease.upTo && w.lease.arrivedKnown:
		c.oldest, c.oldestKnown = w.lease.arrived, true
	default:
		c.oldestKnown = false
	}
}

// release ends the lease and puts the machine behind the others. It is called
// with b.mu held.
func (q *Queue) release(c *cursor) {
	if upTo := c.lease.upTo; upTo > 0 {
		c.late = c.at.sequence < upTo
	}
	c.lease = nil
	if c.backlog > 0 {
		q.enqueue(c)
		return
	}
	c.late = false
	c.at.set(&c.stream.head)
}

func appendCursorRecord(dst, key []byte, c *cursor, k *kinds) []byte {
	at := len(dst)
	dst = appendPosition(appendEnvelope(dst), &c.at, k)
	// Older gateways wrote how many dead letters there are, and read it.
	dst = appendUvarints(dst, uint64(c.delivered), 0)
	seal(dst, at, key, envelopeSize)
	return dst
}

func decodeCursorRecord(key, record []byte, c *cursor, k *kinds) error {
	body, err := opaque(key, record)
	if err != nil {
		return err
	}
	f := fields{rest: body}
	c.at = f.position(k)
	c.delivered = plant.Sequence(f.uvarint())
	f.uvarint()
	return f.err("cursor")
}
