package buffer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// view runs a read transaction. Badger panics on some damaged blocks; a reader
// gets an error instead.
func (b *Buffer) view(read func(*badger.Txn) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return b.db.View(read)
}

// eachItem calls each for every key with the prefix, in order; key and value
// are valid during the call only.
func (b *Buffer) eachItem(ctx context.Context, txn *badger.Txn, prefix []byte, each func(key, value []byte) error) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		item := it.Item()
		if err := item.Value(func(v []byte) error { return each(item.Key(), v) }); err != nil {
			return err
		}
	}
	return nil
}

// scan calls each for the stored events of s after that sequence and up to
// that one, in order, until each returns false. What is missing or damaged in
// between is counted, logged and passed over. The event is valid during the
// call only. complete is false if each ended it.
func (b *Buffer) scan(ctx context.Context, s *stream, after, upTo plant.Sequence, each func(*stored) bool) (complete bool, err error) {
	return b.run(&pass{b: b, ctx: ctx, stream: s, done: after, upTo: upTo, each: each})
}

// scanDisk is scan that takes nothing from memory.
func (b *Buffer) scanDisk(ctx context.Context, s *stream, after, upTo plant.Sequence, each func(*stored) bool) (complete bool, err error) {
	return b.run(&pass{b: b, ctx: ctx, stream: s, done: after, upTo: upTo, each: each, disk: true})
}

func (b *Buffer) run(p *pass) (complete bool, err error) {
	p.taken = takenReader{b: b, machine: p.stream.machine}
	if !p.disk {
		err = p.recent()
	}
	if err == nil && p.done < p.upTo && !p.stopped {
		err = b.view(p.iterate)
	}
	if errors.Is(err, errDamaged) && !p.stopped {
		// The block that the iterator stumbled over may hide good neighbours.
		b.log.Error("a table of the store is damaged: its events are read one by one", zap.String("machine", string(p.stream.machine)), zap.Error(err))
		err = nil
	}
	if err == nil {
		err = p.oneByOne(p.upTo)
	}
	if err != nil {
		return false, fmt.Errorf("buffer: read %s: %w", p.stream.machine, err)
	}
	return !p.stopped, nil
}

// pass is one scan under way.
type pass struct {
	b       *Buffer
	ctx     context.Context
	stream  *stream
	done    plant.Sequence
	upTo    plant.Sequence
	each    func(*stored) bool
	disk    bool
	stopped bool
	event   stored
	// thin is up to where kinds are evicted, taken what is known of that.
	thin  plant.Sequence
	taken takenReader
	// blind is up to where, before thin, no record says what was evicted.
	blind plant.Sequence
}

// recent passes the events that are still in memory, as far as they follow on
// from where the pass stands.
func (p *pass) recent() error {
	for p.done < p.upTo && !p.stopped {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		c := p.b.recentFrom(p.stream, p.done+1)
		if c == nil {
			return nil
		}
		for i, record := range c.records {
			sequence := c.first + plant.Sequence(i)
			if sequence <= p.done {
				continue
			}
			if sequence > p.upTo || p.stopped {
				break
			}
			if err := parseEvent(eventHeaderSize, len(p.stream.machine)+eventKeyOverhead, record, &p.event); err != nil {
				return err
			}
			p.done = sequence
			p.stopped = !p.each(&p.event)
		}
	}
	return nil
}

