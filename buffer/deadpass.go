package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// Over some damaged blocks of a table Badger panics; over others its iterator ends
// as if nothing were behind them, and goes on with what newer tables have. Nobody
// can say which dead letters are in such a block, and nothing can delete them. Those
// on both sides of it are found by walking from both ends.

// errUnread says that less can be read than is there.
var errUnread = fmt.Errorf("%w: the store shows fewer than it has counted", errDamaged)

// deadList is the dead letters of one machine at one uplink that can be found.
type deadList struct {
	numbers []plant.Sequence
	// damage is nil where all of them could be found.
	damage error
	// first and last are the span in which some cannot.
	first, last plant.Sequence
}

// listDead finds the dead letters from that sequence on, at one moment.
func (b *Buffer) listDead(ctx context.Context, of deadOf, from plant.Sequence) (list deadList, err error) {
	prefix := of.prefix()
	var forth, back []plant.Sequence
	walk := func(txn *badger.Txn, reverse bool, at plant.Sequence, found *[]plant.Sequence) (err error) {
		defer recovered(&err)
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, Reverse: reverse})
		defer it.Close()
		for it.Seek(appendSequence(prefix[:len(prefix):len(prefix)], at)); it.Valid(); it.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := sequenceOf(it.Item().Key())
			if n < from {
				return nil
			}
			*found = append(*found, n)
		}
		return nil
	}
	var forthErr, backErr error
	if err := b.view(func(txn *badger.Txn) error {
		forthErr = walk(txn, false, from, &forth)
		backErr = walk(txn, true, ^plant.Sequence(0), &back)
		return nil
	}); err != nil {
		return list, err
	}
	slices.Reverse(back)
	for _, err := range []error{forthErr, backErr} {
		if errors.Is(err, errDamaged) {
			list.damage = err
		} else if err != nil {
			return list, err
		}
	}
	if list.damage == nil && !slices.Equal(forth, back) {
		list.damage = errUnread
	}
	list.numbers = append(slices.Clone(forth), back...)
	slices.Sort(list.numbers)
	list.numbers = slices.Compact(list.numbers)
	// The way back ends behind the damage, the way forth before it.
	list.first, list.last = max(from, 1), b.endOf(of, from)
	if len(back) > 0 && back[0] > list.first {
		list.last = back[0] - 1
	}
	for _, n := range forth {
		if n <= list.last {
			list.first = max(list.first, n+1)
		}
	}
	if list.first > list.last {
		list.first, list.last = max(from, 1), b.endOf(of, from)
	}
	return list, nil
}

// endOf is the last number of a machine's stream, or at.
func (b *Buffer) endOf(of deadOf, at plant.Sequence) plant.Sequence {
	s := b.stream(of.machine)
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(s.head.sequence, at)
}

// readDead calls each for those of a list that can be read, until it returns
// false. Those that cannot widen the span of the list's damage.
func (b *Buffer) readDead(of deadOf, list *deadList, each func(key, value []byte) bool) error {
	for _, n := range list.numbers {
		key := deadKey(of.uplink, of.machine, n)
		value, err := b.value(key)
		if errors.Is(err, errDamaged) {
			if list.damage == nil {
				list.damage, list.first, list.last = err, n, n
			}
			list.first, list.last = min(list.first, n), max(list.last, n)
			continue
		}
		if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
			return err
		}
		if err == nil && !each(key, value) {
			return nil
		}
	}
	return nil
}

// countDead counts the dead letters that can be read, and what they take.
func (b *Buffer) countDead(ctx context.Context, of deadOf) (sum deadSum, list deadList, err error) {
	if list, err = b.listDead(ctx, of, 0); err != nil {
		return sum, list, err
	}
	err = b.readDead(of, &list, func(key, value []byte) bool {
		sum.count++
		sum.bytes += int64(len(key) + len(value))
		return true
	})
	return sum, list, err
}

// auditDead counts the dead letters of one machine at one uplink before the first
// of them are given up. Those that cannot be read count no more then, and a gap
// event in the same transaction says how many there were. The caller has deadTurn,
// and no stream's turn.
func (b *Buffer) auditDead(ctx context.Context, of deadOf) error {
	s := b.stream(of.machine)
	if err := s.lock(ctx); err != nil {
		return fmt.Errorf("buffer: count dead letters of %s: %w", of.machine, err)
	}
	defer s.unlock()
	b.mu.Lock()
	was := deadSum{}
	if sum := b.side.dead[of]; sum != nil {
		was = *sum
	}
	b.mu.Unlock()
	left, list, err := b.countDead(ctx, of)
	if err != nil {
		return fmt.Errorf("buffer: count dead letters of %s: %w", of.machine, err)
	}
	if list.damage == nil && left.count < was.count {
		list.damage = errUnread
	}
	// After a restart the damage is still there, and told already.
	if was.count > left.count {
		if err := b.tellUnreadable(of, s, &list, &was, &left); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if sum := b.side.dead[of]; sum != nil {
		sum.audited, sum.broken = true, list.damage != nil
	}
	return nil
}

// tellUnreadable tells by a gap event that of what there was only so much is left.
// The caller has the turn of s.
func (b *Buffer) tellUnreadable(of deadOf, s *stream, list *deadList, was, left *deadSum) error {
	n := was.count - left.count
	g := gap{
		span: span{list.first, list.last}, count: n, cause: plant.GapRefused, uplinks: []string{of.uplink},
		reason: fmt.Sprintf("refused by uplink %s, and the block of the store that holds them cannot be read any more", of.uplink),
	}
	r := &request{done: make(chan error, 1)}
	if err := b.encodeGaps(r, s, []gap{g}, classDelete); err != nil {
		return err
	}
	r.unreadable = &deadChange{of: of, count: -int64(n), bytes: left.bytes - was.bytes}
	if err := b.submit(r); err != nil {
		return err
	}
	what := fmt.Sprintf("%d events refused by uplink %s, from %d to %d", n, of.uplink, uint64(g.first), uint64(g.last))
	b.damagedValue(of.machine, what, list.damage)
	b.quarantine(setAside{Record: what, Machine: of.machine, Sequence: g.first, Reason: list.damage.Error(), Key: appendSequence(of.prefix(), g.first)})
	return nil
}

// eachOldestDead calls each for the dead letters in their order until it returns
// false; key and value are valid during the call.
func (b *Buffer) eachOldestDead(ctx context.Context, of deadOf, each func(key, value []byte) bool) error {
	b.mu.Lock()
	from, broken := plant.Sequence(0), false
	if sum := b.side.dead[of]; sum != nil {
		from, broken = sum.from, sum.broken
	}
	b.mu.Unlock()
	if !broken {
		return b.eachDead(ctx, of, from, each)
	}
	list, err := b.listDead(ctx, of, from)
	if err != nil {
		return err
	}
	return b.readDead(of, &list, each)
}
