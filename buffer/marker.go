package buffer

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// markEvery is how long a committed event may wait to be in the mark, before
	// the write itself. What is lost without a trace is therefore at most what was
	// committed within the last second before the damage.
	markEvery = 500 * time.Millisecond
	// markAfter events are in the mark earlier, though not more often than once
	// in markPause.
	markAfter = 1000
	markPause = 100 * time.Millisecond
)

// marker writes the high-water mark. It is one goroutine; Open and Close write
// before it begins and after it ends.
type marker struct {
	wake  chan struct{}
	stop  chan struct{}
	ended chan struct{}

	// The rest but behind, which Buffer.mu guards, belongs to who writes.
	generation uint64
	data       []byte
	// marked is the number of events at the last write.
	marked uint64
	// behind is since when the disk has no room for the mark.
	behind time.Time
}

func (k *marker) init() {
	k.wake, k.stop, k.ended = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
}

// note says that there are events which are not in the mark.
func (k *marker) note() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *marker) end() {
	close(k.stop)
	<-k.ended
}

func (b *Buffer) markLoop() {
	k := &b.marker
	defer close(k.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-b.faulted:
			return
		case <-k.wake:
		}
		for began := time.Now(); ; {
			wait := markPause
			if b.events.Load()-k.marked < markAfter {
				wait = min(wait, time.Until(began.Add(markEvery)))
			} else if time.Since(began) >= markPause {
				wait = 0
			}
			if wait <= 0 {
				break
			}
			timer.Reset(wait)
			select {
			case <-k.stop:
				return
			case <-b.faulted:
				return
			case <-timer.C:
			}
		}
		if err := b.writeMark(false); err != nil {
			b.latch(err)
			return
		}
	}
}

// writeMark makes a mark of what is durable now. A full disk is a state: the
// mark is tried again with the next event, and meanwhile says less than it could.
// Any other error is one of the disk, and fatal as that of a commit.
func (b *Buffer) writeMark(closed bool) error {
	if fault.Enabled("mark.off") {
		return nil
	}
	k := &b.marker
	marked := b.events.Load()
	m := b.snapshotMark(closed)
	m.generation = k.generation + 1
	k.data = pad(m.append(k.data[:0]))
	err := fault.Hit("mark.before")
	if err == nil {
		err = b.opts.writeMark(b.opts.Path, m.generation, k.data)
	}
	if err == nil {
		err = fault.Hit("mark.after")
	}
	full := errors.Is(err, errDiskFull)
	if err != nil && !full {
		return fmt.Errorf("write the high-water mark beside the store: %w", err)
	}
	b.mu.Lock()
	since := k.behind
	switch {
	case full && since.IsZero():
		k.behind = b.opts.now()
	case !full:
		k.behind = time.Time{}
	}
	b.mu.Unlock()
	switch {
	case full && since.IsZero():
		b.log.Error("the disk has no room for the high-water mark: until it has, the loss of the newest records would not be noticed", zap.Error(err))
	case !full && !since.IsZero():
		b.log.Info("the high-water mark is written again", zap.Duration("after", b.opts.now().Sub(since)))
	}
	if full {
		k.note()
		return nil
	}
	k.generation, k.marked = m.generation, marked
	return nil
}

func (b *Buffer) snapshotMark(closed bool) highMark {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := highMark{store: b.id, opening: b.opening, epoch: b.epoch, closed: closed}
	for _, q := range b.queues {
		m.uplinks = append(m.uplinks, q.name)
	}
	for _, s := range b.order {
		if s.head.sequence == 0 {
			continue
		}
		at := markStream{machine: s.machine, last: s.head.sequence}
		for _, q := range b.queues {
			at.settled = append(at.settled, min(q.claim(s), s.head.sequence))
		}
		m.streams = append(m.streams, at)
	}
	return m
}

// judgement is what a comparison of mark and store gives.
type judgement struct {
	// cause and reason are of what the streams lack.
	cause  plant.GapCause
	reason string
	// ever is how far each stream had come.
	ever map[plant.MachineID]plant.Sequence
	// needed is the first event of a stream that an uplink may not have had.
	needed map[plant.MachineID]plant.Sequence
	// emptied are the streams of which the store knows nothing.
	emptied map[plant.MachineID]bool
	// unknown is set if nothing can be said.
	unknown bool
}

// compareMark says what the store lacks of what the mark has seen, and gives the
// store its identity and the number of this opening. An error refuses the store.
func (b *Buffer) compareMark(found *foundMark) (j judgement, err error) {
	j = judgement{
		cause: plant.GapLostTail, reason: "the newest records are gone from the store",
		ever: map[plant.MachineID]plant.Sequence{}, needed: map[plant.MachineID]plant.Sequence{}, emptied: map[plant.MachineID]bool{},
	}
	for _, name := range markFiles {
		if damage := found.faults[name]; damage != nil {
			b.log.Warn("a file of the high-water mark cannot be read: a power cut in the middle of its write leaves that; the other one is taken if it is whole",
				zap.String("file", name), zap.Bool("other_is_whole", found.known), zap.Error(damage))
		}
	}
	b.marker.generation = found.generation
	named := b.id != storeID{}
	switch {
	case !found.known:
		// A store that never had a mark is new, or of a version that made none.
		j.unknown = named
	case named && found.store != b.id:
		return j, fmt.Errorf("the high-water mark in %s and %s is that of another store: put the store back that belongs to it; or, if this store is the right one, move the two files away",
			markFiles[0], markFiles[1])
	case !named:
		// So that a kill before the first new mark changes nothing.
		b.id = found.store
		j.cause, j.reason = plant.GapRestoredCopy, "the store has nothing of what the high-water mark beside it has seen: it was emptied or replaced"
	case found.opening > b.opening:
		j.cause, j.reason = plant.GapRestoredCopy, "the store is an older copy than the one that was used last, or all that was written since its last start is gone"
	}
	b.opening = max(b.opening, found.opening) + 1
	if !found.known && !named {
		_, err = rand.Read(b.id[:])
	}
	for i := range found.streams {
		s := &found.streams[i]
		j.ever[s.machine] = s.last
		j.needed[s.machine] = s.needed()
	}
	return j, err
}

// machines returns those of the mark in a fixed order.
func (j *judgement) machines() []plant.MachineID {
	all := make([]plant.MachineID, 0, len(j.ever))
	for m := range j.ever {
		all = append(all, m)
	}
	slices.Sort(all)
	return all
}
