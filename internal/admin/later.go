package admin

import (
	"errors"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// later says why a step must be tried again, and how long to wait at least.
type later struct {
	text string
	wait time.Duration
	// turn is set if nothing failed: the uplink has waited for its turn, or says with
	// wait when that comes.
	turn bool
	// onward is set if the step has settled events before.
	onward bool
}

// tryAgain returns when a Retry is to be tried again.
func tryAgain(r plant.Result) *later {
	var turn *uplink.NotYet
	return &later{text: words(r.Cause), wait: r.Wait, turn: errors.As(r.Cause, &turn)}
}

// rhythm is how a job goes on from step to step.
type rhythm struct {
	pause   time.Duration
	failing bool
}

// after returns how long to wait after a step, which is to be its pace if all goes
// well, and whether the job has begun to fail with it. What waits for its turn only
// goes on at once, as the live stream does: the uplink keeps its place.
func (r *rhythm) after(again *later, pace time.Duration) (wait time.Duration, fails bool) {
	if again == nil || again.turn || again.onward {
		r.pause = firstWait
	}
	switch {
	case again == nil:
		r.failing = false
		return pace, false
	case again.turn:
		r.failing = r.failing && !again.onward
		return max(pace, again.wait), false
	}
	wait, fails = max(r.pause, again.wait), !r.failing
	r.pause, r.failing = min(2*r.pause, longestWait), true
	return wait, fails
}
