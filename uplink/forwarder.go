package uplink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/backoff"
	"github.com/sluice-edge/sluice/internal/fault"
	"github.com/sluice-edge/sluice/plant"
)

// Forwarder runs one Sender over one Queue: events of a machine in order,
// machines independent of each other, failures backed off, refusals put aside
// with the receiver's words. Not advancing the cursor is its only retry.
type Forwarder struct {
	name   string
	queue  Queue
	sender Sender
	merger Merger
	// watermarker and reconciler are nil where the receiver cannot be asked.
	watermarker Watermarker
	reconciler  Reconciler
	// shelf is nil where nothing can be set aside; put says that a key was put.
	shelf Shelf
	// turns is nil where the Queue does not say which machines have a backlog.
	turns Turns
	put   chan struct{}
	// silent counts the machines of which the receiver does not say what it had
	// last.
	silent  atomic.Int64
	options Options
	log     *zap.Logger
	link    *link
	// journal is nil where nothing is noted.
	journal *Journal
	// aside runs work beside the workers; Run sets it and waits for all of it.
	aside func(work func() error)

	mu       sync.Mutex
	stats    Stats
	passed   passed
	machines map[plant.MachineID]*machine
	// waiters are the machines with a Held event, under the key they wait for.
	waiters map[string][]*machine
	// source gives the jitter of one back-off; nil is the process's own.
	source func(name string) *rand.Rand
}

// NewForwarder returns a Forwarder of the uplink of that name. It does nothing
// before Run. o must be valid; start from DefaultOptions.
func NewForwarder(name string, q Queue, s Sender, o Options, log *zap.Logger) *Forwarder {
	log = log.With(zap.String("uplink", name))
	f := &Forwarder{
		name: name, queue: q, sender: s, options: o, log: log,
		link:     newLink(name, o, log),
		stats:    Stats{Uplink: name},
		machines: map[plant.MachineID]*machine{},
		passed:   passed{},
		waiters:  map[string][]*machine{},
		put:      make(chan struct{}, 1),
		source:   func(string) *rand.Rand { return nil },
	}
	f.merger, _ = s.(Merger)
	f.watermarker, _ = s.(Watermarker)
	f.reconciler, _ = q.(Reconciler)
	f.shelf, _ = q.(Shelf)
	f.turns, _ = q.(Turns)
	return f
}

// Repeat makes all jitter come from seed, so that a simulation can be repeated:
// the same seed, the same answers and the same clock give the same run. It is
// called before Run.
func (f *Forwarder) Repeat(seed uint64) {
	f.source = func(name string) *rand.Rand { return backoff.Seeded(seed, name) }
	f.link.repeat(f.source(""))
}

// Run forwards until ctx ends; it is called once. The Sends then under way may
// end within StopTimeout and are settled; Run closes the Sender and returns nil,
// at most half a second after StopTimeout if the disk is not slow. An error is the Queue's, and fatal to the process: nobody knows then
// what is settled.
func (f *Forwarder) Run(ctx context.Context) error {
	run, stop := context.WithCancel(ctx)
	defer stop()
	// sends outlives run by StopTimeout.
	sends, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()

	leases := newLeases()
	var workers sync.WaitGroup
	var first sync.Once
	var fatal error
	start := func(work func() error) {
		workers.Go(func() {
			if err := work(); err != nil {
				first.Do(func() { fatal = err })
				stop()
			}
		})
	}
	f.aside = start
	f.loadShelf(run)
	f.loadHolds(run)
	start(func() error { return f.tendShelf(run, sends) })
	start(func() error { f.beside(run); return nil })
	for _, lease := range f.leasing(leases) {
		start(func() error { return lease(run) })
	}
	for i := range f.options.Concurrent {
		start(func() error { return f.work(run, sends, f.picker(leases, i)) })
	}
	<-run.Done()
	end := time.Now().Add(f.options.StopTimeout.Std() + closeGrace)
	deadline := time.AfterFunc(f.options.StopTimeout.Std(), abandon)
	workers.Wait()
	deadline.Stop()
	f.close(time.Until(end))
	return fatal
}

// closeGrace is what closing the Sender gets at least.
const closeGrace = 400 * time.Millisecond

// close closes the Sender and waits for it, but not longer than limit: a
// farewell to a receiver that does not read must not use up the time of those
// who stop after the uplinks.
func (f *Forwarder) close(limit time.Duration) {
	closed := make(chan error, 1)
	go func() { closed <- f.sender.Close() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-closed:
		if err != nil {
			f.log.Warn("uplink closed with an error", zap.Error(err))
		}
	case <-timer.C:
		f.log.Warn("uplink not closed in time, its connection is dropped")
	}
}

