package buffer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

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
// order of their sequence. One that is damaged on disk is yielded as an error
// and does not end the listing; any other error does. It blocks on disk reads.
func (b *Buffer) DeadLetters(ctx context.Context, uplink string) iter.Seq2[DeadLetter, error] {
	return b.deadLetters(ctx, uplink, uplinkKey(classDead, uplink), nil)
}

// DeadLettersOf returns the refused events of one machine behind that sequence,
// as DeadLetters does. Of a damaged one Uplink, Event.Machine and
// Event.Sequence are set.
func (b *Buffer) DeadLettersOf(ctx context.Context, uplink string, m plant.MachineID, after plant.Sequence) iter.Seq2[DeadLetter, error] {
	return b.deadLetters(ctx, uplink, appendName(uplinkKey(classDead, uplink), string(m)), appendSequence(nil, after))
}

func (b *Buffer) deadLetters(ctx context.Context, uplink string, prefix, after []byte) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		if err := b.usable(ctx); err != nil {
			yield(DeadLetter{}, err)
			return
		}
		all := len(uplinkKey(classDead, uplink))
		err := b.pairsAfter(ctx, prefix, after, func(p pair) error {
			key := append(prefix[:len(prefix):len(prefix)], p.key...)
			name, _, _ := cutName(key[all:])
			m := plant.MachineID(name)
			d, err := b.decodeDeadLetter(uplink, m, key, p.value)
			if err != nil {
				d = DeadLetter{Uplink: uplink, Event: plant.Event{Machine: m, Sequence: sequenceOf(p.key)}}
				err = fmt.Errorf("buffer: read dead letter %d of %s for uplink %s: %w", uint64(sequenceOf(p.key)), m, uplink, err)
			}
			if !yield(d, err) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(DeadLetter{}, fmt.Errorf("buffer: list dead letters of uplink %s: %w", uplink, err))
		}
	}
}
