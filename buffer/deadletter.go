package buffer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

// DeadLetter is an event that a receiver has refused for good.
type DeadLetter struct {
	Uplink string
	// Event is the refused event; where several were merged into one call, the
	// last of them, and First is the first.
	Event plant.Event
	First plant.Sequence
	// Cause holds the receiver's words, Refused when it said so.
	Cause   string
	Refused time.Time
}

func appendUvarints(dst []byte, values ...uint64) []byte {
	for _, v := range values {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

// appendDeadLetter writes an event beside why it is here. The event's fields
// stand in the record of an event, under its own envelope.
func appendDeadLetter(dst, key []byte, result *plant.Result, e *stored, now time.Time) []byte {
	at := len(dst)
	dst = appendTime(appendEnvelope(dst), now)
	dst = appendUvarints(dst, uint64(result.First))
	cause := ""
	if result.Cause != nil {
		cause = result.Cause.Error()
		cause = cause[:min(len(cause), maxCause)]
	}
	dst = appendUvarints(dst, uint64(len(cause)))
	dst = append(dst, cause...)
	dst = appendUvarints(dst, uint64(len(e.record)))
	dst = append(dst, e.record...)
	seal(dst, at, key, envelopeSize)
	return dst
}

// cutDeadLetter returns the first event that a dead letter stands for, and the
// record of the refused one as it was stored.
func cutDeadLetter(key, record []byte) (first plant.Sequence, event []byte, err error) {
	body, err := opaque(key, record)
	if err != nil {
		return 0, nil, err
	}
	f := fields{rest: body}
	f.uint64()
	first = plant.Sequence(f.uvarint())
	f.bytes()
	event = f.bytes()
	return first, event, f.err("dead letter")
}

func (b *Buffer) decodeDeadLetter(uplink string, m plant.MachineID, key, record []byte) (DeadLetter, error) {
	body, err := opaque(key, record)
	if err != nil {
		return DeadLetter{}, err
	}
	f := fields{rest: body}
	d := DeadLetter{Uplink: uplink, Refused: timeOf(int64(f.uint64())), First: plant.Sequence(f.uvarint()), Cause: string(f.bytes())}
	inner := f.bytes()
	if err := f.err("dead letter"); err != nil {
		return DeadLetter{}, err
	}
	var e stored
	if err := decodeEvent(eventKey(m, sequenceOf(key)), inner, &e); err != nil {
		return DeadLetter{}, err
	}
	d.Event = b.event(m, b.sourceOf(e.epoch, m), &e, plant.EventKind(e.kind), append([]byte{}, e.data...))
	return d, nil
}

// DeadLetters returns the refused events of an uplink, by machine and in the
// order of their sequence. One that is damaged on disk, or a row of them that
// cannot be read together, is yielded as an error and does not end the listing;
// any other error does. It blocks on disk reads.
func (b *Buffer) DeadLetters(ctx context.Context, uplink string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for _, of := range b.deadOfUplink(uplink) {
			if !b.eachDeadLetter(ctx, of, 0, yield) {
				return
			}
		}
	}
}

// DeadLettersOf returns the refused events of one machine behind that sequence,
// as DeadLetters does. Of a damaged one Uplink, Event.Machine and
// Event.Sequence are set; of a row of them these are of the last, and First is
// set.
func (b *Buffer) DeadLettersOf(ctx context.Context, uplink string, m plant.MachineID, after plant.Sequence) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		if after < math.MaxUint64 {
			b.eachDeadLetter(ctx, deadOf{uplink, m}, after+1, yield)
		}
	}
}

// deadOfUplink returns whose dead letters there are, in the order of their keys.
func (b *Buffer) deadOfUplink(uplink string) (all []deadOf) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for of := range b.side.dead {
		if of.uplink == uplink {
			all = append(all, of)
		}
	}
	slices.SortFunc(all, func(a, b deadOf) int { return bytes.Compare(a.prefix(), b.prefix()) })
	return all
}

// eachDeadLetter yields the dead letters from that sequence on, and returns false
// where the listing ends with it.
func (b *Buffer) eachDeadLetter(ctx context.Context, of deadOf, from plant.Sequence, yield func(DeadLetter, error) bool) (more bool) {
	if err := b.usable(ctx); err != nil {
		return yield(DeadLetter{}, err) && false
	}
	fail := func(err error) bool {
		return yield(DeadLetter{}, fmt.Errorf("buffer: list dead letters of uplink %s: %w", of.uplink, err)) && false
	}
	list, err := b.listDead(ctx, of, from)
	if err != nil {
		return fail(err)
	}
	told := list.damage == nil
	unread := func() bool {
		told = true
		d := DeadLetter{Uplink: of.uplink, First: list.first, Event: plant.Event{Machine: of.machine, Sequence: list.last}}
		return yield(d, fmt.Errorf("buffer: read dead letters %d to %d of %s for uplink %s: %w", uint64(list.first), uint64(list.last), of.machine, of.uplink, list.damage))
	}
	for _, n := range list.numbers {
		if !told && n > list.last && !unread() {
			return false
		}
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		key := deadKey(of.uplink, of.machine, n)
		value, err := b.value(key)
		switch {
		case errors.Is(err, badger.ErrKeyNotFound):
			continue // removed meanwhile
		case errors.Is(err, errDamaged):
			value = nil
		case err != nil:
			return fail(err)
		}
		if !yield(b.deadLetter(of, key, value)) {
			return false
		}
	}
	return told || unread()
}

func (b *Buffer) deadLetter(of deadOf, key, value []byte) (DeadLetter, error) {
	d, err := b.decodeDeadLetter(of.uplink, of.machine, key, value)
	if err != nil {
		at := sequenceOf(key)
		d = DeadLetter{Uplink: of.uplink, Event: plant.Event{Machine: of.machine, Sequence: at}}
		err = fmt.Errorf("buffer: read dead letter %d of %s for uplink %s: %w", uint64(at), of.machine, of.uplink, err)
	}
	return d, err
}
