package uplink

import (
	"context"

	"github.com/sluice-edge/sluice/plant"
)

// Turns is optional for a Queue: it leases the machines with a backlog apart from
// those without one, so that what happens now does not wait for a worker that is
// busy with what happened long ago.
type Turns interface {
	// NextOf is Queue.Next for the machines that have a backlog, or for those that
	// have none. The Forwarder calls it once at a time for each of the two, and then
	// does not call Next.
	NextOf(ctx context.Context, backlog bool) (plant.MachineID, error)
}

const (
	// freshTurns is how many machines without a backlog a worker serves before one
	// that has one, if there are both.
	freshTurns = 3
	// reserveFrom is from how many workers on one of them is kept for machines
	// without a backlog. A batch of a backlog may take as long as SendTimeout, and
	// all workers may be at one. Of fewer, one would be too large a part of the rate
	// at which a backlog is sent.
	reserveFrom = 8
)

// leases are the machines that wait for a worker; fresh are those without a
// backlog, and nothing comes there if the Queue does not tell them apart.
type leases struct{ fresh, late chan plant.MachineID }

func newLeases() leases {
	return leases{fresh: make(chan plant.MachineID), late: make(chan plant.MachineID)}
}

// leasing returns what leases machines from the Queue until run ends.
func (f *Forwarder) leasing(to leases) []func(run context.Context) error {
	if f.turns == nil {
		return []func(context.Context) error{func(run context.Context) error { return f.lease(run, f.queue.Next, to.late) }}
	}
	next := func(backlog bool) func(context.Context) (plant.MachineID, error) {
		return func(ctx context.Context) (plant.MachineID, error) { return f.turns.NextOf(ctx, backlog) }
	}
	return []func(context.Context) error{
		func(run context.Context) error { return f.lease(run, next(false), to.fresh) },
		func(run context.Context) error { return f.lease(run, next(true), to.late) },
	}
}

// lease hands leased machines to the workers. A machine before its time keeps
// its lease and waits aside, so that it neither blocks the others nor is leased
// again and again.
func (f *Forwarder) lease(run context.Context, next func(context.Context) (plant.MachineID, error), to chan<- plant.MachineID) error {
	for {
		m, err := next(run)
		if err != nil {
			if run.Err() != nil {
				return nil
			}
			return f.fatal("lease a machine", err)
		}
		if f.early(m) {
			f.aside(func() error {
				f.wait(run, m)
				return f.hand(run, to, m)
			})
			continue
		}
		if err := f.hand(run, to, m); err != nil {
			return err
		}
	}
}

// hand gives a leased machine to a worker, or back if run ends.
func (f *Forwarder) hand(run context.Context, to chan<- plant.MachineID, m plant.MachineID) error {
	select {
	case to <- m:
		return nil
	case <-run.Done():
		return f.settle(run, settlement{machine: m})
	}
}

// picker says from where the worker of that number takes its machines.
func (f *Forwarder) picker(from leases, worker int) *picker {
	if f.turns != nil && worker == 0 && f.options.Concurrent >= reserveFrom {
		from.late = nil // never ready
	}
	return &picker{leases: from}
}

// picker is one worker's choice of the next machine.
type picker struct {
	leases
	// turns is how many machines without a backlog came one after the other.
	turns int
}

// pick returns the next machine; ok is false when run has ended.
func (p *picker) pick(run context.Context) (m plant.MachineID, ok bool) {
	first := p.fresh
	if p.turns >= freshTurns {
		first = p.late
	}
	select {
	case m := <-first:
		return p.took(m, p.turns < freshTurns), true
	default:
	}
	select {
	case <-run.Done():
		return "", false
	case m := <-p.fresh:
		return p.took(m, true), true
	case m := <-p.late:
		return p.took(m, false), true
	}
}

func (p *picker) took(m plant.MachineID, fresh bool) plant.MachineID {
	if fresh {
		p.turns++
	} else {
		p.turns = 0
	}
	return m
}

// work serves one machine after the other until run ends.
func (f *Forwarder) work(run, sends context.Context, machines *picker) error {
	for {
		m, ok := machines.pick(run)
		if !ok {
			return nil
		}
		if err := f.serve(run, sends, m); err != nil {
			return err
		}
	}
}
