package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
)

// The work of P3.
const (
	p3Servers   = 10
	p3Registers = 1000
	p3Moving    = 10 // registers of a server that change at each request
	p3Count     = 125
)

// p3Intervals are tried from shortest to longest by halving the list.
var p3Intervals = []time.Duration{
	2 * time.Millisecond, 3 * time.Millisecond, 4 * time.Millisecond, 5 * time.Millisecond,
	7 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
}

// modbusPolling is P3: 10 servers of 1000 registers in another process, polled
// at the shortest interval that the gateway keeps, all values through the
// rules; against the bare library reading the same registers.
func modbusPolling(ctx context.Context, b *bed) (r result, err error) {
	p, err := startRegisters(ctx, b.dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.end()) }()
	length := b.length(4*time.Second, 20*time.Second)
	run := func(interval time.Duration, ruled int) (s span, err error) {
		err = b.withGateway(ctx, func(httpAddr string) string {
			return p3Config("p3", p.addrs, p.broker.addr, httpAddr, interval, ruled)
		}, func(g *gateway) error {
			s, err = g.measure(ctx, 2*p3Servers*p3Registers, length)
			return errors.Join(err, s.check())
		})
		return s, err
	}
	best, interval, ceiling, err := shortest(run)
	if err != nil {
		return r, err
	}
	few, err := run(interval, p3Registers/10)
	if err != nil {
		return r, err
	}
	serversBefore, err := cpu(p.servers.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	limit, err := askRole[limitResult]("limit-modbus", modbusRole{Addrs: p.addrs, Seconds: length.Seconds(), Registers: p3Registers, Count: p3Count})
	if err != nil {
		return r, err
	}
	serversAfter, err := cpu(p.servers.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	r = newResult("cpu_s_per_1e6", best.cpuPer1e6(), 0.5, true)
	r.also("values_s", best.valuesPerSecond(), 2_000_000, false)
	r.add("ceiling_values_s", ceiling)
	r.add("limit_cpu_s_per_1e6", limit.cpuPer1e6())
	r.add("limit_values_s", limit.perSecond())
	r.add("cpu_ratio", best.cpuPer1e6()/limit.cpuPer1e6())
	r.add("servers_cpu_s_per_1e6", (serversAfter-serversBefore).Seconds()/float64(limit.Events)*1e6)
	r.add("interval_ms", float64(interval.Microseconds())/1000)
	r.add("polls", best.reads)
	r.add("skipped", best.skipped)
	r.add("rule_inputs_s", best.inputs/best.seconds)
	r.add("overflows", best.overflows)
	r.add("events", best.events)
	r.add("tenth_ruled_cpu_s_per_1e6", few.cpuPer1e6())
	r.Note += fmt.Sprintf(" all %d values of a device are parameters of one machine with a deadband that none leaves (tenth_ruled: %d of them, the others polled only); %d of %d registers change; shortest interval of %v with at most 1%% of the polls skipped, the servers on the same cores (ceiling: the most at any interval, kept or not); %v each",
		p3Registers, p3Registers/10, p3Moving, p3Registers, p3Intervals, length)
	return r, nil
}

// shortest finds the shortest interval that is kept, and the most values a
// second at any interval that was tried, kept or not. If none is kept, best is
// what happened at the longest.
func shortest(run func(interval time.Duration, ruled int) (span, error)) (best span, interval time.Duration, ceiling float64, failed error) {
	tried := map[int]span{}
	try := func(i int) span {
		if _, done := tried[i]; !done && failed == nil {
			tried[i], failed = run(p3Intervals[i], p3Registers)
			ceiling = max(ceiling, tried[i].valuesPerSecond())
		}
		return tried[i]
	}
	i := sort.Search(len(p3Intervals), func(i int) bool {
		s := try(i)
		return s.reads > 0 && s.skipped <= 0.01*(s.reads+s.skipped)
	})
	i = min(i, len(p3Intervals)-1)
	best = try(i)
	return best, p3Intervals[i], ceiling, failed
}

// p3Config is a plant whose machines have the first ruled registers of their
// device as parameters.
func p3Config(area string, plcs []string, broker, httpAddr string, interval time.Duration, ruled int) string {
	var devices, machines strings.Builder
	for d, addr := range plcs {
		fmt.Fprintf(&devices, "  plc-%d:\n    driver: modbus\n    endpoint: %s\n    interval: %s\n    max_registers: %d\n    tags:\n", d, addr, interval, p3Count)
		fmt.Fprintf(&machines, "  M-%d:\n    device: plc-%d\n    parameters:\n", d, d)
		for i := range p3Registers {
			fmt.Fprintf(&devices, "      r%d: \"holding:%d\"\n", i, i)
			if i < ruled {
				fmt.Fprintf(&machines, "      p%d: {tag: r%d, deadband: 65535}\n", i, i)
			}
		}
	}
	return frameConfig(area, broker, httpAddr, devices.String(), machines.String())
}
