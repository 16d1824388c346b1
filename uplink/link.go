package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/backoff"
)

// A pass that says nothing about the link is reported with one of these.
var (
	errNeutral  = errors.New("no evidence about the link")
	errPanicked = fmt.Errorf("%w: the sender panicked", errNeutral)
)

// tripAfter is the number of link failures in a row that opens the breaker.
const tripAfter = 3

// link is the gate in front of one remote system, shared by all workers. After
// a link failure it keeps everybody out for a jittered back-off; after several
// in a row the breaker lets one probe through at a time. The breaker's own
// timeout is shorter than the shortest back-off, so it never delays recovery.
type link struct {
	log     *zap.Logger
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	pause   time.Duration
	// shown is set by the breaker while it holds its own lock, so it is read
	// without asking the breaker.
	shown atomic.Pointer[shownState]

	mu      sync.Mutex
	backoff backoff.Backoff
	// until keeps everybody out; round counts the failures that moved it, so
	// that Sends which failed together count once and a success from before a
	// failure does not undo it.
	until     time.Time
	round     uint64
	down      bool
	downSince time.Time
	// changed is closed and replaced at each report that others wait for.
	changed chan struct{}
	waiters int
	// spread gives each who waits a place of its own in time, where it must be
	// known who is first; nil is a race.
	spread *rand.Rand
}

type shownState struct {
	state string
	since time.Time
}

func newLink(name string, o Options, log *zap.Logger) *link {
	l := &link{
		log:     log,
		pause:   o.BackoffMin.Std() / 2,
		backoff: backoff.Backoff{Min: o.BackoffMin.Std(), Max: o.BackoffMax.Std()},
		changed: make(chan struct{}),
	}
	l.shown.Store(&shownState{state: gobreaker.StateClosed.String(), since: time.Now()})
	l.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        name,
		MaxRequests: 1,
		Timeout:     l.pause,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
		IsExcluded:  func(err error) bool { return errors.Is(err, errNeutral) || errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			l.shown.Store(&shownState{state: to.String(), since: time.Now()})
		},
	})
	return l
}

// repeat takes all jitter from source, and the race of those who wait as well.
func (l *link) repeat(source *rand.Rand) { l.backoff.Rand, l.spread = source, source }

// place is how much later than the others a caller of enter looks again: nothing,
// unless the run must be repeatable.
func (l *link) place() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spread == nil {
		return 0
	}
	return time.Duration(l.spread.Int64N(int64(time.Millisecond)))
}

// pass is the leave to send once; its report must be called exactly once.
type pass struct {
	link  *link
	done  func(error)
	round uint64
	// leave ends what the pass holds besides; nil for nothing.
	leave func()
}

// enter blocks until a Send may be made. It returns ctx's error when ctx ends.
func (l *link) enter(ctx context.Context) (pass, error) {
	place := l.place()
	for {
		l.mu.Lock()
		wait, round, changed := time.Until(l.until), l.round, l.changed
		l.waiters++
		l.mu.Unlock()

		err := ctx.Err()
		if err == nil && wait <= 0 {
			if done, refused := l.breaker.Allow(); refused == nil {
				l.leave()
				return pass{link: l, done: done, round: round}, nil
			}
			wait = l.pause
		}
		if err == nil {
			timer := time.NewTimer(wait + place)
			select {
			case <-ctx.Done():
			case <-changed:
			case <-timer.C:
			}
			timer.Stop()
		}
		l.leave()
		if err != nil {
			return pass{}, err
		}
	}
}

func (l *link) leave() {
	l.mu.Lock()
	l.waiters--
	l.mu.Unlock()
}

// report says what the Send showed of the link: nil, it works; errNeutral,
// nothing; else it failed. progress is set if something was delivered before
// the failure; wait is the receiver's own wish.
func (p pass) report(err error, progress bool, wait time.Duration) {
	l := p.link
	p.done(err)
	if p.leave != nil {
		p.leave()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, errNeutral):
	case err == nil:
		l.succeeded(p.round)
	default:
		l.failed(p.round, err, progress, wait)
	}
	if l.waiters > 0 {
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

func (l *link) succeeded(round uint64) {
	if round != l.round {
		return
	}
	l.backoff.Reset()
	l.until = time.Time{}
	if l.down {
		l.down = false
		l.log.Info("uplink is back", zap.Duration("after", time.Since(l.downSince).Round(time.Millisecond)))
	}
}

func (l *link) failed(round uint64, err error, progress bool, wait time.Duration) {
	now := time.Now()
	if round == l.round {
		l.round++
		if progress {
			l.backoff.Reset()
		}
		l.until = now.Add(max(l.backoff.Next(), wait))
	} else if t := now.Add(wait); wait > 0 && t.After(l.until) {
		// A wish of its own: Sends that are under way are from before it, too.
		l.round++
		l.until = t
	}
	if !l.down {
		l.down, l.downSince = true, now
		l.log.Warn("uplink is away", zap.Error(err), zap.Duration("next_attempt_in", l.until.Sub(now).Round(time.Millisecond)))
	}
}

// fill writes what the page shows of the link into s.
func (l *link) fill(s *Stats) {
	shown := l.shown.Load()
	s.Breaker, s.Since = shown.state, shown.since
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Down = l.down
	if l.down {
		s.DownSince = l.downSince
	}
	if l.until.After(time.Now()) {
		s.Next = l.until
	}
}
