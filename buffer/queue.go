package buffer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// Queue is one uplink's view of all streams, with a durable cursor in each. Its
// methods may be called from any goroutine; between Next and Settle a machine
// belongs to the caller.
type Queue struct {
	b    *Buffer
	name string
	// wake rings for Next, the others for NextOf.
	wake, wakeFresh, wakeLate chan struct{}

	// The rest is guarded by Buffer.mu.
	//
	// carries is nil while the uplink is not configured in this run: its claim
	// on events stays, so that nothing is deleted which it has not had.
	carries func(plant.EventKind) bool
	// machines says which machines' events are for this uplink; nil is all.
	machines func(plant.MachineID) bool
	// damaged are the keys of its memory that were found damaged.
	damaged map[string]bool
	// carried caches carries by the index of the kind.
	carried []bool
	// cursors holds a cursor for each stream, by the stream's index.
	cursors []*cursor
	// fresh and ready are the cursors with events and no lease, in the order in
	// which they are served: fresh those of machines that were up to date before,
	// ready those with a backlog. turns counts the fresh ones served in a row.
	fresh, ready []*cursor
	turns        int

	backlog uint64
	dead    uint64
	// start is where a new uplink begins.
	start Start
	// late is set while the uplink's own record is not on disk.
	late bool
}

// cursor is one uplink's place in one stream.
type cursor struct {
	stream *stream
	// at is what is settled; delivered the newest event that the receiver has
	// acknowledged.
	at        position
	delivered plant.Sequence
	// backlog is the number of carried events after at, oldest the time of the
	// first of them if oldestKnown.
	backlog     uint64
	oldest      int64
	oldestKnown bool
	// dirty is set while the record on disk is behind.
	dirty bool
	// late is set while the machine has events that were there when the run began,
	// or that a lease has left.
	late bool
	// settling is set while a newer record than what memory has is on its way to
	// the disk: the older one must not be written over it.
	settling bool
	queued   bool
	lease    *lease
	// barred is set where nothing of the machine is for this uplink. The cursor
	// stays where it is then, and claims nothing.
	barred bool
}

// lease is what a caller has seen of a machine since Next.
type lease struct {
	// marks are positions that Peek has passed, ascending, so that Settle knows
	// what lies before upTo without reading it again.
	marks []mark
	// upTo is the head at the last Peek, arrived the time of the first carried
	// event behind it, if one has come.
	upTo         plant.Sequence
	arrived      int64
	arrivedKnown bool
	// busy is set once the caller has events of the machine, or settles some.
	busy bool
}

type mark struct {
	at position
	// carried is the number of carried events up to here since the cursor.
	carried uint64
	// next is the time of the first carried event behind the mark, if known.
	next      int64
	nextKnown bool
}

// maxMarks bounds a lease; a Settle between two marks reads what is between.
const maxMarks = 32

// Queue returns the queue of that uplink, which carries only the events of some
// kinds; the others are passed over and hold nothing back. carries must always
// give the same answer. A new uplink starts at the oldest event that is kept;
// QueueFrom has the choice.
// The gateway calls Queue once for each uplink and opening, before the machines
// start; it blocks for one commit if the uplink is new. A full disk is no
// error: the claim of a new uplink is then made durable when there is room.
func (b *Buffer) Queue(uplink string, carries func(plant.EventKind) bool) (*Queue, error) {
	return b.QueueFrom(uplink, carries, FromOldest)
}

// QueueFrom is Queue for an uplink that begins at start if it is new; one that
// the store knows goes on where it was.
func (b *Buffer) QueueFrom(uplink string, carries func(plant.EventKind) bool, start Start) (*Queue, error) {
	return b.QueueOf(uplink, carries, nil, start)
}

// QueueOf is QueueFrom for an uplink that gets the events of some machines only,
// nil for all: those of the others are passed over as those of other kinds are.
// machines must always give the same answer. Facts that belong to no machine
// (plant.GatewayStream) are for every uplink. A machine that is not passed over
// any more is delivered with what is still kept of it.
func (b *Buffer) QueueOf(uplink string, carries func(plant.EventKind) bool, machines func(plant.MachineID) bool, start Start) (*Queue, error) {
	if uplink == "" || len(uplink) > maxName {
		return nil, fmt.Errorf("buffer: open queue %q: a name has 1 to %d bytes", uplink, maxName)
	}
	if err := b.usable(context.Background()); err != nil {
		return nil, err
	}
	b.mu.Lock()
	q := b.queueLocked(uplink)
	if q != nil && q.carries != nil {
		b.mu.Unlock()
		return nil, fmt.Errorf("buffer: open queue %q: it is open already", uplink)
	}
	b.mu.Unlock()
	if q == nil {
		q = newQueue(b, uplink)
		q.start = start
		// Without room the keeper makes it durable later, before any deletion.
		q.late = true
		if err := q.register(); err != nil && !errors.Is(err, plant.ErrFull) {
			return nil, fmt.Errorf("buffer: open queue %q: %w", uplink, err)
		}
	}
	b.mu.Lock()
	if b.queueLocked(uplink) == nil {
		b.queues = append(b.queues, q)
	}
	q.carries, q.carried, q.machines = carries, nil, machines
	for _, s := range b.order {
		q.attach(q.cursor(s))
	}
	b.mu.Unlock()
	if err := q.findOldest(); err != nil {
		return nil, err
	}
	return q, nil
}

