package main

import (
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	p := pulse{patience: time.Minute}
	for _, step := range []struct {
		at     time.Duration
		counts []uint64
		want   bool
	}{
		{0, []uint64{0, 0}, true},
		{30 * time.Second, []uint64{5, 0}, true},
		{59 * time.Second, []uint64{9, 0}, true},
		{61 * time.Second, []uint64{12, 0}, false}, // the second never moved
		{62 * time.Second, []uint64{12, 1}, true},
		{119 * time.Second, []uint64{12, 2}, true},
		{121 * time.Second, []uint64{12, 3}, false}, // the first has stopped
	} {
		if got := p.beats(start.Add(step.at), step.counts); got != step.want {
			t.Errorf("after %v with %v: beats = %v, want %v", step.at, step.counts, got, step.want)
		}
	}
}
