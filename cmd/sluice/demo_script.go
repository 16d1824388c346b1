package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// stopCodes of the simulated machines, as demoConfig maps them.
const (
	codeJam        uint16 = 11
	codeToolChange uint16 = 12
	codeNoBoxes    uint16 = 21
	codeService    uint16 = 22
)

// scene is one happening of the demo, at a share of its length.
type scene struct {
	at   float64
	text string
	play func(context.Context) error
}

// startStop is a machine of the demo.
type startStop interface {
	Start()
	Stop(code uint16)
}

// demoScenes is what happens to the simulated plant: stops with reasons, an
// order change, a broker that is away, and a PLC that is restarted with its
// counters at 0. The packing line's 16-bit counter rolls over by itself early
// on. A state lasts a second at least, so that a gateway that looks every 100
// or 200 ms can see all of them: what nobody could see, nobody can count. On a
// computer that is busy with other things it lasts until it has been seen.
func demoScenes(b *demoBed) []scene {
	start := func(m startStop) func(context.Context) error {
		return func(ctx context.Context) error { b.awaitSeen(ctx); m.Start(); return nil }
	}
	stop := func(m startStop, code uint16) func(context.Context) error {
		return func(ctx context.Context) error { b.awaitSeen(ctx); m.Stop(code); return nil }
	}
	return []scene{
		{0.00, "the press starts", start(b.press)},
		{0.02, "the packing line starts", start(b.packer)},
		{0.18, "the press jams", stop(b.press, codeJam)},
		{0.26, "the press runs again", start(b.press)},
		{0.34, "the packing line has no boxes", stop(b.packer, codeNoBoxes)},
		{0.38, "the broker goes away", func(context.Context) error { return b.broker.Stop() }},
		{0.42, "the packing line runs again", start(b.packer)},
		{0.46, "the press stops for a tool change", stop(b.press, codeToolChange)},
		{0.48, "the press gets another order", func(context.Context) error { b.press.SetOrder("ORD-0012346"); return nil }},
		{0.54, "the press runs again", start(b.press)},
		{0.58, "the broker is back", func(context.Context) error { return b.broker.Start() }},
		{0.66, "the packing line stops for maintenance", stop(b.packer, codeService)},
		{0.72, "the packing line's PLC is restarted, its counters begin at 0", func(ctx context.Context) error {
			b.awaitSeen(ctx)
			return b.packer.Restart(ctx, time.Second)
		}},
		{0.84, "the packing line runs again", start(b.packer)},
	}
}

// awaitSeen waits until the receiver that is never away has every change of a
// machine's state so far, for demoSight at most.
func (b *demoBed) awaitSeen(ctx context.Context) {
	// What is not seen by then shows in the comparison at the end.
	_ = await(ctx, nil, demoSight, func() bool {
		return b.mes["rest"].Arrived(plant.KindStartStop) >= b.made()[plant.KindStartStop]
	})
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
