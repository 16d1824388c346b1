package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/plant"
)

// The backlog that P6 to P8 begin with.
const (
	million         = 1_000_000
	backlogMachines = 50
	backlogBatch    = 250
	backlogWriters  = 4
)

// backlogRole is the argument of the role "backlog": a store with that many
// events that wait for the uplink "mqtt", written through the buffer as the
// gateway would, only in large batches.
type backlogRole struct {
	Dir    string
	Area   string
	Events int
}

// backlogOptions are those of a gateway of frameConfig.
func backlogOptions(dir, area string) buffer.Options {
	o := buffer.DefaultOptions(dir)
	o.Gateway, o.Source = "bench", "/acme/bench/"+area
	return o
}

// writeBacklog plays the role; it answers with the number of events.
func writeBacklog(a backlogRole) (n int, err error) {
	ctx := context.Background()
	store, err := buffer.Open(ctx, backlogOptions(a.Dir, a.Area), zap.NewNop())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if _, err := store.Queue("mqtt", func(plant.EventKind) bool { return true }); err != nil {
		return 0, err
	}
	if err := addEvents(ctx, store, a.Events); err != nil {
		return 0, err
	}
	return int(store.Stats().Queues[0].Backlog), nil
}

// addEvents records that many events, spread evenly over the machines.
func addEvents(ctx context.Context, store *buffer.Buffer, events int) error {
	errs := make([]error, backlogWriters)
	var writers sync.WaitGroup
	for w := range backlogWriters {
		writers.Go(func() {
			for n := w * backlogBatch; n < events && errs[w] == nil; n += backlogWriters * backlogBatch {
				batch := counterBatch(n, min(backlogBatch, events-n))
				_, errs[w] = store.Commit(ctx, batch.Events[0].Machine, batch)
			}
		})
	}
	writers.Wait()
	return errors.Join(errs...)
}

// counterBatch returns the events with the numbers from first on of one machine.
func counterBatch(first, n int) plant.Batch {
	machine := plant.MachineID(fmt.Sprintf("LATE-%02d", first/backlogBatch%backlogMachines))
	batch := plant.Batch{State: make([]byte, 400), Events: make([]plant.Event, n)}
	now := time.Now()
	for i := range batch.Events {
		batch.Events[i] = plant.Event{
			Machine: machine, Kind: plant.KindCounter, Version: 1, Time: now, TimeSource: plant.GatewayTime,
			Data: fmt.Appendf(nil, `{"machine":"%s","mode":"production","good":%d,"good_delta":4,"scrap":[{"code":"BURR","quantity":123,"delta":1}],"from":"2026-01-01T00:00:00.000Z","to":"2026-01-01T00:00:01.000Z","raw":%d}`, machine, first+i, first+i+456),
		}
	}
	return batch
}

// withBacklog makes such a store and returns its folder.
func (b *bed) withBacklog(area string, events int) (dir string, err error) {
	dir = filepath.Join(b.dir, "backlog-"+area)
	n, err := askRole[int]("backlog", backlogRole{Dir: dir, Area: area, Events: events})
	if err == nil && n != events {
		err = fmt.Errorf("the store has a backlog of %d events instead of %d", n, events)
	}
	return dir, err
}

// atStore makes a config of frameConfig use that store.
func atStore(config, dir string) string {
	return strings.Replace(config, "{{dir}}/buffer\"", dir+"\"", 1)
}

// kill ends the gateway as a power cut would, but for the disk.
func (g *gateway) kill() error {
	err := g.cmd.Process.Kill()
	_ = g.cmd.Wait() // says only that it was killed
	return errors.Join(err, g.log.Close())
}

// memory is what /proc/PID/status says of a process, in MiB.
type memory struct {
	rss, anon, peak float64 // peak is of rss
}

func memoryOf(pid int) (m memory, err error) {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return m, err
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	into := map[string]*float64{"VmRSS:": &m.rss, "RssAnon:": &m.anon, "VmHWM:": &m.peak}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || into[fields[0]] == nil {
			continue
		}
		kib, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return m, err
		}
		*into[fields[0]] = kib / 1024
	}
	if err := lines.Err(); err != nil {
		return m, err
	}
	if m.rss == 0 || m.anon == 0 {
		return m, fmt.Errorf("/proc/%d/status does not tell the memory", pid)
	}
	return m, nil
}

// watchMemory samples the gateway's memory until done and returns the highest.
func (g *gateway) watchMemory(ctx context.Context, done <-chan struct{}) (top memory, err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		m, err := memoryOf(g.cmd.Process.Pid)
		if err != nil {
			return top, err
		}
		top = memory{rss: max(top.rss, m.rss), anon: max(top.anon, m.anon), peak: m.peak}
		select {
		case <-ctx.Done():
			return top, ctx.Err()
		case <-done:
			return top, nil
		case <-tick.C:
		}
	}
}

// memoryFor samples for that long.
func (g *gateway) memoryFor(ctx context.Context, d time.Duration) (memory, error) {
	done := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(done) })
	defer timer.Stop()
	return g.watchMemory(ctx, done)
}
