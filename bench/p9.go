package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The work of P9.
const (
	p9Servers  = 10
	p9Devices  = 50
	p9Interval = 100 * time.Millisecond
	p9Delay    = 5 * time.Second
	p9Look     = 50 * time.Millisecond
)

// badNeighbours is P9: how late the polls of 50 good devices start beside one
// that answers after 5 s, one whose port is closed, and one that accepts and
// never answers.
func badNeighbours(ctx context.Context, b *bed) (r result, err error) {
	broker, err := startBroker(ctx, b.dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, ignoreExit(broker.stop())) }()
	plant, err := startRole("plant", plantRole{Servers: p9Servers, Counters: p9Devices / p9Servers})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, plant.end()) }()
	var good []string
	if err := plant.answer(&good); err != nil {
		return r, err
	}
	trouble, err := startRole("plant9", troubleRole{Delay: p9Delay})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, trouble.end()) }()
	var bad troubleAddrs
	if err := trouble.answer(&bad); err != nil {
		return r, err
	}
	dead, err := freeAddress()
	if err != nil {
		return r, err
	}
	var l lateness
	length := b.length(15*time.Second, 60*time.Second)
	err = b.withGateway(ctx, func(httpAddr string) string {
		return p9Config(good, bad, dead, broker.addr, httpAddr)
	}, func(g *gateway) (err error) {
		l, err = g.sampleLateness(ctx, length)
		return err
	})
	if err != nil {
		return r, err
	}
	r = newResult("late_p99_ms", quantile(l.samples, 0.99), 10, true)
	r.add("late_p50_ms", median(l.samples))
	r.add("late_max_ms", quantile(l.samples, 1))
	r.add("n", float64(len(l.samples)))
	r.add("good_polls_s", l.polls/l.seconds)
	r.add("good_polls_due_s", p9Devices/p9Interval.Seconds())
	r.add("good_skipped", l.skipped)
	r.add("slow_reads", l.slow)
	r.add("dead_errors", l.dead)
	r.add("mute_errors", l.mute)
	r.Note = fmt.Sprintf("no serial line; the last poll of each good device, sampled every %v; each good device has a machine that records an event a poll; %v measured", p9Look, length)
	return r, nil
}

// lateness is what was seen of the good devices, and that the bad ones were
// really bad meanwhile.
type lateness struct {
	samples                 []float64 // milliseconds
	seconds, polls, skipped float64
	slow, dead, mute        float64
}

// sampleLateness looks at the gauges of the good devices for that long.
func (g *gateway) sampleLateness(ctx context.Context, d time.Duration) (l lateness, err error) {
	err = await(ctx, 20*time.Second, "not every good device was read", func() bool {
		all, err := g.scrape()
		if err != nil {
			return false
		}
		for i := range p9Devices {
			if all[ofDevice("sluice_device_reads_total", goodDevice(i))] < 3 {
				return false
			}
		}
		return true
	})
	if err != nil {
		return l, err
	}
	before, err := g.scrape()
	if err != nil {
		return l, err
	}
	begin := time.Now()
	tick := time.NewTicker(p9Look)
	defer tick.Stop()
	after := before
	for time.Since(begin) < d {
		select {
		case <-ctx.Done():
			return l, ctx.Err()
		case <-tick.C:
		}
		if after, err = g.scrape(); err != nil {
			return l, err
		}
		for i := range p9Devices {
			late, ok := after[ofDevice("sluice_device_poll_lateness_seconds", goodDevice(i))]
			if !ok {
				return l, fmt.Errorf("/metrics does not say how late %s is", goodDevice(i))
			}
			l.samples = append(l.samples, 1000*late)
		}
	}
	l.seconds = time.Since(begin).Seconds()
	grown := func(metric, device string) float64 {
		return after[ofDevice(metric, device)] - before[ofDevice(metric, device)]
	}
	for i := range p9Devices {
		l.polls += grown("sluice_device_reads_total", goodDevice(i))
		l.skipped += grown("sluice_device_skipped_polls_total", goodDevice(i))
	}
	l.slow = grown("sluice_device_reads_total", "slow")
	l.dead, l.mute = grown("sluice_device_errors_total", "dead"), grown("sluice_device_errors_total", "mute")
	return l, nil
}

func goodDevice(i int) string { return fmt.Sprintf("good-%d", i) }

// ofDevice is how a sample of a device is written.
func ofDevice(metric, device string) string { return metric + `{device="` + device + `"}` }

// p9Config is a plant in which the slow device has the time that it needs.
func p9Config(good []string, bad troubleAddrs, dead, broker, httpAddr string) string {
	var devices, machines strings.Builder
	add := func(name, addr, more string, register int) {
		fmt.Fprintf(&devices, "  %s: {driver: modbus, endpoint: \"%s\", interval: %s, word_order: CDAB%s, tags: {made: {address: \"holding:%d\", type: uint32}}}\n",
			name, addr, p9Interval, more, register)
		fmt.Fprintf(&machines, "  M-%s: {device: %s, counter: {good: made, pieces: 1, max_rate: 100000/s}}\n", name, name)
	}
	for i := range p9Devices {
		add(goodDevice(i), good[i%len(good)], "", 2*(i/len(good)))
	}
	add("slow", bad.Slow, ", timeout: "+(2*p9Delay).String(), 0)
	add("dead", dead, "", 0)
	add("mute", bad.Mute, "", 0)
	return frameConfig("p9", broker, httpAddr, devices.String(), machines.String())
}
