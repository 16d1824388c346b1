package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The work of P7.
const (
	p7Interval = time.Second
	p7Settle   = 8 * time.Second
)

// memoryUse is P7: what the gateway's process takes while it polls 10 devices of
// 1000 tags each second, all of them parameters of a machine: with nothing
// buffered and with a million events buffered and the broker away.
func memoryUse(ctx context.Context, b *bed) (r result, err error) {
	p, err := startRegisters(ctx, b.dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.end()) }()
	length := b.length(6*time.Second, 60*time.Second)
	idle, err := b.pollingMemory(ctx, length, func(httpAddr string) string {
		return p3Config("p7", p.addrs, p.broker.addr, httpAddr, p7Interval, p3Registers)
	})
	if err != nil {
		return r, err
	}
	dir, err := b.withBacklog("p7", million)
	if err != nil {
		return r, err
	}
	away, err := freeAddress()
	if err != nil {
		return r, err
	}
	full, err := b.pollingMemory(ctx, length, func(httpAddr string) string {
		return atStore(p3Config("p7", p.addrs, away, httpAddr, p7Interval, p3Registers), dir)
	})
	if err != nil {
		return r, err
	}
	r = newResult("rss_mib", idle.rss, 40, true)
	r.also("backlog_anon_mib", full.anon, 64, true)
	r.add("anon_mib", idle.anon)
	r.add("peak_rss_mib", idle.peak)
	r.add("backlog_rss_mib", full.rss)
	r.add("backlog_peak_rss_mib", full.peak)
	r.Note += fmt.Sprintf(" broker: %s, away with the backlog; the highest of samples every 100 ms during %v, after %v", p.broker.name, length, p7Settle)
	return r, nil
}

// pollingMemory runs a gateway until it is at rest and then samples it.
func (b *bed) pollingMemory(ctx context.Context, d time.Duration, config func(httpAddr string) string) (m memory, err error) {
	err = b.withGateway(ctx, config, func(g *gateway) error {
		err := await(ctx, 20*time.Second, "not every device was read", func() bool {
			n, err := g.metric("sluice_device_readings_total")
			return err == nil && n >= 2*p3Servers*p3Registers
		})
		if err != nil {
			return err
		}
		if err := pause(ctx, p7Settle); err != nil {
			return err
		}
		m, err = g.memoryFor(ctx, d)
		return err
	})
	return m, err
}
