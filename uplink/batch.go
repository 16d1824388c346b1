package uplink

import (
	"context"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// batch is what one Send gets. first[i] is the oldest event that events[i]
// contains and count[i] how many; both are nil where nothing was merged.
type batch struct {
	events []plant.Event
	first  []plant.Sequence
	count  []int
}

// oldest returns the first event that entry i contains.
func (b *batch) oldest(i int) plant.Sequence {
	if b.first == nil {
		return b.events[i].Sequence
	}
	return b.first[i]
}

// size returns how many stored events entry i contains.
func (b *batch) size(i int) int {
	if b.count == nil {
		return 1
	}
	return b.count[i]
}

// whole reports whether entry i contains every event from its oldest to its
// own, so that the range may be spoken of as one.
func (b *batch) whole(i int) bool {
	return uint64(b.size(i)) == uint64(b.events[i].Sequence-b.oldest(i))+1
}

// read returns the machine's next events, at most limit. With a Merger it
// streams on while later events contain earlier ones, and holds no more than
// limit events at a time, however long the backlog.
func (f *Forwarder) read(run context.Context, m plant.MachineID, limit int) (batch, error) {
	// The end of run stops the merging, not a read under way: its error would
	// not be told from one of the disk.
	disk := context.WithoutCancel(run)
	size := int(f.options.BatchBytes)
	if f.merger == nil {
		events, err := f.queue.Peek(disk, m, 0, limit, size)
		return batch{events: events}, err
	}
	b := batch{first: []plant.Sequence{}, count: []int{}}
	var after, previous plant.Sequence
	bytes := 0
	for after == 0 || run.Err() == nil {
		// A page of the usual size also in a batch of one, since most of a long
		// backlog is merged away.
		page, err := f.queue.Peek(disk, m, after, f.options.BatchEvents, size)
		if err != nil {
			return batch{}, err
		}
		if len(page) == 0 {
			break
		}
		if after == 0 {
			previous = page[0].Previous
		}
		full := false
		for i := range page {
			if full = !b.fold(f.merger, page[i], limit, size, &bytes); full {
				break
			}
			after = page[i].Sequence
		}
		if full {
			break
		}
	}
	for i := range b.events {
		b.events[i].Previous = previous
		previous = b.events[i].Sequence
	}
	return b, nil
}

// fold adds e, into the newest entry of its kind if the Merger says so. It
// returns false, and changes nothing, if e would need room that is not there.
func (b *batch) fold(merger Merger, e plant.Event, limit, maxBytes int, bytes *int) bool {
	for i := len(b.events) - 1; i >= 0; i-- {
		if b.events[i].Kind != e.Kind {
			continue
		}
		merged, ok := merger.Merge(b.events[i], e)
		if !ok {
			break
		}
		*bytes += len(merged.Data) - len(b.events[i].Data)
		first, count := b.first[i], b.count[i]+1
		b.events = append(slices.Delete(b.events, i, i+1), merged)
		b.first = append(slices.Delete(b.first, i, i+1), first)
		b.count = append(slices.Delete(b.count, i, i+1), count)
		return true
	}
	if len(b.events) > 0 && (len(b.events) >= limit || *bytes+len(e.Data) > maxBytes) {
		return false
	}
	*bytes += len(e.Data)
	b.events = append(b.events, e)
	b.first = append(b.first, e.Sequence)
	b.count = append(b.count, 1)
	return true
}
