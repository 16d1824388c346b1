package buffer

import (
	"errors"
	"sort"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// Between the low mark and the class mark of a stream numbers are missing because
// the kinds that go first were evicted, and others must be there. Which is which
// stands in a record of each eviction, made in the transaction that deletes: so an
// event that is gone without a trace, in a block that is zeros now, is told with its
// number, and what was evicted is told once.

// taken is what one eviction took out from between others.
type taken struct {
	// from and upTo bound what it looked at: events after from, up to upTo.
	from, upTo plant.Sequence
	gone       ranges
}

// appendTakenRecord appends the record of an eviction; gone are the numbers that it
// takes, in order.
func appendTakenRecord(dst, key []byte, from plant.Sequence, gone ranges) []byte {
	at := len(dst)
	dst = appendUvarints(appendEnvelope(dst), uint64(from), uint64(len(gone)))
	end := from
	for _, s := range gone {
		dst = appendUvarints(dst, uint64(s.first-end), uint64(s.last-s.first))
		end = s.last
	}
	seal(dst, at, key, envelopeSize)
	return dst
}

func decodeTakenRecord(key, record []byte) (t taken, err error) {
	body, err := opaque(key, record)
	if err != nil {
		return taken{}, err
	}
	f := fields{rest: body}
	t.from, t.upTo = plant.Sequence(f.uvarint()), sequenceOf(key)
	end := t.from
	for n := f.uvarint(); n > 0 && !f.bad; n-- {
		first := end + plant.Sequence(f.uvarint())
		end = first + plant.Sequence(f.uvarint())
		t.gone = append(t.gone, span{first, end})
	}
	return t, f.err("evicted numbers")
}

// runs joins numbers in order to ranges.
func runs(keys [][]byte) (all ranges) {
	for _, key := range keys {
		n := sequenceOf(key)
		if last := len(all) - 1; last >= 0 && all[last].last+1 == n {
			all[last].last = n
		} else {
			all = append(all, span{n, n})
		}
	}
	return all
}

// fate is what is known of a number that is missing.
type fate uint8

const (
	// fateUnknown: no record covers it, as in a store of an older gateway.
	fateUnknown fate = iota
	// fateEvicted: it was evicted, and told then.
	fateEvicted
	// fateKept: it was not evicted, so it must be there.
	fateKept
)

// takenReader looks numbers of one machine up, each record once.
type takenReader struct {
	b       *Buffer
	machine plant.MachineID
	now     taken
	known   bool
}

// fate says what is known of a number, up to last. It blocks on a disk read where
// another record covers it than the one before.
func (t *takenReader) fate(n plant.Sequence) (f fate, last plant.Sequence, err error) {
	if !t.known || n <= t.now.from || n > t.now.upTo {
		if t.now, t.known, err = t.b.takenAt(t.machine, n); err != nil || !t.known {
			return fateUnknown, max(n, t.now.from), err
		}
	}
	gone := t.now.gone
	i := sort.Search(len(gone), func(i int) bool { return gone[i].last >= n })
	switch {
	case i == len(gone):
		return fateKept, t.now.upTo, nil
	case gone[i].first <= n:
		return fateEvicted, gone[i].last, nil
	default:
		return fateKept, gone[i].first - 1, nil
	}
}

// takenAt returns the record that covers a number; if ok is false, only the place
// before which none does. A damaged one counts as none.
func (b *Buffer) takenAt(m plant.MachineID, n plant.Sequence) (t taken, ok bool, err error) {
	prefix := machineKey(classTaken, m)
	err = b.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		it.Seek(appendSequence(prefix[:len(prefix):len(prefix)], n))
		if t.from = ^plant.Sequence(0); !it.Valid() || len(it.Item().Key()) != len(prefix)+8 {
			return nil
		}
		return it.Item().Value(func(v []byte) (err error) {
			t, err = decodeTakenRecord(it.Item().Key(), v)
			ok = err == nil && t.from < n
			return err
		})
	})
	if errors.Is(err, errDamaged) {
		return taken{}, false, nil // the daily reading says so
	}
	return t, ok, err
}

// dropTaken adds to r the deletion of records that lie before the beginning of s,
// some at a time: what is left goes with a later one, and says nothing wrong.
func (b *Buffer) dropTaken(r *request, s *stream, low plant.Sequence) error {
	prefix := machineKey(classTaken, s.machine)
	err := b.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		n := 0
		for it.Rewind(); it.Valid() && n < deleteBatch && sequenceOf(it.Item().Key()) <= low; it.Next() {
			r.delete(it.Item().KeyCopy(nil))
			n++
		}
		return nil
	})
	if errors.Is(err, errDamaged) {
		return nil // they stay, and harm nobody
	}
	return err
}
