package buffer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

const (
	// scrubEvery is how often all that is stored is read, so that rot is found
	// before somebody needs what has rotted.
	scrubEvery = 24 * time.Hour
	// scrubEvents and scrubBytes bound what one round of the housework, each
	// second, reads for that: 2 GiB take about two and a half hours.
	scrubEvents = 1024
	scrubBytes  = 256 << 10
)

// sideClasses are the classes of records that are not read at every opening.
var sideClasses = []class{classKV, classMemory, classDead, classTaken}

// scrubber is how far the reading of all has come. It belongs to the keeper.
type scrubber struct {
	// began is when the pass began; done is set when it is over.
	began time.Time
	done  bool
	// stream and after are where it stands among the events, side and key where
	// among the other records.
	stream int
	after  plant.Sequence
	side   int
	key    []byte
	// dead are whose dead letters are counted next, behind the other records; counted
	// is set once it is known whose there are.
	dead    []deadOf
	counted bool
	// events is what the pass has read, for the log.
	events uint64
	// told are the other records that were found damaged, by their keys.
	told map[string]bool
}

// scrub reads the next part of all that is stored, from the disk. What is
// damaged is quarantined, told and counted by the reading itself.
func (b *Buffer) scrub(ctx context.Context) error {
	k := &b.keeper.scrubber
	now := time.Now()
	if k.done && now.Sub(k.began) < b.opts.scrubEvery {
		return nil
	}
	if k.done || k.began.IsZero() {
		*k = scrubber{began: now, told: k.told}
	}
	b.mu.Lock()
	var s *stream
	var low, head plant.Sequence
	if k.stream < len(b.order) {
		s = b.order[k.stream]
		low, head = s.low.sequence, s.head.sequence
	}
	b.mu.Unlock()
	if s == nil {
		return b.scrubSide(ctx)
	}
	k.after = max(k.after, low)
	upTo := min(head, k.after+scrubEvents)
	size, last := 0, k.after
	complete, err := b.scanDisk(ctx, s, k.after, upTo, func(r *stored) bool {
		size += r.size
		last = r.sequence
		k.events++
		return size < scrubBytes
	})
	if err != nil {
		return err
	}
	if complete {
		last = upTo
	}
	if k.after = last; k.after >= head {
		k.stream, k.after = k.stream+1, 0
	}
	return b.tell(ctx, s)
}

// scrubSide reads a page of the records that are no events.
func (b *Buffer) scrubSide(ctx context.Context) error {
	k := &b.keeper.scrubber
	if k.side >= len(sideClasses) {
		if more, err := b.scrubDead(ctx); more || err != nil {
			return err
		}
		k.done = true
		b.log.Debug("all that is stored was read", zap.Uint64("events", k.events), zap.Duration("took", time.Since(k.began)))
		return nil
	}
	prefix := appendClass(nil, sideClasses[k.side])
	page, err := b.pairPage(ctx, prefix, k.key)
	if err != nil {
		return err
	}
	for _, p := range page {
		key := append(prefix[:len(prefix):len(prefix)], p.key...)
		if _, err := opaque(key, p.value); errors.Is(err, errDamaged) && !k.told[string(key)] {
			if k.told == nil {
				k.told = map[string]bool{}
			}
			if len(k.told) < maxRanges {
				k.told[string(key)] = true
			}
			b.damagedRecord("", sideNames[sideClasses[k.side]], key, p.value, err)
		}
	}
	if len(page) > 0 {
		k.key = page[len(page)-1].key
		return nil
	}
	k.side, k.key = k.side+1, nil
	return nil
}

// scrubDead counts the dead letters of one machine at one uplink, and has those told
// that are gone: a block that a merge has dropped leaves nothing to stumble over. It
// reports whether there are more to count.
func (b *Buffer) scrubDead(ctx context.Context) (more bool, err error) {
	k := &b.keeper.scrubber
	if !k.counted {
		b.mu.Lock()
		k.dead, k.counted = slices.Collect(maps.Keys(b.side.dead)), true
		b.mu.Unlock()
	}
	if len(k.dead) == 0 {
		return false, nil
	}
	of := k.dead[0]
	b.deadTurn.Lock()
	defer b.deadTurn.Unlock()
	list, err := b.listDead(ctx, of, 0)
	if err != nil {
		return false, err
	}
	b.mu.Lock()
	gone := false
	if sum := b.side.dead[of]; sum != nil {
		gone = uint64(len(list.numbers)) < sum.count || list.damage != nil && !sum.audited
	}
	b.mu.Unlock()
	if gone {
		if err := b.auditDead(ctx, of); err != nil {
			return false, err
		}
	}
	k.dead = k.dead[1:]
	return len(k.dead) > 0, nil
}

// sideNames are the classes in words.
var sideNames = map[class]string{
	classKV: "a kept value of a machine", classMemory: "a value that an uplink keeps", classDead: "a dead letter",
	classTaken: "which parameters of a machine were evicted",
}
