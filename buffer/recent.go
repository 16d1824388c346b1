package buffer

import (
	"sort"

	"github.com/sluice-edge/sluice/plant"
)

// recentBytes bounds the durable events that are kept in memory for the uplinks
// that have not had them yet, over all machines: live traffic is then read
// without the disk, and a backlog costs no memory.
const recentBytes = 4 << 20

// recent is the newest events of all streams, as they are stored. It is guarded
// by Buffer.mu.
type recent struct {
	bytes, limit   int
	oldest, newest *chunk
}

// chunk is the events of one commit. Its records never change.
type chunk struct {
	stream  *stream
	first   plant.Sequence
	records [][]byte
	bytes   int
	// Over all streams, in the order of the commits.
	older, newer *chunk
}

// chunkOverhead is about what a chunk and each of its records take besides the
// records' bytes.
const chunkOverhead = 128

// newChunk copies the event records of r, which are its first entries.
func newChunk(r *request) *chunk {
	c := &chunk{stream: r.stream, records: make([][]byte, len(r.kinds))}
	size := 0
	for i := range c.records {
		size += len(r.entries[i].Value)
	}
	memory := make([]byte, 0, size)
	for i := range c.records {
		from := len(memory)
		memory = append(memory, r.entries[i].Value...)
		c.records[i] = memory[from:len(memory):len(memory)]
	}
	c.first = r.head.sequence - plant.Sequence(len(c.records)) + 1
	c.bytes = size + chunkOverhead*(1+len(c.records))
	return c
}

// last is the newest event of c.
func (c *chunk) last() plant.Sequence { return c.first + plant.Sequence(len(c.records)) - 1 }

// add keeps c, which is durable, and lets go of the oldest ones of any stream
// where there are too many.
func (t *recent) add(c *chunk) {
	if c.bytes > t.limit {
		t.forget(c.stream, c.last())
		return
	}
	c.older = t.newest
	if t.newest != nil {
		t.newest.newer = c
	} else {
		t.oldest = c
	}
	t.newest = c
	t.bytes += c.bytes
	c.stream.recent = append(c.stream.recent, c)
	for t.bytes > t.limit {
		t.forget(t.oldest.stream, t.oldest.last())
	}
}

// forget lets go of the chunks of s up to that sequence.
func (t *recent) forget(s *stream, upTo plant.Sequence) {
	n := 0
	for n < len(s.recent) && s.recent[n].last() <= upTo {
		t.unlink(s.recent[n])
		n++
	}
	if n > 0 {
		rest := copy(s.recent, s.recent[n:])
		clear(s.recent[rest:])
		s.recent = s.recent[:rest]
	}
}

// forgetFrom lets go of the chunks of s that begin at or before that sequence:
// some of their events are evicted.
func (t *recent) forgetFrom(s *stream, sequence plant.Sequence) {
	for i := len(s.recent) - 1; i >= 0; i-- {
		if s.recent[i].first <= sequence {
			t.forget(s, s.recent[i].last())
			return
		}
	}
}

func (t *recent) unlink(c *chunk) {
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		t.oldest = c.newer
	}
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		t.newest = c.older
	}
	c.older, c.newer = nil, nil
	t.bytes -= c.bytes
}

// passed lets go of what every uplink of this run has settled. It is called
// with b.mu held.
func (b *Buffer) passed(s *stream) {
	if len(s.recent) == 0 {
		return
	}
	upTo := s.head.sequence
	for _, q := range b.queues {
		if q.carries != nil {
			upTo = min(upTo, q.claim(s))
		}
	}
	b.recent.forget(s, upTo)
}

// recentFrom returns the chunk with that event, nil if it is not in memory.
func (b *Buffer) recentFrom(s *stream, sequence plant.Sequence) *chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := sort.Search(len(s.recent), func(i int) bool { return s.recent[i].last() >= sequence })
	if i == len(s.recent) || s.recent[i].first > sequence {
		return nil
	}
	return s.recent[i]
}
