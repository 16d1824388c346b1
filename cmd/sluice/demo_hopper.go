package main

import (
	"context"
	"fmt"
	"math"

	"github.com/sluice-edge/sluice/internal/plantsim/floor"
	"github.com/sluice-edge/sluice/plant"
)

// demoHopper is the machine of the hopper in demoConfig.
const demoHopper plant.MachineID = "HOPPER-01"

// demoClose is how far the weight of a dose may be off: two weights, each read
// with noise and rounded to a division of 5 g.
const demoClose = 0.025

// pour lets the hopper dose, and be refilled again and again, until ctx ends. It returns when nothing moves. The next move begins when the gateway has
// told the last one: on a computer that is busy with other things it may look too
// seldom to tell two apart.
func (b *demoBed) pour(ctx context.Context) {
	for n := int64(1); ctx.Err() == nil; n++ {
		if n%3 == 2 {
			b.hopper.Do((*floor.Hopper).Refill)
		} else {
			b.hopper.Do(func(h *floor.Hopper) { h.Pour(1200 + n*137%500) })
		}
		// Whatever takes longer shows in the comparison at the end.
		_ = await(context.WithoutCancel(ctx), nil, demoDrain, func() bool { return !b.hopper.Busy() })
		_ = await(context.WithoutCancel(ctx), nil, demoSight, func() bool {
			return len(b.mes["rest"].Weighed(demoHopper)) >= len(b.hopper.Moved())
		})
	}
}

// misweighed names what the hopper moved and an uplink told otherwise.
func (b *demoBed) misweighed() (problems []string) {
	for _, name := range demoUplinks {
		told := b.mes[name].Weighed(demoHopper)
		for i, move := range b.hopper.Moved() {
			kind := plant.KindDosing
			if move.Kind == floor.Refilled {
				kind = plant.KindRefill
			}
			truth := float64(move.Grams) / 1000
			if i < len(told) && (told[i].Kind != kind || told[i].Unit != "kg" || math.Abs(told[i].Quantity-truth) > demoClose) {
				problems = append(problems, fmt.Sprintf("%s: the hopper's %s of %.3f kg arrived as %s of %.3f %s", name, kind, truth, told[i].Kind, told[i].Quantity, told[i].Unit))
			}
		}
	}
	return problems
}
