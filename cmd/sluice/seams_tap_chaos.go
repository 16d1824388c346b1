//go:build chaos

package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"sync"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

// acceptTap is the pipe on fd 3 that the torture rig holds the other end of:
// what was written survives the kill. The gateway's machines share it.
var acceptTap = sync.OnceValue(func() *tap { return &tap{file: os.NewFile(3, "accept tap")} })

type tap struct {
	mu   sync.Mutex
	file *os.File
	line []byte
}

// accepted writes one line an event: epoch, sequence, kind, CRC-32 of the data,
// machine. It is called after the commit and before anybody is told.
func (t *tap) accepted(epoch plant.Epoch, m plant.MachineID, first plant.Sequence, events []plant.Event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line = t.line[:0]
	for i := range events {
		e := &events[i]
		t.line = fmt.Appendf(t.line, "%s\t%d\t%s\t%08x\t%s\n", epoch, first+plant.Sequence(i), e.Kind, crc32.ChecksumIEEE(e.Data), m)
	}
	_, err := t.file.Write(t.line)
	return err
}

type tapLog struct {
	derive.Log
	tap   *tap
	epoch plant.Epoch
}

// Commit implements derive.Log.
func (l *tapLog) Commit(ctx context.Context, m plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	first, err := l.Log.Commit(ctx, m, b)
	if err != nil || len(b.Events) == 0 {
		return first, err
	}
	if err := l.tap.accepted(l.epoch, m, first, b.Events); err != nil {
		return first, fmt.Errorf("accept tap: %w", err)
	}
	fault.Pass("batch.afterTap")
	return first, nil
}
