package modbus

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// A block that the device refuses is divided until the address to blame stands
// alone, and joined again when its parts answer. The bounds are for one Read:
// what is left over goes on in the next, the good tags are not kept waiting.
const (
	maxSplits  = 16 // blocks divided, each for two requests
	maxRetries = 32 // refused parts asked again
	maxTrials  = 8  // divided blocks asked as a whole
	maxExtra   = 2*maxSplits + maxRetries + maxTrials
)

const (
	// minRest and maxRest bound how long what is refused by itself is left
	// alone. The wait doubles: a PLC that boots is back in seconds, a wrong line
	// in a config costs a request a minute.
	minRest, maxRest = time.Second, time.Minute
	// faultsInARow is how often a block is refused with an exception that names
	// no address before one of its addresses is suspected.
	faultsInARow = 3
	// unitPatience is how long a block is refused for the unit's sake, while
	// others of the same unit are not, before an address is suspected.
	unitPatience = 30 * time.Second
	// joinAfter is how long all parts of a divided block answer well before it
	// is tried as a whole; the wait doubles up to maxJoinWait if that fails.
	joinAfter, maxJoinWait = 10 * time.Second, 10 * time.Minute
)

// search is what a block knows of its refusals.
type search struct {
	parts []*block // a divided block is asked through them
	part  bool     // of a divided block

	faults  int           // refusals in a row that speak of no unit
	well    time.Time     // since when it answers; zero if it does not
	busy    time.Time     // since when the unit is to blame; zero if it is not
	rest    time.Duration // the last wait
	retryAt time.Time     // when it is to be asked again

	joinWait time.Duration // of a divided block
	joinAt   time.Time
	joined   time.Time // when it was last made whole
}

// renewed returns the blocks for a new session as those of the one before knew
// them: what the device refused is not searched for again, but bad from the
// start, and asked for when it would have been. Where all of it was refused the
// device may have been about to begin, so that this says nothing.
func renewed(before []*block) []*block {
	some := false
	blocks := make([]*block, len(before))
	for i, b := range before {
		b.leaves(func(leaf *block) bool {
			some = some || leaf.refusal == 0
			return !some
		})
		blocks[i] = b.renew()
	}
	if !some {
		return fresh(before)
	}
	return blocks
}

func (b *block) renew() *block {
	n := newBlock(b.points)
	n.part = b.part
	switch {
	case b.parts != nil:
		n.parts = []*block{b.parts[0].renew(), b.parts[1].renew()}
		n.rest, n.retryAt, n.joinWait, n.joinAt, n.joined = b.rest, b.retryAt, b.joinWait, b.joinAt, b.joined
	case b.refusal.lasting():
		n.refuse(b.refusal)
		n.rest, n.retryAt = b.rest, b.retryAt
	}
	return n
}

// answered is called after each good answer.
func (b *block) answered(now time.Time) {
	if b.well.IsZero() {
		b.well = now
	}
	b.faults, b.busy, b.rest, b.retryAt = 0, time.Time{}, 0, time.Time{}
}

// refused is called after each exception; othersWell says whether other blocks
// of the device are answered.
func (b *block) refused(e exception, now time.Time, othersWell bool) {
	b.well = time.Time{}
	if e.ofUnit() {
		b.faults = 0
		if b.busy.IsZero() || !othersWell {
			b.busy = now
		}
	} else {
		b.busy = time.Time{}
		b.faults++
	}
	switch alone := len(b.points) == 1 && (b.part || e.lasting()); {
	case now.Before(b.retryAt): // asked early, to notice a lost device
	case alone || b.parts != nil:
		b.rest = min(max(2*b.rest, minRest), maxRest)
		b.retryAt = now.Add(b.rest)
	default:
		b.retryAt = now
	}
}

// suspect reports whether one point of a refused block may be to blame.
func (b *block) suspect(now time.Time) bool {
	switch {
	case b.refusal == 0 || len(b.points) == 1:
		return false
	case b.refusal.ofAddress():
		return true
	case b.refusal.ofUnit():
		return now.Sub(b.busy) > unitPatience
	default:
		return b.faults >= faultsInARow
	}
}

// divide makes two parts of a block, at the hole nearest to its middle if it
// has any: a register that nobody asked for is the first to be left out.
func (b *block) divide(now time.Time) {
	middle := len(b.points) / 2
	at, end := 0, 0
	for i, p := range b.points {
		if i > 0 && p.start > end && (at == 0 || abs(i-middle) < abs(at-middle)) {
			at = i
		}
		end = max(end, p.end())
	}
	at = cmp.Or(at, middle)
	b.parts = []*block{newBlock(b.points[:at]), newBlock(b.points[at:])}
	for _, p := range b.parts {
		p.part, p.seen, p.busy = true, b.seen, b.busy
	}
	b.rest, b.retryAt = minRest, now.Add(minRest)
	if b.joined.IsZero() || now.Sub(b.joined) > maxJoinWait {
		b.joinWait = joinAfter
	} else {
		b.joinWait = min(2*b.joinWait, maxJoinWait)
	}
	b.joinAt = now.Add(b.joinWait)
}

func abs(n int) int { return max(n, -n) }

// leaves yields the blocks that are asked for b.
func (b *block) leaves(yield func(*block) bool) bool {
	if b.parts == nil {
		return yield(b)
	}
	return b.parts[0].leaves(yield) && b.parts[1].leaves(yield)
}

// mood is how the parts of a divided block answer.
type mood uint8

