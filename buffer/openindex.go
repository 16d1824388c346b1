package buffer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// errForeign means that there are records and none of them says what wrote them.
var errForeign = errors.New("the store was not made by this gateway: give another buffer path")

// readFormat reads the format record: what wrote the store, and which it is.
func (b *Buffer) readFormat(txn *badger.Txn) error {
	item, err := txn.Get(formatKey)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return b.withoutFormat(txn)
	}
	if err != nil {
		return err
	}
	return item.Value(func(v []byte) error {
		body, err := opaque(formatKey, v)
		if err != nil {
			return err
		}
		f := fields{rest: body}
		major, minor := f.uvarint(), f.uvarint()
		if major > formatMajor {
			return fmt.Errorf("%w: version %d.%d of the store, this gateway reads %d: install the newer gateway again", errNewer, major, minor, formatMajor)
		}
		if minor >= 1 && !f.bad && len(f.rest) >= len(b.id) {
			copy(b.id[:], f.rest)
			f.rest = f.rest[len(b.id):]
			b.opening = f.uvarint()
		}
		return f.err("format")
	})
}

// withoutFormat says what a store is that has no format record: new, one that has
// lost it, which shows by a record that has our checksum, or somebody else's.
func (b *Buffer) withoutFormat(txn *badger.Txn) error {
	const most = 64
	it := txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	n := 0
	for it.Rewind(); it.Valid() && n < most; it.Next() {
		n++
		ours := false
		if err := it.Item().Value(func(v []byte) error {
			_, err := unseal(it.Item().Key(), v)
			ours = err == nil
			return nil
		}); err != nil {
			return err
		}
		if ours {
			return fmt.Errorf("%w: the record is gone that says what wrote the store and which one it is", errDamaged)
		}
	}
	if n > 0 {
		return errForeign
	}
	return nil
}

// readEpochs fills origins and returns the newest ordinal.
func (b *Buffer) readEpochs(ctx context.Context, txn *badger.Txn) (last uint64, err error) {
	err = b.eachItem(ctx, txn, appendClass(nil, classEpoch), func(key, value []byte) error {
		last = uint64(sequenceOf(key))
		body, err := opaque(key, value)
		if err == nil {
			f := fields{rest: body}
			epoch := plant.Epoch(f.uint64())
			from := origin{gateway: string(f.bytes()), source: string(f.bytes())}
			if err = f.err("epoch"); err == nil {
				b.origins[epoch] = from
			}
		}
		if err != nil {
			b.damagedRecord("", "the names of an epoch", key, value, err)
		}
		return nil
	})
	return last, err
}

func (b *Buffer) readStreams(ctx context.Context, txn *badger.Txn) error {
	machine := func(key []byte) plant.MachineID { name, _, _ := cutName(key[2:]); return plant.MachineID(name) }
	if err := b.eachItem(ctx, txn, appendClass(nil, classStream), func(key, value []byte) error {
		s := b.streamLocked(machine(key))
		head, epoch, err := decodeStreamRecord(key, value, &b.kinds)
		if err != nil {
			// The state's record may say it too, else verify counts the stream anew.
			b.damagedRecord(s.machine, "the end of the stream", key, value, err)
			s.headDamaged = true
			return nil
		}
		s.head, s.headEpoch = head, epoch
		return nil
	}); err != nil {
		return err
	}
	if err := b.eachItem(ctx, txn, appendClass(nil, classLow), func(key, value []byte) error {
		s := b.streamLocked(machine(key))
		low, err := decodeLowRecord(key, value, &b.kinds)
		if err != nil {
			b.damagedRecord(s.machine, "the beginning of the stream", key, value, err)
			return nil
		}
		s.low = low
		return nil
	}); err != nil {
		return err
	}
	if err := b.eachItem(ctx, txn, appendClass(nil, classThin), func(key, value []byte) error {
		s := b.streamLocked(machine(key))
		thin, gone, err := decodeThinRecord(key, value, &b.kinds)
		if err != nil {
			b.damagedValue(s.machine, "how far parameters are evicted", err)
			return nil
		}
		if thin.sequence > s.low.sequence {
			s.thin, s.gone = thin, gone
		}
		return nil
	}); err != nil {
		return err
	}
	if err := b.eachItem(ctx, txn, appendClass(nil, classGap), func(key, value []byte) error {
		s := b.streamLocked(machine(key))
		told, err := decodeToldRecord(key, value)
		if err != nil {
			// What it lists is told once more when it is found again.
			b.damagedRecord(s.machine, "the list of the gaps that were told", key, value, err)
			return nil
		}
		s.lost = told
		return nil
	}); err != nil {
		return err
	}
	return b.eachItem(ctx, txn, appendClass(nil, classState), func(key, value []byte) error {
		s := b.streamLocked(machine(key))
		s.stateSize = int64(len(key) + len(value))
		// A damaged state is counted by Load; verify then counts the stream anew.
		head, epoch, err := decodeStateHead(key, value, &b.kinds)
		s.stateRead, s.headDamaged = err == nil, s.headDamaged || err != nil
		if err == nil && head.sequence > s.head.sequence {
			s.head, s.headEpoch = head, epoch
		}
		return nil
	})
}

