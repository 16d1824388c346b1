package derive

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

const (
	// writesCalm is for how long no write of a tag may have failed before its next
	// trouble is a new one: a device that refuses now and then is told once.
	writesCalm = 5 * time.Minute
	// writesStuck is how long writes must have failed without one that went well
	// for the tag to count as one that cannot be written.
	writesStuck = 30 * time.Second
	// writesDoubtful is how many failures are more than a disturbance.
	writesDoubtful = 3
)

// FailedWrite is a tag whose writes fail.
type FailedWrite struct {
	Ref plant.TagRef
	// Cause is what the device said of the newest that failed.
	Cause string
	// Since is when the first one failed.
	Since time.Time
	// NowAndThen says that others go well in between.
	NowAndThen bool
	// Heartbeat says that the tag only shows the PLC that the gateway lives; else
	// the PLC waits for what is written there.
	Heartbeat bool
}

// writeTrouble is what is known of a tag since one of its writes failed.
type writeTrouble struct {
	cause string
	// since is when the first one failed, newest when the last one did, run when
	// the first one did behind the last good one; good is when that was, zero for
	// none since the first failure.
	since, newest, run, good time.Time
	failures                 int
}

// over reports whether the trouble has ended: a write went well, and none has
// failed for a while.
func (t *writeTrouble) over(now time.Time) bool {
	return t.good.After(t.newest) && now.Sub(t.newest) >= writesCalm
}

// shown returns what people are told of the trouble; ok is false for nothing.
func (t *writeTrouble) shown(now time.Time) (f FailedWrite, ok bool) {
	f = FailedWrite{Cause: t.cause, Since: t.since}
	failing := !t.good.After(t.newest)
	switch {
	case failing && (t.good.IsZero() || now.Sub(t.run) >= writesStuck):
		return f, true
	case t.failures >= writesDoubtful && !t.over(now) && now.Sub(t.newest) < writesCalm:
		f.NowAndThen = true
		return f, true
	default:
		return f, false
	}
}

// write does the writes of a committed batch, once. A failed one is made again
// by its rule while it sees its trigger unanswered.
func (w *Worker) write(ctx context.Context) {
	if w.writer == nil {
		return
	}
	for _, wr := range w.out.Writes {
		w.written(plant.TagRef{Device: wr.Device, Tag: wr.Tag}, w.writer.Write(ctx, wr))
	}
}

// written notes what became of a write, and logs when the trouble of a tag begins
// and ends. A write for a session that is over says nothing of its tag.
func (w *Worker) written(ref plant.TagRef, err error) {
	now := w.o.Clock.Now()
	fields := []zap.Field{zap.String("device", string(ref.Device)), zap.String("tag", string(ref.Tag))}
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.troubles[ref]
	if err == nil {
		if t == nil {
			return
		}
		if t.good = now; t.over(now) {
			delete(w.troubles, ref)
			w.zl.Info("writing to a device works again", append(fields, zap.Int("failed", t.failures))...)
		}
		return
	}
	w.stats.WritesFailed++
	if errors.Is(err, plant.ErrNoSession) {
		return
	}
	if t == nil {
		if w.troubles == nil {
			w.troubles = make(map[plant.TagRef]*writeTrouble)
		}
		t = &writeTrouble{since: now, run: now}
		w.troubles[ref] = t
		w.zl.Warn("writing to a device fails: the next line about this tag follows when no write has failed for a while", append(fields, zap.Error(err))...)
	}
	if t.good.After(t.newest) {
		t.run = now
		if now.Sub(t.newest) >= writesCalm {
			t.since, t.good, t.failures = now, time.Time{}, 0
		}
	}
	t.cause, t.newest = err.Error(), now
	t.failures++
}

// failedWrites returns the tags whose writes fail, by their names; mu is held.
func (w *Worker) failedWrites() (fs []FailedWrite) {
	now := w.o.Clock.Now()
	for ref, t := range w.troubles {
		f, ok := t.shown(now)
		if !ok {
			continue
		}
		f.Ref, f.Heartbeat = ref, w.m.heartbeat != nil && w.m.heartbeat.input.Ref == ref
		fs = append(fs, f)
	}
	slices.SortFunc(fs, func(a, b FailedWrite) int {
		return cmp.Or(cmp.Compare(a.Ref.Device, b.Ref.Device), cmp.Compare(a.Ref.Tag, b.Ref.Tag))
	})
	return fs
}
