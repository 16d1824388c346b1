package buffer

import (
	"context"

	"github.com/sluice-edge/sluice/plant"
)

// Peek returns the leased machine's events after that sequence (0: after the
// cursor), at most maxEvents and about maxBytes of data, at least one if there
// is one. It blocks on disk reads only. The events are the caller's.
func (q *Queue) Peek(ctx context.Context, m plant.MachineID, after plant.Sequence, maxEvents, maxBytes int) ([]plant.Event, error) {
	if err := q.b.usable(ctx); err != nil {
		return nil, err
	}
	p, err := q.openPeek(m, after)
	if err != nil {
		return nil, err
	}
	p.after, p.maxEvents, p.maxBytes = after, max(maxEvents, 1), maxBytes
	p.likely = min(p.likely, p.maxEvents)
	complete, err := q.b.scan(ctx, p.cursor.stream, p.mark.at.sequence, p.upTo, p.take)
	if err != nil {
		return nil, err
	}
	if complete {
		p.cursor.stream.cross(&p.mark.at, p.upTo+1)
		p.mark.at.sequence = p.upTo
	}
	q.closePeek(p)
	return p.events, nil
}

// peek is one Peek under way.
type peek struct {
	queue   *Queue
	cursor  *cursor
	lease   *lease
	mark    mark
	upTo    plant.Sequence
	after   plant.Sequence
	kinds   kindView
	carried []bool

	maxEvents, maxBytes int
	// likely is how many events there are to take, as far as is known.
	likely int

	events   []plant.Event
	previous plant.Sequence
	chunk    []byte
	bytes    int
	epoch    plant.Epoch
	source   string
}

func (q *Queue) openPeek(m plant.MachineID, after plant.Sequence) (*peek, error) {
	b := q.b
	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := q.leased(m)
	if err != nil {
		return nil, err
	}
	b.calm(c.stream)
	c.lease.busy = true
	p := &peek{queue: q, cursor: c, lease: c.lease, upTo: c.stream.head.sequence, previous: c.delivered}
	p.likely = int(min(c.backlog, maxLikely))
	from := c.lease.markAt(max(after, c.at.sequence))
	p.mark = mark{at: from.at.clone(), carried: from.carried}
	if after > c.at.sequence {
		p.previous = after
	}
	c.lease.upTo, c.lease.arrivedKnown = p.upTo, false
	for kind := range b.kinds.names {
		q.carriesKind(kind)
	}
	p.kinds, p.carried = b.kindsNow(), q.carried
	return p, nil
}

// markAt returns the newest mark that is not behind that sequence.
func (l *lease) markAt(s plant.Sequence) *mark {
	i := len(l.marks) - 1
	for i > 0 && l.marks[i].at.sequence > s {
		i--
	}
	return &l.marks[i]
}

// take looks at one stored event, and reports whether there is room for more.
func (p *peek) take(r *stored) bool {
	kind := p.kinds.of(r.kind)
	if !p.isCarried(kind) {
		p.cursor.stream.pass(&p.mark.at, r.sequence, r.size, kind)
		return true
	}
	if r.sequence > p.after {
		if len(p.events) > 0 && (len(p.events) >= p.maxEvents || p.bytes+len(r.data) > p.maxBytes) {
			p.mark.next, p.mark.nextKnown = r.time, true
			return false
		}
		p.append(r, kind)
	}
	p.cursor.stream.pass(&p.mark.at, r.sequence, r.size, kind)
	p.mark.carried++
	return true
}

func (p *peek) isCarried(kind int) bool {
	if kind < len(p.carried) {
		return p.carried[kind]
	}
	b := p.queue.b
	b.mu.Lock()
	defer b.mu.Unlock()
	p.queue.carriesKind(kind)
	p.carried = p.queue.carried
	return p.carried[kind]
}

const (
	// peekChunk is how much memory the data of several events share.
	peekChunk = 16 << 10
	// maxLikely bounds what a Peek makes room for beforehand.
	maxLikely = 64
)

func (p *peek) append(r *stored, kind int) {
	if p.events == nil {
		p.events = make([]plant.Event, 0, max(p.likely, 1))
	}
	if cap(p.chunk)-len(p.chunk) < len(r.data) {
		p.chunk = make([]byte, 0, max(len(r.data), min(peekChunk, max(p.likely-len(p.events), len(p.events))*(len(r.data)+64))))
	}
	n := len(p.chunk)
	p.chunk = append(p.chunk, r.data...)
	if p.source == "" || p.epoch != r.epoch {
		p.epoch, p.source = r.epoch, p.queue.b.sourceOf(r.epoch, p.cursor.stream.machine)
	}
	e := p.queue.b.event(p.cursor.stream.machine, p.source, r, p.kinds.name(kind), p.chunk[n:len(p.chunk):len(p.chunk)])
	e.Previous = p.previous
	p.previous = e.Sequence
	p.bytes += len(r.data)
	p.events = append(p.events, e)
}

// closePeek keeps what was learnt.
func (q *Queue) closePeek(p *peek) {
	b := q.b
	b.mu.Lock()
	defer b.mu.Unlock()
	c, l := p.cursor, p.lease
	if c.lease != l {
		return
	}
	if l.marks[0].carried == 0 && len(p.events) == 0 && p.mark.carried == 0 && p.upTo == c.stream.head.sequence && p.mark.at.sequence == p.upTo {
		// Whatever was counted here is lost: the way is free up to the head.
		p.mark.at.set(&c.stream.head)
	}
	l.keep(p.mark)
}

// keep adds a mark in its order and thins the marks when there are too many.
func (l *lease) keep(m mark) {
	i := len(l.marks)
	for i > 0 && l.marks[i-1].at.sequence > m.at.sequence {
		i--
	}
	if i > 0 && l.marks[i-1].at.sequence == m.at.sequence {
		l.marks[i-1] = m
		return
	}
	l.marks = append(l.marks[:i], append([]mark{m}, l.marks[i:]...)...)
	if len(l.marks) > maxMarks {
		kept := l.marks[:1]
		for j := 2; j < len(l.marks)-1; j += 2 {
			kept = append(kept, l.marks[j])
		}
		l.marks = append(kept, l.marks[len(l.marks)-1])
	}
}
