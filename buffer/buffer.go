package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

// maxEvent bounds one event's data and every other single value, so that no
// value ever leaves Badger's LSM tree for its value log.
const maxEvent = 256 << 10

// closeWithin bounds Close: Badger retries a failing flush for ever.
const closeWithin = 8 * time.Second

// errClosed says that the store was closed by the gateway itself.
var errClosed = errors.New("the store is closed")

// Buffer is the store of one gateway. Its methods may be called from any
// goroutine.
type Buffer struct {
	opts  Options
	log   *zap.Logger
	db    *badger.DB
	home  home
	epoch plant.Epoch
	// id tells this store from all others, opening counts its openings.
	id      storeID
	opening uint64
	// whole is set if Open found no record missing.
	whole bool
	// origins says under which names an epoch's events were recorded. It does
	// not change after Open.
	origins map[plant.Epoch]origin

	committer committer
	keeper    keeper
	marker    marker
	aside     quarantine
	space     space
	// warnings are about the file system, as it was at Open.
	warnings []string

	mu      sync.Mutex
	kinds   kinds
	streams map[plant.MachineID]*stream
	order   []*stream
	queues  []*Queue
	recent  recent
	// eventBytes is what all stored events take, side what everything else takes.
	eventBytes int64
	side       side
	damage     []Damage
	damages    uint64
	// gaps are the newest losses that gap events have told, missing all of them.
	gaps    []Gap
	missing map[plant.GapCause]uint64

	// deadTurn serialises the changes of dead letters, so that their bound holds.
	// Who has it may take the turn of a stream, never the other way round.
	deadTurn sync.Mutex
	// deadLogged is when it was last logged that some were given up; guarded by
	// deadTurn.
	deadLogged time.Time

	lost   atomic.Uint64
	events atomic.Uint64

	faultOnce sync.Once
	faulted   chan struct{}
	fault     error

	// locks are held until the store is closed, or the process ends.
	locks *locks

	closeOnce sync.Once
	closed    atomic.Bool
	closeErr  error
}

// Epoch returns the epoch of this opening of the store.
func (b *Buffer) Epoch() plant.Epoch { return b.epoch }

// Fault returns a channel that is closed when a commit has failed. What is on
// disk is then unknown: the process must exit at once with its documented code,
// without Close, and start again from what the disk has.
func (b *Buffer) Fault() <-chan struct{} { return b.faulted }

// Err returns the error that latched the store, or nil while it is healthy.
func (b *Buffer) Err() error {
	select {
	case <-b.faulted:
		return b.fault
	default:
		return nil
	}
}

// latch makes the store refuse everything from now on.
func (b *Buffer) latch(cause error) {
	b.faultOnce.Do(func() {
		b.fault = fmt.Errorf("buffer: %w: nothing is accepted any more; restart the gateway to go on from what is on disk", cause)
		close(b.faulted)
		b.log.Error("the store failed: nothing is accepted any more", zap.Error(cause))
	})
}

// Load returns the machine's last committed state, nil for none, and calls each
// for every KV that was put and not deleted; the KV is each's to keep. A state
// that is damaged on disk counts as none; it is put into quarantine, told by a gap
// event, and the rules find plant.StoreGapKey. Load blocks on disk reads. A machine's worker calls it once, before
// its first Commit.
func (b *Buffer) Load(ctx context.Context, m plant.MachineID, each func(plant.KV) error) ([]byte, error) {
	if err := b.usable(ctx); err != nil {
		return nil, err
	}
	s := b.stream(m)
	if err := s.lock(ctx); err != nil {
		return nil, fmt.Errorf("buffer: load %s: %w", m, err)
	}
	// What is told from now on these rules may not read below.
	s.loaded = true
	s.unlock()
	var state []byte
	var damage error
	key := machineKey(classState, m)
	err := b.view(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err == nil {
			err = item.Value(func(v []byte) error {
				body, err := opaque(key, v)
				if errors.Is(err, errDamaged) {
					damage = err
					b.damagedRecord(m, "the state of the machine", key, v, err)
					return nil
				}
				state = append(state, body...)
				return err
			})
		}
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		return err
	})
	if errors.Is(err, errDamaged) {
		// The block that it stands in.
		damage, err = err, nil
		b.damagedValue(m, "the state of the machine", damage)
	}
	if damage != nil {
		err = b.goOnWithout(ctx, m, "the state of the machine's rules", key, damage, nil)
	}
	if errors.Is(err, plant.ErrFull) {
		// It is told when there is room; the rules hear of it now.
		err = each(plant.KV{Key: plant.StoreGapKey})
	}
	if err == nil {
		err = b.loadKept(ctx, m, each)
	}
	if err != nil {
		return nil, fmt.Errorf("buffer: load %s: %w", m, err)
	}
	return state, nil
}

