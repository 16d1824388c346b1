package uplink

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/backoff"
	"github.com/sluice-edge/sluice/plant"
)

// settlement is what came of a Send and has to be noted in the Queue.
type settlement struct {
	machine plant.MachineID
	upTo    plant.Sequence
	results []plant.Result
	// then runs once it is noted; nil for nothing.
	then func() error
}

// fullText is what people read while a Queue has no room.
const fullText = "the disk is full: what the receiver has answered cannot be noted, so nothing more of this machine is sent; it goes on by itself when there is room"

// settle moves the cursor and ends the lease. It is not cut short by the end of
// run, since its outcome must be known. A Queue without room is a state: the
// machine keeps its lease, and its answer is noted when there is room, aside, so
// that the other machines go on. Nothing is sent again meanwhile.
func (f *Forwarder) settle(run context.Context, s settlement) error {
	full, err := f.trySettle(run, &s)
	if err == nil && full {
		f.aside(func() error { return f.settleLater(run, &s) })
	}
	return err
}

// trySettle reports whether the Queue has no room.
func (f *Forwarder) trySettle(run context.Context, s *settlement) (full bool, err error) {
	err = f.queue.Settle(context.WithoutCancel(run), s.machine, s.upTo, s.results)
	if errors.Is(err, plant.ErrFull) {
		return true, nil
	}
	if err != nil {
		return false, f.fatal("settle events of "+string(s.machine), err)
	}
	if s.then != nil {
		return false, s.then()
	}
	return false, nil
}

// settleLater tries again until there is room or run ends. What is not noted
// then is sent again after the next start, under the same ids.
func (f *Forwarder) settleLater(run context.Context, s *settlement) error {
	st := f.machine(s.machine)
	wait := backoff.Backoff{Min: f.options.BackoffMin.Std(), Max: f.options.BackoffMax.Std()}
	f.log.Error("the disk is full: what the receiver has answered cannot be noted; it is tried again", zap.String("machine", string(s.machine)))
	began := time.Now()
	for {
		pause := wait.Next()
		f.noRoom(st, began, time.Now().Add(pause))
		timer := time.NewTimer(pause)
		select {
		case <-run.Done():
		case <-timer.C:
		}
		timer.Stop()
		full, err := f.trySettle(run, s)
		if err != nil {
			return err
		}
		if !full {
			f.noRoom(st, time.Time{}, time.Time{})
			f.log.Info("what the receiver has answered is noted", zap.String("machine", string(s.machine)), zap.Duration("after", time.Since(began).Round(time.Millisecond)))
			return nil
		}
		if run.Err() != nil {
			f.log.Warn("the gateway stops while the disk is full: what the receiver has answered last is sent again after the next start, under the same ids",
				zap.String("machine", string(s.machine)))
			return nil
		}
	}
}

// noRoom notes since when an answer waits for room, zero for not any more.
func (f *Forwarder) noRoom(st *machine, since, next time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st.fullSince, st.fullNext = since, next
}