func (f *Forwarder) fatal(verb string, err error) error {
	return fmt.Errorf("uplink %s: %s: %w", f.name, verb, err)
}

// enter blocks until a Send for the machine may be made: a Sender has one call a
// machine at a time, which a Resend or the shelf may have now, and the link must
// be open after that wait. It returns ctx's error when ctx ends; else the pass
// is to be reported, which ends the turn as well.
func (f *Forwarder) enter(ctx context.Context, st *machine) (pass, error) {
	select {
	case st.turn <- struct{}{}:
	case <-ctx.Done():
		return pass{}, ctx.Err()
	}
	p, err := f.link.enter(ctx)
	if err != nil {
		<-st.turn
		return pass{}, err
	}
	p.leave = func() { <-st.turn }
	return p, nil
}

// serve sends one batch of a leased machine and ends the lease.
func (f *Forwarder) serve(run, sends context.Context, m plant.MachineID) error {
	st := f.machine(m)
	pass, err := f.enter(run, st)
	if err != nil {
		return f.settle(run, settlement{machine: m})
	}
	if err := f.ask(sends, m, st); err != nil {
		pass.report(errNeutral, false, 0)
		return err
	}
	limit := f.options.BatchEvents
	if st.refusals.careful(f.options.HoldAfter, f.options.HoldRetry.Std()) {
		limit = 1
	}
	b, err := f.read(run, m, limit)
	if err != nil || len(b.events) == 0 {
		pass.report(errNeutral, false, 0)
		if err != nil {
			return f.fatal("read events of "+string(m), err)
		}
		return f.settle(run, settlement{machine: m})
	}
	fault.Pass("send.afterRead")
	v, linked := f.send(sends, m, st, &b)
	fault.Pass("send.afterAnswer")
	pass.report(linked, v.delivered > 0, v.linkWait())
	// Noted before the lease ends: whoever has the next one must find it.
	f.note(st, &v, linked)
	f.keepHolds(st, &v)
	if v.stop.Status == plant.Held || len(v.stop.Put) > 0 {
		v.results = append(v.results, v.stop)
	}
	return f.settle(run, settlement{machine: m, upTo: v.upTo, results: v.results, then: func() error {
		fault.Pass("send.afterSettle")
		if v.shelved > 0 {
			f.laid(st)
		}
		return f.wake(&v)
	}})
}

// send makes one Send and judges it. linked is nil if the system answered,
// errNeutral or errPanicked if nothing is known, else the failure of the link.
func (f *Forwarder) send(sends context.Context, m plant.MachineID, st *machine, b *batch) (v verdict, linked error) {
	return f.sendWith(sends, m, st, b, sending{refusals: &st.refusals, holdAfter: f.options.HoldAfter, room: f.shelfRoom(st)})
}

// sending says how the answers to a Send are judged.
type sending struct {
	refusals  *refusals
	holdAfter int
	// room is how many events may be set aside.
	room int
	// releasing is the key that set-aside events which are sent now waited for.
	releasing string
}

func (f *Forwarder) sendWith(sends context.Context, m plant.MachineID, st *machine, b *batch, how sending) (v verdict, linked error) {
	if how.releasing != "" {
		f.setReleasing(st, how.releasing)
		defer f.setReleasing(st, "")
	}
	ctx, cancel := context.WithTimeout(sends, f.options.SendTimeout.Std())
	defer cancel()
	f.count(1)
	began, noted := time.Now(), f.journal.begin(m)
	results, panicked := f.call(ctx, m, b.events)
	f.count(-1)
	v = judge(b, results, how)
	defer func() { f.journalSend(m, b, &v, began, noted) }()
	if v.stop.Status != plant.Retry {
		return v, nil
	}
	if v.notYet() {
		v.retried = 0
		return v, errNeutral
	}
	if failure := v.link(); failure != nil && sends.Err() == nil {
		return v, failure
	}
	switch {
	case panicked != nil:
		v.stop.Cause = panicked
		return v, errPanicked
	case sends.Err() != nil:
		return v, errNeutral
	case ctx.Err() != nil && len(v.results) == 0:
		v.stop.Cause = &LinkError{Err: fmt.Errorf("no answer within %v", f.options.SendTimeout)}
		return v, v.stop.Cause
	}
	return v, nil
}

// call guards against a panic of the Sender: one event that it cannot stand
// must not stop the gateway.
func (f *Forwarder) call(ctx context.Context, m plant.MachineID, events []plant.Event) (r []plant.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, fmt.Errorf("the sender panicked: %v", p)
			f.log.Error("sender panicked", zap.String("machine", string(m)), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
		}
	}()
	return f.sender.Send(ctx, m, events), nil
}

func (f *Forwarder) count(n int) {
	f.mu.Lock()
	f.stats.Concurrent += n
	f.mu.Unlock()
}
