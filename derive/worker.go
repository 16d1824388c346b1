package derive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// WorkerOptions tune a Worker. The zero value means the defaults.
type WorkerOptions struct {
	// Mailbox is how many inputs may wait before scans are merged; 0 means 256.
	Mailbox int
	// StopTimeout bounds the last commit; 0 means 5 s.
	StopTimeout time.Duration
	// Clock is the gateway's clock; nil means the operating system's.
	Clock Clock
}

const (
	defaultMailbox     = 256
	defaultStopTimeout = 5 * time.Second
	// idleCommit is how long state may wait in which only the times of the last
	// readings changed: they say how long a gap was after a crash, no more.
	idleCommit = time.Minute
	// fullWait and fullWaitMost bound the time between two tries while the
	// buffer is full.
	fullWait     = 100 * time.Millisecond
	fullWaitMost = 5 * time.Second
)

// Worker runs the rules of one machine: it takes inputs from a bounded mailbox,
// steps through all that wait, and commits what followed in one batch. While a
// commit waits for the disk the mailbox fills, so that a slow disk makes fewer
// and larger commits and never stops a poller.
type Worker struct {
	m       *Model
	log     Log
	writer  Writer
	o       WorkerOptions
	zl      *zap.Logger
	mailbox *mailbox
	submits chan item
	stopped chan struct{}

	// What follows belongs to Run.
	run       run
	work      *State
	out       Output
	spare     []item
	wake      time.Time
	offset    time.Duration
	uncertain bool
	checked   time.Time
	committed time.Time
	// dirty is set while state waits for its commit; moved while only times do.
	dirty, moved bool
	// gap is set while the rules have to hear of a loss that the store has told.
	gap bool
	tap tap

	// mu guards what Stats reads.
	mu      sync.Mutex
	current *State
	stats   Stats
	// troubles are the tags of which a write failed not long ago.
	troubles map[plant.TagRef]*writeTrouble
}

// NewWorker returns a Worker of m that commits to log and writes
// acknowledgements with w, which may be nil if no rule writes.
func NewWorker(m *Model, log Log, w Writer, o WorkerOptions, zl *zap.Logger) *Worker {
	if o.Mailbox <= 0 {
		o.Mailbox = defaultMailbox
	}
	if o.StopTimeout <= 0 {
		o.StopTimeout = defaultStopTimeout
	}
	if o.Clock == nil {
		o.Clock = NewSystemClock()
	}
	return &Worker{
		m: m, log: log, writer: w, o: o, zl: zl.With(zap.String("machine", string(m.machine))),
		mailbox: newMailbox(m, o.Mailbox), submits: make(chan item), stopped: make(chan struct{}),
		run: run{m: m}, work: new(State), current: new(State),
		stats: Stats{Events: make(map[plant.EventKind]uint64)},
	}
}

// Offer hands over what a device said. It never blocks and copies what it
// keeps; scans without a tag of this machine cost next to nothing. It may be
// called from any goroutine, also before and after Run.
func (w *Worker) Offer(in plant.Input) { w.mailbox.offer(in) }

// Submit hands over an input that does not come from a device, and returns when
// what followed from it is durable. It blocks until then; an error means that
// the outcome is not known (ctx ended), that the worker has stopped, or that the
// input makes no sense and was not taken.
func (w *Worker) Submit(ctx context.Context, in plant.Input) error {
	if err := w.m.accepts(in); err != nil {
		return fmt.Errorf("derive: submit to %s: %w", w.m.machine, err)
	}
	done := make(chan error, 1)
	select {
	case w.submits <- item{in: in, done: done}:
	case <-ctx.Done():
		return fmt.Errorf("derive: submit to %s: %w", w.m.machine, ctx.Err())
	case <-w.stopped:
		return fmt.Errorf("derive: submit to %s: %w", w.m.machine, errStopped)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("derive: submit to %s: %w", w.m.machine, ctx.Err())
	case <-w.stopped:
		select {
		case err := <-done:
			return err
		default:
			return fmt.Errorf("derive: submit to %s: %w", w.m.machine, errStopped)
		}
	}
}

var errStopped = errors.New("the machine has stopped")

// Run loads the machine's state and steps through its inputs until ctx ends;
// then it reports what the rules hold, commits, and returns nil. An error is
// fatal: the state cannot be read, or the outcome of a commit is unknown. Run
// may be called once.
func (w *Worker) Run(ctx context.Context) error {
	defer close(w.stopped)
	if err := w.load(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // asked to stop while it was reading: nothing has begun
		}
		return err
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	commits := context.WithoutCancel(ctx)
	for {
		w.arm(timer)
		var items []item
		select {
		case <-ctx.Done():
			return w.stop(ctx)
		case it := <-w.submits:
			items = append(w.mailbox.take(w.spare), it)
		case <-w.mailbox.signal:
			items = w.mailbox.take(w.spare)
		case <-timer.C:
			items = w.mailbox.take(w.spare)
		}
		if now := w.o.Clock.Now(); !w.wake.IsZero() && !now.Before(w.wake) {
			items = append(items, item{in: plant.Tick{At: now}})
		}
		err := w.process(ctx, commits, items)
		answer(items, err)
		w.mailbox.recycle(items)
		w.spare = items[:0]
		if err != nil {
			return w.ended(err)
		}
	}
}

