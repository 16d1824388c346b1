package buffer

import (
	"context"
	"slices"

	"github.com/sluice-edge/sluice/plant"
)

// newestBack is how many events Newest looks back: a machine with a counter that
// works has one among far fewer.
const newestBack = 20_000

// Newest returns the data of the newest stored events of a kind of a machine, at
// most so many and the newest first, among its last 20 000. What is damaged is
// passed over. It blocks on disk reads.
func (b *Buffer) Newest(ctx context.Context, m plant.MachineID, kind plant.EventKind, most int) (data [][]byte, err error) {
	b.mu.Lock()
	var head, low plant.Sequence
	if s := b.streams[m]; s != nil {
		head, low = s.head.sequence, s.low.sequence
	}
	b.mu.Unlock()
	for back := plant.Sequence(0); back < newestBack && head > low && len(data) < most; back += pageEntries {
		after := max(low, head-min(head, pageEntries))
		var page [][]byte
		for e, err := range b.Events(ctx, m, after, int(head-after)) {
			if err != nil {
				return nil, err
			}
			if e.Kind == kind && e.Sequence <= head {
				page = append(page, e.Data)
			}
		}
		slices.Reverse(page)
		data = append(data, page[:min(len(page), most-len(data))]...)
		head = after
	}
	return data, nil
}