func (p *pass) iterate(txn *badger.Txn) error {
	prefix := machineKey(classEvent, p.stream.machine)
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(appendSequence(prefix[:len(prefix):len(prefix)], p.done+1)); it.Valid() && !p.stopped; it.Next() {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		item := it.Item()
		key := item.Key()
		sequence := sequenceOf(key)
		if len(key) != len(prefix)+8 {
			continue
		}
		if sequence > p.upTo {
			return nil
		}
		// A damaged table gives keys that are out of order, and hides others.
		if err := p.oneByOne(sequence - 1); err != nil {
			return err
		}
		if sequence <= p.done || p.stopped {
			continue
		}
		if err := item.Value(func(v []byte) error { p.take(key, v, sequence); return nil }); err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	return nil
}

// take decodes one record and passes it on.
func (p *pass) take(key, value []byte, sequence plant.Sequence) {
	p.done = sequence
	err := decodeEvent(key, value, &p.event)
	if err == nil && p.event.sequence != sequence {
		err = fmt.Errorf("%w: sequence %d in the record", errDamaged, p.event.sequence)
	}
	if err != nil {
		if p.b.lose(p.stream, sequence, sequence, plant.GapDamaged, err.Error()) > 0 {
			p.b.quarantine(setAside{Record: "an event", Machine: p.stream.machine, Sequence: sequence, Reason: err.Error(), Key: key, Value: value})
		}
		return
	}
	p.stopped = !p.each(&p.event)
}

// oneByOne asks for each event up to that one that the pass has not had: what an
// iterator does not show may be there all the same.
func (p *pass) oneByOne(upTo plant.Sequence) error {
	if p.done >= upTo || p.stopped {
		return nil
	}
	p.skipLost(upTo)
	for p.done < upTo && !p.stopped {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		next := p.done + 1
		if evicted, err := p.skipEvicted(next, upTo); err != nil {
			return err
		} else if evicted {
			continue
		}
		err := p.b.view(func(txn *badger.Txn) error {
			key := eventKey(p.stream.machine, next)
			item, err := txn.Get(key)
			if err != nil {
				return err
			}
			return item.Value(func(v []byte) error { p.take(key, v, next); return nil })
		})
		switch {
		case errors.Is(err, badger.ErrDBClosed):
			return err
		case errors.Is(err, badger.ErrKeyNotFound):
			if err := p.miss(next); err != nil {
				return err
			}
			p.done = next
		case err != nil:
			p.b.lose(p.stream, next, next, plant.GapDamaged, err.Error())
			p.done = next
		}
		p.skipLost(upTo)
	}
	return nil
}

// skipEvicted passes over a number that was evicted, and those behind it.
func (p *pass) skipEvicted(next, upTo plant.Sequence) (evicted bool, err error) {
	if next > p.thin || next <= p.blind {
		return false, nil
	}
	fate, last, err := p.taken.fate(next)
	switch {
	case err != nil:
		return false, err
	case fate == fateUnknown:
		p.blind = min(last, p.thin)
	case fate == fateEvicted:
		p.done = min(last, upTo)
		p.skipLost(upTo)
		return true, nil
	}
	return false, nil
}

// miss counts an event as missing that is not there, if it was not evicted, also just
// now. Where no record says so, as in a store of an older gateway, what is missing
// before the class mark counts as evicted.
func (p *pass) miss(n plant.Sequence) error {
	if n <= p.blind {
		return nil
	}
	fate, _, err := p.taken.fate(n)
	if err != nil {
		return err
	}
	p.b.mu.Lock()
	thin := p.stream.thin.sequence
	p.b.mu.Unlock()
	if fate == fateKept || fate == fateUnknown && n > thin {
		p.b.lose(p.stream, n, n, plant.GapMissing, "missing in the store")
	}
	return nil
}

// skipLost passes over what is deleted or known to be lost.
func (p *pass) skipLost(upTo plant.Sequence) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	s := p.stream
	p.thin = s.thin.sequence
	p.done = max(p.done, min(max(s.low.sequence, s.deleting), upTo))
	if left := s.lost.without(p.done+1, upTo); len(left) == 0 {
		p.done = upTo
	} else {
		p.done = left[0].first - 1
	}
}

// maxDamage bounds the list of Stats.Damage.
const maxDamage = 64

// lose counts events that are damaged or missing, each once, also over restarts,
// and notes that a gap event must tell of them. It returns how many are new.
func (b *Buffer) lose(s *stream, first, last plant.Sequence, cause plant.GapCause, reason string) (fresh uint64) {
	b.mu.Lock()
	first = max(first, s.low.sequence+1, s.deleting+1)
	if first > last {
		// Deleted by the keeper while the reader passed.
		b.mu.Unlock()
		return 0
	}
	for _, o := range s.lost.without(first, last) {
		n := uint64(o.last-o.first) + 1
		fresh += n
		s.addUntold(gap{span: o, count: n, cause: cause, reason: reason})
	}
	if fresh > 0 {
		s.lost.add(first, last)
		b.noteDamage(Damage{Machine: s.machine, First: first, Last: last, Reason: reason, Found: b.opts.now()})
	}
	b.mu.Unlock()
	b.lost.Add(fresh)
	return fresh
}

// damagedValue counts a damaged record that is no event.
func (b *Buffer) damagedValue(m plant.MachineID, what string, cause error) {
	b.lost.Add(1)
	b.mu.Lock()
	b.noteDamage(Damage{Machine: m, Reason: what + ": " + cause.Error(), Found: b.opts.now()})
	b.mu.Unlock()
	b.log.Error("a record of the store cannot be read and counts as missing", zap.String("machine", string(m)),
		zap.String("record", what), zap.Error(cause))
}

// noteDamage keeps the newest. It is called with b.mu held.
func (b *Buffer) noteDamage(d Damage) {
	b.damages++
	if len(b.damage) == maxDamage {
		b.damage = append(b.damage[:0], b.damage[1:]...)
	}
	b.damage = append(b.damage, d)
}

// originOf says under which names an epoch recorded.
func (b *Buffer) originOf(epoch plant.Epoch) origin {
	if from, ok := b.origins[epoch]; ok {
		return from
	}
	// Its record was damaged, which Open has counted and logged.
	return origin{gateway: b.opts.Gateway, source: b.opts.Source}
}

func (b *Buffer) sourceOf(epoch plant.Epoch, m plant.MachineID) string {
	return b.originOf(epoch).source + "/" + string(m)
}

// event makes the event that readers and uplinks get.
func (b *Buffer) event(m plant.MachineID, source string, r *stored, kind plant.EventKind, data []byte) plant.Event {
	return plant.Event{
		Gateway: b.originOf(r.epoch).gateway, Source: source, Machine: m, Epoch: r.epoch, Sequence: r.sequence,
		Kind: kind, Version: r.version, Time: timeOf(r.time), TimeSource: timeSourceOf(r.source),
		ClockOffset: time.Duration(r.offset), ClockStep: time.Duration(r.step), TimeUncertain: r.flags&flagTimeUncertain != 0,
		Data: data,
	}
}