func (b *Buffer) loadKept(ctx context.Context, m plant.MachineID, each func(plant.KV) error) error {
	prefix := machineKey(classKV, m)
	return b.pairs(ctx, prefix, func(p pair) error {
		key := append(prefix[:len(prefix):len(prefix)], p.key...)
		body, err := opaque(key, p.value)
		if errors.Is(err, errDamaged) {
			b.damagedRecord(m, "a kept value of the machine", key, p.value, err)
			err = b.goOnWithout(ctx, m, "a value that the machine's rules keep", key, err, map[plant.EventKind]uint64{})
			if errors.Is(err, plant.ErrFull) {
				return nil
			}
			return err
		}
		if err != nil {
			return err
		}
		return each(plant.KV{Key: string(p.key), Value: body})
	})
}

// Commit numbers the events of batch and makes all of batch durable, or nothing
// of it. It returns the sequence of the first event, 0 without events. It
// blocks until the fsync, which it shares with other machines. plant.ErrFull,
// plant.ErrTooBig, plant.ErrGap and an error of ctx mean that nothing was changed; ctx only
// ends the wait for an earlier Commit of the same machine. Any other error has
// an unknown outcome, latches the store and is fatal. batch may be reused on
// return.
func (b *Buffer) Commit(ctx context.Context, m plant.MachineID, batch plant.Batch) (plant.Sequence, error) {
	if err := b.usable(ctx); err != nil {
		return 0, err
	}
	if err := checkBatch(m, &batch); err != nil {
		return 0, fmt.Errorf("buffer: commit %s: %w", m, err)
	}
	if batch.State == nil && len(batch.Events)+len(batch.Put)+len(batch.Delete) == 0 {
		return 0, nil
	}
	s := b.stream(m)
	if err := s.lock(ctx); err != nil {
		return 0, fmt.Errorf("buffer: commit %s: wait for its earlier commit: %w", m, err)
	}
	defer s.unlock()
	if s.mustHear(&batch) {
		return 0, fmt.Errorf("buffer: commit %s: %w", m, plant.ErrGap)
	}
	if !b.numbered(s, len(batch.Events)) {
		return 0, fmt.Errorf("buffer: commit %s: %w", m, errNumbers)
	}
	r := b.committer.get()
	defer b.committer.put(r)
	first := b.encodeBatch(r, s, &batch)
	if r.tooBig(b.committer.limits) {
		return 0, fmt.Errorf("buffer: commit %s: %d bytes: %w", m, r.size, plant.ErrTooBig)
	}
	if err := b.submit(r); err != nil {
		if errors.Is(err, plant.ErrFull) {
			return 0, fmt.Errorf("buffer: commit %s: %w", m, err)
		}
		return 0, err
	}
	if batch.State != nil {
		s.stateSize = r.stateSize
	}
	s.unheard = s.unheard && !slices.Contains(batch.Delete, plant.StoreGapKey)
	return first, nil
}

// errNumbers says that a stream has had all numbers there are, which no machine
// lives long enough for: beginning again at 1 would give ids twice.
var errNumbers = errors.New("the numbers of the machine's events are used up: move the store aside, a new one begins at 1 with ids of its own")

// numbered reports whether there are numbers for n more events. The caller holds
// the stream's turn.
func (b *Buffer) numbered(s *stream, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(n) <= uint64(^plant.Sequence(0)-s.head.sequence)
}

func checkBatch(m plant.MachineID, batch *plant.Batch) error {
	if m == "" || len(m) > maxName || len(batch.State) > maxEvent {
		return plant.ErrTooBig
	}
	for i := range batch.Events {
		e := &batch.Events[i]
		if len(e.Data) > maxEvent || e.Kind == "" || len(e.Kind) > maxName {
			return fmt.Errorf("event %d of %d, kind %q, %d bytes of data: %w", i+1, len(batch.Events), e.Kind, len(e.Data), plant.ErrTooBig)
		}
	}
	for i := range batch.Put {
		if kv := &batch.Put[i]; len(kv.Value) > maxEvent || len(kv.Key) > maxKVKey {
			return fmt.Errorf("value %.40q of %d bytes: %w", kv.Key, len(kv.Value), plant.ErrTooBig)
		}
	}
	return nil
}

// encodeBatch turns batch into the entries of r. The caller holds the stream's
// turn, so the head cannot move.
func (b *Buffer) encodeBatch(r *request, s *stream, batch *plant.Batch) (first plant.Sequence) {
	recorded := nanos(b.opts.now())
	r.class, r.stream = classCommit, s
	b.mu.Lock()
	r.head.set(&s.head)
	for i := range batch.Events {
		r.kinds = append(r.kinds, b.kinds.of(batch.Events[i].Kind))
	}
	b.mu.Unlock()
	if len(batch.Events) > 0 {
		first = r.head.sequence + 1
	}
	for i := range batch.Events {
		e := &batch.Events[i]
		sequence := r.head.sequence + 1
		key := r.begin()
		key = appendSequence(appendName(appendClass(key, classEvent), string(s.machine)), sequence)
		key = r.keyDone(key)
		r.valueDone(key, appendEvent(r.arena, key, e, b.epoch, sequence, recorded))
		size := r.lastSize()
		r.grow += int64(size)
		r.head.add(sequence, size, r.kinds[i])
		r.times = append(r.times, nanos(e.Time))
	}
	r.recorded = recorded
	if len(batch.Events) > 0 {
		r.events = newChunk(r)
	}
	b.encodeHead(r, s, batch.State, len(batch.Events) > 0)
	if batch.State != nil {
		r.growState = r.stateSize - s.stateSize
	}
	for i := range batch.Put {
		key := r.keyDone(append(appendName(appendClass(r.begin(), classKV), string(s.machine)), batch.Put[i].Key...))
		r.valueDone(key, appendOpaque(r.arena, key, batch.Put[i].Value))
		r.growSide += int64(r.lastSize())
	}
	for _, k := range batch.Delete {
		r.delete(r.keyDone(append(appendName(appendClass(r.begin(), classKV), string(s.machine)), k...)))
	}
	return first
}

