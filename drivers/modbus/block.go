package modbus

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// block is one request: neighbouring points of one table.
type block struct {
	table    Table
	start    int
	count    int // registers or bits
	points   []*point
	readings []plant.Reading // one for each point, reused
	seen     bool            // it was read in this session
	askedAt  time.Time       // when the last request was sent
	due      time.Time       // when it is to be read again, for tags with a pace of their own

	refusal exception // that readings speak of; 0 for none
	search
}

func newBlock(points []*point) *block {
	b := &block{table: points[0].table, start: points[0].start, points: points, readings: make([]plant.Reading, len(points))}
	end := 0
	for i, p := range points {
		b.readings[i].Tag = p.tag
		end = max(end, p.end())
	}
	b.count = end - b.start
	return b
}

// join plans the requests: neighbours share one over holes of at most gap
// registers, up to limit registers. A point is never divided, so a value is
// always of one moment. Sixteen bits weigh as much as a register.
func join(points []*point, limit, gap int) []*block {
	points = slices.Clone(points)
	slices.SortStableFunc(points, func(a, b *point) int {
		return cmp.Or(cmp.Compare(a.every, b.every), cmp.Compare(a.table, b.table), cmp.Compare(a.start, b.start))
	})
	var blocks []*block
	first, end := 0, 0
	for i, p := range points {
		maxCount, maxHole := limit, gap
		if p.table.bits() {
			maxCount, maxHole = min(16*limit, maxReadBits), 16*gap
		}
		start := points[first]
		if i > 0 && (p.every != start.every || p.table != start.table || p.start > end+maxHole || max(end, p.end())-start.start > maxCount) {
			blocks = append(blocks, newBlock(points[first:i]))
			first, end = i, 0
		}
		end = max(end, p.end())
	}
	if len(points) > 0 {
		blocks = append(blocks, newBlock(points[first:]))
	}
	return blocks
}

// fresh returns copies for a new session; the points are shared.
func fresh(planned []*block) []*block {
	blocks := make([]*block, len(planned))
	for i, b := range planned {
		blocks[i] = newBlock(b.points)
	}
	return blocks
}

// waits reports whether the block has its own pace and is not to be read now,
// and notes when it is next. Half of the interval is left for a late poll.
func (b *block) waits(now time.Time, interval time.Duration) bool {
	every := b.points[0].every
	if every <= interval {
		return false
	}
	if now.Add(interval / 2).Before(b.due) {
		return true
	}
	if b.due = b.due.Add(every); now.Sub(b.due) > 0 {
		b.due = now.Add(every) // the first time, or after many late polls
	}
	return false
}

// String names the block for people: "holding:100…109".
func (b *block) String() string {
	if b.count == 1 {
		return fmt.Sprintf("%s:%d", b.table, b.start)
	}
	return fmt.Sprintf("%s:%d…%d", b.table, b.start, b.start+b.count-1)
}

// decode fills the readings from an answer of exactly the length asked for.
func (b *block) decode(answer []byte) {
	b.refusal = 0
	for i, p := range b.points {
		r := &b.readings[i]
		r.Quality, r.Cause = plant.Good, ""
		if b.table.bits() {
			r.Value = p.decodeBit(answer, b.start)
			continue
		}
		at := 2 * (p.start - b.start)
		if r.Value, r.Cause = p.decode(answer[at : at+2*p.width]); r.Cause != "" {
			r.Quality = plant.Bad
		}
	}
}

// refuse fills the readings with what the exception means.
func (b *block) refuse(e exception) {
	if b.refusal == e {
		return // they say so already
	}
	b.refusal = e
	cause := e.cause(b)
	for i := range b.readings {
		r := &b.readings[i]
		r.Value, r.Quality, r.Cause = plant.Value{}, plant.Bad, cause
	}
}