const (
	mixed      mood = iota
	allWell         // for joinAfter
	allRefused      // and a snapshot of one is a snapshot of all
)

func (b *block) mood(now time.Time) mood {
	var all mood
	var first *block
	b.leaves(func(leaf *block) bool {
		one := mixed
		switch {
		case leaf.refusal != 0:
			one = allRefused
		case !leaf.well.IsZero() && now.Sub(leaf.well) >= joinAfter:
			one = allWell
		}
		if first == nil {
			first, all = leaf, one
		}
		if one != all || leaf.seen != first.seen {
			all = mixed
		}
		return all != mixed
	})
	return all
}

// cycle is one Read.
type cycle struct {
	*driver
	ctx                     context.Context
	splits, retries, trials int
	asked                   bool
	away                    exception // says that the unit is not there; 0 if it may be
	latest                  time.Time // refused parts due after that wait for the next Read
}

// readAll asks for every block and fills scans.
func (d *driver) readAll(ctx context.Context) error {
	c := cycle{driver: d, ctx: ctx}
	c.ration(time.Now())
	now := time.Now()
	if d.absent {
		d.first++ // of a unit that is not there each block is asked for in turn
	}
	for i := range d.roots {
		b := d.roots[(i+d.first)%len(d.roots)]
		if b.waits(now, d.interval) {
			continue
		}
		if err := c.visit(b, true); err != nil {
			return err
		}
	}
	if d.absent = c.away != 0; !d.absent {
		d.first = 0
	}
	if c.asked || len(d.blocks) == 0 {
		return nil
	}
	// A Read in which every block rests would not notice a lost device.
	last := len(d.blocks) - 1
	b := d.blocks[last]
	if err := c.ask(b); err != nil {
		return err
	}
	d.blocks, d.scans = d.blocks[:last], d.scans[:last]
	c.give(b)
	return nil
}

// ration chooses the refused parts that are asked again: those that have waited
// longest.
func (c *cycle) ration(now time.Time) {
	var due []time.Time
	for _, b := range c.roots {
		if b.parts == nil {
			continue
		}
		b.leaves(func(leaf *block) bool {
			if leaf.refusal != 0 && !now.Before(leaf.retryAt) {
				due = append(due, leaf.retryAt)
			}
			return true
		})
	}
	c.latest = now
	if len(due) > maxRetries {
		slices.SortFunc(due, time.Time.Compare)
		c.latest = due[maxRetries-1]
	}
}

// visit reads a block through its parts, or as a whole if that is worth a try.
// Where all parts are refused the whole is asked rather than parts of parts: a
// device that comes back then is whole again at once.
func (c *cycle) visit(b *block, try bool) error {
	if c.away != 0 {
		c.spare(b)
		return nil
	}
	if b.parts == nil {
		return c.leaf(b)
	}
	now := time.Now()
	m := b.mood(now)
	due := m == allWell && !now.Before(b.joinAt) || m == allRefused && !now.Before(b.retryAt)
	if try && due && c.trials < maxTrials {
		c.trials++
		if err := c.ask(b); err != nil {
			return err
		}
		now = time.Now()
		if b.refusal == 0 {
			b.leaves(func(leaf *block) bool { b.seen = leaf.seen; return false })
			b.parts, b.joined = nil, now
			c.give(b)
			return nil
		}
		if m == allWell {
			b.joinWait = min(2*b.joinWait, maxJoinWait)
			b.joinAt = now.Add(b.joinWait)
			b.rest = 0
		}
	}
	for _, p := range b.parts {
		if err := c.visit(p, try && m != allRefused); err != nil {
			return err
		}
	}
	return nil
}

// leaf asks for an undivided block, unless it rests, and divides it if it is to
// be; the parts are asked in the same Read.
func (c *cycle) leaf(b *block) error {
	if b.refusal != 0 {
		if time.Now().Before(b.retryAt) || b.part && (c.retries >= maxRetries || b.retryAt.After(c.latest)) {
			c.give(b)
			return nil
		}
		if b.part {
			c.retries++
		}
	}
	if err := c.ask(b); err != nil {
		return err
	}
	now := time.Now()
	if c.splits >= maxSplits || !b.suspect(now) {
		c.give(b)
		return nil
	}
	c.splits++
	b.divide(now)
	for _, p := range b.parts {
		if err := c.leaf(p); err != nil {
			return err
		}
	}
	return nil
}

// spare hands over a block without asking for it, since the box has said in this
// Read that the unit is not there, which may have taken it its own time-out.
func (c *cycle) spare(b *block) {
	now := time.Now()
	b.leaves(func(leaf *block) bool {
		if !leaf.refusal.lasting() {
			leaf.refuse(c.away)
			leaf.refused(c.away, now, false)
		}
		c.give(leaf)
		return true
	})
}

func (c *cycle) ask(b *block) error {
	c.asked = true
	if err := c.readBlock(c.ctx, b); err != nil {
		return c.unread(b.String(), err)
	}
	if b.refusal.ofWay() && c.well+c.wellBefore == 0 {
		c.away = b.refusal
	}
	return nil
}

// give hands over what a block says.
func (c *cycle) give(b *block) {
	c.blocks = append(c.blocks, b)
	c.scans = append(c.scans, plant.Scan{
		Device: c.device, Session: c.session, Asked: b.askedAt, Received: time.Now(),
		Snapshot: !b.seen, Readings: b.readings,
	})
	b.seen = b.seen || b.refusal == 0
}
