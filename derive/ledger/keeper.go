package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// Name is the ledger's name among the readers of the store. No uplink may have
// it.
const Name = "_ledger"

// Store is the ledger's view of all machines: a cursor in each stream, and rows
// that are kept together with it. The buffer's Queue implements it.
type Store interface {
	Cursor
	Shelf
}

// Cursor is how far each machine is booked. The buffer's Queue implements it.
type Cursor interface {
	// Next blocks until a machine has events that are not booked; the machine is
	// the caller's until its Settle.
	Next(ctx context.Context) (plant.MachineID, error)
	Peek(ctx context.Context, m plant.MachineID, after plant.Sequence, maxEvents, maxBytes int) ([]plant.Event, error)
	// Settle moves the cursor and keeps what the results Put in one transaction;
	// a KV without a value deletes the key.
	Settle(ctx context.Context, m plant.MachineID, upTo plant.Sequence, results []plant.Result) error
	// Settled is up to where all of a machine is settled.
	Settled(m plant.MachineID) plant.Sequence
}

// Shelf is where the rows are. The buffer's Queue implements it.
type Shelf interface {
	// Memory returns the value of a key, nil for none. plant.ErrUnreadable is of one
	// that is damaged.
	Memory(key string) ([]byte, error)
	// Each calls do for every key that begins with prefix, in order, until do
	// returns false. A damaged value ends it with plant.ErrUnreadable.
	Each(ctx context.Context, prefix string, do func(plant.KV) bool) error
	// Keys does so without the values, and over damaged ones.
	Keys(ctx context.Context, prefix string, do func(key string) bool) error
	// Put keeps rows, all or none; a KV without a value deletes its key.
	Put(ctx context.Context, values []plant.KV) error
}

// Options are the bounds of the books.
type Options struct {
	// Days is how many days of consumption are kept; 0 means 400.
	Days uint64
}

const defaultDays = 400

// Bounds of one transaction: what is read at once, and what is dropped of days
// that are no longer kept.
const (
	batchEvents = 64
	batchBytes  = 256 << 10
	batchDrop   = 256
)

// retryAfter is how long the keeper waits while the disk is full or a row
// cannot be read.
const retryAfter = 5 * time.Second

// Keeper books what is recorded. Make one with NewKeeper and Run it.
type Keeper struct {
	store Store
	days  uint64
	log   *zap.Logger

	// turn is held while rows are read and written.
	turn sync.Mutex

	mu      sync.Mutex
	failing map[plant.MachineID]string
	since   time.Time
}

// NewKeeper returns a Keeper. It does no I/O.
func NewKeeper(s Store, o Options, log *zap.Logger) *Keeper {
	if o.Days == 0 {
		o.Days = defaultDays
	}
	return &Keeper{store: s, days: o.Days, log: log, failing: map[plant.MachineID]string{}}
}

// Run books events until ctx ends. It returns nil then, and the store's fault if
// it has one; rows that cannot be read hold up their machine only and are shown
// by Problem.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		m, err := k.store.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		if err := k.book(ctx, m); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("ledger: machine %s: %w", m, err)
		}
	}
}

// book books what a machine has, as far as one transaction goes.
func (k *Keeper) book(ctx context.Context, m plant.MachineID) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	events, err := k.store.Peek(ctx, m, 0, batchEvents, batchBytes)
	if err != nil || len(events) == 0 {
		return errors.Join(err, k.store.Settle(ctx, m, 0, nil))
	}
	b, err := k.open(ctx, m)
	for i := range events {
		if err == nil {
			err = b.add(&events[i])
		}
	}
	if err == nil {
		err = k.drop(ctx, b)
	}
	if err != nil {
		return k.hold(ctx, m, err)
	}
	k.note(m, nil)
	last := events[len(events)-1].Sequence
	return k.settle(ctx, m, last, plant.Result{First: events[0].Sequence, Last: last, Status: plant.Delivered, Put: b.puts()})
}

// open reads the head of a machine's books. Where it is gone and rows are there, to
// begin anew would book over them.
func (k *Keeper) open(ctx context.Context, m plant.MachineID) (*book, error) {
	b, err := open(m, k.store.Memory)
	if err != nil || b.head.Day > 0 {
		return b, err
	}
	rows := false
	for _, row := range []byte{rowDay, rowStock} {
		if err := k.store.Keys(ctx, string(prefix(row, m)), func(string) bool { rows = true; return false }); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
	}
	if rows {
		return nil, fmt.Errorf("%w of machine %s: its first one is gone", errRow, m)
	}
	return b, nil
}

// hold gives back a machine whose rows cannot be read, for later.
func (k *Keeper) hold(ctx context.Context, m plant.MachineID, err error) error {
	if !errors.Is(err, errRow) {
		return err
	}
	k.note(m, err)
	// Whoever asks or checks the books need not wait with it.
	k.turn.Unlock()
	wait(ctx, retryAfter)
	k.turn.Lock()
	return k.store.Settle(ctx, m, 0, nil)
}

// settle commits; while the disk is full it tries again.
func (k *Keeper) settle(ctx context.Context, m plant.MachineID, last plant.Sequence, r plant.Result) error {
	for {
		err := k.store.Settle(ctx, m, last, []plant.Result{r})
		if !errors.Is(err, plant.ErrFull) {
			return err
		}
		if wait(ctx, retryAfter); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// drop deletes rows of days that are no longer kept, some at a time.
func (k *Keeper) drop(ctx context.Context, b *book) error {
	if b.head.Day <= k.days || b.head.Kept > b.head.Day-k.days {
		return nil
	}
	dropped := 0
	for _, row := range []byte{rowOpening, rowUse, rowDay} {
		err := k.store.Each(ctx, string(dayKey(row, b.machine, b.head.Kept)), func(kv plant.KV) bool {
			b.changed[kv.Key] = nil
			dropped++
			return dropped < batchDrop
		})
		if err != nil {
			return err
		}
		if dropped == batchDrop {
			return nil
		}
	}
	b.head.Kept++
	b.put(string(prefix(rowHead, b.machine)), &b.head)
	return nil
}

// note keeps what is wrong with a machine's books, nil for nothing. The edge is
// logged, not the repeats.
func (k *Keeper) note(m plant.MachineID, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.failing[m]
	if err == nil {
		if before != "" {
			delete(k.failing, m)
			k.log.Info("the books of a machine can be read again", zap.String("machine", string(m)))
		}
		return
	}
	if before == "" {
		k.log.Error("the books of a machine cannot be read and wait", zap.String("machine", string(m)), zap.Error(err))
		if len(k.failing) == 0 {
			k.since = time.Now()
		}
	}
	k.failing[m] = err.Error()
}

// Problem says in words what is wrong with the books, and since when; empty for
// nothing. It may be called from any goroutine.
func (k *Keeper) Problem() (text string, since time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for m, why := range k.failing {
		all = append(all, string(m)+": "+why)
	}
	return strings.Join(all, "; "), k.since
}
