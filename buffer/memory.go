package buffer

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// errEnough ends a walk early.
var errEnough = errors.New("the caller has enough")

// Each calls do for what results have put under keys that begin with prefix, in
// the order of the keys, until do returns false. It blocks on disk reads and may
// be called from any goroutine; what is put meanwhile may be seen or not. A
// damaged value ends it with an error that names the key.
func (q *Queue) Each(ctx context.Context, prefix string, do func(plant.KV) bool) error {
	if err := q.b.usable(ctx); err != nil {
		return err
	}
	full := append(uplinkKey(classMemory, q.name), prefix...)
	err := q.b.pairs(ctx, full, func(p pair) error {
		key := append(full[:len(full):len(full)], p.key...)
		body, err := opaque(key, p.value)
		if err != nil {
			return fmt.Errorf("memory %q: %w: %w", key[len(full)-len(prefix):], plant.ErrUnreadable, err)
		}
		if !do(plant.KV{Key: string(key[len(full)-len(prefix):]), Value: body}) {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("buffer: read memory of uplink %s: %w", q.name, err)
	}
	return nil
}

// Keys calls do for the keys that begin with prefix, in their order, until do returns
// false; it reads no value, so damaged ones are no matter. It blocks on disk reads and
// may be called from any goroutine.
func (q *Queue) Keys(ctx context.Context, prefix string, do func(key string) bool) error {
	if err := q.b.usable(ctx); err != nil {
		return err
	}
	full := append(uplinkKey(classMemory, q.name), prefix...)
	err := q.b.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: full})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !do(string(it.Item().Key()[len(full)-len(prefix):])) {
				return nil
			}
		}
		return nil
	})
	if errors.Is(err, errDamaged) {
		err = fmt.Errorf("%w: %s", err, remedyRepair)
	}
	if err != nil {
		return fmt.Errorf("buffer: read memory of uplink %s: %w", q.name, err)
	}
	return nil
}

// Settled is up to where all of a machine is settled. It reads memory only.
func (q *Queue) Settled(m plant.MachineID) plant.Sequence {
	q.b.mu.Lock()
	defer q.b.mu.Unlock()
	s := q.b.streams[m]
	if s == nil {
		return 0
	}
	return q.cursor(s).at.sequence
}

// Put keeps values in the uplink's memory, all of them or none; a nil Value
// deletes its key. It blocks for the fsync and may be called from any goroutine.
// plant.ErrFull and plant.ErrTooBig mean that nothing was changed.
func (q *Queue) Put(ctx context.Context, values []plant.KV) error {
	if err := q.b.usable(ctx); err != nil {
		return err
	}
	r := &request{class: classSettle, done: make(chan error, 1)}
	for _, kv := range values {
		if err := r.memory(q.name, kv); err != nil {
			return fmt.Errorf("buffer: put into memory of uplink %s: %w", q.name, err)
		}
	}
	if err := q.b.submit(r); err != nil {
		return fmt.Errorf("buffer: put into memory of uplink %s: %w", q.name, err)
	}
	return nil
}
