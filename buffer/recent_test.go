package buffer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/sluice-edge/sluice/plant"
)

// seen is all that a scan says of an event. Of long data it is a sum.
func seen(r *stored) string {
	const long = 512
	data, record := r.data, r.record
	if len(data) > long {
		data = fmt.Appendf(nil, "%d bytes %x", len(data), sha256.Sum256(data))
	}
	if len(record) > long {
		record = fmt.Appendf(nil, "%d bytes %x", len(record), sha256.Sum256(record))
	}
	return fmt.Sprintf("%d %x %d %d %d %d %d %d %d %s %q %d %x", r.sequence, uint64(r.epoch), r.time, r.recorded, r.offset, r.step,
		r.version, r.source, r.flags, r.kind, data, r.size, record)
}

// fromDisk lists the events of s that the store has after that sequence.
func fromDisk(b *Buffer, s *stream, after, upTo plant.Sequence) (list []string, err error) {
	p := pass{b: b, ctx: context.Background(), stream: s, done: after, upTo: upTo}
	p.each = func(r *stored) bool { list = append(list, seen(r)); return true }
	return list, b.view(p.iterate)
}

// checkRecent compares what is in memory with the store: each event that is in
// memory is the same byte for byte, in one piece up to the head, at most as much
// as is allowed, and there is all that was asked for.
func checkRecent(b *Buffer) error {
	b.mu.Lock()
	streams := append([]*stream{}, b.order...)
	bytes := 0
	for _, s := range streams {
		for i, c := range s.recent {
			if i > 0 && s.recent[i-1].last()+1 != c.first {
				b.mu.Unlock()
				return fmt.Errorf("%s: %d follows %d in memory", s.machine, c.first, s.recent[i-1].last())
			}
			bytes += c.bytes
		}
		if n := len(s.recent); n > 0 && s.recent[n-1].last() != s.head.sequence {
			b.mu.Unlock()
			return fmt.Errorf("%s: memory ends at %d, the stream at %d", s.machine, s.recent[n-1].last(), s.head.sequence)
		}
	}
	chain := 0
	for c := b.recent.oldest; c != nil; c = c.newer {
		chain += c.bytes
	}
	kept, limit := b.recent.bytes, b.recent.limit
	b.mu.Unlock()
	if bytes != kept || chain != kept || kept > limit {
		return fmt.Errorf("%d bytes in the streams, %d in the chain, %d counted, %d allowed", bytes, chain, kept, limit)
	}
	for _, s := range streams {
		// From the beginning, and from places around where memory may begin.
		step := max(1, (s.head.sequence-s.low.sequence)/8)
		for after := s.low.sequence; after < s.head.sequence; after += step {
			want, err := fromDisk(b, s, after, s.head.sequence)
			if err != nil {
				return err
			}
			var got []string
			if _, err := b.scan(context.Background(), s, after, s.head.sequence, func(r *stored) bool { got = append(got, seen(r)); return true }); err != nil {
				return err
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				return fmt.Errorf("%s after %d: a scan gave\n%q, the store has\n%q", s.machine, after, got, want)
			}
		}
	}
	return nil
}

// inMemory is the number of events of a machine that need no disk.
func inMemory(b *Buffer, m plant.MachineID) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.streams[m].recent {
		n += len(c.records)
	}
	return n
}

func TestRecentEventsStayUntilAllUplinksHaveThem(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	mes, erp := queue(t, b, "mes", all), queue(t, b, "erp", only(plant.KindCounter))
	commit(t, b, "M1", count(1), parameter(2))
	commit(t, b, "M1", count(3))
	if n := inMemory(b, "M1"); n != 3 {
		t.Fatalf("%d events in memory, want 3", n)
	}
	m := next(t, mes)
	if got := fmt.Sprint(sequences(peekAll(t, mes, m, 0, 9))); got != "[1 2 3]" {
		t.Fatalf("peeked %s", got)
	}
	settle(t, mes, m, 3, delivered(1, 3))
	if n := inMemory(b, "M1"); n != 3 {
		t.Errorf("%d events in memory while one uplink has had none, want 3", n)
	}
	m = next(t, erp)
	if got := fmt.Sprint(sequences(peekAll(t, erp, m, 0, 1))); got != "[1]" {
		t.Fatalf("peeked %s", got)
	}
	settle(t, erp, m, 1, delivered(1, 1))
	if n := inMemory(b, "M1"); n != 1 {
		t.Errorf("%d events in memory, want the commit that is still to be sent", n)
	}
	mustClose(t, b)
	b = open(t, testOptions(path))
	queue(t, b, "mes", all)
	erp = queue(t, b, "erp", only(plant.KindCounter))
	m = next(t, erp)
	events := peekAll(t, erp, m, 0, 9)
	if len(events) != 1 || events[0].Sequence != 3 || events[0].Previous != 1 {
		t.Errorf("after a restart: %+v, want event 3 behind 1", events)
	}
}

func TestRecentEventsAreBounded(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", all)
	b.recent.limit = 2 << 10
	for n := range 40 {
		commit(t, b, plant.MachineID(fmt.Sprintf("M%d", n%3)), count(n), count(n+1))
		if err := checkRecent(b); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	for range 3 {
		m := next(t, q)
		total += len(peekAll(t, q, m, 0, 100))
	}
	if total != 80 {
		t.Errorf("%d events came, want 80, most of them from disk", total)
	}
	// One commit alone may be more than all that is allowed.
	b.recent.limit = 100
	commit(t, b, "M9", count(1))
	if n := inMemory(b, "M9"); n != 0 {
		t.Errorf("%d events in memory that are more than is allowed", n)
	}
}
