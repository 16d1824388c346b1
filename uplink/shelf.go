package uplink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/backoff"
	"github.com/sluice-edge/sluice/plant"
)

// Shelf is optional for a Queue: a place for events that wait for what another
// event has to bring first, so that the rest of their machine's stream goes on.
// They are kept as dead letters, which people can see, drop and send again; what
// each waits for is in the uplink's memory. Its methods may be called from any
// goroutine, without a lease. plant.ErrFull says that there is no room now;
// any other error but plant.ErrUnreadable is fatal.
type Shelf interface {
	// Each calls do for each key of the uplink's memory that begins with prefix,
	// until do returns false.
	Each(ctx context.Context, prefix string, do func(plant.KV) bool) error
	// Letter returns the event of a dead letter; ok is false if there is none.
	Letter(ctx context.Context, m plant.MachineID, s plant.Sequence) (e plant.Event, ok bool, err error)
	// AnswerLetter removes a dead letter if the result is Delivered, changes its
	// words if it is Rejected, and keeps Put in the same transaction; durably.
	AnswerLetter(ctx context.Context, m plant.MachineID, s plant.Sequence, r plant.Result) error
}

const (
	// shelfPrefix begins the keys of what is shelved: the sequence in twenty digits,
	// a slash, the machine. The value is the key that is waited for.
	shelfPrefix = "_shelf/"
	// maxShelved bounds the shelved events of a machine. Behind them the next one
	// holds its stream, as without a shelf.
	maxShelved = 500
	// shelfEvery is how often what is waited for is looked up; what this Forwarder
	// puts itself is noticed at once.
	shelfEvery = 2 * time.Second
	// shelfLook is how often it is looked whether people have dropped what is
	// shelved, or sent it.
	shelfLook = time.Minute
)

// shelved is one event that waits for a key.
type shelved struct {
	sequence plant.Sequence
	waitsFor string
	// settling is set until it is durable.
	settling bool
}

func shelfKey(m plant.MachineID, s plant.Sequence) string {
	return fmt.Sprintf("%s%020d/%s", shelfPrefix, uint64(s), m)
}

// parseShelfKey reads a key of shelfKey.
func parseShelfKey(key string) (m plant.MachineID, s plant.Sequence, ok bool) {
	digits, machine, found := strings.Cut(strings.TrimPrefix(key, shelfPrefix), "/")
	n, err := strconv.ParseUint(digits, 10, 64)
	return plant.MachineID(machine), plant.Sequence(n), found && err == nil && len(digits) == 20 && machine != ""
}

// shelvedError is the Cause of an event that is put on the shelf.
type shelvedError struct {
	waitsFor string
	cause    error
}

// Error implements error.
func (e *shelvedError) Error() string {
	return "it waits for " + e.waitsFor + " and is sent by itself when that is there: " + words(e.cause)
}

// Unwrap returns the sender's words.
func (e *shelvedError) Unwrap() error { return e.cause }

// onShelf reports whether a result puts its event on the shelf.
func onShelf(r *plant.Result) bool {
	var s *shelvedError
	return r.Status == plant.Rejected && errors.As(r.Cause, &s)
}

// Shelved reports whether older events of that machine wait for the key, other
// than those that are being sent right now. A Sender holds another event that
// needs the key then too, though the key may be there by now: what waits for one
// thing keeps its order. It may be called from any goroutine.
func (f *Forwarder) Shelved(m plant.MachineID, key string) bool {
	st := f.machine(m)
	f.mu.Lock()
	defer f.mu.Unlock()
	return st.releasing != key && slices.ContainsFunc(st.shelf, func(e shelved) bool { return e.waitsFor == key })
}

// Sending reports whether the event of that number, which is set aside, is being
// sent right now: the receiver may take it, so nobody gives it up. It may be called
// from any goroutine.
func (f *Forwarder) Sending(m plant.MachineID, s plant.Sequence) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.machines[m]
	return st != nil && slices.Contains(st.flying, s)
}

// fly notes which shelved events are being sent.
func (f *Forwarder) fly(st *machine, events []plant.Sequence) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st.flying = events
}

// setReleasing notes which shelved events are being sent.
func (f *Forwarder) setReleasing(st *machine, key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st.releasing = key
}

// shelfRoom is how many events more of a machine may be put on the shelf.
func (f *Forwarder) shelfRoom(st *machine) int {
	if f.shelf == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(0, maxShelved-len(st.shelf))
}

// lay notes what a Send puts on the shelf, before the lease ends. It is called
// with mu held.
func (f *Forwarder) lay(st *machine, r *plant.Result) {
	var s *shelvedError
	if !onShelf(r) || !errors.As(r.Cause, &s) {
		return
	}
	if len(st.shelf) == 0 {
		f.log.Info("machine's events are set aside until what they wait for is there; the others go on",
			zap.String("machine", string(st.id)), zap.String("waits_for", s.waitsFor), zap.Error(s.cause))
	}
	st.shelf = append(st.shelf, shelved{sequence: r.Last, waitsFor: s.waitsFor, settling: true})
}