func (b *Buffer) readQueues(ctx context.Context, txn *badger.Txn) error {
	prefix := appendClass(nil, classUplink)
	if err := b.eachItem(ctx, txn, prefix, func(key, _ []byte) error {
		if name, _, ok := cutName(key[len(prefix):]); ok {
			b.queues = append(b.queues, newQueue(b, name))
		}
		return nil
	}); err != nil {
		return err
	}
	prefix = appendClass(nil, classCursor)
	return b.eachItem(ctx, txn, prefix, func(key, value []byte) error {
		uplink, rest, ok := cutName(key[len(prefix):])
		m, _, ok2 := cutName(rest)
		q := b.queueLocked(uplink)
		if !ok || !ok2 || q == nil {
			return nil
		}
		c := q.cursor(b.streamLocked(plant.MachineID(m)))
		if err := decodeCursorRecord(key, value, c, &b.kinds); err != nil {
			// From the oldest event that is kept: sent again rather than lost.
			b.damagedRecord(c.stream.machine, "the cursor of uplink "+uplink, key, value, err)
			c.at, c.delivered = position{}, 0
		}
		return nil
	})
}

// verify compares what a stream's records say with its events, at its end and
// its beginning only, and makes sure that no number is ever given again: ever is
// the highest that a torn log still shows. It reports whether the stream was
// counted again.
func (b *Buffer) verify(ctx context.Context, s *stream, ever plant.Sequence, j *judgement) (recounted bool, err error) {
	last := plant.Sequence(0)
	err = b.view(func(txn *badger.Txn) error {
		prefix := machineKey(classEvent, s.machine)
		it := txn.NewIterator(badger.IteratorOptions{Reverse: true})
		defer it.Close()
		it.Seek(appendSequence(prefix[:len(prefix):len(prefix)], ^plant.Sequence(0)))
		if it.ValidForPrefix(prefix) {
			last = sequenceOf(it.Item().Key())
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDamaged) {
		return false, fmt.Errorf("buffer: read the index of %s: %w", s.machine, err)
	}
	if ever > 0 && max(s.head.sequence, s.low.sequence, last) == 0 {
		// The store knows nothing of it. What every uplink had is gone as if it had
		// been deleted.
		j.emptied[s.machine] = true
		s.low.sequence = max(j.needed[s.machine], 1) - 1
	}
	known := max(s.low.sequence, last, ever)
	for _, q := range b.queues {
		c := q.cursor(s)
		known = max(known, c.at.sequence, c.delivered)
	}
	if known <= s.head.sequence {
		return false, nil
	}
	return true, b.recount(ctx, s, last, known, j)
}

// recount builds the head of a stream again from its events, after damage. Of an
// event that is gone the kind is not known, so it counts for every kind: a
// backlog that is too high ends at the head, one that is too low would pass over
// events.
func (b *Buffer) recount(ctx context.Context, s *stream, last, known plant.Sequence, j *judgement) error {
	b.log.Error("the index of a stream does not match its events and is counted again", zap.String("machine", string(s.machine)),
		zap.Uint64("recorded", uint64(s.head.sequence)), zap.Uint64("found", uint64(known)))
	head := s.low.clone()
	view := b.kindsNow()
	gone := uint64(known-s.low.sequence) - b.evicted(s)
	found := max(min(last, known), s.low.sequence)
	_, err := b.scan(ctx, s, s.low.sequence, found, func(r *stored) bool {
		gone--
		s.pass(&head, r.sequence, r.size, view.of(r.kind))
		s.headEpoch = r.epoch
		return true
	})
	if err != nil {
		return err
	}
	if known > found {
		b.lose(s, found+1, known, j.cause, j.reason)
	} else {
		b.noteOldState(s, j)
	}
	head.sequence = known
	b.mu.Lock()
	defer b.mu.Unlock()
	if gone > 0 {
		for kind := range b.kinds.names {
			head.grow(kind)
			head.counts[kind] += gone
		}
	}
	for _, q := range b.queues {
		head.raise(&q.cursor(s).at)
	}
	s.head = head
	return nil
}

// noteOldState notes that the state of a machine's rules is gone, or older than
// the events that it made, while every event is there or every uplink had it:
// what the rules count from there on may have been counted before.
func (b *Buffer) noteOldState(s *stream, j *judgement) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case j.emptied[s.machine]:
		s.addUntold(gap{cause: j.cause, reason: j.reason})
	case s.stateRead:
		s.addUntold(gap{cause: plant.GapDamaged, reason: "the state of the machine's rules is older than its newest events"})
	case !s.headDamaged: // else Load says that the state cannot be read
		s.addUntold(gap{cause: plant.GapDamaged, reason: "the state of the machine's rules is gone, its newest events are there"})
	}
}

