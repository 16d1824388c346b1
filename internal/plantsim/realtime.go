package plantsim

import (
	"context"
	"time"
)

// inRealTime calls advance with the time that has passed, each step, until ctx
// ends.
func inRealTime(ctx context.Context, step time.Duration, advance func(time.Duration)) {
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := time.Now()
			advance(now.Sub(last))
			last = now
		}
	}
}