// laid notes that what was put on the shelf is durable.
func (f *Forwarder) laid(st *machine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range st.shelf {
		st.shelf[i].settling = false
	}
}

// unlay takes one event off the shelf, or notes what else it waits for.
func (f *Forwarder) unlay(st *machine, s plant.Sequence, waitsFor string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(st.shelf, func(e shelved) bool { return e.sequence == s })
	switch {
	case i < 0:
	case waitsFor != "":
		st.shelf[i].waitsFor = waitsFor
	default:
		st.shelf = slices.Delete(st.shelf, i, i+1)
		if len(st.shelf) == 0 {
			f.log.Info("nothing of the machine is set aside any more", zap.String("machine", string(st.id)))
		}
	}
}

// loadShelf reads what was on the shelf when the last run ended. What cannot be
// read stays among the dead letters, for people.
func (f *Forwarder) loadShelf(ctx context.Context) {
	if f.shelf == nil {
		return
	}
	err := f.shelf.Each(ctx, shelfPrefix, func(kv plant.KV) bool {
		if m, s, ok := parseShelfKey(kv.Key); ok {
			st := f.machine(m)
			st.shelf = append(st.shelf, shelved{sequence: s, waitsFor: string(kv.Value)})
		}
		return true
	})
	if err != nil && ctx.Err() == nil {
		f.log.Warn("which dead letters wait for another event cannot be read to the end: retry them by hand", zap.Error(err))
	}
}

// tendShelf sends what is on the shelf when what it waits for is there, until run
// ends. The error is the Queue's.
func (f *Forwarder) tendShelf(run, sends context.Context) error {
	if f.shelf == nil {
		return nil
	}
	ticker := time.NewTicker(shelfEvery)
	defer ticker.Stop()
	looked := time.Now()
	for {
		if err := f.clearShelf(run, sends); err != nil {
			return err
		}
		if time.Since(looked) >= shelfLook {
			looked = time.Now()
			if err := f.pruneShelf(run); err != nil {
				return err
			}
		}
		select {
		case <-run.Done():
			return nil
		case <-ticker.C:
		case <-f.put:
		}
	}
}

// has tells tendShelf that a key was put.
func (f *Forwarder) has() {
	select {
	case f.put <- struct{}{}:
	default:
	}
}

