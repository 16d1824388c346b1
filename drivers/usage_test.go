package drivers

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// sharing is a device on a line that takes 300 ms of it each second.
type sharing struct {
	*script
	used atomic.Int64
}

func (s *sharing) Used() time.Duration { return time.Duration(s.used.Load()) }

// The share of a line is that of the last minute, from the first seconds on.
func TestTheShareOfALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var idle atomic.Bool
		s := &sharing{script: &script{start: time.Now()}}
		s.read = func(context.Context) ([]plant.Scan, error) {
			if !idle.Load() {
				time.Sleep(300 * time.Millisecond)
				s.used.Add(int64(300 * time.Millisecond))
			}
			return scan(1, plant.Good, ""), nil
		}
		p := NewPoller(PollerOptions{Device: "press", Interval: time.Second, Timeout: time.Second, Line: "hall", Unit: 7}, s, nil, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		share := func(after time.Duration, low, high float64) {
			t.Helper()
			time.Sleep(after)
			if st := p.Stats(); st.LineShare < low || st.LineShare > high || st.Line != "hall" || st.Unit != 7 || st.LineUsed != s.Used() {
				t.Errorf("share %v of %s %d, used %v; want %v to %v", st.LineShare, st.Line, st.Unit, st.LineUsed, low, high)
			}
		}
		share(3500*time.Millisecond, 0.25, 0.35)
		share(3*time.Minute, 0.29, 0.31)
		idle.Store(true)
		share(30*time.Second, 0.13, 0.17)
		share(time.Minute, 0, 0)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
