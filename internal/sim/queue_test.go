package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// queue is one uplink's view.
type queue struct {
	o    *opened
	sink *sink
	dice map[plant.MachineID]*rand.Rand
	// shelf is of what is set aside, which one goroutine sees to.
	shelf *rand.Rand
}

var _ uplink.Queue = (*queue)(nil)

func (o *opened) queue(k *sink) *queue {
	q := &queue{o: o, sink: k, dice: map[plant.MachineID]*rand.Rand{}, shelf: dice(o.s.w.plan.Seed, fmt.Sprint("shelf ", k.name, o.p.no))}
	for _, m := range o.s.w.machines {
		q.dice[m] = dice(o.s.w.plan.Seed, fmt.Sprint("queue ", k.name, m, o.p.no))
	}
	return q
}

// Next implements uplink.Queue.
func (q *queue) Next(ctx context.Context) (plant.MachineID, error) {
	o, s := q.o, q.o.s
	for {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		s.mu.Lock()
		if s.opened != o {
			s.mu.Unlock()
			return "", errCrashed
		}
		c, order := s.cursors[q.sink.name], s.w.machines
		for i := range order {
			m := order[(o.turn[q.sink.name]+i)%len(order)]
			if !o.leased[q.sink.name][m] && q.sink.takes(m) && int(c.at[m]) < len(s.streams[m].events) {
				o.turn[q.sink.name] += i + 1
				o.leased[q.sink.name][m] = true
				s.mu.Unlock()
				return m, nil
			}
		}
		changed := o.changed
		s.mu.Unlock()
		select {
		case <-o.p.dead:
			return "", errCrashed
		case <-ctx.Done():
			return "", ctx.Err()
		case <-changed:
		}
	}
}

// Peek implements uplink.Queue.
func (q *queue) Peek(ctx context.Context, m plant.MachineID, after plant.Sequence, maxEvents, _ int) ([]plant.Event, error) {
	if err := q.o.p.sleep(ctx, among(q.dice[m], time.Millisecond)); err != nil {
		return nil, err
	}
	if err := q.o.p.at("queue.peek", q.sink.name); err != nil {
		return nil, err
	}
	s := q.o.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != q.o {
		return nil, errCrashed
	}
	if !q.o.leased[q.sink.name][m] {
		s.w.violated("%s: Peek of %s without its lease", q.sink.name, m)
	}
	rest := s.streams[m].events[max(after, s.cursors[q.sink.name].at[m]):]
	return slices.Clone(rest[:min(len(rest), maxEvents)]), nil
}

// Settle implements uplink.Queue.
func (q *queue) Settle(ctx context.Context, m plant.MachineID, upTo plant.Sequence, r []plant.Result) error {
	name := q.sink.name
	if err := q.o.p.at("settle.before", name); err != nil {
		return err
	}
	durable := slices.ContainsFunc(r, func(r plant.Result) bool {
		return len(r.Put) > 0 || r.Status == plant.Rejected || r.Status == plant.Held
	})
	if durable {
		if err := q.o.p.sleep(ctx, among(q.dice[m], q.o.s.w.plan.Commit)); err != nil {
			return err
		}
	}
	if err := q.move(m, upTo, r, durable); err != nil {
		return err
	}
	if durable {
		if err := q.o.p.at("settle.durable", name); err != nil {
			return err
		}
	}
	if upTo == 0 {
		q.o.p.idle(name)
	}
	return q.o.p.at("settle.after", name)
}

// move moves the cursor and ends the lease.
func (q *queue) move(m plant.MachineID, upTo plant.Sequence, r []plant.Result, durable bool) error {
	s, name := q.o.s, q.sink.name
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != q.o {
		return errCrashed
	}
	c, st := s.cursors[name], s.streams[m]
	if !q.o.leased[name][m] {
		s.w.violated("%s: Settle of %s without its lease", name, m)
	}
	if int(upTo) > len(st.events) {
		s.w.violated("%s: %s settled up to %d of %d", name, m, upTo, len(st.events))
		return nil
	}
	rejected, shelved := map[plant.Sequence]bool{}, map[plant.Sequence]bool{}
	for i := range r {
		for n := r[i].First; r[i].Status == plant.Rejected && n <= min(r[i].Last, upTo); n++ {
			rejected[n] = true
			if n == r[i].Last && n > c.at[m] {
				c.letters[letter{m, n}] = true
			}
			if _, child := q.sink.childKey(&st.events[n-1]); child && shelves(&r[i]) {
				shelved[n] = true
			}
		}
		c.put(r[i].Put)
	}
	for n := c.at[m] + 1; n <= upTo; n++ {
		e := &st.events[n-1]
		if !shelved[n] && !q.sink.answered(e, rejected[n]) {
			s.w.violated("%s: %s is settled, rejected %v, and the receiver has not said so", name, e.ID(), rejected[n])
		}
	}
	if upTo > c.at[m] {
		s.w.note("settle", "%s %s up to %d", name, m, upTo)
		c.at[m] = upTo
		c.moves = append(c.moves, move{time.Now(), m, upTo})
		if durable {
			c.durable[m] = upTo
		}
	}
	q.o.leased[name][m] = false
	q.o.notify()
	return nil
}
