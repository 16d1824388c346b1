package buffer

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// Letter returns the event of one of the uplink's dead letters, for another
// attempt; ok is false if there is none any more. A damaged one is
// plant.ErrUnreadable. It blocks on a disk read and may be called from any
// goroutine.
func (q *Queue) Letter(ctx context.Context, m plant.MachineID, s plant.Sequence) (e plant.Event, ok bool, err error) {
	if err := q.b.usable(ctx); err != nil {
		return plant.Event{}, false, err
	}
	key := deadKey(q.name, m, s)
	value, err := q.b.value(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return plant.Event{}, false, nil
	}
	var letter DeadLetter
	if err == nil {
		letter, err = q.b.decodeDeadLetter(q.name, m, key, value)
	}
	if errors.Is(err, errDamaged) {
		err = fmt.Errorf("%w: %w", plant.ErrUnreadable, err)
	}
	if err != nil {
		return plant.Event{}, false, fmt.Errorf("buffer: read dead letter %d of %s for uplink %s: %w", uint64(s), m, q.name, err)
	}
	return letter.Event, true, nil
}

// AnswerLetter keeps what a receiver has said of a dead letter that was sent once
// more, and what the result Put, in one transaction: a Delivered or Skipped one is
// removed, a Rejected one gets the newest words, any other stays as it is. Where there is
// no such dead letter any more only what is Put is kept. It blocks for the fsync
// and may be called from any goroutine; plant.ErrFull means that nothing was
// changed.
func (q *Queue) AnswerLetter(ctx context.Context, m plant.MachineID, s plant.Sequence, result plant.Result) error {
	err := q.b.changeDead(ctx, q.name, m, s, nil, func(r *request, key, old []byte) error {
		for _, kv := range result.Put {
			if err := r.memory(q.name, kv); err != nil {
				return err
			}
		}
		switch result.Status {
		case plant.Delivered, plant.Skipped:
			r.delete(key)
		case plant.Rejected:
			first, event, err := cutDeadLetter(key, old)
			if err != nil {
				return err
			}
			r.put(key, func(dst, key []byte) []byte {
				again := plant.Result{First: first, Last: s, Cause: result.Cause}
				return appendDeadLetter(dst, key, &again, &stored{record: event}, q.b.opts.now())
			})
		}
		return nil
	})
	if errors.Is(err, ErrNoDeadLetter) {
		if len(result.Put) == 0 {
			return nil
		}
		return q.Put(ctx, result.Put)
	}
	return err
}
