package rest

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// quiet is a receiver's wish from before the gateway was started.
type quiet struct {
	until time.Time
	cause error
}

// quietLeft returns how long the receiver must still be left alone by what it
// said before the gateway was started, and what it said; 0 if it may be asked.
// The kept wish is read once, at the first Send.
func (s *Sender) quietLeft() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.quiet == nil {
		s.quiet = &quiet{}
		s.recall(s.quiet)
	}
	return time.Until(s.quiet.until), s.quiet.cause
}

func (s *Sender) recall(q *quiet) {
	before, err := httplink.RecallWait(s.memory, s.target)
	if err != nil {
		s.log.Warn("whether the receiver asked to wait before the start cannot be read; it is asked now", zap.Error(err))
		return
	}
	if before.Left <= 0 {
		return
	}
	q.until = time.Now().Add(before.Left)
	q.cause = &uplink.LinkError{Err: fmt.Errorf("rest: %s %s: %s", s.options.Method, httplink.Show(s.target), before.Words("the receiver"))}
}
