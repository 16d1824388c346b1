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

// switchOff stops the server of a PLC, lets lose forget what the PLC does not keep
// without power, and starts it again after that long, or when ctx ends.
func switchOff(ctx context.Context, plc interface {
	Stop() error
	Start() error
}, off time.Duration, lose func()) error {
	if err := plc.Stop(); err != nil {
		return err
	}
	lose()
	timer := time.NewTimer(off)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return plc.Start()
}
