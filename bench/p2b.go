package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/plant"
)

// p2bSizes are the backlogs beside which the same commits are made.
var p2bSizes = []int{10_000, 100_000, million}

const (
	p2bRounds = 5
	// p2bAllowed is what two measurements of the same differ by on a machine with
	// other work.
	p2bAllowed = 1.2
)

// commitOnBacklog is what P2 says of the length of an outage: the work of P2
// beside backlogs of three sizes, in turns, so that what the machine does
// meanwhile hits all of them.
func commitOnBacklog(_ context.Context, b *bed) (r result, err error) {
	round := b.length(700*time.Millisecond, 5*time.Second)
	all, err := askRole[[]commitResult]("commit-backlog", besideRole{
		Dir: filepath.Join(b.dir, "p2b"), Sizes: p2bSizes, Rounds: p2bRounds, Seconds: round.Seconds(),
	})
	if err != nil {
		return r, err
	}
	small, large := all[0], all[len(all)-1]
	limit, err := askRole[limitResult]("limit-badger", badgerRole{
		Dir: filepath.Join(b.dir, "limit"), Seconds: 3 * round.Seconds(), Machines: p2Machines,
		Events: large.Group * p2Events, States: large.Group,
		EventKey: large.Shape.EventKey, EventValue: large.Shape.EventValue, StateKey: large.Shape.StateKey, StateValue: large.Shape.StateValue,
	})
	if err != nil {
		return r, err
	}
	r = newResult("p50_ratio", large.P50/small.P50, p2bAllowed, true)
	r.add("cpu_ratio", large.cpuPer1e6()/small.cpuPer1e6())
	for i, size := range p2bSizes {
		r.add(fmt.Sprintf("p50_ms_%d", size), all[i].P50)
		r.add(fmt.Sprintf("p99_ms_%d", size), all[i].P99)
		r.add(fmt.Sprintf("events_s_%d", size), all[i].perSecond())
		r.add(fmt.Sprintf("cpu_s_per_1e6_%d", size), all[i].cpuPer1e6())
	}
	r.add("limit_empty_events_s", limit.perSecond())
	r.add("limit_empty_cpu_s_per_1e6", limit.cpuPer1e6())
	r.Note += fmt.Sprintf(" the largest backlog against the smallest, %d rounds of %v in turns, medians; CPU with the compactions of all three stores; limit: bare Badger, an empty store; group=%.1f machines", p2bRounds, round, large.Group)
	return r, nil
}

// besideRole is the argument of the role "commit-backlog".
type besideRole struct {
	Dir     string
	Sizes   []int
	Rounds  int
	Seconds float64
}

// besideStore is one of the stores side by side.
type besideStore struct {
	dir    string
	store  *buffer.Buffer
	rounds []commitResult
}

// commitBeside plays the role; it answers with a result for each size, the
// median of its rounds.
func commitBeside(a besideRole) (all []commitResult, err error) {
	ctx := context.Background()
	stores := make([]besideStore, len(a.Sizes))
	defer func() {
		for _, s := range stores {
			if s.store != nil {
				err = errors.Join(err, s.store.Close())
			}
		}
		for i := range all {
			var shapeErr error
			all[i].Shape, shapeErr = shapeOf(stores[i].dir)
			err = errors.Join(err, shapeErr)
		}
	}()
	for i, size := range a.Sizes {
		s := &stores[i]
		s.dir = filepath.Join(a.Dir, strconv.Itoa(size))
		if s.store, err = buffer.Open(ctx, backlogOptions(s.dir, "p2b"), zap.NewNop()); err != nil {
			return nil, err
		}
		if _, err := s.store.Queue("mqtt", func(plant.EventKind) bool { return true }); err != nil {
			return nil, err
		}
		if err := addEvents(ctx, s.store, size); err != nil {
			return nil, err
		}
	}
	if err := awaitRest(ctx); err != nil {
		return nil, err
	}
	for range a.Rounds {
		for i := range stores {
			r, err := commitFor(ctx, stores[i].store, time.Duration(a.Seconds*float64(time.Second)))
			if err != nil {
				return nil, err
			}
			stores[i].rounds = append(stores[i].rounds, r)
		}
	}
	for _, s := range stores {
		slices.SortFunc(s.rounds, func(a, b commitResult) int {
			return int(1e6 * (a.P50 - b.P50)) // in nanoseconds
		})
		all = append(all, s.rounds[len(s.rounds)/2])
	}
	return all, nil
}

// commitFor lets the machines of P2 commit for that long.
func commitFor(ctx context.Context, store *buffer.Buffer, length time.Duration) (r commitResult, err error) {
	took := make([][]float64, p2Machines)
	errs := make([]error, p2Machines)
	var machines sync.WaitGroup
	before := store.Stats()
	cpuBefore, begin := ownCPU(), time.Now()
	for m := range p2Machines {
		machines.Go(func() {
			took[m], errs[m] = commitUntil(ctx, store, plant.MachineID(fmt.Sprintf("MACHINE-%02d", m)), begin.Add(length))
		})
	}
	machines.Wait()
	r.Seconds, r.CPU = time.Since(begin).Seconds(), (ownCPU() - cpuBefore).Seconds()
	after := store.Stats()
	all := slices.Concat(took...)
	r.Events, r.P50, r.P99 = len(all)*p2Events, median(all), quantile(all, 0.99)
	r.Group = float64(after.Commits-before.Commits) / float64(max(after.Groups-before.Groups, 1))
	return r, errors.Join(errs...)
}

// awaitRest waits until this process has almost nothing to do any more: the
// stores have moved their tables where they want them.
func awaitRest(ctx context.Context) error {
	const look, quiet = 300 * time.Millisecond, 0.05
	used, since := ownCPU(), time.Now()
	return await(ctx, 20*time.Second, "the stores do not come to rest", func() bool {
		d := time.Since(since)
		if d < look {
			return false
		}
		busy := float64(ownCPU()-used) / float64(d)
		used, since = ownCPU(), time.Now()
		return busy < quiet
	})
}