// register makes the claim of a new uplink durable. It is bookkeeping, as a
// settlement is: refused under the floor only.
func (q *Queue) register() error {
	r := &request{class: classSettle, done: make(chan error, 1)}
	r.put(uplinkKey(classUplink, q.name), q.b.appendUplinkRecord)
	if q.start == FromNow {
		// Nothing has been recorded since: what has no room for this has none for
		// an event.
		q.startNow(r)
	}
	r.apply = func() { q.late = false }
	return q.b.submit(r)
}

func newQueue(b *Buffer, name string) *Queue {
	return &Queue{b: b, name: name, wake: make(chan struct{}, 1), wakeFresh: make(chan struct{}, 1), wakeLate: make(chan struct{}, 1)}
}

func (b *Buffer) queueLocked(name string) *Queue {
	for _, q := range b.queues {
		if q.name == name {
			return q
		}
	}
	return nil
}

// cursor returns the cursor in s, a new one at the beginning if there is none.
func (q *Queue) cursor(s *stream) *cursor {
	for len(q.cursors) <= s.index {
		q.cursors = append(q.cursors, nil)
	}
	c := q.cursors[s.index]
	if c == nil {
		c = &cursor{stream: s, barred: q.bars(s)}
		q.cursors[s.index] = c
	}
	return c
}

// bars reports whether nothing of a stream is for this uplink.
func (q *Queue) bars(s *stream) bool {
	return q.machines != nil && s.machine != plant.GatewayStream && !q.machines(s.machine)
}

// passOver moves a cursor over events of kinds that are not for its uplink.
func (c *cursor) passOver() {
	if !c.barred {
		c.at.set(&c.stream.head)
	}
}

// attach counts what waits behind a cursor at the start of a run.
func (q *Queue) attach(c *cursor) {
	s := c.stream
	c.barred = q.bars(s)
	if c.at.sequence < s.low.sequence {
		c.at.set(&s.low)
	}
	c.backlog = q.waiting(c)
	q.backlog += c.backlog
	if c.backlog == 0 {
		c.passOver()
		return
	}
	c.late = true
	q.enqueue(c)
}

func (q *Queue) carriesKind(kind int) bool {
	for len(q.carried) <= kind {
		name := q.b.kinds.names[len(q.carried)]
		q.carried = append(q.carried, q.carries == nil || q.carries(name))
	}
	return q.carried[kind]
}

// waiting is the number of carried events behind a cursor that are still there.
func (q *Queue) waiting(c *cursor) (n uint64) {
	s := c.stream
	if c.barred {
		return 0
	}
	for kind, count := range s.head.counts {
		from := c.at.count(kind)
		if c.at.sequence < s.thin.sequence && evictable(q.b.kinds.names[kind]) {
			from = max(from, s.thin.count(kind))
		}
		if q.carriesKind(kind) && count > from {
			n += count - from
		}
	}
	return n
}

// arrived enters the events of a durable commit. It is called with b.mu held.
func (q *Queue) arrived(s *stream, r *request) {
	if q.carries == nil {
		return
	}
	c := q.cursor(s)
	fresh := c.backlog
	for i, kind := range r.kinds {
		if c.barred || !q.carriesKind(kind) {
			continue
		}
		if c.backlog == 0 {
			c.oldest, c.oldestKnown = r.times[i], true
		}
		if l := c.lease; l != nil && !l.arrivedKnown {
			l.arrived, l.arrivedKnown = r.times[i], true
		}
		c.backlog++
	}
	q.backlog += c.backlog - fresh
	switch {
	case c.backlog > 0:
		q.enqueue(c)
	case c.lease == nil:
		// Nothing before the head is for this uplink: the cursor goes with it.
		c.passOver()
	}
}

