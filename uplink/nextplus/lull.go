package nextplus

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

// With on_lost_reply: park each request whose reply is lost costs a person a look
// into the ERP. So a receiver that has lost one is asked for its options, which
// books nothing, before the next event goes out; the more were lost in a row, the
// later.

// longestLull bounds the pause before that question.
const longestLull = time.Minute

// lull is what a URL has lost; the Sender's lock guards it.
type lull struct {
	lost  int // in a row
	until time.Time
	// asking is set while one Send asks, and well once there was an answer since the
	// last loss.
	asking, well bool
	cause        error
}

// pauseAfter is the pause after so many lost replies in a row: none after the
// first.
func pauseAfter(lost int) time.Duration {
	if lost < 2 {
		return 0
	}
	return min(time.Second<<min(lost-2, 10), longestLull)
}

// noteLull notes what became of a request to a URL.
func (s *Sender) noteLull(to target, lost, answered bool, cause error) {
	if s.options.OnLostReply != lostPark {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := to.url.String()
	switch {
	case lost:
		l := s.lulls[key]
		if l == nil {
			l = &lull{}
			s.lulls[key] = l
		}
		l.lost++
		l.until, l.well, l.cause = time.Now().Add(s.pause(l.lost)), false, cause
	case answered:
		delete(s.lulls, key)
	}
}

// lulled returns a Retry for e if a URL that has lost a reply does not answer yet.
// It blocks for one question at most.
func (s *Sender) lulled(ctx context.Context, to target, e *plant.Event) (r plant.Result, wait bool) {
	s.mu.Lock()
	l := s.lulls[to.url.String()]
	if l == nil || l.well {
		s.mu.Unlock()
		return r, false
	}
	left, asking, cause := time.Until(l.until), l.asking, l.cause
	mine := left <= 0 && !asking
	l.asking = asking || mine
	s.mu.Unlock()
	switch {
	case left > 0:
	case asking:
		left = time.Second
	default:
		err := s.ask(ctx, to)
		s.mu.Lock()
		l.asking, l.well = false, err == nil
		s.mu.Unlock()
		if err == nil {
			return r, false
		}
		cause = err
	}
	r = result(e, plant.Retry, &uplink.LinkError{Err: fmt.Errorf("nextplus: a reply of the receiver was lost, so it is asked whether it is there before the next event: %w", cause)})
	r.Wait = left
	return r, true
}

// ask asks a URL for its options. Any answer will do that is not that of a proxy
// which has lost the receiver.
func (s *Sender) ask(ctx context.Context, to target) error {
	return s.askOptions(ctx, to, uplink.OutcomeAsked, func(a *httplink.Answer) (string, error) {
		if a.Status == http.StatusBadGateway || a.Status == http.StatusServiceUnavailable || a.Status == http.StatusGatewayTimeout {
			return "", fmt.Errorf("OPTIONS %s: it answers %s", httplink.Show(to.url), httplink.Title(a.Status))
		}
		return to.client.Clean(a.Words()), nil
	})
}