// clearShelf goes through the machines with shelved events once.
func (f *Forwarder) clearShelf(run, sends context.Context) error {
	there := map[string]bool{}
	for _, st := range f.shelves() {
		for {
			key, due, err := f.due(st, there)
			if err != nil {
				return err
			}
			if len(due) == 0 || run.Err() != nil {
				break
			}
			more, err := f.release(run, sends, st, key, due)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// pruneShelf forgets shelved events that are no dead letters any more.
func (f *Forwarder) pruneShelf(run context.Context) error {
	disk := context.WithoutCancel(run)
	for _, st := range f.shelves() {
		f.mu.Lock()
		list := slices.Clone(st.shelf)
		f.mu.Unlock()
		for _, e := range list {
			if e.settling || run.Err() != nil {
				continue
			}
			_, ok, err := f.shelf.Letter(disk, st.id, e.sequence)
			if err != nil && !errors.Is(err, plant.ErrUnreadable) {
				return f.fatal("read a shelved event of "+string(st.id), err)
			}
			if ok || err != nil {
				continue
			}
			if stop, err := f.answer(disk, st, e.sequence, &plant.Result{Status: plant.Held}, ""); stop || err != nil {
				return err
			}
		}
	}
	return nil
}

// shelves returns the machines that may have something to send, by their codes.
func (f *Forwarder) shelves() (all []*machine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, st := range f.machines {
		if len(st.shelf) > 0 && !now.Before(st.shelfNext) {
			all = append(all, st)
		}
	}
	slices.SortFunc(all, func(a, b *machine) int { return strings.Compare(string(a.id), string(b.id)) })
	return all
}

// due returns the oldest shelved events of a machine that wait for one key which
// is there now. there remembers the answers of this round.
func (f *Forwarder) due(st *machine, there map[string]bool) (key string, due []plant.Sequence, err error) {
	f.mu.Lock()
	list := slices.Clone(st.shelf)
	f.mu.Unlock()
	slices.SortFunc(list, func(a, b shelved) int { return int(a.sequence) - int(b.sequence) })
	for _, e := range list {
		if e.settling || key != "" && e.waitsFor != key {
			continue
		}
		is, known := there[e.waitsFor]
		if !known {
			value, err := f.queue.Memory(e.waitsFor)
			if err != nil && !errors.Is(err, plant.ErrUnreadable) {
				return "", nil, f.fatal("read memory", err)
			}
			is = value != nil || err != nil
			there[e.waitsFor] = is
		}
		if !is {
			continue
		}
		key = e.waitsFor
		if due = append(due, e.sequence); len(due) == f.options.BatchEvents {
			break
		}
	}
	return key, due, nil
}

// release sends shelved events of one machine that wait for the same key, oldest
// first, and keeps what comes of it. more is set if the next may follow at once.
func (f *Forwarder) release(run, sends context.Context, st *machine, key string, due []plant.Sequence) (more bool, err error) {
	// The outcome of what is noted must be known, also while the uplink stops.
	disk := context.WithoutCancel(run)
	f.fly(st, due)
	defer f.fly(st, nil)
	b := batch{}
	for _, s := range due {
		e, ok, err := f.shelf.Letter(disk, st.id, s)
		if err != nil && !errors.Is(err, plant.ErrUnreadable) {
			return false, f.fatal("read a shelved event of "+string(st.id), err)
		}
		if !ok {
			// Somebody has sent it or given it up, or it cannot be read and is named
			// among the dead letters.
			if stop, err := f.answer(disk, st, s, &plant.Result{Status: plant.Held}, ""); stop || err != nil {
				return false, err
			}
			continue
		}
		b.events = append(b.events, e)
	}
	if len(b.events) == 0 {
		return true, nil
	}
	pass, err := f.enter(run, st)
	if err != nil {
		return false, nil
	}
	v, linked := f.sendWith(sends, st.id, st, &b, sending{refusals: &refusals{}, holdAfter: len(b.events) + 1, releasing: key})
	pass.report(linked, v.delivered > 0, v.linkWait())
	return f.keep(disk, st, &b, &v, linked, key)
}

// keep notes what the receiver has said of shelved events, each durably.
func (f *Forwarder) keep(disk context.Context, st *machine, b *batch, v *verdict, linked error, key string) (more bool, err error) {
	at := 0
	for i := range v.results {
		r := v.results[i]
		for ; at < len(b.events) && b.events[at].Sequence <= r.Last; at++ {
			if stop, err := f.answer(disk, st, b.events[at].Sequence, &r, ""); stop || err != nil {
				return false, err
			}
			r.Put = nil
		}
	}
	f.noteReleased(st, v, linked)
	if at == len(b.events) {
		return true, nil
	}
	// Another key than before is a step forward; the same one is not to be asked
	// for again and again.
	again := ""
	if v.stop.Status == plant.Held && v.stop.WaitsFor != "" && v.stop.WaitsFor != key {
		again = v.stop.WaitsFor
	}
	if again != "" || len(v.stop.Put) > 0 {
		if again == "" {
			again = key
		}
		if _, err := f.answer(disk, st, b.events[at].Sequence, &plant.Result{Status: plant.Held, Put: v.stop.Put}, again); err != nil {
			return false, err
		}
	}
	return again != "" && again != key, nil
}

// answer makes durable what a shelved event has come to; it stays on the shelf if
// it waits for something. stop is set if there is no room now.
func (f *Forwarder) answer(disk context.Context, st *machine, s plant.Sequence, r *plant.Result, waitsFor string) (stop bool, err error) {
	index := plant.KV{Key: shelfKey(st.id, s)}
	if waitsFor != "" {
		index.Value = []byte(waitsFor)
	}
	with := *r
	with.Put = append(slices.Clone(r.Put), index)
	if err := f.shelf.AnswerLetter(disk, st.id, s, with); errors.Is(err, plant.ErrFull) {
		f.restShelf(st, 0)
		return true, nil
	} else if err != nil && !errors.Is(err, plant.ErrUnreadable) {
		return false, f.fatal("keep what became of a shelved event of "+string(st.id), err)
	}
	f.unlay(st, s, waitsFor)
	for _, kv := range r.Put {
		f.arrived(kv.Key)
	}
	return false, nil
}

// restShelf leaves the shelved events of a machine alone for a while.
func (f *Forwarder) restShelf(st *machine, wait time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st.shelfNext = time.Now().Add(max(st.shelfWait.Next(), wait))
}

// noteReleased keeps what came of sending shelved events.
func (f *Forwarder) noteReleased(st *machine, v *verdict, linked error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.stats.Delivered += v.delivered
	f.stats.Rejected += v.rejected
	f.stats.Retried += v.retried
	if v.delivered > 0 {
		f.stats.LastDelivery = now
	}
	for i := range v.results {
		f.noteRefusal(st, &v.results[i], now)
	}
	if v.stop.Status == plant.Delivered || v.endedAtRefusal() {
		st.shelfWait.Reset()
		return
	}
	if v.notYet() {
		st.shelfNext = now.Add(v.stop.Wait)
		return
	}
	if !errors.Is(linked, errNeutral) {
		f.stats.LastError, f.stats.LastErrorAt = words(v.stop.Cause), now
	}
	st.shelfNext = now.Add(max(st.shelfWait.Next(), v.stop.Wait))
}

// newShelfWait spaces the attempts with the shelved events of a machine.
func (f *Forwarder) newShelfWait(m plant.MachineID) backoff.Backoff {
	return backoff.Backoff{Min: f.options.BackoffMin.Std(), Max: f.options.HoldRetry.Std(), Rand: f.source("shelf " + string(m))}
}
