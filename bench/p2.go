package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/plant"
)

// The work of P2.
const (
	p2Machines = 32
	p2Events   = 4
	p2Rounds   = 5
)

// commitPath is P2: 32 machines commit 4 events and their state each, side by
// side, every Commit durable on return; against bare Badger writing entries of
// the same sizes in groups of the same mean size, in turns.
func commitPath(ctx context.Context, b *bed) (r result, err error) {
	round := b.length(3*time.Second, 15*time.Second)
	var ratios, p99s, rates, limits, cpus, limitCPUs []float64
	for i := range p2Rounds {
		ours, err := commitRound(ctx, filepath.Join(b.dir, fmt.Sprintf("p2-%d", i)), round)
		if err != nil {
			return r, err
		}
		limit, err := askRole[limitResult]("limit-badger", badgerRole{
			Dir: filepath.Join(b.dir, "limit"), Seconds: round.Seconds(), Machines: p2Machines,
			Events: ours.Group * p2Events, States: ours.Group,
			EventKey: ours.Shape.EventKey, EventValue: ours.Shape.EventValue, StateKey: ours.Shape.StateKey, StateValue: ours.Shape.StateValue,
		})
		if err != nil {
			return r, err
		}
		ratios = append(ratios, ours.perSecond()/limit.perSecond())
		p99s = append(p99s, ours.P99/limit.P99)
		rates, limits = append(rates, ours.perSecond()), append(limits, limit.perSecond())
		cpus, limitCPUs = append(cpus, ours.cpuPer1e6()), append(limitCPUs, limit.cpuPer1e6())
		r.Note = fmt.Sprintf("group=%.1f machines", ours.Group)
	}
	note := r.Note
	r = newResult("ratio", median(ratios), 0.75, false)
	r.Note = note
	r.also("p99_ratio", median(p99s), 3, true)
	r.add("events_s", median(rates))
	r.add("limit_events_s", median(limits))
	r.add("cpu_s_per_1e6", median(cpus))
	r.add("limit_cpu_s_per_1e6", median(limitCPUs))
	r.spread(ratios)
	return r, nil
}

// commitResult is one round of the gateway's own commit path.
type commitResult struct {
	limitResult
	Group float64 // commits that shared one sync, on average
	P50   float64 // milliseconds of one commit
	Shape storeShape
}

func commitRound(ctx context.Context, dir string, length time.Duration) (r commitResult, err error) {
	o := buffer.DefaultOptions(dir)
	o.Gateway, o.Source, o.Quota = "bench", "/acme/bench/p2", 8<<30
	store, err := buffer.Open(ctx, o, zap.NewNop())
	if err != nil {
		return r, err
	}
	r, err = commitFor(ctx, store, length)
	if err := errors.Join(err, store.Close()); err != nil {
		return r, err
	}
	r.Shape, err = shapeOf(dir)
	return r, errors.Join(err, os.RemoveAll(dir))
}

// commitUntil commits one batch after the other and returns how long each took,
// in milliseconds.
func commitUntil(ctx context.Context, store *buffer.Buffer, m plant.MachineID, end time.Time) (took []float64, err error) {
	if _, err := store.Load(ctx, m, func(plant.KV) error { return nil }); err != nil {
		return nil, err
	}
	data := []byte(`{"machine":"` + string(m) + `","mode":"production","good":123456,"good_delta":4,"scrap":[{"code":"BURR","quantity":123,"delta":1}],"from":"2026-01-01T00:00:00.000Z","to":"2026-01-01T00:00:01.000Z","raw":123579}`)
	state := make([]byte, 400)
	events := make([]plant.Event, p2Events)
	for time.Now().Before(end) {
		now := time.Now()
		for i := range events {
			events[i] = plant.Event{Machine: m, Kind: plant.KindCounter, Version: 1, Time: now, TimeSource: plant.GatewayTime, Data: data}
		}
		if _, err := store.Commit(ctx, m, plant.Batch{State: state, Events: events}); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(now).Microseconds())/1000)
	}
	return took, nil
}
