package buffer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// gap is a loss that the buffer itself tells in the stream of its machine. A
// zero span says that no event is missing, or that nobody knows whether one is.
type gap struct {
	span
	count  uint64
	cause  plant.GapCause
	reason string
	// kinds is how many of each kind are missing, nil where that is not known.
	kinds map[plant.EventKind]uint64
	// pieces are those of the missing counter events, nil where that is not known.
	pieces *plant.GapPieces
	// delivered is set if every uplink had had them.
	delivered bool
	// drop is the key of a damaged record that the rules go on without.
	drop []byte
	// uplinks are those that had not had them, nil for all or where that is not
	// known.
	uplinks []string
}

// rebases reports whether counts, or the state that they come from, may be among
// what is lost: receivers must then take the next cumulative count.
func (g *gap) rebases() bool {
	if g.cause == plant.GapRefused {
		return false // the receiver has seen the event, and would not have it
	}
	return g.kinds == nil || g.kinds[plant.KindCounter] > 0
}

// encodeGaps makes r, which is empty, a commit of gap events to s. The caller
// holds the turn of s until r is answered, and may add to r afterwards (what the
// gap deletes, for one), so that both are on disk together or not at all. class
// says what the request may do when space is short: a gap that makes room must
// not be refused for lack of it. earlier are gap events that are told again.
func (b *Buffer) encodeGaps(r *request, s *stream, gaps []gap, class requestClass, earlier ...plant.Event) error {
	batch := plant.Batch{Events: earlier}
	for i := range gaps {
		data, err := json.Marshal(b.gapData(s.machine, &gaps[i]))
		if err != nil {
			return fmt.Errorf("buffer: encode a gap of %s: %w", s.machine, err)
		}
		batch.Events = append(batch.Events, plant.Event{
			Kind: plant.KindGap, Version: 1, Time: b.opts.now(), TimeSource: plant.GatewayTime, Data: data,
		})
		if gaps[i].rebases() {
			batch.Put = []plant.KV{{Key: plant.StoreGapKey, Value: data}}
		}
	}
	b.encodeBatch(r, s, &batch)
	r.class = class
	after := r.apply
	r.apply = func() {
		b.noteGaps(s, gaps)
		s.unheard = s.unheard || s.loaded && len(batch.Put) > 0
		if after != nil {
			after()
		}
	}
	return nil
}

func (b *Buffer) gapData(m plant.MachineID, g *gap) plant.GapData {
	mode := b.opts.Modes[m]
	if mode == "" {
		mode = plant.Production
	}
	return plant.GapData{
		Head:  plant.Head{Machine: m, Mode: mode},
		First: g.first, Last: g.last, Count: g.count, Cause: g.cause, Reason: g.reason, Kinds: g.kinds, Delivered: g.delivered, Uplinks: g.uplinks, Pieces: g.pieces,
	}
}

// noteGaps enters gap events that are durable into what Stats shows. It is
// called with b.mu held.
func (b *Buffer) noteGaps(s *stream, gaps []gap) {
	now := b.opts.now()
	for i := range gaps {
		g := &gaps[i]
		if b.missing == nil {
			b.missing = map[plant.GapCause]uint64{}
		}
		b.missing[g.cause] += g.count
		if len(b.gaps) == maxDamage {
			b.gaps = append(b.gaps[:0], b.gaps[1:]...)
		}
		b.gaps = append(b.gaps, Gap{
			Machine: s.machine, First: g.first, Last: g.last, Count: g.count, Cause: g.cause, Reason: g.reason, Told: now, Delivered: g.delivered,
		})
	}
}

// maxUntold bounds the gap events that one machine waits for: findings beyond it
// are joined to the newest, whose count stays exact.
const maxUntold = 256

// addUntold notes a loss of events that no gap event tells yet. Nothing on disk
// passes it before one does. Before the class mark, where the numbers between were
// evicted, several are one. It is called with b.mu held.
func (s *stream) addUntold(g gap) {
	if n := len(s.untold); n > 0 && g.last > 0 {
		last := &s.untold[n-1]
		near := last.last+1 == g.first || g.cause == plant.GapMissing && last.last < g.first && g.last <= s.thin.sequence && g.first-last.last <= evictLook
		follows := last.last > 0 && near && last.cause == g.cause && last.reason == g.reason
		if follows || (n >= maxUntold && last.last > 0) {
			last.first, last.last = min(last.first, g.first), max(last.last, g.last)
			last.count += g.count
			return
		}
	}
	s.untold = append(s.untold, g)
}

// tell makes gap events of all that was found lost of s, and returns when they
// are durable. It must not be called with the turn of s.
func (b *Buffer) tell(ctx context.Context, s *stream) error {
	if !b.hasUntold(s) {
		return nil
	}
	if err := s.lock(ctx); err != nil {
		return fmt.Errorf("buffer: tell a gap of %s: %w", s.machine, err)
	}
	defer s.unlock()
	r := &request{done: make(chan error, 1)}
	gaps, err := b.encodeUntold(r, s)
	if err == nil && len(gaps) > 0 {
		err = b.submit(r)
	}
	if err != nil {
		b.untell(s, gaps)
		return err
	}
	if len(gaps) == 0 {
		return nil // somebody else has told them meanwhile
	}
	b.logGaps(s, gaps)
	b.committer.dirtied(time.Now())
	return nil
}

func (b *Buffer) hasUntold(s *stream) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return s.waits()
}

// waits reports whether a loss is not told durably. It is called with b.mu held.
func (s *stream) waits() bool { return len(s.untold) > 0 || s.telling }

// untell notes that gap events were not written.
func (b *Buffer) untell(s *stream, gaps []gap) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.untold = append(gaps, s.untold...)
	s.telling = false
}

