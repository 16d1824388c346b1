package opcua

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/drivers"
)

const (
	// strikes is how often in a row a connection may be lost over calls of one
	// size before less is asked for at a time: some servers hang up over a message
	// that is too large for them, and say nothing.
	strikes = 2
	// leastLost is what a call may hold at least however often the connection is
	// lost over it: a bad network must not make a large server slow for ever.
	leastLost = 50
	// askAgain is how long the sessions go without what the server cannot do before
	// one asks for it again.
	askAgain = 10 * time.Minute
	// leastPoll is how often values are read at most that nobody reports.
	leastPoll = 500 * time.Millisecond
)

// tooMuch are the answers of a server to a call that holds more than it takes,
// whatever its operation limits say.
var tooMuch = map[ua.StatusCode]bool{
	ua.StatusBadTooManyOperations: true, ua.StatusBadEncodingLimitsExceeded: true, ua.StatusBadRequestTooLarge: true,
	ua.StatusBadResponseTooLarge: true, ua.StatusBadTCPMessageTooLarge: true,
}

// capacity is how much one call of a kind may hold. What a server refuses holds
// for all sessions to come; twice as much is tried after askAgain, since it may have
// been busy only. Where it hangs up over a call instead it is not tried.
type capacity struct {
	mu      sync.Mutex
	most    int // 0: nothing was refused yet
	refused time.Time
	hung    bool // it was learned by a connection that was lost
	lost    int  // how often in a row the connection was lost over a call
}

// limit returns what a call may hold where the server names a limit of its own.
func (c *capacity) limit(named int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == 0 {
		return named
	}
	if now := time.Now(); c.most < chunk && !c.hung && now.Sub(c.refused) > askAgain {
		c.most, c.refused = 2*c.most, now
	}
	return min(named, c.most)
}

// learn takes what became of a call that held n, and halves what the next one
// may hold if that was too much. It returns err, as one that the next session can
// mend if so.
func (c *capacity) learn(n int, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var status ua.StatusCode
	switch {
	case err == nil:
		if n > leastLost {
			c.lost = 0
		}
	case errors.As(err, &status):
		if !tooMuch[status] || n <= 1 {
			return err
		}
		c.most, c.refused = max(1, n/2), time.Now()
		return drivers.Away(fmt.Errorf("%w: from now on %d in one request at most", err, c.most))
	case n > leastLost:
		if c.lost++; c.lost >= strikes {
			c.lost, c.most, c.hung = 0, max(leastLost, n/2), true
			return fmt.Errorf("%w; it was so %d times with %d nodes in one request, from now on %d at most", err, strikes, n, c.most)
		}
	}
	return err
}

// noSubscription are the answers of a server that cannot be subscribed to.
var noSubscription = map[ua.StatusCode]bool{
	ua.StatusBadTooManySubscriptions: true, ua.StatusBadServiceUnsupported: true, ua.StatusBadNotImplemented: true, ua.StatusBadNotSupported: true,
	ua.StatusBadRequestTypeInvalid: true, ua.StatusBadUserAccessDenied: true, ua.StatusBadRequestNotAllowed: true,
}

// unwatched are the answers to a monitored item whose node may well be read.
var unwatched = map[ua.StatusCode]bool{
	ua.StatusBadTooManyMonitoredItems: true, ua.StatusBadServiceUnsupported: true, ua.StatusBadNotImplemented: true, ua.StatusBadNotSupported: true,
	ua.StatusBadRequestNotAllowed: true, ua.StatusBadResourceUnavailable: true, ua.StatusBadOutOfMemory: true,
	ua.StatusBadMonitoringModeInvalid: true, ua.StatusBadTooManyOperations: true,
}

// unfiltered are the answers to a monitored item whose deadband is the trouble.
var unfiltered = map[ua.StatusCode]bool{
	ua.StatusBadFilterNotAllowed: true, ua.StatusBadMonitoredItemFilterInvalid: true, ua.StatusBadMonitoredItemFilterUnsupported: true,
	ua.StatusBadDeadbandFilterInvalid: true,
}

// inability remembers that the server cannot do something: be subscribed to, or say
// what its structures are. It is used by the goroutines of one session at a time.
type inability struct {
	mu      sync.Mutex
	refused string // why; empty if it was not
	at      time.Time
	silent  int // how many sessions in a row were never answered
}

// refuse notes that the server cannot do it, and why.
func (r *inability) refuse(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused, r.at, r.silent = why, time.Now(), 0
}

// judge refuses subscriptions from the next session on if err says that the
// server has none. It returns err, as one that the next session does without:
// the library stops its client at any refusal.
func (r *inability) judge(err error) error {
	var status ua.StatusCode
	if errors.As(err, &status) && noSubscription[status] {
		r.refuse(err.Error())
		return drivers.Away(err)
	}
	return err
}

// mute notes that a session was never answered, and reports whether that has become
// a habit.
func (r *inability) mute() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent++
	return r.silent >= strikes
}

// heard notes an answer.
func (r *inability) heard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = 0
}

// why returns why the session is to go without it, empty if it is to ask.
func (r *inability) why() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused != "" && time.Since(r.at) > askAgain {
		r.refused = ""
	}
	return r.refused
}
