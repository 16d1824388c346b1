package rest

import (
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
)

const (
	// waitKey is where the uplink's memory has a receiver's Retry-After.
	waitKey = "retry_after"
	// keptFrom is the shortest wait that is kept over a restart, which takes a
	// few seconds itself: a rate limit of everyday costs no write to the disk.
	keptFrom = 5 * time.Second
)

// keptWait is a receiver's wish to be left alone as it is kept, so that a
// gateway that restarts again and again does not ask it each time.
type keptWait struct {
	// URL is whose wish it is: another receiver has not asked for anything.
	URL     string    `json:"url"`
	Status  int       `json:"status"`
	Asked   time.Time `json:"asked"`
	Seconds int64     `json:"seconds"`
}

// keep returns what a Result has to Put, so that wait outlives the process.
func (s *Sender) keep(status int, wait time.Duration) []plant.KV {
	if wait < keptFrom {
		return nil
	}
	value, err := json.Marshal(keptWait{httplink.Show(s.target), status, time.Now().UTC(), int64((wait + time.Second - 1) / time.Second)})
	if err != nil {
		panic(err) // text, numbers and a time of this century always have a JSON form
	}
	return []plant.KV{{Key: waitKey, Value: value}}
}

// quiet is a receiver's wish from before the gateway was started.
type quiet struct {
	until time.Time
	cause error
}

// quietLeft returns how long the receiver must still be left alone by what it
// said before the gateway was started, and what it said; 0 if it may be asked.
// The kept wish is read once, at the first Send. Its time is the wall clock's,
// which may have been set since: no wait is longer than the receiver asked for.
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
	value, err := s.memory(waitKey)
	if err != nil {
		s.log.Warn("whether the receiver asked to wait before the start cannot be read; it is asked now", zap.Error(err))
		return
	}
	var kept keptWait
	if value == nil || json.Unmarshal(value, &kept) != nil || kept.URL != httplink.Show(s.target) {
		return
	}
	asked := time.Duration(min(max(kept.Seconds, 0), int64(httplink.MaxWait/time.Second))) * time.Second
	end := kept.Asked.Add(asked)
	left := min(time.Until(end), asked)
	if left <= 0 {
		return
	}
	q.until = time.Now().Add(left)
	q.cause = &uplink.LinkError{Err: fmt.Errorf("rest: %s %s: before the gateway was started, the receiver answered %s and asked not to be called before %s",
		s.options.Method, httplink.Show(s.target), httplink.Title(kept.Status), end.UTC().Format("2006-01-02 15:04:05 UTC"))}
}
