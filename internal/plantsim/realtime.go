package plantsim

import (
	"context"
	"time"
)

// inRealTime calls advance with the time that has passed, each step, until ctx
// ends.
func inRealTime(ctx context.Context, step time.Duration, advance func(time.Duration)) {
	last := time.Now()
	each(ctx, step, func() {
		now := time.Now()
		advance(now.Sub(last))
		last = now
	})
}

// each calls do at each step, until ctx ends.
func each(ctx context.Context, step time.Duration, do func()) {
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}