// encodeHead adds the state, and the end of the stream as r will leave it: in
// the state's record, which is written with nearly every commit, else in a
// record of its own.
func (b *Buffer) encodeHead(r *request, s *stream, state []byte, events bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	epoch := s.headEpoch
	if events {
		epoch = b.epoch
	}
	alone := events
	if state != nil {
		key := r.keyDone(appendName(appendClass(r.begin(), classState), string(s.machine)))
		value, whole := appendState(r.arena, key, state, &r.head, epoch, &b.kinds)
		r.valueDone(key, value)
		r.stateSize = int64(r.lastSize())
		// A head that this record has no room for may be only in the one before.
		alone = !whole
	}
	if alone {
		key := r.keyDone(appendName(appendClass(r.begin(), classStream), string(s.machine)))
		r.valueDone(key, appendStreamRecord(r.arena, key, &r.head, epoch, &b.kinds))
	}
}

// stream returns the machine's stream, a new one if it has none.
func (b *Buffer) stream(m plant.MachineID) *stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.streamLocked(m)
}

func (b *Buffer) streamLocked(m plant.MachineID) *stream {
	s := b.streams[m]
	if s == nil {
		s = newStream(m, len(b.order))
		b.streams[m] = s
		b.order = append(b.order, s)
	}
	return s
}

// committed enters what r has made durable into the index. The committer calls
// it with b.mu held.
func (b *Buffer) committed(r *request) {
	b.side.states += r.growState
	if r.stream == nil || len(r.kinds) == 0 {
		return
	}
	s := r.stream
	before := s.head.sequence
	if s.low.sequence == before {
		s.lowRecorded, s.lowKnown = r.recorded, true
	}
	s.head.set(&r.head)
	s.headEpoch = b.epoch
	b.eventBytes += r.grow
	b.events.Add(uint64(len(r.kinds)))
	b.marker.note()
	for _, q := range b.queues {
		q.arrived(s, r)
	}
	b.recent.add(r.events)
	b.passed(s)
}

func (b *Buffer) usable(ctx context.Context) error {
	if err := b.Err(); err != nil {
		return err
	}
	if b.closed.Load() {
		return fmt.Errorf("buffer: %w", errClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("buffer: %w", err)
	}
	return nil
}

// Close writes what is settled, stops, and closes Badger. It returns within
// about ten seconds. After a fault it leaves Badger alone, whose Close may then
// never end, and returns the fault. Readers and committers must be done.
func (b *Buffer) Close() error {
	b.closeOnce.Do(func() { b.closeErr = b.close() })
	return b.closeErr
}

func (b *Buffer) close() error {
	b.closed.Store(true)
	done := make(chan error, 1)
	go func() {
		b.keeper.stop()
		if err := b.tellAll(context.Background()); err != nil && b.Err() == nil {
			b.log.Warn("losses found last are told after the next start", zap.Error(err))
		}
		fault.Pass("close.beforeCursors")
		b.writeAllCursors()
		b.committer.stop()
		b.marker.end()
		if err := b.checkHome(); err != nil {
			b.log.Warn("the folder of the store cannot be read while it is closed", zap.Error(err))
		}
		if err := b.Err(); err != nil {
			done <- err
			return
		}
		if err := b.writeMark(true); err != nil {
			b.latch(err)
			done <- b.Err()
			return
		}
		fault.Pass("close.beforeStore")
		if !b.roomToClose() {
			// Badger writes its log out into a table when it is closed, and the
			// kernel ends the process where there is no room. All of it is synced.
			b.log.Warn("the disk is full: the store is left as it is, and the next start reads its log")
			// Badger keeps its own lock until the process ends.
			done <- b.locks.release()
			return
		}
		err := errors.Join(b.db.Close(), b.locks.release())
		fault.Pass("close.afterStore")
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil && b.Err() == nil {
			return fmt.Errorf("buffer: close: %w", err)
		}
		return err
	case <-time.After(closeWithin):
		return fmt.Errorf("buffer: close: the disk did not take the last writes within %s; what was committed is in the log and is read at the next start", closeWithin)
	}
}

// writeAllCursors makes the committer write every cursor as its last work: also
// those that have only passed over events which are not theirs.
func (b *Buffer) writeAllCursors() {
	b.mu.Lock()
	for _, q := range b.queues {
		for _, c := range q.cursors {
			if c != nil && q.carries != nil {
				c.dirty = true
			}
		}
	}
	b.mu.Unlock()
	b.committer.dirtied(time.Now())
}
