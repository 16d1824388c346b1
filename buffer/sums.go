package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// side is what is kept beside events, exact at each commit: the committer alone
// writes, so it knows what each key held before. It stands in the store too, in
// one transaction with what it counts, and opening walks through nothing. It is
// guarded by Buffer.mu, and changes in the committer only.
type side struct {
	// states is what the machines' states take, other what kept values, memory,
	// jobs and the records of evictions take.
	states, other int64
	dead          map[deadOf]*deadSum
	// deadCount and deadBytes are the sums over dead.
	deadCount uint64
	deadBytes int64
	// doubtful is set once something could not be measured: the next opening then
	// walks.
	doubtful bool
	// lostDead is how many dead letters there are by the sums, and of whose no sum is
	// left; it is of the opening only.
	lostDead uint64
}

func (s *side) bytes() int64 { return s.states + s.other + s.deadBytes }

// deadOf names the dead letters of one machine at one uplink.
type deadOf struct {
	uplink  string
	machine plant.MachineID
}

func (o deadOf) prefix() []byte { return appendName(uplinkKey(classDead, o.uplink), string(o.machine)) }
func (o deadOf) sumKey() []byte { return appendName(uplinkKey(classSums, o.uplink), string(o.machine)) }

// deadSum is how many there are, and what they take.
type deadSum struct {
	count uint64
	bytes int64
	// head is when the one with the lowest sequence was refused, if headKnown.
	// Before from there is none.
	head      int64
	headKnown bool
	from      plant.Sequence
	// audited is set once it was compared with what can be read, broken where that
	// is not all of them.
	audited, broken bool
}

// sideChange is what one transaction does to side.
type sideChange struct {
	other    int64
	dead     []deadChange
	doubtful bool
}

type deadChange struct {
	of    deadOf
	count int64
	bytes int64
	// first is the lowest sequence that was written or deleted.
	first plant.Sequence
}

func (c *sideChange) reset() { *c = sideChange{dead: c.dead[:0]} }

// measure notes what it does to side that key gets a value of that size, -1 to
// delete it. It is called before the transaction has it.
func (c *sideChange) measure(txn *badger.Txn, key []byte, value int) {
	if len(key) < 2 || key[0] != keyLayout {
		return
	}
	of := class(key[1])
	if of != classKV && of != classMemory && of != classDead && of != classJob && of != classTaken {
		return
	}
	old, err := sizeOf(txn, key)
	if err != nil {
		c.doubtful = true
	}
	count, bytes := int64(0), int64(0)
	if old > 0 {
		count, bytes = -1, -old
	}
	if value >= 0 {
		count, bytes = count+1, bytes+int64(len(key)+value)
	}
	if of != classDead {
		c.other += bytes
		return
	}
	uplink, rest, _ := cutName(key[2:])
	m, _, _ := cutName(rest)
	d := c.deadOf(deadOf{uplink, plant.MachineID(m)})
	d.count += count
	d.bytes += bytes
	d.first = min(d.first, sequenceOf(key))
}

func (c *sideChange) deadOf(of deadOf) *deadChange {
	i := slices.IndexFunc(c.dead, func(d deadChange) bool { return d.of == of })
	if i < 0 {
		i = len(c.dead)
		c.dead = append(c.dead, deadChange{of: of, first: ^plant.Sequence(0)})
	}
	return &c.dead[i]
}

// sizeOf is what a key takes with its value, 0 if it is not there. Badger panics
// on some damaged blocks.
func sizeOf(txn *badger.Txn, key []byte) (size int64, err error) {
	defer recovered(&err)
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	err = item.Value(func(v []byte) error { size = int64(len(key) + len(v)); return nil })
	return size, err
}

