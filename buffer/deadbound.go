package buffer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// deadPart is how many dead letters one transaction adds at most, deadChunk how
	// many it gives up.
	deadPart, deadChunk = 64, 64
	// deadSlack is the share of their bound, one in so many, that is given up at
	// once, so that not each refusal makes a gap event.
	deadSlack = 50
	// minDeadBytes is what dead letters may take however small the quota is: more
	// than one transaction adds.
	minDeadBytes = 1 << 20
)

// DeadDropped says which dead letters were given up since there were too many.
type DeadDropped struct {
	Uplink  string
	Machine plant.MachineID
	// First and Last are the sequences of the first and the last of Count.
	First, Last plant.Sequence
	Count       uint64
}

// deadLimit is how many dead letters may be kept and what they may take; a count
// of 0 is no bound.
func (b *Buffer) deadLimit() (count uint64, bytes int64) {
	if b.opts.DeadLetters == 0 {
		return 0, 0
	}
	return uint64(b.opts.DeadLetters), max(b.quota()/100*int64(b.opts.DeadShare), minDeadBytes)
}

// deadIn is what r adds of dead letters.
func deadIn(r *request) (count uint64, bytes int64) {
	for i := range r.entries {
		if e := &r.entries[i]; class(e.Key[1]) == classDead {
			count++
			bytes += int64(len(e.Key) + len(e.Value))
		}
	}
	return count, bytes
}

// boundDead holds the bound of the dead letters; the keeper calls it, for a bound
// that the config or the disk has made smaller.
func (b *Buffer) boundDead(ctx context.Context) error {
	b.deadTurn.Lock()
	defer b.deadTurn.Unlock()
	return b.makeDeadRoom(ctx, 0, 0)
}

// makeDeadRoom gives up the oldest dead letters until there is room for so many
// more: what adds them is written after it, so the bound holds at each commit.
// The caller has deadTurn, and no stream's turn.
func (b *Buffer) makeDeadRoom(ctx context.Context, count uint64, bytes int64) error {
	most, mostBytes := b.deadLimit()
	excess, excessBytes := b.deadOver(count, bytes, most, mostBytes)
	if most == 0 || excess <= 0 && excessBytes <= 0 {
		return nil
	}
	most, mostBytes = most-most/deadSlack, mostBytes-mostBytes/deadSlack
	for {
		excess, excessBytes = b.deadOver(count, bytes, most, mostBytes)
		if excess <= 0 && excessBytes <= 0 {
			return nil
		}
		of, ok, err := b.oldestDead(ctx)
		if err != nil || !ok {
			return err
		}
		err = b.dropDead(ctx, of, excess, excessBytes)
		if errors.Is(err, errDamaged) {
			err = b.auditDead(ctx, of)
		}
		if err != nil {
			return err
		}
	}
}

// deadOver is by how much the dead letters, with so many more, are over a bound.
func (b *Buffer) deadOver(count uint64, bytes int64, most uint64, mostBytes int64) (excess, excessBytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.side.deadCount+count) - int64(most), b.side.deadBytes + bytes - mostBytes
}

// oldestDead finds whose first dead letter was refused first; ok is false if
// there is none. The caller has deadTurn.
func (b *Buffer) oldestDead(ctx context.Context) (oldest deadOf, ok bool, err error) {
	b.mu.Lock()
	var unknown []deadOf
	for of, sum := range b.side.dead {
		if !sum.headKnown {
			unknown = append(unknown, of)
		}
	}
	b.mu.Unlock()
	for _, of := range unknown {
		if err := b.findHead(ctx, of); err != nil {
			return deadOf{}, false, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	first := int64(0)
	for of, sum := range b.side.dead {
		if !ok || sum.head < first {
			oldest, first, ok = of, sum.head, true
		}
	}
	return oldest, ok, nil
}

// findHead notes when the first dead letter was refused. What cannot be read is
// given up first.
func (b *Buffer) findHead(ctx context.Context, of deadOf) error {
	b.mu.Lock()
	audited := b.side.dead[of].audited
	b.mu.Unlock()
	for range 2 {
		if !audited {
			if err := b.auditDead(ctx, of); err != nil {
				return err
			}
		}
		head, there := int64(noTime), false
		err := b.eachOldestDead(ctx, of, func(_, value []byte) bool {
			there = true
			if len(value) >= envelopeSize {
				f := fields{rest: value[envelopeSize:]}
				head = int64(f.uint64())
			}
			return false
		})
		if err != nil && !errors.Is(err, errDamaged) {
			return err
		}
		b.mu.Lock()
		sum := b.side.dead[of]
		if sum != nil && there {
			sum.head, sum.headKnown = head, true
		}
		b.mu.Unlock()
		if sum == nil || there {
			return nil
		}
		audited = false // it was damaged since
	}
	return fmt.Errorf("buffer: find the oldest dead letter of %s for uplink %s: %w", of.machine, of.uplink, errUnread)
}

// eachDead calls each for the dead letters from that sequence on until it returns
// false; key and value are valid during the call.
func (b *Buffer) eachDead(ctx context.Context, of deadOf, from plant.Sequence, each func(key, value []byte) bool) error {
	prefix := of.prefix()
	return b.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Seek(appendSequence(prefix[:len(prefix):len(prefix)], from)); it.Valid(); it.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			more := true
			if err := it.Item().Value(func(v []byte) error { more = each(it.Item().Key(), v); return nil }); err != nil {
				return err
			}
			if !more {
				return nil
			}
		}
		return nil
	})
}

