package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
)

// stages starts parts in order and stops them in reverse, each with a deadline,
// so that what a part still hands over on its way out finds the next one alive.
// It is used from one goroutine; the parts run in their own.
type stages struct {
	log *zap.Logger
	// grace is added to each deadline.
	grace time.Duration
	// spare is what the stages that have stopped left of their deadlines: the next
	// one has it too, since a slow disk makes one of them wait and not the others.
	spare   time.Duration
	running []*stage
	// failed holds the first error of a part that ended by itself.
	failed chan error
}

// stage is one part under way.
type stage struct {
	name     string
	deadline time.Duration
	cancel   context.CancelFunc
	done     sync.WaitGroup
}

func newStages(log *zap.Logger) *stages {
	return &stages{log: log, failed: make(chan error, 1)}
}

// start runs the parts of a stage side by side. A part that returns an error
// makes it appear in failed; a part that returns nil early has simply finished.
func (s *stages) start(name string, deadline time.Duration, parts ...func(context.Context) error) {
	// Not derived from the caller's context: a signal must stop the stages one
	// after the other, not all at once.
	ctx, cancel := context.WithCancel(context.Background())
	st := &stage{name: name, deadline: deadline + s.grace, cancel: cancel}
	for _, part := range parts {
		st.done.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				select {
				case s.failed <- fmt.Errorf("%s: %w", name, err):
				default:
				}
			}
		})
	}
	s.running = append(s.running, st)
}

// stop ends the stages in reverse order and returns the names of those that did
// not end within their deadline and what was spare; they are left behind.
func (s *stages) stop() (late []string) {
	for i := len(s.running) - 1; i >= 0; i-- {
		fault.Pass("stop.beforeStage")
		st := s.running[i]
		st.cancel()
		ended := make(chan struct{})
		go func() {
			st.done.Wait()
			close(ended)
		}()
		begin, may := time.Now(), st.deadline+s.spare
		timer := time.NewTimer(may)
		select {
		case <-ended:
		case <-timer.C:
			late = append(late, st.name)
			s.log.Error("a stage did not stop in time and is left behind", zap.String("stage", st.name), zap.Duration("deadline", may))
		}
		timer.Stop()
		s.spare = max(0, may-time.Since(begin))
	}
	s.running = nil
	return late
}
