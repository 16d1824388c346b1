package uplink

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/backoff"
	"github.com/sluice-edge/sluice/plant"
)

// machine is what the Forwarder remembers of one machine between two Sends.
// refusals, asked, askNext and silent belong to whoever has the machine's lease;
// the rest is guarded by the Forwarder's lock.
type machine struct {
	id       plant.MachineID
	refusals refusals
	// asked is set once the receiver has said what it last had; until askNext it
	// is not asked again, which askWait spaces.
	asked   bool
	askNext time.Time
	askWait time.Duration
	// silent is set while it is one of Forwarder.silent.
	silent bool
	// shelf holds the events that are set aside; shelfNext is when they are tried
	// next, and releasing the key of those that are being sent.
	shelf     []shelved
	shelfNext time.Time
	shelfWait backoff.Backoff
	releasing string
	// flying are the numbers of set-aside events that are being sent.
	flying []plant.Sequence
	// turn holds a token while the Sender has a call for the machine.
	turn chan struct{}

	// next is when the machine may be sent again; wake is closed when that
	// comes forward.
	next    time.Time
	wake    chan struct{}
	waiting bool
	backoff backoff.Backoff
	// The stream does not move since then, for this reason; since is zero while
	// it moves.
	since    time.Time
	text     string
	remedy   string
	kind     plant.EventKind
	held     bool
	waitsFor string
	// fullSince is since when the Queue has no room for what the receiver has
	// answered, zero if it has; fullNext when that is tried again.
	fullSince, fullNext time.Time
}

// machine returns the memory of m.
func (f *Forwarder) machine(m plant.MachineID) *machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.machines[m]
	if st == nil {
		st = &machine{
			id:      m,
			turn:    make(chan struct{}, 1),
			wake:    make(chan struct{}),
			backoff: backoff.Backoff{Min: f.options.BackoffMin.Std(), Max: f.options.BackoffMax.Std(), Rand: f.source(string(m))},
		}
		st.shelfWait = f.newShelfWait(m)
		f.machines[m] = st
	}
	return st
}

// early reports whether m may not be sent yet.
func (f *Forwarder) early(m plant.MachineID) bool {
	st := f.machine(m)
	f.mu.Lock()
	defer f.mu.Unlock()
	st.waiting = time.Until(st.next) > 0
	return st.waiting
}

