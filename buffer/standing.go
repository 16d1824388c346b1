package buffer

import (
	"strings"

	"github.com/sluice-edge/sluice/plant"
)

// Standing is how far one uplink is in one machine's stream.
type Standing struct {
	Uplink string
	// Settled is the newest event that the uplink has answered for, or that is not
	// for it.
	Settled plant.Sequence
}

// Standings returns how far each uplink of the config is that carries events of
// that kind of the machine. Readers of the gateway itself are not among them. It
// reads memory only and may be called from any goroutine.
func (b *Buffer) Standings(m plant.MachineID, kind plant.EventKind) (all []Standing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.streams[m]
	if s == nil {
		return nil
	}
	for _, q := range b.queues {
		if q.carries == nil || !q.carries(kind) || q.bars(s) || strings.HasPrefix(q.name, "_") {
			continue
		}
		all = append(all, Standing{Uplink: q.name, Settled: q.cursor(s).at.sequence})
	}
	return all
}