// put adds the new sums to the transaction that c is of.
func (c *sideChange) put(b *Buffer, txn *badger.Txn) error {
	if c.other == 0 && len(c.dead) == 0 && !c.doubtful {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &request{}
	dead := b.side.deadCount
	for _, d := range c.dead {
		was := deadSum{}
		if s := b.side.dead[d.of]; s != nil {
			was = *s
		}
		now := deadSum{count: moved(was.count, d.count), bytes: max(was.bytes+d.bytes, 0)}
		dead = dead + now.count - was.count
		putDeadSum(r, d.of, now)
	}
	b.putSums(r, b.side.other+c.other, dead, b.side.doubtful || c.doubtful)
	return fill(txn, r, nil)
}

// moved is n changed by d; damage may have hidden some of what is counted.
func moved(n uint64, d int64) uint64 { return uint64(max(int64(n)+d, 0)) }

// putSums adds the record that says what is kept beside events, and at which
// opening: one of an older gateway, which counts nothing, is seen by that.
func (b *Buffer) putSums(r *request, other int64, dead uint64, doubtful bool) {
	opening := b.opening
	if doubtful {
		opening = 0
	}
	r.put(appendClass(nil, classSums), func(dst, key []byte) []byte {
		at := len(dst)
		dst = appendUvarints(appendEnvelope(dst), opening, uint64(max(other, 0)), dead)
		seal(dst, at, key, envelopeSize)
		return dst
	})
}

func putDeadSum(r *request, of deadOf, s deadSum) {
	if s.count == 0 {
		r.delete(of.sumKey())
		return
	}
	r.put(of.sumKey(), func(dst, key []byte) []byte {
		at := len(dst)
		dst = appendUvarints(appendEnvelope(dst), s.count, uint64(s.bytes))
		seal(dst, at, key, envelopeSize)
		return dst
	})
}

// applySide enters what is durable. It is called with b.mu held.
func (b *Buffer) applySide(c *sideChange) {
	s := &b.side
	s.other = max(s.other+c.other, 0)
	s.doubtful = s.doubtful || c.doubtful
	for _, d := range c.dead {
		sum := s.dead[d.of]
		if sum == nil {
			sum = &deadSum{}
			s.dead[d.of] = sum
		}
		count, bytes := moved(sum.count, d.count), max(sum.bytes+d.bytes, 0)
		s.deadCount, s.deadBytes = s.deadCount+count-sum.count, s.deadBytes+bytes-sum.bytes
		if q := b.queueLocked(d.of.uplink); q != nil {
			q.dead = q.dead + count - sum.count
		}
		sum.count, sum.bytes = count, bytes
		// The head may be another one now.
		sum.headKnown, sum.from = false, min(sum.from, d.first)
		if count == 0 {
			delete(s.dead, d.of)
		}
	}
}

// readSide reads the sums, of a store that was opened as often as they say, and
// reports whether they hold. After a repair, which leaves out their head, those of
// the dead letters are of what was there before the damage.
func (b *Buffer) readSide(ctx context.Context, opening uint64) (sums side, known bool, err error) {
	sums = side{dead: map[deadOf]*deadSum{}}
	all, found, headed := uint64(0), uint64(0), false
	prefix := appendClass(nil, classSums)
	err = b.view(func(txn *badger.Txn) error {
		return b.eachItem(ctx, txn, prefix, func(key, value []byte) error {
			body, err := opaque(key, value)
			if err != nil {
				return err
			}
			f := fields{rest: body}
			n, bytes := f.uvarint(), int64(f.uvarint())
			if len(key) == len(prefix) {
				headed, known = true, opening > 0 && n == opening
				sums.other = bytes
				if len(f.rest) > 0 { // an older gateway wrote none
					all = f.uvarint()
				}
				return f.err("sums")
			}
			uplink, rest, _ := cutName(key[len(prefix):])
			m, _, _ := cutName(rest)
			sums.dead[deadOf{uplink, plant.MachineID(m)}] = &deadSum{count: n, bytes: bytes}
			found += n
			return f.err("sums of dead letters")
		})
	})
	if errors.Is(err, errDamaged) {
		b.log.Warn("the sums of what is kept beside events cannot be read: it is counted again", zap.Error(err))
		return side{}, false, nil
	}
	if headed && !known {
		return side{}, false, err // an older gateway did not keep them up
	}
	if all > found {
		sums.lostDead = all - found
	}
	return sums, known, err
}

// walkSide counts what is kept beside events: once, in a store of an older
// gateway, and after damage. Dead letters that were there by the sums count on until
// the daily reading has told that they are gone.
func (b *Buffer) walkSide(ctx context.Context, was *side) error {
	sums, err := b.countSide(ctx)
	if err != nil {
		return err
	}
	for of, sum := range was.dead {
		if now := sums.dead[of]; now == nil || now.count < sum.count {
			sums.dead[of] = sum
		}
	}
	b.setSide(sums)
	return nil
}

// countSide walks through all but events and states. What is damaged is not
// counted.
func (b *Buffer) countSide(ctx context.Context) (side, error) {
	sums := side{dead: map[deadOf]*deadSum{}}
	err := b.view(func(txn *badger.Txn) error {
		for _, c := range []class{classKV, classMemory, classJob, classTaken, classDead} {
			prefix := appendClass(nil, c)
			if err := eachSize(ctx, txn, prefix, func(key []byte, size int64) {
				if c != classDead {
					sums.other += size
					return
				}
				uplink, rest, _ := cutName(key[len(prefix):])
				m, _, _ := cutName(rest)
				of := deadOf{uplink, plant.MachineID(m)}
				if sums.dead[of] == nil {
					sums.dead[of] = &deadSum{}
				}
				sums.dead[of].count++
				sums.dead[of].bytes += size
			}); err != nil {
				return err
			}
		}
		return nil
	})
	sums.doubtful = errors.Is(err, errDamaged)
	if sums.doubtful {
		// The walk ended at the damage; dead letters are counted past it, since their
		// bound goes by that.
		err = b.countAllDead(ctx, sums.dead)
	}
	if err != nil {
		return side{}, fmt.Errorf("buffer: read the index: %w", err)
	}
	return sums, nil
}

// countAllDead counts the dead letters of each machine at each uplink anew.
func (b *Buffer) countAllDead(ctx context.Context, dead map[deadOf]*deadSum) error {
	clear(dead)
	for _, q := range b.queues {
		for _, s := range b.order {
			of := deadOf{q.name, s.machine}
			sum, _, err := b.countDead(ctx, of)
			if err != nil {
				return err
			}
			if sum.count > 0 {
				dead[of] = &sum
			}
		}
	}
	return nil
}

func eachSize(ctx context.Context, txn *badger.Txn, prefix []byte, each func(key []byte, size int64)) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		each(it.Item().Key(), it.Item().EstimatedSize())
	}
	return nil
}