// ended tells the one refusal that ends a Run, a buffer that was still full
// when ctx ended, from what is fatal.
func (w *Worker) ended(err error) error {
	if !errors.Is(err, plant.ErrFull) {
		return err
	}
	w.zl.Warn("stopped while the buffer is full: the pieces not recorded are read again from the device's totals")
	return nil
}

// load reads the state and what it is to be told before the first input.
func (w *Worker) load(ctx context.Context) error {
	var keyed []plant.KV
	state, err := w.log.Load(ctx, w.m.machine, func(kv plant.KV) error {
		keyed = append(keyed, kv)
		return nil
	})
	if err != nil {
		return fmt.Errorf("derive: load state of %s: %w", w.m.machine, err)
	}
	s, refused, err := w.decode(state, keyed)
	if err != nil {
		return err
	}
	gone := state == nil || refused != nil
	if err := w.resume(ctx, &s, gone); err != nil {
		return err
	}
	if lost := slices.ContainsFunc(keyed, func(kv plant.KV) bool { return kv.Key == plant.StoreGapKey }); gone || lost {
		if err := w.recallRecords(ctx, &s); err != nil {
			return err
		}
	}
	s.GoOn()
	now := w.o.Clock.Now()
	w.offset, w.uncertain, w.committed = w.o.Clock.Offset(now), s.gateway.Uncertain, now
	w.mu.Lock()
	*w.current = s
	w.mu.Unlock()
	w.run.s = w.current
	w.wake = w.run.wake()
	w.begin(ctx)
	if refused != nil {
		return w.tell(ctx, refused)
	}
	return nil
}

// arm sets the timer to the next time that something is due.
func (w *Worker) arm(timer *time.Timer) {
	next := w.wake
	sooner := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if w.dirty {
		sooner(w.committed.Add(w.m.commitEvery))
	}
	if w.moved {
		sooner(w.committed.Add(max(idleCommit, w.m.commitEvery)))
	}
	if next.IsZero() {
		timer.Reset(time.Hour)
		return
	}
	timer.Reset(max(next.Sub(w.o.Clock.Now()), 0))
}

// stop steps through what still waits, lets the rules report what they hold,
// and commits within StopTimeout.
func (w *Worker) stop(ctx context.Context) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.o.StopTimeout)
	defer cancel()
	items := append(w.mailbox.take(w.spare), item{in: plant.Stop{At: w.o.Clock.Now()}})
	w.dirty, w.committed = true, time.Time{}
	return w.ended(w.process(ctx, last, items))
}

func answer(items []item, err error) {
	for i := range items {
		if items[i].done != nil {
			items[i].done <- err
		}
	}
}

// process steps through items on a copy of the state and commits what followed,
// or keeps it for a later commit where that may wait.
func (w *Worker) process(ctx, commits context.Context, items []item) error {
	w.work.copyFrom(w.current)
	w.run.reset()
	clear(w.out.Events) // else the data of a large event would live on behind them
	w.tap.look()
	w.out = Output{Events: w.out.Events[:0], Writes: w.out.Writes[:0], Put: w.out.Put[:0], Delete: w.out.Delete[:0], Wake: w.wake}
	changed, waited := w.hearGap(items), false
	for i := range items {
		changed = w.step(&items[i]) || changed
		waited = waited || items[i].done != nil
	}
	o := &w.out
	dirty := w.dirty || changed
	now := w.o.Clock.Now()
	err := w.overgrown(items)
	if errors.Is(err, plant.ErrTooBig) {
		return w.tooBig(ctx, commits, items, err)
	}
	if err != nil {
		return err
	}
	if len(o.Events)+len(o.Writes)+len(o.Put)+len(o.Delete) > 0 || o.Urgent || waited && dirty || w.late(now, dirty) {
		return w.commit(ctx, commits, items, now)
	}
	w.dirty, w.moved = dirty, w.moved || len(items) > 0
	w.keep(ctx, len(items), 0)
	return nil
}

// hearGap tells the rules, before items, of a loss for which the store has refused
// a commit.
func (w *Worker) hearGap(items []item) (changed bool) {
	if !w.gap {
		return false
	}
	at := w.o.Clock.Now()
	if len(items) > 0 {
		at = items[0].when()
	}
	return w.step(&item{in: plant.Gap{At: at, Stored: true}})
}

func (w *Worker) late(now time.Time, dirty bool) bool {
	waited := now.Sub(w.committed)
	return dirty && waited >= w.m.commitEvery || w.moved && waited >= max(idleCommit, w.m.commitEvery)
}

