package buffer

import (
	"context"
	"iter"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// A reader takes pages, so that no read transaction stays open while its caller
// is slow: that would keep Badger from dropping what is deleted.
const (
	pageEntries = 256
	pageBytes   = 1 << 20
)

// Events returns the stored events of a machine after that sequence, at most
// limit of them, in order. What is damaged is counted and passed over; an error
// ends the listing. It holds no claim on the events: what is deleted meanwhile
// is not listed. It blocks on disk reads.
func (b *Buffer) Events(ctx context.Context, m plant.MachineID, after plant.Sequence, limit int) iter.Seq2[plant.Event, error] {
	return func(yield func(plant.Event, error) bool) {
		for limit > 0 {
			page, last, err := b.eventPage(ctx, m, after, min(limit, pageEntries))
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(plant.Event{}, err)
				return
			}
			if len(page) == 0 || last {
				return
			}
			after = page[len(page)-1].Sequence
			limit -= len(page)
		}
	}
}

// eventPage reads up to limit events; last is set if the stream ends there.
func (b *Buffer) eventPage(ctx context.Context, m plant.MachineID, after plant.Sequence, limit int) (page []plant.Event, last bool, err error) {
	if err := b.usable(ctx); err != nil {
		return nil, false, err
	}
	b.mu.Lock()
	s := b.streams[m]
	view := b.kindsNow()
	var head plant.Sequence
	if s != nil {
		head = s.head.sequence
		after = max(after, s.low.sequence)
	}
	b.mu.Unlock()
	if s == nil {
		return nil, true, nil
	}
	size := 0
	last, err = b.scan(ctx, s, after, head, func(r *stored) bool {
		kind := view.name(view.of(r.kind))
		page = append(page, b.event(m, b.sourceOf(r.epoch, m), r, kind, append([]byte{}, r.data...)))
		size += r.size
		return len(page) < limit && size < pageBytes
	})
	return page, last, err
}

// pair is a key without its prefix and its value, copied.
type pair struct{ key, value []byte }

// pairs calls each for every key with the prefix, in order. It reads pages, as
// Events does. An error of each ends it and is returned.
func (b *Buffer) pairs(ctx context.Context, prefix []byte, each func(pair) error) error {
	return b.pairsAfter(ctx, prefix, nil, each)
}

// pairsAfter is pairs from behind a key, nil for the first.
func (b *Buffer) pairsAfter(ctx context.Context, prefix, after []byte, each func(pair) error) error {
	for {
		page, readErr := b.pairPage(ctx, prefix, after)
		for _, p := range page {
			if err := each(p); err != nil {
				return err
			}
		}
		if readErr != nil || len(page) == 0 {
			return readErr
		}
		after = page[len(page)-1].key
	}
}

func (b *Buffer) pairPage(ctx context.Context, prefix, after []byte) (page []pair, err error) {
	err = b.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		from := append(append([]byte{}, prefix...), after...)
		if after != nil {
			from = append(from, 0)
		}
		size := 0
		for it.Seek(from); it.Valid() && len(page) < pageEntries && size < pageBytes; it.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			item := it.Item()
			value, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			page = append(page, pair{key: append([]byte{}, item.Key()[len(prefix):]...), value: value})
			size += len(value)
		}
		return nil
	})
	return page, err
}

// Machines returns the machines that have a stream, in the order in which they
// first committed or were found at Open.
func (b *Buffer) Machines() []plant.MachineID {
	b.mu.Lock()
	defer b.mu.Unlock()
	machines := make([]plant.MachineID, len(b.order))
	for i, s := range b.order {
		machines[i] = s.machine
	}
	return machines
}