// encodeUntold makes r a commit of what is not told yet, with the list of all
// losses that are told then. The caller has the turn of s.
func (b *Buffer) encodeUntold(r *request, s *stream) ([]gap, error) {
	b.mu.Lock()
	gaps := s.untold
	s.untold, s.telling = nil, len(gaps) > 0
	told := s.lost.after(s.low.sequence)
	for i := range gaps {
		here := gaps[i].cause == plant.GapDamaged || gaps[i].cause == plant.GapMissing
		gaps[i].delivered = here && gaps[i].last > 0 && b.settledByAll(s, gaps[i].last)
	}
	b.mu.Unlock()
	if len(gaps) == 0 {
		return nil, nil
	}
	if err := b.encodeGaps(r, s, gaps, classSettle); err != nil {
		return gaps, err
	}
	r.put(machineKey(classGap, s.machine), func(dst, key []byte) []byte { return appendToldRecord(dst, key, told) })
	after := r.apply
	r.apply = func() {
		s.telling = false
		after()
	}
	state := false
	for i := range gaps {
		if drop := gaps[i].drop; drop != nil {
			r.delete(drop)
			state = state || class(drop[1]) == classState
		}
	}
	if state {
		told := r.apply
		r.apply = func() {
			told()
			b.side.states -= s.stateSize
			s.stateSize = 0
		}
	}
	return gaps, nil
}

// settledByAll reports whether every uplink needs nothing up to that event. It
// is called with b.mu held.
func (b *Buffer) settledByAll(s *stream, last plant.Sequence) bool {
	for _, q := range b.queues {
		if q.claim(s) < last {
			return false
		}
	}
	return len(b.queues) > 0
}

func (b *Buffer) logGaps(s *stream, gaps []gap) {
	for i := range gaps {
		g := &gaps[i]
		b.log.Error("recorded events are missing: a gap event says so to every uplink", zap.String("machine", string(s.machine)),
			zap.String("gap_cause", string(g.cause)), zap.Uint64("first", uint64(g.first)), zap.Uint64("last", uint64(g.last)),
			zap.Uint64("count", g.count), zap.Bool("delivered", g.delivered), zap.String("reason", g.reason))
	}
}

// mustHear reports whether the rules of the machine have to know of a gap before
// they count on, which only they can say: they delete plant.StoreGapKey with the
// commit that takes note of it. The caller holds the turn of s.
func (s *stream) mustHear(batch *plant.Batch) bool {
	counts := func(e plant.Event) bool { return e.Kind == plant.KindCounter }
	return s.unheard && slices.ContainsFunc(batch.Events, counts) && !slices.Contains(batch.Delete, plant.StoreGapKey)
}

// goOnWithout tells that a damaged record of a machine's rules is lost, and
// deletes it in the same transaction.
func (b *Buffer) goOnWithout(ctx context.Context, m plant.MachineID, what string, key []byte, cause error, kinds map[plant.EventKind]uint64) error {
	s := b.stream(m)
	b.mu.Lock()
	s.addUntold(gap{cause: plant.GapDamaged, reason: what + " cannot be read: " + cause.Error(), kinds: kinds, drop: key})
	b.mu.Unlock()
	return b.tell(ctx, s)
}

// tellAll tells what is left over: where a reader found it that settles nothing.
func (b *Buffer) tellAll(ctx context.Context) error {
	b.mu.Lock()
	var waiting []*stream
	for _, s := range b.order {
		if s.waits() {
			waiting = append(waiting, s)
		}
	}
	b.mu.Unlock()
	var errs []error
	for _, s := range waiting {
		errs = append(errs, b.tell(ctx, s))
	}
	return errors.Join(errs...)
}

// A told record lists the losses that gap events were made of, so that none is
// told again after a restart.
func appendToldRecord(dst, key []byte, told ranges) []byte {
	at := len(dst)
	dst = appendUvarints(appendEnvelope(dst), uint64(len(told)))
	end := plant.Sequence(0)
	for _, s := range told {
		dst = appendUvarints(dst, uint64(s.first-end), uint64(s.last-s.first))
		end = s.last
	}
	seal(dst, at, key, envelopeSize)
	return dst
}

func decodeToldRecord(key, record []byte) (told ranges, err error) {
	body, err := opaque(key, record)
	if err != nil {
		return nil, err
	}
	f := fields{rest: body}
	end := plant.Sequence(0)
	for n := f.uvarint(); n > 0 && !f.bad; n-- {
		first := end + plant.Sequence(f.uvarint())
		end = first + plant.Sequence(f.uvarint())
		told = append(told, span{first, end})
	}
	return told, f.err("told gaps")
}

// after returns what of r lies behind that sequence.
func (r ranges) after(s plant.Sequence) (rest ranges) {
	for _, o := range r {
		if o.last > s {
			rest = append(rest, o)
		}
	}
	return rest
}

// without returns what of first…last is not in r.
func (r ranges) without(first, last plant.Sequence) (rest []span) {
	for _, o := range r {
		if o.last < first || o.first > last {
			continue
		}
		if o.first > first {
			rest = append(rest, span{first, o.first - 1})
		}
		first = o.last + 1
	}
	if first <= last {
		rest = append(rest, span{first, last})
	}
	return rest
}

// Gap is a loss that a gap event has told since the store was opened.
type Gap struct {
	Machine plant.MachineID
	// First and Last are 0 where no event is known to be missing.
	First, Last plant.Sequence
	Count       uint64
	Cause       plant.GapCause
	Reason      string
	Told        time.Time
	// Delivered is set if every uplink had had the events.
	Delivered bool
}
