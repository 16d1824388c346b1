package buffer

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// eviction is one transaction under way.
type eviction struct {
	b      *Buffer
	stream *stream
	// thin is set where only the evictable kinds go.
	thin bool
	// from and to are the places between which events go, as the sums have them;
	// limit is where the next uplink stands, who loses something else.
	from, to position
	limit    plant.Sequence
	// losers are the uplinks that have not had the events, all those that would.
	losers []*Queue
	all    bool
	view   kindView

	keys        [][]byte
	bytes       int64
	first, last plant.Sequence
	kinds       map[plant.EventKind]uint64
	// pieces are those of the counter events among them.
	pieces *plant.GapPieces
	// earlier are gap events that go too, and whose losses are told again.
	earlier []plant.Event
	merged  []plant.GapData
	next    int64
	stopped bool
}

// planEviction looks who would lose what.
func (b *Buffer) planEviction(s *stream, thin bool) *eviction {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := &eviction{b: b, stream: s, thin: thin, limit: s.head.sequence, view: b.kindsNow(), next: noTime, all: true}
	e.from.set(&s.low)
	if thin && s.thin.sequence > s.low.sequence {
		e.from.set(&s.thin)
	}
	e.to.set(&e.from)
	for _, q := range b.queues {
		if thin && !q.carriesEvictable() {
			continue
		}
		if claim := q.claim(s); claim > e.from.sequence {
			e.all = false
			e.limit = min(e.limit, claim)
		} else {
			e.losers = append(e.losers, q)
		}
	}
	return e
}

// carriesEvictable is called with b.mu held.
func (q *Queue) carriesEvictable() bool {
	for kind, name := range q.b.kinds.names {
		if evictable(name) && q.carriesKind(kind) {
			return true
		}
	}
	return false
}

// collect reads the events that go. What stands between them stays.
func (e *eviction) collect(ctx context.Context) error {
	looked := 0
	complete, err := e.b.scan(ctx, e.stream, e.from.sequence, e.limit, func(r *stored) bool {
		if looked == evictLook || len(e.keys) == evictEvents {
			e.next, e.stopped = r.recorded, true
			return false
		}
		looked++
		kind := e.view.of(r.kind)
		e.stream.pass(&e.to, r.sequence, r.size, kind)
		if name := e.view.name(kind); !e.thin || evictable(name) {
			e.take(r, name, kind)
		}
		return true
	})
	if err != nil || !complete {
		return err
	}
	e.stream.cross(&e.to, e.limit+1)
	e.to.sequence = e.limit
	return nil
}

// take notes one event that goes.
func (e *eviction) take(r *stored, name plant.EventKind, kind int) {
	e.keys = append(e.keys, eventKey(e.stream.machine, r.sequence))
	e.bytes += int64(r.size)
	if !e.missed(kind) {
		return
	}
	if name == plant.KindGap {
		// What it tells is told again; its own number is missing all the same.
		e.again(r)
	}
	if e.first == 0 {
		e.first, e.kinds = r.sequence, map[plant.EventKind]uint64{}
	}
	e.last = r.sequence
	e.kinds[name]++
	if name == plant.KindCounter {
		e.countPieces(r.data)
	}
}

// countPieces adds those of a counter event that goes.
func (e *eviction) countPieces(data []byte) {
	var c plant.Counter
	if json.Unmarshal(data, &c) != nil {
		return
	}
	all, delta := c.Pieces()
	if e.pieces == nil {
		e.pieces = &plant.GapPieces{From: all - delta}
	}
	e.pieces.To, e.pieces.Count = max(e.pieces.To, all), e.pieces.Count+delta
}

// missed reports whether somebody who has not had an event of that kind would
// have got it.
func (e *eviction) missed(kind int) bool {
	e.b.mu.Lock()
	defer e.b.mu.Unlock()
	return slices.ContainsFunc(e.losers, func(q *Queue) bool { return q.carriesKind(kind) })
}