// dropDead gives up the oldest dead letters of one machine at one uplink, at most
// a chunk and not many more than are too many, and tells it by a gap event in the
// same transaction.
func (b *Buffer) dropDead(ctx context.Context, of deadOf, excess, excessBytes int64) error {
	s := b.stream(of.machine)
	if err := s.lock(ctx); err != nil {
		return fmt.Errorf("buffer: give up dead letters of %s: %w", of.machine, err)
	}
	defer s.unlock()
	g := gap{cause: plant.GapRefused, kinds: map[plant.EventKind]uint64{}, uplinks: []string{of.uplink}}
	var keys [][]byte
	err := b.eachOldestDead(ctx, of, func(key, value []byte) bool {
		if len(keys) == deadChunk || int64(len(keys)) >= excess && excessBytes <= 0 {
			return false
		}
		excessBytes -= int64(len(key) + len(value))
		keys = append(keys, append([]byte{}, key...))
		if g.last = sequenceOf(key); g.first == 0 {
			g.first = g.last
		}
		g.count++
		if kind := deadKind(of.machine, key, value); kind != "" {
			g.kinds[kind]++
		}
		return true
	})
	if err != nil && (len(keys) == 0 || !errors.Is(err, errDamaged)) {
		return fmt.Errorf("buffer: give up dead letters of %s: %w", of.machine, err)
	}
	if len(keys) == 0 {
		return errUnread
	}
	most, mostBytes := b.deadLimit()
	g.reason = fmt.Sprintf("refused by uplink %s, and given up since more refused events are kept than allowed (%d, %s)", of.uplink, most, config.Size(mostBytes))
	r := &request{done: make(chan error, 1)}
	if err := b.encodeGaps(r, s, []gap{g}, classDelete); err != nil {
		return err
	}
	for _, key := range keys {
		r.delete(key)
	}
	fault.Pass("dead.beforeBound")
	if err := b.submit(r); err != nil {
		return err
	}
	fault.Pass("dead.afterBound")
	b.droppedDead(of, &g)
	return nil
}

// droppedDead notes what was given up. The caller has deadTurn.
func (b *Buffer) droppedDead(of deadOf, g *gap) {
	b.mu.Lock()
	if sum := b.side.dead[of]; sum != nil {
		sum.from = g.last + 1
	}
	b.mu.Unlock()
	if now := b.opts.now(); now.Sub(b.deadLogged) >= time.Minute {
		b.deadLogged = now
		b.log.Error("more refused events are kept than allowed: the oldest are given up, gap events tell each of them", zap.String("uplink", of.uplink),
			zap.String("machine", string(of.machine)), zap.Uint64("first", uint64(g.first)), zap.Uint64("last", uint64(g.last)), zap.Uint64("count", g.count))
	}
	if b.opts.OnDeadDropped != nil {
		b.opts.OnDeadDropped(DeadDropped{Uplink: of.uplink, Machine: of.machine, First: g.first, Last: g.last, Count: g.count})
	}
}

// deadKind is the kind of a refused event, empty where its record is damaged.
func deadKind(m plant.MachineID, key, value []byte) plant.EventKind {
	_, record, err := cutDeadLetter(key, value)
	if err != nil {
		return ""
	}
	var e stored
	if decodeEvent(eventKey(m, sequenceOf(key)), record, &e) != nil {
		return ""
	}
	return plant.EventKind(e.kind)
}