// wait blocks until m may be sent or run ends.
func (f *Forwarder) wait(run context.Context, m plant.MachineID) {
	st := f.machine(m)
	for {
		f.mu.Lock()
		left, wake := time.Until(st.next), st.wake
		st.waiting = left > 0 && run.Err() == nil
		waiting := st.waiting
		f.mu.Unlock()
		if !waiting {
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-run.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// note keeps what came of a Send.
func (f *Forwarder) note(st *machine, v *verdict, linked error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.stats.Delivered += v.delivered
	f.stats.Rejected += v.rejected
	f.stats.Skipped += v.skipped
	f.pass(v)
	f.stats.Retried += v.retried
	if v.delivered > 0 {
		f.stats.LastDelivery = now
	}
	for i := range v.results {
		f.lay(st, &v.results[i])
		f.noteRefusal(st, &v.results[i], now)
	}
	if v.settled() > 0 {
		st.backoff.Reset()
	}
	if v.notYet() {
		if v.settled() > 0 {
			f.moving(st, now)
		}
		if v.stop.Wait > 0 {
			f.retryAt(st, now.Add(v.stop.Wait))
		}
		return
	}
	if failure := v.linkError(); failure != nil && failure.Suspect && !errors.Is(linked, errNeutral) {
		f.stuck(st, v, now.Add(max(st.backoff.Next(), v.stop.Wait)), now)
		return
	}
	if linked != nil && !errors.Is(linked, errPanicked) {
		// The link keeps everybody out, or the uplink stops; the machine itself
		// is not at fault.
		if !errors.Is(linked, errNeutral) {
			f.stats.LastError, f.stats.LastErrorAt = words(v.stop.Cause), now
		}
		return
	}
	switch {
	case v.stop.Status == plant.Delivered, v.endedAtRefusal():
		f.moving(st, now)
	case v.held, v.stop.Status == plant.Held:
		f.stuck(st, v, now.Add(max(f.options.HoldRetry.Std(), v.stop.Wait)), now)
	default:
		f.stuck(st, v, now.Add(max(st.backoff.Next(), v.stop.Wait)), now)
	}
}

// wake lets those go on who waited for what was just settled. The error is the
// Queue's.
func (f *Forwarder) wake(v *verdict) error {
	for i := range v.results {
		for _, kv := range v.results[i].Put {
			f.arrived(kv.Key)
		}
		if len(v.results[i].Put) > 0 {
			f.has()
		}
	}
	if v.stop.Status != plant.Held || v.stop.WaitsFor == "" {
		return nil
	}
	// Another machine may have put the key while this one was being held.
	value, err := f.queue.Memory(v.stop.WaitsFor)
	if err != nil && !errors.Is(err, plant.ErrUnreadable) {
		return f.fatal("read memory", err)
	}
	if value != nil || err != nil {
		f.arrived(v.stop.WaitsFor)
	}
	return nil
}

// noteRefusal logs r if it puts events to the dead letters.
func (f *Forwarder) noteRefusal(st *machine, r *plant.Result, now time.Time) {
	if r.Status != plant.Rejected || onShelf(r) {
		return
	}
	f.stats.LastError, f.stats.LastErrorAt = words(r.Cause), now
	f.log.Warn("event refused, put to the dead letters", zap.String("machine", string(st.id)),
		zap.Uint64("first", uint64(r.First)), zap.Uint64("last", uint64(r.Last)), zap.Error(r.Cause))
}

// arrived lets the machines that wait for key go on at once.
func (f *Forwarder) arrived(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, st := range f.waiters[key] {
		if st.waitsFor == key {
			st.waitsFor = ""
			f.retryAt(st, time.Time{})
		}
	}
	delete(f.waiters, key)
}

// waitFor makes st wait for key, for none if it is empty.
func (f *Forwarder) waitFor(st *machine, key string) {
	if st.waitsFor == key {
		return
	}
	if st.waitsFor != "" {
		f.waiters[st.waitsFor] = slices.DeleteFunc(f.waiters[st.waitsFor], func(o *machine) bool { return o == st })
		if len(f.waiters[st.waitsFor]) == 0 {
			delete(f.waiters, st.waitsFor)
		}
	}
	if key != "" {
		f.waiters[key] = append(f.waiters[key], st)
	}
	st.waitsFor = key
}

// retryAt sets when st is sent again.
func (f *Forwarder) retryAt(st *machine, next time.Time) {
	st.next = next
	close(st.wake)
	st.wake = make(chan struct{})
}

// moving notes that the stream of st moves.
func (f *Forwarder) moving(st *machine, now time.Time) {
	st.backoff.Reset()
	if st.since.IsZero() {
		return
	}
	f.log.Info("machine's events go on", zap.String("machine", string(st.id)), zap.Duration("after", now.Sub(st.since).Round(time.Millisecond)))
	f.waitFor(st, "")
	st.since, st.text, st.remedy, st.kind, st.held = time.Time{}, "", "", "", false
	st.next = time.Time{}
}

// stuck notes that the stream of st waits until next, and why.
func (f *Forwarder) stuck(st *machine, v *verdict, next, now time.Time) {
	f.stats.LastError, f.stats.LastErrorAt = words(v.stop.Cause), now
	if st.since.IsZero() || st.held != v.held {
		st.since = now
		f.log.Warn("machine's events wait", zap.String("machine", string(st.id)), zap.Bool("held", v.held),
			zap.String("kind", string(v.kind)), zap.Error(v.stop.Cause), zap.Time("next_attempt", next))
	}
	st.held, st.kind = v.held, ""
	st.text, st.remedy = words(v.stop.Cause), ""
	var unsent Unsent
	switch {
	case v.held && errors.As(v.stop.Cause, &unsent):
		st.kind, st.remedy = v.kind, unsent.Remedy()
	case v.held:
		st.kind = v.kind
		st.text = "the receiver refuses every " + string(v.kind) + " event: " + st.text
	}
	f.waitFor(st, v.stop.WaitsFor)
	f.retryAt(st, next)
}

// Stats returns a snapshot. It may be called from any goroutine and does not
// wait for a Send.
func (f *Forwarder) Stats() Stats {
	f.mu.Lock()
	s := f.stats
	s.Silent = int(f.silent.Load())
	s.PassedOver = f.passed.list()
	now := time.Now()
	for _, st := range f.machines {
		if st.waiting {
			s.Waiting++
		}
		s.Shelved += len(st.shelf)
		if !st.fullSince.IsZero() {
			s.Problems = append(s.Problems, Problem{Machine: st.id, Since: st.fullSince, Next: later(st.fullNext, now), Text: fullText})
		} else if !st.since.IsZero() {
			s.Problems = append(s.Problems, Problem{
				Machine: st.id, Kind: st.kind, Held: st.held,
				Since: st.since, Next: later(st.next, now), Text: st.text, Remedy: st.remedy,
			})
		}
	}
	f.mu.Unlock()
	slices.SortFunc(s.Problems, func(a, b Problem) int { return cmp.Compare(a.Machine, b.Machine) })
	f.link.fill(&s)
	if informer, ok := f.sender.(Informer); ok {
		informer.Inform(&s)
	}
	return s
}
