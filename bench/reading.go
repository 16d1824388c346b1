package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// span is what the gateway used and counted between two scrapes.
type span struct {
	seconds, cpu                                  float64
	readings, reads, skipped, errors, bad, inputs float64
	overflows, commits, events                    float64
}

func (s span) valuesPerSecond() float64 { return s.readings / s.seconds }
func (s span) cpuPer1e6() float64       { return s.cpu / s.readings * 1e6 }

// check refuses a span in which not everything was as it should be.
func (s span) check() error {
	if s.readings == 0 || s.errors > 0 || s.bad > 0 {
		return fmt.Errorf("%.0f values, %.0f of them bad, %.0f failed reads", s.readings, s.bad, s.errors)
	}
	return nil
}

// withGateway runs the gateway while work looks at it. What it logged is in the
// error if there is one.
func (b *bed) withGateway(ctx context.Context, config func(httpAddr string) string, work func(*gateway) error) error {
	httpAddr, err := freeAddress()
	if err != nil {
		return err
	}
	g, err := b.startGateway(ctx, config(httpAddr), httpAddr)
	if err != nil {
		return err
	}
	if err := errors.Join(work(g), g.stop()); err != nil {
		text, _ := os.ReadFile(g.log.Name())
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

// measure waits until the gateway has taken so many values, lets it settle for
// half a second, and measures it for d.
func (g *gateway) measure(ctx context.Context, values float64, d time.Duration) (s span, err error) {
	err = await(ctx, 20*time.Second, "not every device was read", func() bool {
		n, err := g.metric("sluice_device_readings_total")
		return err == nil && n >= values
	})
	if err != nil {
		return s, err
	}
	if err := pause(ctx, 500*time.Millisecond); err != nil {
		return s, err
	}
	before, err := g.counted()
	if err != nil {
		return s, err
	}
	if err := pause(ctx, d); err != nil {
		return s, err
	}
	after, err := g.counted()
	if err != nil {
		return s, err
	}
	return span{
		seconds: after.seconds - before.seconds, cpu: after.cpu - before.cpu,
		readings: after.readings - before.readings, reads: after.reads - before.reads,
		skipped: after.skipped - before.skipped, errors: after.errors - before.errors, bad: after.bad - before.bad,
		inputs: after.inputs - before.inputs, overflows: after.overflows - before.overflows,
		commits: after.commits - before.commits, events: after.events - before.events,
	}, nil
}

// counted reads the gateway's counters; seconds are since 1970.
func (g *gateway) counted() (s span, err error) {
	all, err := g.scrape()
	if err != nil {
		return s, err
	}
	used, err := cpu(g.cmd.Process.Pid)
	if err != nil {
		return s, err
	}
	s.cpu, s.seconds = used.Seconds(), float64(time.Now().UnixNano())/1e9
	for name, into := range map[string]*float64{
		"sluice_device_readings_total":     &s.readings,
		"sluice_device_reads_total":        &s.reads,
		"sluice_device_errors_total":       &s.errors,
		"sluice_device_bad_readings_total": &s.bad,
		"sluice_machine_inputs_total":      &s.inputs,
		"sluice_machine_overflows_total":   &s.overflows,
		"sluice_buffer_commits_total":      &s.commits,
		"sluice_buffer_events_total":       &s.events,
	} {
		if *into, err = all.sum(name); err != nil {
			return s, err
		}
	}
	// A device that reports by itself has no polls to skip, and says nothing of it.
	if skipped, err := all.sum("sluice_device_skipped_polls_total"); err == nil {
		s.skipped = skipped
	}
	return s, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// frameConfig is the part of the config that all plants have.
func frameConfig(area, broker, httpAddr, devices, machines string) string {
	return "site: {enterprise: acme, site: bench, area: " + area + ", gateway: bench}\n" +
		"buffer: {path: \"{{dir}}/buffer\", keep: 1h}\nhttp: {listen: \"" + httpAddr + "\"}\n" +
		"devices:\n" + devices + "machines:\n" + machines +
		"uplinks:\n  mqtt: {driver: mqtt, url: \"tcp://" + broker + "\"}\n"
}