// again keeps the loss that a gap event tells which goes too: joined to this one
// where it is of the same sort, else as it is, under a new number.
func (e *eviction) again(r *stored) {
	var data plant.GapData
	if err := json.Unmarshal(r.data, &data); err == nil && data.Cause == plant.GapEvicted && !data.Delivered && slices.Equal(data.Uplinks, e.names()) {
		e.merged = append(e.merged, data)
		return
	}
	e.earlier = append(e.earlier, plant.Event{
		Kind: plant.KindGap, Version: r.version, Time: timeOf(r.time), TimeSource: timeSourceOf(r.source),
		ClockOffset: time.Duration(r.offset), ClockStep: time.Duration(r.step), TimeUncertain: r.flags&flagTimeUncertain != 0,
		Data: slices.Clone(r.data),
	})
}

// names are the uplinks that lose the events, nil for all.
func (e *eviction) names() (names []string) {
	if e.all {
		return nil
	}
	for _, q := range e.losers {
		names = append(names, q.name)
	}
	return names
}

// gaps is what is told of it: nothing where everybody has had the events.
func (e *eviction) gaps() []gap {
	g := gap{span: span{e.first, e.last}, cause: plant.GapEvicted, kinds: maps.Clone(e.kinds), uplinks: e.names(), pieces: e.pieces}
	for _, m := range e.merged {
		g.pieces = joinPieces(g.pieces, m.Pieces)
		if g.first == 0 || m.First < g.first {
			g.first = m.First
		}
		g.last = max(g.last, m.Last)
		for kind, n := range m.Kinds {
			if g.kinds == nil {
				g.kinds = map[plant.EventKind]uint64{}
			}
			g.kinds[kind] += n
		}
	}
	for _, n := range g.kinds {
		g.count += n
	}
	if g.count == 0 {
		return nil
	}
	g.reason = "evicted to make room: the quota is used up by events that are not delivered"
	if e.b.quota() != e.b.opts.Quota {
		g.reason = "evicted to make room: the disk is nearly full of events that are not delivered"
	}
	return []gap{g}
}

// joinPieces returns the pieces of two gaps together.
func joinPieces(a, b *plant.GapPieces) *plant.GapPieces {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return &plant.GapPieces{From: min(a.From, b.From), To: max(a.To, b.To), Count: a.Count + b.Count}
}

// encode adds to r the deletions and where the stream begins then. rest deletes
// what did not fit: damaged records, whose loss is told already.
func (e *eviction) encode(r *request) (rest func() error, err error) {
	b, s := e.b, e.stream
	rest = func() error { return nil }
	if e.thin {
		for _, key := range e.keys {
			r.delete(key)
		}
		r.put(takenKey(s.machine, e.to.sequence), func(dst, key []byte) []byte { return appendTakenRecord(dst, key, e.from.sequence, runs(e.keys)) })
	} else if after, done, err := b.deleteKeys(r, s, e.from.sequence, e.to.sequence); err != nil {
		return nil, err
	} else if !done {
		rest = func() error { return b.deleteRest(s, after, e.to.sequence) }
	}
	gone := s.gone + e.bytes
	if e.thin {
		r.put(machineKey(classThin, s.machine), func(dst, key []byte) []byte {
			b.mu.Lock()
			defer b.mu.Unlock()
			return appendThinRecord(dst, key, &e.to, gone, &b.kinds)
		})
	} else if err := b.putLow(r, s, &e.to); err != nil {
		return nil, err
	}
	after := r.apply
	r.apply = func() {
		if after != nil {
			after()
		}
		if e.thin {
			b.eventBytes -= e.bytes
			s.thin.set(&e.to)
			s.gone = gone
		} else {
			b.eventBytes -= s.freed(&e.to)
			s.setLow(&e.to)
			s.lowRecorded, s.lowKnown = e.next, e.stopped
		}
		b.recent.forgetFrom(s, e.to.sequence)
		b.overtake(s)
	}
	return rest, nil
}
