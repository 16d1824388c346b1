package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
)

// store is the disk. It keeps the contracts of derive.Log and uplink.Queue, and
// judges those who use it.
type store struct {
	w *world
	// full are the times at which there is no room.
	full []window

	mu      sync.Mutex
	epoch   plant.Epoch
	opened  *opened
	streams map[plant.MachineID]*stream
	cursors map[string]*cursors
	crashes *rand.Rand
}

// stream is what is durable of one machine.
type stream struct {
	events []plant.Event
	prints []uint64
	state  []byte
	kv     map[string][]byte
	doses  map[int64]bool
	good   int64
	deltas int64
	// used are the ids that were ever given, with the print of their bytes.
	used map[plant.EventID]uint64
}

// cursors are those of one uplink. durable is what a crash cannot undo; moves
// are the newest, which a crash may.
type cursors struct {
	at, durable map[plant.MachineID]plant.Sequence
	moves       []move
	memory      map[string][]byte
	letters     map[letter]bool
}

type move struct {
	at  time.Time
	m   plant.MachineID
	seq plant.Sequence
}

// settleWithin is how long a cursor may be volatile.
const settleWithin = 200 * time.Millisecond

func newStore(w *world) *store {
	s := &store{w: w, streams: map[plant.MachineID]*stream{}, cursors: map[string]*cursors{}, crashes: dice(w.plan.Seed, "crashes")}
	for _, m := range w.machines {
		s.streams[m] = &stream{kv: map[string][]byte{}, doses: map[int64]bool{}, used: map[plant.EventID]uint64{}}
	}
	s.full = windows(dice(w.plan.Seed, "full"), w.plan.Storm, w.plan.Full)
	return s
}

// opened is the store as one process has it. What is here dies with it.
type opened struct {
	s       *store
	p       *process
	leased  map[string]map[plant.MachineID]bool
	turn    map[string]int
	changed chan struct{}
	dice    map[plant.MachineID]*rand.Rand
}

var _ derive.Log = (*opened)(nil)

// open opens the store for a process; each opening has an epoch of its own.
func (s *store) open(p *process) *opened {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w.plan.Bug != reuseIDs || s.epoch == 0 {
		s.epoch++
	}
	o := &opened{s: s, p: p, leased: map[string]map[plant.MachineID]bool{}, turn: map[string]int{}, changed: make(chan struct{}), dice: map[plant.MachineID]*rand.Rand{}}
	for _, m := range s.w.machines {
		o.dice[m] = dice(s.w.plan.Seed, fmt.Sprint("disk ", m, p.no))
	}
	for _, sink := range s.w.sinks {
		if s.cursors[sink.name] == nil {
			s.cursors[sink.name] = &cursors{at: map[plant.MachineID]plant.Sequence{}, durable: map[plant.MachineID]plant.Sequence{}, memory: map[string][]byte{}, letters: map[letter]bool{}}
		}
		o.leased[sink.name] = map[plant.MachineID]bool{}
	}
	s.opened = o
	return o
}

// crashed forgets what was not durable: of the cursors' moves those of the last
// moments, perhaps.
func (s *store) crashed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, sink := range s.w.sinks {
		c := s.cursors[sink.name]
		if c == nil {
			continue
		}
		lucky := s.crashes.IntN(2) == 0
		for _, v := range c.moves {
			if lucky || now.Sub(v.at) >= settleWithin {
				c.durable[v.m] = max(c.durable[v.m], v.seq)
			}
		}
		c.forget()
	}
	if s.w.plan.Bug == reuseIDs {
		for _, m := range s.w.machines {
			st := s.streams[m]
			if n := len(st.events); n > 1 {
				st.events, st.prints = st.events[:n-1], st.prints[:n-1]
				for _, c := range s.cursors {
					c.at[m], c.durable[m] = min(c.at[m], plant.Sequence(n-1)), min(c.durable[m], plant.Sequence(n-1))
				}
			}
		}
	}
	s.opened = nil
}

// close ends an opening in order: every cursor is durable.
func (s *store) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.cursors {
		for _, v := range c.moves {
			c.durable[v.m] = max(c.durable[v.m], v.seq)
		}
		c.forget()
	}
	s.opened = nil
}

func (c *cursors) forget() {
	c.moves = nil
	for m, at := range c.durable {
		c.at[m] = at
	}
	for m := range c.at {
		c.at[m] = c.durable[m]
	}
}

// hasDose reports whether a dose is on disk.
func (s *store) hasDose(m plant.MachineID, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[m].doses[n]
}

// event returns the print of a durable event, 0 if there is none of that id.
func (s *store) event(id plant.EventID) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id.Machine]
	if st == nil || id.Sequence == 0 || int(id.Sequence) > len(st.events) || st.events[id.Sequence-1].ID() != id {
		return 0
	}
	return st.prints[id.Sequence-1]
}

// imprint is what identifies the bytes of an event.
func imprint(e *plant.Event) uint64 {
	h := fnv.New64a()
	h.Write([]byte(e.Kind))
	h.Write([]byte(strconv.FormatInt(e.Time.UnixNano(), 36)))
	h.Write(e.Data)
	return h.Sum64() | 1
}

