package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// stopCodes of the simulated machines, as demoConfig maps them.
const (
	codeJam        uint16 = 11
	codeToolChange uint16 = 12
	codeNoBottles  uint16 = 21
	codeService    uint16 = 22
)

// scene is one happening of the demo, at a share of its length.
type scene struct {
	at   float64
	text string
	play func(context.Context) error
}

// demoScenes is what happens to the simulated plant: stops with reasons, an
// order change, a broker that is away, and a PLC that is restarted with its
// counters at 0. The filler's 16-bit counter rolls over by itself early on.
// A state lasts a second at least, so that a gateway that polls every 100 ms
// can see all of them: what nobody could see, nobody can count.
func demoScenes(press, filler *plantsim.Line, broker *plantsim.Broker) []scene {
	start := func(l *plantsim.Line) func(context.Context) error {
		return func(context.Context) error { l.Start(); return nil }
	}
	stop := func(l *plantsim.Line, code uint16) func(context.Context) error {
		return func(context.Context) error { l.Stop(code); return nil }
	}
	return []scene{
		{0.00, "the press starts", start(press)},
		{0.02, "the filler starts", start(filler)},
		{0.18, "the press jams", stop(press, codeJam)},
		{0.26, "the press runs again", start(press)},
		{0.34, "the filler has no bottles", stop(filler, codeNoBottles)},
		{0.38, "the broker goes away", func(context.Context) error { return broker.Stop() }},
		{0.42, "the filler runs again", start(filler)},
		{0.46, "the press stops for a tool change", stop(press, codeToolChange)},
		{0.48, "the press gets another order", func(context.Context) error { press.SetOrder("ORD-0012346"); return nil }},
		{0.54, "the press runs again", start(press)},
		{0.58, "the broker is back", func(context.Context) error { return broker.Start() }},
		{0.66, "the filler stops for maintenance", stop(filler, codeService)},
		{0.72, "the filler's PLC is restarted, its counters begin at 0", func(ctx context.Context) error { return filler.Restart(ctx, time.Second) }},
		{0.82, "the filler runs again", start(filler)},
	}
}

// playScenes plays the scenes over length and returns when the last is over or
// ctx ends.
func playScenes(ctx context.Context, log *zap.Logger, length time.Duration, scenes []scene) error {
	begin := time.Now()
	for _, s := range scenes {
		timer := time.NewTimer(time.Until(begin.Add(time.Duration(s.at * float64(length)))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		log.Info("demo: " + s.text)
		if err := s.play(ctx); err != nil {
			return err
		}
	}
	return nil
}
