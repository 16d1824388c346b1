package derive

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestAKillAtAnyCommitLosesNoPiece kills a worker at random commits, before and
// after they became durable, and starts it again from what the log has.
func TestAKillAtAnyCommitLosesNoPiece(t *testing.T) {
	killed := errors.New("killed")
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			log := &memLog{delay: time.Millisecond}
			made := uint16(random.UintN(1 << 16))
			var truth int64
			kills := 0
			for kills < 20 {
				ctx, cancel := context.WithCancel(t.Context())
				left, after := random.IntN(5), random.IntN(2) == 0
				log.mu.Lock()
				log.fail = func(plant.Batch) error {
					if left--; left >= 0 {
						return nil
					}
					return killed
				}
				log.after = after
				log.mu.Unlock()
				w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
				done := make(chan error, 1)
				go func() { done <- w.Run(ctx) }()
				snapshot := true
				for alive := true; alive; {
					scan := press(uint64(made), true)
					scan.Snapshot = snapshot
					snapshot = false
					w.Offer(scan)
					time.Sleep(time.Duration(random.IntN(40)) * 10 * time.Millisecond)
					if log.count() > 0 { // before the baseline is durable the machine stands
						n := random.IntN(3)
						made, truth = made+uint16(n), truth+int64(n)
					}
					select {
					case err := <-done:
						if !errors.Is(err, killed) {
							t.Fatalf("seed %d: %v", seed, err)
						}
						alive = false
					default:
					}
				}
				cancel()
				kills++
			}
			log.mu.Lock()
			log.fail = nil
			log.mu.Unlock()
			w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
			stop := start(t, w)
			for range 5 {
				w.Offer(press(uint64(made), true))
				time.Sleep(time.Second)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			events := log.snapshot()
			if got := pieces(t, events); got != truth {
				t.Errorf("seed %d: %d pieces, want %d", seed, got, truth)
			}
			states := 0
			for _, e := range events {
				if e.Kind == plant.KindStartStop {
					states++
				}
			}
			if states != 1 {
				t.Errorf("seed %d: the state that never changed was told %d times", seed, states)
			}
		})
	}
}