// Newest implements derive.Log.
func (o *opened) Newest(ctx context.Context, m plant.MachineID, kind plant.EventKind, most int) (data [][]byte, err error) {
	if err := o.p.sleep(ctx, among(o.dice[m], 5*time.Millisecond)); err != nil {
		return nil, err
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	st := o.s.streams[m]
	if st == nil {
		return nil, nil
	}
	for i := len(st.events) - 1; i >= 0 && len(data) < most; i-- {
		if e := &st.events[i]; e.Kind == kind {
			data = append(data, slices.Clone(e.Data))
		}
	}
	return data, nil
}

// Load implements derive.Log.
func (o *opened) Load(ctx context.Context, m plant.MachineID, each func(plant.KV) error) ([]byte, error) {
	if err := o.p.sleep(ctx, among(o.dice[m], 5*time.Millisecond)); err != nil {
		return nil, err
	}
	if err := o.p.at("load", string(m)); err != nil {
		return nil, err
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	st := o.s.streams[m]
	keys := make([]string, 0, len(st.kv))
	for k := range st.kv {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if err := each(plant.KV{Key: k, Value: slices.Clone(st.kv[k])}); err != nil {
			return nil, err
		}
	}
	return slices.Clone(st.state), nil
}

// Commit implements derive.Log. The batch is durable at one moment between the
// call and its end.
func (o *opened) Commit(ctx context.Context, m plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	if err := o.p.at("commit.before", string(m)); err != nil {
		return 0, err
	}
	takes := among(o.dice[m], o.s.w.plan.Commit)
	before := among(o.dice[m], takes)
	if o.s.w.plan.Bug == commitLate {
		return o.commitLater(m, b, takes)
	}
	if err := o.p.sleep(ctx, before); err != nil {
		return 0, err
	}
	if o.s.w.plan.Bug == stateOnly && o.p.point == "commit.middle "+string(m) {
		o.s.mu.Lock()
		if !o.p.isDead() {
			o.s.streams[m].state = slices.Clone(b.State)
		}
		o.s.mu.Unlock()
	}
	if err := o.p.at("commit.middle", string(m)); err != nil {
		return 0, err
	}
	first, err := o.apply(m, b)
	if err != nil {
		return 0, err
	}
	if err := o.p.at("commit.durable", string(m)); err != nil {
		return 0, err
	}
	if err := o.p.sleep(ctx, takes-before+1); err != nil {
		return 0, err
	}
	return first, o.p.at("commit.after", string(m))
}

// commitLater is the broken one.
func (o *opened) commitLater(m plant.MachineID, b plant.Batch, takes time.Duration) (plant.Sequence, error) {
	b.State, b.Events = slices.Clone(b.State), slices.Clone(b.Events)
	for i := range b.Events {
		b.Events[i].Data = slices.Clone(b.Events[i].Data)
	}
	time.AfterFunc(takes, func() { _, _ = o.apply(m, b) }) // nobody is told, which is the bug
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	return plant.Sequence(len(o.s.streams[m].events) + 1), nil
}

// apply makes a batch durable, all of it or nothing.
func (o *opened) apply(m plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	s := o.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != o {
		return 0, errCrashed
	}
	if s.w.in(s.full) {
		s.w.note("full", "%s", m)
		return 0, plant.ErrFull
	}
	if len(b.Events) > s.w.plan.Batch {
		s.w.note("too big", "%s %d events", m, len(b.Events))
		return 0, plant.ErrTooBig
	}
	st := s.streams[m]
	first := plant.Sequence(0)
	for i := range b.Events {
		e := b.Events[i]
		e.Data = slices.Clone(e.Data)
		e.Gateway, e.Source, e.Machine, e.Epoch = "gw", "/e/s/a/"+string(m), m, s.epoch
		e.Sequence, e.Previous = plant.Sequence(len(st.events)+1), plant.Sequence(len(st.events))
		if first == 0 {
			first = e.Sequence
		}
		st.events, st.prints = append(st.events, e), append(st.prints, imprint(&e))
		s.judge(st, &e)
	}
	if b.State != nil {
		st.state = slices.Clone(b.State)
	}
	for _, kv := range b.Put {
		st.kv[kv.Key] = slices.Clone(kv.Value)
	}
	for _, k := range b.Delete {
		delete(st.kv, k)
	}
	s.w.note("commit", "%s first %d, %d events", m, first, len(b.Events))
	o.notify()
	return first, nil
}

// judge looks at what a machine says of itself.
func (s *store) judge(st *stream, e *plant.Event) {
	if s.w.schemas != nil {
		if err := s.w.schemas.Check(e.Kind, e.Version, e.Data); err != nil {
			s.w.violated("%s: %v", e.ID(), err)
		}
	}
	switch e.Kind {
	case plant.KindCounter:
		var c plant.Counter
		if err := json.Unmarshal(e.Data, &c); err != nil {
			s.w.violated("%s: %v in %s", e.ID(), err, e.Data)
		}
		if c.Good < st.good {
			s.w.violated("%s: the total fell from %d to %d", e.ID(), st.good, c.Good)
		}
		st.good, st.deltas = c.Good, st.deltas+c.GoodDelta
	case plant.KindDosing:
		var d plant.Dosing
		if err := json.Unmarshal(e.Data, &d); err != nil {
			s.w.violated("%s: %v in %s", e.ID(), err, e.Data)
		}
		n, _ := strconv.ParseInt(d.Dose, 10, 64)
		if st.doses[n] {
			s.w.violated("%s: dose %d is recorded twice", e.ID(), n)
		}
		if want := (plant.Decimal{Unscaled: quantity(n), Scale: 2}); n == 0 || d.Quantity != want {
			s.w.violated("%s: dose %q of %v, want %v", e.ID(), d.Dose, d.Quantity, want)
		}
		st.doses[n] = true
	}
}

func (o *opened) notify() {
	close(o.changed)
	o.changed = make(chan struct{})
}
