package buffer

import (
	"context"

	"github.com/sluice-edge/sluice/plant"
)

// newestBack is how many events Newest looks back: a machine with a counter that
// works has one among far fewer.
const newestBack = 20_000

// Newest returns the data of the newest stored event of a kind of a machine,
// among its last 20 000; nil if there is none. What is damaged is passed over. It
// blocks on disk reads.
func (b *Buffer) Newest(ctx context.Context, m plant.MachineID, kind plant.EventKind) (data []byte, err error) {
	b.mu.Lock()
	var head, low plant.Sequence
	if s := b.streams[m]; s != nil {
		head, low = s.head.sequence, s.low.sequence
	}
	b.mu.Unlock()
	for back := plant.Sequence(0); back < newestBack && head > low && data == nil; back += pageEntries {
		after := max(low, head-min(head, pageEntries))
		for e, err := range b.Events(ctx, m, after, int(head-after)) {
			if err != nil {
				return nil, err
			}
			if e.Kind == kind && e.Sequence <= head {
				data = e.Data
			}
		}
		head = after
	}
	return data, nil
}