// step makes one step, after what the clock has to say.
func (w *Worker) step(it *item) (changed bool) {
	in := it.in
	changed = w.clock(it.when())
	if in == nil {
		if it.like(w.work.gateway.Large) {
			it.shorten()
		}
		in = &it.scan
	}
	changed = w.run.step(w.work, in, &w.out) || changed
	w.tap.note(in, it.large)
	if it.large.Bytes > 0 || w.work.gateway.Large != nil {
		w.run.large(it)
		changed = true
	}
	return changed
}

// clock tells the rules of a jump of the wall clock before an input that came
// after it, and of a clock that became or ceased to be synchronised.
func (w *Worker) clock(when time.Time) (changed bool) {
	offset := w.o.Clock.Offset(when)
	step := offset - w.offset
	w.offset = offset
	if step.Abs() < clockJump {
		step = 0
	}
	uncertain := w.uncertain
	if step != 0 || when.Sub(w.checked).Abs() >= clockCheck {
		w.checked = when
		uncertain = !w.o.Clock.Synchronised()
	}
	if step == 0 && uncertain == w.uncertain {
		return false
	}
	w.uncertain = uncertain
	in := plant.Clock{At: when, Step: step, Uncertain: uncertain}
	w.tap.note(in, largeInput{})
	return w.run.step(w.work, in, &w.out)
}

// commit makes the work state and its output durable together. While the buffer
// is full it tries again, and the mailbox merges what comes meanwhile.
func (w *Worker) commit(ctx, commits context.Context, items []item, now time.Time) error {
	state, err := w.m.Encode(w.work)
	if err != nil {
		return err
	}
	batch := plant.Batch{State: state, Events: w.out.Events, Put: w.out.Put, Delete: w.out.Delete, Urgent: w.out.Urgent}
	first, err := w.log.Commit(commits, w.m.machine, batch)
	for wait := fullWait; errors.Is(err, plant.ErrFull); wait = min(2*wait, fullWaitMost) {
		w.waiting(true)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("derive: commit %s: %w", w.m.machine, err)
		}
		first, err = w.log.Commit(commits, w.m.machine, batch)
	}
	w.waiting(false)
	if errors.Is(err, plant.ErrGap) && !w.gap {
		// Once more, with the loss: the count carries the rebase then.
		w.gap = true
		return w.process(ctx, commits, items)
	}
	if errors.Is(err, plant.ErrTooBig) {
		return w.tooBig(ctx, commits, items, fmt.Errorf("derive: commit %s: %w", w.m.machine, err))
	}
	if err != nil {
		return fmt.Errorf("derive: commit %s: %w", w.m.machine, err)
	}
	w.dirty, w.moved, w.committed, w.gap = false, false, now, false
	w.keep(ctx, len(items), first)
	w.mu.Lock()
	w.stats.Commits++
	w.mu.Unlock()
	w.write(ctx)
	return nil
}

// keep makes the work state the current one.
func (w *Worker) keep(ctx context.Context, inputs int, first plant.Sequence) {
	w.wake = w.out.Wake
	w.swap(inputs, first)
	w.tap.kept(w.out.Events, first)
	w.begin(ctx)
}

func (w *Worker) swap(inputs int, first plant.Sequence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current, w.work = w.work, w.current
	st := &w.stats
	st.Inputs += uint64(inputs)
	for i := range w.out.Events {
		st.Events[w.out.Events[i].Kind]++
	}
	if n := len(w.out.Events); n > 0 {
		last := &w.out.Events[n-1]
		st.LastEvent, st.LastEventTime = last.Kind, last.Time
		st.LastSequence = first + plant.Sequence(n) - 1
	}
}

// waiting notes whether commits are refused, and logs the edge.
func (w *Worker) waiting(full bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stats.Waiting == full {
		return
	}
	w.stats.Waiting = full
	if full {
		w.stats.WaitingSince = w.o.Clock.Now()
		w.zl.Warn("recording waits: the buffer is full")
		return
	}
	w.zl.Info("recording goes on", zap.Duration("waited", w.o.Clock.Now().Sub(w.stats.WaitingSince)))
	w.stats.WaitingSince = time.Time{}
}

// Stats returns a snapshot. It may be called from any goroutine at any time and
// does not wait for a commit.
func (w *Worker) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := w.stats
	st.Events = make(map[plant.EventKind]uint64, len(w.stats.Events))
	for k, n := range w.stats.Events {
		st.Events[k] = n
	}
	st.Overflows, st.FailedWrites = w.mailbox.lost(), w.failedWrites()
	w.m.Describe(w.current, &st)
	if st.LeftOut > 0 {
		st.Problems = append(st.Problems, Problem{
			Text:   fmt.Sprintf("%d times since the start more came of one reading than the buffer accepts, so it was left out", st.LeftOut),
			Remedy: "Split this machine's rules over two machines, or report this as a fault of Sluice.",
		})
	}
	return st
}
