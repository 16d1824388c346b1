package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/durable"
	"github.com/sluice-edge/sluice/plant"
)

// shiftBook keeps what each machine had counted when a shift began, beside the
// store: where the events of a shift have gone since, only that says how many
// pieces were in them. A crash loses the last second of it, which the events that
// are stored then make up for.
type shiftBook struct {
	path   string
	window func(*derive.Model, time.Time) (begin, end time.Time)
	log    *zap.Logger

	// machines does not change; what they have is guarded by mu.
	machines map[plant.MachineID]*bookedShifts
	mu       sync.Mutex
	dirty    bool
}

// bookedShifts are those of one machine.
type bookedShifts struct {
	model *derive.Model
	// end is when the shift of the newest count ends, in nanoseconds since 1970; 0 if
	// there is none. It is read without the lock, and written with it.
	end atomic.Int64
	// begun are the newest shifts, oldest first.
	begun []begunShift
}

// begunShift is what a machine had counted when a shift began in which it counted.
type begunShift struct {
	Begin  time.Time `json:"begin"`
	Pieces int64     `json:"pieces"`
}

// mostShifts is how many of each machine are kept: a week of four a day, and more
// than events are kept for in most plants.
const mostShifts = 60

func newShiftBook(folder string, machines []*derive.Model, window func(*derive.Model, time.Time) (begin, end time.Time), log *zap.Logger) *shiftBook {
	b := &shiftBook{path: filepath.Join(folder, "shifts.json"), window: window, log: log, machines: map[plant.MachineID]*bookedShifts{}}
	for _, m := range machines {
		b.machines[m.Machine()] = &bookedShifts{model: m}
	}
	return b
}

// load reads the book, and from the newest stored count of each machine in which
// shift that was. A book that cannot be read is begun anew.
func (b *shiftBook) load(ctx context.Context, newest func(ctx context.Context, m plant.MachineID, kind plant.EventKind, most int) ([][]byte, error)) error {
	kept := map[plant.MachineID][]begunShift{}
	data, err := os.ReadFile(b.path)
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log.Warn("what the machines had counted at the beginning of their shifts cannot be read; it is written anew", zap.Error(err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, m := range b.machines {
		m.begun = kept[id]
		last, err := newest(ctx, id, plant.KindCounter, 1)
		if err != nil {
			return fmt.Errorf("the newest count of %s: %w", id, err)
		}
		var c plant.Counter
		if len(last) == 1 && json.Unmarshal(last[0], &c) == nil {
			_, end := b.window(m.model, c.To.Add(-1))
			m.end.Store(end.UnixNano())
		}
	}
	return nil
}

// note looks whether a commit has begun a shift of its machine. It costs a
// comparison where it has not.
func (b *shiftBook) note(id plant.MachineID, events []plant.Event) {
	for i := range events {
		if events[i].Kind == plant.KindCounter {
			b.count(id, &events[i])
		}
	}
}

func (b *shiftBook) count(id plant.MachineID, e *plant.Event) {
	m := b.machines[id]
	if m == nil || e.Time.UnixNano() <= m.end.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var c plant.Counter
	if json.Unmarshal(e.Data, &c) != nil || c.To.UnixNano() <= m.end.Load() {
		return
	}
	begin, end := b.window(m.model, c.To.Add(-1))
	all, delta := c.Pieces()
	m.end.Store(end.UnixNano())
	if n := len(m.begun); n > 0 && !m.begun[n-1].Begin.Before(begin) {
		return // it is known, or the clock was set back
	}
	m.begun = append(m.begun, begunShift{Begin: begin.UTC(), Pieces: all - delta})
	m.begun = m.begun[max(0, len(m.begun)-mostShifts):]
	b.dirty = true
}

// at returns what the machine had counted at a moment at which one of its shifts
// began; nil if that is not known.
func (b *shiftBook) at(id plant.MachineID, t time.Time) *int64 {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.machines[id]
	if m == nil {
		return nil
	}
	// Nothing was counted between t and the next shift in which something was.
	i := slices.IndexFunc(m.begun, func(s begunShift) bool { return !s.Begin.Before(t) })
	if i < 0 || i == 0 && !m.begun[0].Begin.Equal(t) {
		return nil
	}
	pieces := m.begun[i].Pieces
	return &pieces
}

// bookEvery is how often the book is written if it has changed.
const bookEvery = time.Second

// Run writes the book until ctx ends, and then once more.
func (b *shiftBook) Run(ctx context.Context) error {
	ticker := time.NewTicker(bookEvery)
	defer ticker.Stop()
	failing := false
	for {
		ended := false
		select {
		case <-ctx.Done():
			ended = true
		case <-ticker.C:
		}
		err := b.save()
		if err != nil && !failing {
			b.log.Warn("what the machines have counted at the beginning of their shifts is not written; it is tried again", zap.Error(err))
		}
		failing = err != nil
		if ended {
			return nil
		}
	}
}

// save writes the book if it has changed.
func (b *shiftBook) save() error {
	b.mu.Lock()
	if !b.dirty {
		b.mu.Unlock()
		return nil
	}
	kept := map[plant.MachineID][]begunShift{}
	for id, m := range b.machines {
		if len(m.begun) > 0 {
			kept[id] = m.begun
		}
	}
	data, err := json.Marshal(kept)
	b.dirty = false
	b.mu.Unlock()
	if err != nil {
		return err
	}
	if err := durable.Replace(b.path, append(data, '\n'), 0o600); err != nil {
		b.mu.Lock()
		b.dirty = true
		b.mu.Unlock()
		return err
	}
	return nil
}

// bookedLog shows the book what is durable.
type bookedLog struct {
	derive.Log
	book *shiftBook
}

// Commit implements derive.Log.
func (l *bookedLog) Commit(ctx context.Context, m plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	first, err := l.Log.Commit(ctx, m, b)
	if err == nil {
		l.book.note(m, b.Events)
	}
	return first, err
}