// setSide takes what was read or counted; the states were read with the streams.
func (b *Buffer) setSide(sums side) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.order {
		sums.states += s.stateSize
	}
	for _, q := range b.queues {
		q.dead = 0
	}
	for of, sum := range sums.dead {
		sums.deadCount += sum.count
		sums.deadBytes += sum.bytes
		if q := b.queueLocked(of.uplink); q != nil {
			q.dead += sum.count
		}
	}
	b.side = sums
}

// putSide adds all sums to the transaction that begins an epoch, in place of
// those that are there.
func (b *Buffer) putSide(ctx context.Context, r *request, known bool) error {
	b.putSums(r, b.side.other, b.side.deadCount, b.side.doubtful)
	if known {
		return nil
	}
	prefix := appendClass(nil, classSums)
	written := map[string]bool{string(prefix): true}
	for of, sum := range b.side.dead {
		putDeadSum(r, of, *sum)
		written[string(of.sumKey())] = true
	}
	err := b.view(func(txn *badger.Txn) error {
		return eachSize(ctx, txn, prefix, func(key []byte, _ int64) {
			if !written[string(key)] {
				r.delete(slices.Clone(key))
			}
		})
	})
	if errors.Is(err, errDamaged) {
		err = nil // they are written anew, and what cannot be read counts for nothing
	}
	return err
}