// beginEpoch draws the epoch of this opening and makes it durable before
// anything is accepted. An epoch that has recorded nothing gives its place up,
// so that a crash loop leaves no trace. The ends of streams that were counted
// again are made durable with it.
func (b *Buffer) beginEpoch(ctx context.Context, last uint64, recounted []*stream, summed bool) error {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("buffer: draw an epoch: %w", err)
	}
	b.epoch = plant.Epoch(binary.BigEndian.Uint64(random[:]))
	ordinal := last + 1
	if last > 0 && b.unused(last) {
		ordinal = last
	}
	b.origins[b.epoch] = origin{gateway: b.opts.Gateway, source: b.opts.Source}
	r := &request{}
	r.put(formatKey, func(dst, key []byte) []byte {
		at := len(dst)
		dst = appendUvarints(appendEnvelope(dst), formatMajor, formatMinor)
		dst = appendUvarints(append(dst, b.id[:]...), b.opening)
		seal(dst, at, key, envelopeSize)
		return dst
	})
	r.put(epochKey(ordinal), func(dst, key []byte) []byte {
		at := len(dst)
		dst = binary.BigEndian.AppendUint64(appendEnvelope(dst), uint64(b.epoch))
		dst = appendUvarints(dst, uint64(len(b.opts.Gateway)))
		dst = append(dst, b.opts.Gateway...)
		dst = appendUvarints(dst, uint64(len(b.opts.Source)))
		dst = append(dst, b.opts.Source...)
		dst = appendTime(dst, b.opts.now())
		seal(dst, at, key, envelopeSize)
		return dst
	})
	if err := b.putSide(ctx, r, summed); err != nil {
		return fmt.Errorf("buffer: begin an epoch: %w", err)
	}
	if err := b.writeTxn([]*request{r}, nil); err != nil {
		return fmt.Errorf("buffer: begin an epoch: %w", err)
	}
	return b.heal(recounted)
}

// heal makes the ends of streams that were counted again durable, each together
// with the gap events of what it lost: a kill in between leaves a stream as it
// was found.
func (b *Buffer) heal(recounted []*stream) error {
	for _, s := range recounted {
		r := &request{}
		gaps, err := b.encodeUntold(r, s)
		if err != nil {
			return err
		}
		if len(gaps) == 0 {
			r.put(machineKey(classStream, s.machine), func(dst, key []byte) []byte {
				return appendStreamRecord(dst, key, &s.head, s.headEpoch, &b.kinds)
			})
		}
		if s.low.sequence > 0 {
			r.put(machineKey(classLow, s.machine), func(dst, key []byte) []byte { return appendLowRecord(dst, key, &s.low, &b.kinds) })
		}
		if err := b.writeTxn([]*request{r}, nil); err != nil {
			return fmt.Errorf("buffer: heal the stream of %s: %w", s.machine, err)
		}
		b.mu.Lock()
		b.committed(r)
		if r.apply != nil {
			r.apply()
		}
		b.mu.Unlock()
		b.logGaps(s, gaps)
	}
	return nil
}

// unused reports whether the epoch with that ordinal has recorded no event.
func (b *Buffer) unused(ordinal uint64) bool {
	var epoch plant.Epoch
	err := b.view(func(txn *badger.Txn) error {
		key := epochKey(ordinal)
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			body, err := opaque(key, v)
			if err != nil {
				return err
			}
			f := fields{rest: body}
			epoch = plant.Epoch(f.uint64())
			return f.err("epoch")
		})
	})
	if err != nil {
		return false
	}
	for _, s := range b.order {
		if s.headEpoch == epoch {
			return false
		}
	}
	return true
}