// leased returns the machine's cursor if it is leased. It is called with b.mu
// held.
func (q *Queue) leased(m plant.MachineID) (*cursor, error) {
	if s := q.b.streams[m]; s != nil && s.index < len(q.cursors) {
		if c := q.cursors[s.index]; c != nil && c.lease != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("buffer: queue %s: machine %s is not leased: call Next first", q.name, m)
}

// Memory returns what a Result has put under key, nil for nothing. It blocks on
// a disk read. A damaged value is plant.ErrUnreadable, since an uplink must not go
// on as if it had never been there; it is put into quarantine and told once.
func (q *Queue) Memory(key string) ([]byte, error) {
	if err := q.b.usable(context.Background()); err != nil {
		return nil, err
	}
	var value []byte
	full := append(uplinkKey(classMemory, q.name), key...)
	err := q.b.view(func(txn *badger.Txn) error {
		item, err := txn.Get(full)
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			body, err := opaque(full, v)
			if err != nil {
				body = v // for the quarantine
			}
			value = append([]byte{}, body...)
			return err
		})
	})
	switch {
	case errors.Is(err, errDamaged):
		q.unreadable(key, full, value, err)
		return nil, fmt.Errorf("buffer: read memory %q of uplink %s: %w: %w", key, q.name, plant.ErrUnreadable, err)
	case err != nil && !errors.Is(err, badger.ErrKeyNotFound):
		return nil, fmt.Errorf("buffer: read memory %q of uplink %s: %w", key, q.name, err)
	}
	return value, nil
}

// unreadable tells of a damaged value of the uplink's memory, each key once.
func (q *Queue) unreadable(key string, full, value []byte, cause error) {
	q.b.mu.Lock()
	told := q.damaged[key]
	if !told && len(q.damaged) < maxDamage {
		if q.damaged == nil {
			q.damaged = map[string]bool{}
		}
		q.damaged[key] = true
	}
	q.b.mu.Unlock()
	if !told {
		q.b.damagedRecord("", fmt.Sprintf("value %q that uplink %s keeps", key, q.name), full, value, cause)
	}
}

// findOldest reads the time of the oldest waiting event of each machine where
// it is not known: at the start of a run, and where a Settle stopped at a place
// that no Peek had marked.
func (q *Queue) findOldest() error {
	for {
		c, at, head := q.unknownOldest()
		if c == nil {
			return nil
		}
		oldest := int64(noTime)
		if _, err := q.b.scan(context.Background(), c.stream, at, head, func(r *stored) bool {
			q.b.mu.Lock()
			defer q.b.mu.Unlock()
			if q.carriesKind(q.b.kinds.ofBytes(r.kind)) {
				oldest = r.time
				return false
			}
			return true
		}); err != nil {
			return err
		}
		q.b.mu.Lock()
		if c.at.sequence == at && !c.oldestKnown {
			c.oldest, c.oldestKnown = oldest, true
		}
		q.b.mu.Unlock()
	}
}

func (q *Queue) unknownOldest() (*cursor, plant.Sequence, plant.Sequence) {
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	for _, c := range q.cursors {
		if c != nil && c.backlog > 0 && !c.oldestKnown {
			return c, c.at.sequence, c.stream.head.sequence
		}
	}
	return nil, 0, 0
}

// stats is called with b.mu held.
func (q *Queue) stats() QueueStats {
	s := QueueStats{Uplink: q.name, Backlog: q.backlog, DeadLetters: q.dead}
	oldest := int64(noTime)
	for _, c := range q.cursors {
		if c == nil {
			continue
		}
		if q.carries == nil {
			s.Backlog += q.waiting(c)
			continue
		}
		if c.backlog > 0 && c.oldestKnown && c.oldest != noTime && (oldest == noTime || c.oldest < oldest) {
			oldest = c.oldest
		}
	}
	if q.carries == nil {
		s.Bytes = q.held()
	}
	if q.carries == nil && !ownReader(q.name) {
		s.Problem = fmt.Sprintf("uplink %q is not in the config any more, and %d events (%s) are kept for it: put it back to have them delivered, or give them up: sluice uplink forget %q --reason \"...\"",
			q.name, s.Backlog, config.Size(s.Bytes), q.name)
	}
	s.Oldest = timeOf(oldest)
	return s
}

// claim is the sequence up to which this uplink needs nothing of s any more. It
// is called with b.mu held.
func (q *Queue) claim(s *stream) plant.Sequence {
	c := q.cursor(s)
	if q.carries != nil && c.backlog == 0 && c.lease == nil {
		return s.head.sequence
	}
	return c.at.sequence
}

func (b *Buffer) appendUplinkRecord(dst, key []byte) []byte {
	at := len(dst)
	dst = appendTime(appendEnvelope(dst), b.opts.now())
	seal(dst, at, key, envelopeSize)
	return dst
}

func appendTime(dst []byte, t time.Time) []byte {
	ns := nanos(t)
	return append(dst, byte(ns>>56), byte(ns>>48), byte(ns>>40), byte(ns>>32), byte(ns>>24), byte(ns>>16), byte(ns>>8), byte(ns))
}
