package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// startTime is P8: from the start of the process until /readyz says yes, with a
// million events buffered, after SIGKILL; against Badger alone opening the same
// folder after SIGKILL, in turns.
func startTime(ctx context.Context, b *bed) (r result, err error) {
	dir, err := b.withBacklog("p8", million)
	if err != nil {
		return r, err
	}
	plc, err := plantsim.NewModbus("127.0.0.1:0")
	if err != nil {
		return r, err
	}
	plc.OnRead(counter(1))
	defer func() { err = errors.Join(err, plc.Stop()) }()
	away, err := freeAddress()
	if err != nil {
		return r, err
	}
	rounds := 5
	if b.full {
		rounds = 20
	}
	var starts, limits []float64
	for range rounds {
		if _, err := b.startAndKill(ctx, dir, plc, away); err != nil {
			return r, err
		}
		took, err := b.startAndKill(ctx, dir, plc, away)
		if err != nil {
			return r, err
		}
		limit, err := askRole[float64]("limit-open", filepath.Join(dir, "store"))
		if err != nil {
			return r, err
		}
		starts, limits = append(starts, took.Seconds()), append(limits, limit)
	}
	r = newResult("ready_s", median(starts), 1, true)
	r.add("limit_badger_open_s", median(limits))
	r.spread(starts)
	r.Note = fmt.Sprintf("%d events, %d machines; files in the page cache; each start after SIGKILL while a device was polled and recorded", million, backlogMachines)
	return r, nil
}

// startAndKill starts a gateway on that store, lets it record for a moment and
// kills it. It returns how long the start took.
func (b *bed) startAndKill(ctx context.Context, dir string, plc *plantsim.Modbus, broker string) (took time.Duration, err error) {
	httpAddr, err := freeAddress()
	if err != nil {
		return 0, err
	}
	g, err := b.startGateway(ctx, atStore(p5Config("p8", []*plantsim.Modbus{plc}, broker, httpAddr), dir), httpAddr)
	if err != nil {
		return 0, err
	}
	err = await(ctx, 10*time.Second, "nothing was recorded", func() bool {
		n, err := g.metric("sluice_buffer_events_total")
		return err == nil && n >= 3
	})
	if backlog, err2 := g.metric("sluice_uplink_backlog_events"); err2 != nil || backlog < million {
		err = errors.Join(err, err2, fmt.Errorf("a backlog of %.0f events after the start", backlog))
	}
	return g.took, errors.Join(err, g.kill())
}

// openLimit is the role "limit-open": Badger alone, with the gateway's options,
// opens and closes the store in that folder. It answers with the seconds that
// the open took.
func openLimit(folder string) (seconds float64, err error) {
	begin := time.Now()
	db, err := bareBadger(folder)
	if err != nil {
		return 0, err
	}
	seconds = time.Since(begin).Seconds()
	return seconds, db.Close()
}
