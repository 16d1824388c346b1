package uplink

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
)

var errRefused = errors.New("connection refused")

func newTestLink(t *testing.T, least, most time.Duration) *link {
	t.Helper()
	o := DefaultOptions()
	o.BackoffMin, o.BackoffMax = config.Duration(least), config.Duration(most)
	return newLink("mes", o, zap.NewNop())
}

func enter(t *testing.T, l *link) pass {
	t.Helper()
	p, err := l.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wait returns how long the link keeps everybody out.
func (l *link) wait() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.until)
}

// TestLinkBeginsAnewAfterProgress: a link on which something was delivered
// before it failed again is no link that was away all the time.
func TestLinkBeginsAnewAfterProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink(t, time.Second, time.Minute)
		grown := false
		for range 12 {
			enter(t, l).report(errRefused, false, 0)
			grown = grown || l.wait() > 2*time.Second
		}
		if !grown {
			t.Error("the wait does not grow without progress")
		}
		for range 3 {
			enter(t, l).report(errRefused, true, 0)
			if got := l.wait(); got != time.Second {
				t.Errorf("waits %v after progress, want the shortest", got)
			}
		}
	})
}

// TestLinkKeepsTheLongestWish of Sends that failed together.
func TestLinkKeepsTheLongestWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLink(t, time.Second, time.Minute)
		first, second, third, fourth := enter(t, l), enter(t, l), enter(t, l), enter(t, l)
		for _, step := range []struct {
			pass      pass
			wish, out time.Duration
		}{
			{first, 10 * time.Minute, 10 * time.Minute},
			{second, 5 * time.Minute, 10 * time.Minute},
			{third, 20 * time.Minute, 20 * time.Minute},
			{fourth, 0, 20 * time.Minute},
		} {
			step.pass.report(errRefused, false, step.wish)
			if got := l.wait(); got != step.out {
				t.Errorf("keeps out for %v after a wish for %v, want %v", got, step.wish, step.out)
			}
		}
	})
}

// TestLinkKeepsAWishThatCameLate: a Send of before a failure brings the wish to
// be left alone, while one of after it is under way. Whatever that one comes to
// is from before the wish and does not end it (simulation, seed 424).
func TestLinkKeepsAWishThatCameLate(t *testing.T) {
	for _, end := range []error{nil, errRefused} {
		synctest.Test(t, func(t *testing.T) {
			l := newTestLink(t, time.Second, time.Minute)
			slow, fails := enter(t, l), enter(t, l)
			fails.report(errRefused, false, 0)
			later := enter(t, l) // when the back-off is over
			slow.report(errRefused, false, 10*time.Minute)
			later.report(end, true, 0)
			if got := l.wait(); got != 10*time.Minute {
				t.Errorf("keeps out for %v after %v, want the wish of 10m", got, end)
			}
		})
	}
}
