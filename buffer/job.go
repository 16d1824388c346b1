package buffer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

// ErrNoDeadLetter says that there is no such dead letter, or not any more.
var ErrNoDeadLetter = errors.New("there is no such dead letter")

// Job is work that goes on after a restart, a resend for example. What is in
// Record is its owner's; nil deletes the job.
type Job struct {
	ID     uint64
	Record []byte
	// Put is kept in the memory of Uplink in the same transaction.
	Uplink string
	Put    []plant.KV
	// Taken are events that the receiver of Uplink has taken: those of them that are
	// dead letters are none any more, in the same transaction.
	Taken []plant.EventID
}

// SaveJob makes a job durable, or its deletion. It blocks for the fsync. It may
// be called from any goroutine.
func (b *Buffer) SaveJob(ctx context.Context, j Job) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("buffer: save job %d: %w", j.ID, err) }
	r := &request{class: classSettle, done: make(chan error, 1)}
	if err := r.job(j); err != nil {
		return fail(err)
	}
	if len(j.Taken) > 0 {
		b.deadTurn.Lock()
		defer b.deadTurn.Unlock()
	}
	for _, id := range j.Taken {
		key, is, err := b.deadLetterKey(j.Uplink, id.Machine, id.Sequence)
		if err != nil {
			return fail(err)
		}
		if is {
			r.delete(key)
		}
	}
	if err := b.submit(r); err != nil {
		return fail(err)
	}
	return nil
}

// AreDead returns how many of the events are dead letters of that uplink. It blocks
// on disk reads.
func (b *Buffer) AreDead(ctx context.Context, uplink string, events []plant.EventID) (n uint64, err error) {
	if err := b.usable(ctx); err != nil {
		return 0, err
	}
	for _, id := range events {
		_, is, err := b.deadLetterKey(uplink, id.Machine, id.Sequence)
		if err != nil {
			return 0, fmt.Errorf("buffer: look for dead letter %d of %s for uplink %s: %w", uint64(id.Sequence), id.Machine, uplink, err)
		}
		if is {
			n++
		}
	}
	return n, nil
}

// deadLetterKey returns the key of a dead letter; is says whether there is one. A
// damaged one is there.
func (b *Buffer) deadLetterKey(uplink string, m plant.MachineID, s plant.Sequence) (key []byte, is bool, err error) {
	b.mu.Lock()
	sum := b.side.dead[deadOf{uplink, m}]
	some := sum != nil && sum.count > 0
	b.mu.Unlock()
	if !some || len(uplink) > maxName || len(m) > maxName {
		return nil, false, nil
	}
	key = deadKey(uplink, m, s)
	switch _, err := b.value(key); {
	case errors.Is(err, badger.ErrKeyNotFound):
		return nil, false, nil
	case err != nil && !errors.Is(err, errDamaged):
		return nil, false, err
	}
	return key, true, nil
}

// job adds the record of a job, or its deletion.
func (r *request) job(j Job) error {
	if len(j.Record) > maxEvent {
		return plant.ErrTooBig
	}
	for _, kv := range j.Put {
		if err := r.memory(j.Uplink, kv); err != nil {
			return err
		}
	}
	if j.Record == nil {
		r.delete(jobKey(j.ID))
		return nil
	}
	r.put(jobKey(j.ID), func(dst, key []byte) []byte { return appendOpaque(dst, key, j.Record) })
	return nil
}

// memory adds a value that an uplink keeps, or the deletion of its key.
func (r *request) memory(uplink string, kv plant.KV) error {
	if len(kv.Key) > maxKVKey || len(kv.Value) > maxEvent {
		return fmt.Errorf("keep %.40q: %w", kv.Key, plant.ErrTooBig)
	}
	key := append(uplinkKey(classMemory, uplink), kv.Key...)
	if kv.Value == nil {
		r.delete(key)
		return nil
	}
	r.put(key, func(dst, key []byte) []byte { return appendOpaque(dst, key, kv.Value) })
	r.growSide += int64(r.lastSize())
	return nil
}

// Jobs returns the jobs that are kept, in the order of their IDs. A damaged one
// is yielded as an error beside its ID and does not end the listing; any other
// error does. It blocks on disk reads.
func (b *Buffer) Jobs(ctx context.Context) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		if err := b.usable(ctx); err != nil {
			yield(Job{}, err)
			return
		}
		prefix := appendClass(nil, classJob)
		err := b.pairs(ctx, prefix, func(p pair) error {
			body, err := opaque(append(prefix[:len(prefix):len(prefix)], p.key...), p.value)
			j := Job{Record: body}
			if len(p.key) == 8 {
				j.ID = binary.BigEndian.Uint64(p.key)
			}
			if err != nil {
				err = fmt.Errorf("buffer: read job %d: %w", j.ID, err)
			}
			if !yield(j, err) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(Job{}, fmt.Errorf("buffer: list jobs: %w", err))
		}
	}
}

// RemoveDead removes a dead letter, which was delivered after all or is given
// up, and saves j, if there is one, in the same transaction. It returns
// ErrNoDeadLetter if it is not there any more; j is not saved then. It blocks
// for the fsync.
func (b *Buffer) RemoveDead(ctx context.Context, uplink string, m plant.MachineID, s plant.Sequence, j *Job) error {
	return b.changeDead(ctx, uplink, m, s, j, func(r *request, key, _ []byte) error {
		r.delete(key)
		return nil
	})
}

// RefuseDead notes the receiver's newest words on a dead letter that it refused
// again, and saves j as RemoveDead does.
func (b *Buffer) RefuseDead(ctx context.Context, uplink string, m plant.MachineID, s plant.Sequence, cause error, j *Job) error {
	return b.changeDead(ctx, uplink, m, s, j, func(r *request, key, old []byte) error {
		first, event, err := cutDeadLetter(key, old)
		if err != nil {
			return err
		}
		result := plant.Result{First: first, Last: s, Cause: cause}
		r.put(key, func(dst, key []byte) []byte {
			return appendDeadLetter(dst, key, &result, &stored{record: event}, b.opts.now())
		})
		return nil
	})
}

// changeDead reads a dead letter and commits what change makes of it. Changes
// come one after the other, so that none is counted twice.
func (b *Buffer) changeDead(ctx context.Context, uplink string, m plant.MachineID, s plant.Sequence, j *Job, change func(r *request, key, old []byte) error) error {
	fail := func(err error) error {
		return fmt.Errorf("buffer: change dead letter %d of %s for uplink %s: %w", uint64(s), m, uplink, err)
	}
	if err := b.usable(ctx); err != nil {
		return err
	}
	if uplink == "" || len(uplink) > maxName || m == "" || len(m) > maxName {
		return fail(ErrNoDeadLetter)
	}
	b.deadTurn.Lock()
	defer b.deadTurn.Unlock()
	key := deadKey(uplink, m, s)
	old, err := b.value(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		err = ErrNoDeadLetter
	}
	if err != nil {
		return fail(err)
	}
	r := &request{class: classSettle, done: make(chan error, 1)}
	if err := change(r, key, old); err != nil {
		return fail(err)
	}
	if j != nil {
		if err := r.job(*j); err != nil {
			return fail(err)
		}
	}
	fault.Pass("dead.beforeChange")
	if err := b.submit(r); err != nil {
		return fail(err)
	}
	fault.Pass("dead.afterChange")
	return nil
}

// value reads one value.
func (b *Buffer) value(key []byte) (value []byte, err error) {
	err = b.view(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	return value, err
}
