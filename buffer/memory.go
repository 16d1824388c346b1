package buffer

import (
	"context"
	"errors"
	"fmt"

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
			return fmt.Errorf("memory %q: %w", key[len(full)-len(prefix):], err)
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
