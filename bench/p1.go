package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The work of P1.
const (
	p1Servers  = 5
	p1Machines = 50
	p1Window   = 20
)

// load is what the gateway did between two looks.
type load struct {
	seconds, cpu                        float64
	recorded, delivered, commits, syncs float64
	backlog                             float64
}

// endToEnd is P1: 50 machines with 200 counter events a second each, from
// Modbus servers in another process through rules, fsynced commits and PUBACKs,
// against bare Badger at the same mean group plus bare paho at the same window;
// then 800 a second each.
func endToEnd(ctx context.Context, b *bed) (r result, err error) {
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ignoreExit(broker.stop())) }()
	plant, err := startRole("plant", plantRole{Servers: p1Servers, Counters: p1Machines / p1Servers})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, plant.end()) }()
	var addrs []string
	if err := plant.answer(&addrs); err != nil {
		return r, err
	}
	measured := b.length(6*time.Second, 30*time.Second)
	steady, shape, err := b.runLoad(ctx, addrs, broker.addr, 5*time.Millisecond, measured)
	if err != nil {
		return r, err
	}
	groups := steady.syncs
	badger, err := askRole[limitResult]("limit-badger", badgerRole{
		Dir: filepath.Join(b.dir, "limit"), Seconds: measured.Seconds() / 2, Machines: p1Machines,
		Events: steady.recorded / groups, States: steady.commits / groups,
		EventKey: shape.EventKey, EventValue: shape.EventValue, StateKey: shape.StateKey, StateValue: shape.StateValue,
	})
	if err != nil {
		return r, err
	}
	paho, err := askRole[limitResult]("limit-paho", pahoRole{Broker: broker.addr, Seconds: measured.Seconds() / 2, Window: p1Window, Bytes: shape.EventValue + 200})
	if err != nil {
		return r, err
	}
	top, _, err := b.runLoad(ctx, addrs, broker.addr, 1250*time.Microsecond, measured)
	if err != nil {
		return r, err
	}

	cpuPer1e6 := steady.cpu / steady.delivered * 1e6
	limit := badger.cpuPer1e6() + paho.cpuPer1e6()
	r = newResult("ratio", cpuPer1e6/limit, 1.5, true)
	r.also("sustained_events_s", top.delivered/top.seconds, 40_000, false)
	r.add("cpu_s_per_1e6", cpuPer1e6)
	r.add("limit_badger_cpu_s_per_1e6", badger.cpuPer1e6())
	r.add("limit_paho_cpu_s_per_1e6", paho.cpuPer1e6())
	r.add("events_s", steady.delivered/steady.seconds)
	r.add("group_events", steady.recorded/groups)
	r.add("group_machines", steady.commits/groups)
	r.add("backlog", steady.backlog)
	r.add("top_recorded_s", top.recorded/top.seconds)
	r.add("top_cpu_s_per_1e6", top.cpu/top.delivered*1e6)
	r.add("top_backlog", top.backlog)
	r.Note += fmt.Sprintf(" broker: %s; %v measured", broker.name, measured)
	return r, nil
}

// runLoad runs the gateway at one poll interval and measures it after a warm-up.
func (b *bed) runLoad(ctx context.Context, plcs []string, broker string, interval, measured time.Duration) (l load, s storeShape, err error) {
	httpAddr, err := freeAddress()
	if err != nil {
		return l, s, err
	}
	g, err := b.startGateway(ctx, p1Config(plcs, broker, httpAddr, interval), httpAddr)
	if err != nil {
		return l, s, err
	}
	dir := filepath.Join(filepath.Dir(g.log.Name()), "buffer")
	l, err = b.measureLoad(ctx, g, measured)
	if err := errors.Join(err, g.stop()); err != nil {
		text, _ := os.ReadFile(g.log.Name())
		return l, s, fmt.Errorf("%w\n%s", err, text)
	}
	s, err = shapeOf(dir)
	return l, s, errors.Join(err, os.RemoveAll(dir))
}

func (b *bed) measureLoad(ctx context.Context, g *gateway, measured time.Duration) (l load, err error) {
	err = await(ctx, 20*time.Second, "no event was delivered", func() bool {
		n, err := g.metric("sluice_uplink_delivered_events_total")
		return err == nil && n > 1000
	})
	if err != nil {
		return l, err
	}
	before, err := g.look()
	if err != nil {
		return l, err
	}
	select {
	case <-ctx.Done():
		return l, ctx.Err()
	case <-time.After(measured):
	}
	after, err := g.look()
	if err != nil {
		return l, err
	}
	return load{
		seconds: after.seconds - before.seconds, cpu: after.cpu - before.cpu,
		recorded: after.recorded - before.recorded, delivered: after.delivered - before.delivered,
		commits: after.commits - before.commits, syncs: after.syncs - before.syncs, backlog: after.backlog,
	}, nil
}

// look reads the gateway's counters; seconds are since 1970.
func (g *gateway) look() (l load, err error) {
	used, err := cpu(g.cmd.Process.Pid)
	if err != nil {
		return l, err
	}
	l.cpu, l.seconds = used.Seconds(), float64(time.Now().UnixNano())/1e9
	for name, into := range map[string]*float64{
		"sluice_buffer_events_total":           &l.recorded,
		"sluice_buffer_commits_total":          &l.commits,
		"sluice_buffer_syncs_total":            &l.syncs,
		"sluice_uplink_delivered_events_total": &l.delivered,
		"sluice_uplink_backlog_events":         &l.backlog,
	} {
		if *into, err = g.metric(name); err != nil {
			return l, err
		}
	}
	return l, nil
}

// p1Config is a plant whose every poll makes one event a machine.
func p1Config(plcs []string, broker, httpAddr string, interval time.Duration) string {
	var devices, machines strings.Builder
	each := p1Machines / len(plcs)
	for d, addr := range plcs {
		fmt.Fprintf(&devices, "  plc-%d:\n    driver: modbus\n    endpoint: %s\n    interval: %s\n    word_order: CDAB\n    tags:\n", d, addr, interval)
		for m := range each {
			fmt.Fprintf(&devices, "      made-%d: {address: \"holding:%d\", type: uint32}\n", m, 2*m)
			fmt.Fprintf(&machines, "  M-%d-%d:\n    device: plc-%d\n    counter: {good: made-%d, pieces: 1, max_rate: 100000/s}\n", d, m, d, m)
		}
	}
	return "site: {enterprise: acme, site: bench, area: p1, gateway: bench}\n" +
		"buffer: {path: \"{{dir}}/buffer\", quota: 8 GiB, keep: 1h}\n" +
		"http: {listen: \"" + httpAddr + "\"}\n" +
		"devices:\n" + devices.String() + "machines:\n" + machines.String() +
		"uplinks:\n  mqtt: {driver: mqtt, url: \"tcp://" + broker + "\", window: " + strconv.Itoa(p1Window) + "}\n"
}

// ignoreExit drops the complaint that a process ended by the signal that we
// sent it.
func ignoreExit(err error) error {
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		return nil
	}
	return err
}
