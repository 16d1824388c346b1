package buffer

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestARefusalForAMomentIsNotShown: under evict_oldest the page does not call the
// buffer full while the keeper makes room, only where it cannot.
func TestARefusalForAMomentIsNotShown(t *testing.T) {
	for policy, shown := range map[WhenFull]bool{EvictOldest: false, Stop: true} {
		o := testOptions(t.TempDir())
		o.WhenFull, o.housework = policy, time.Hour
		var ahead atomic.Int64
		o.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		b := open(t, o)
		b.overQuota(true)
		if s := b.Stats(); s.Full != shown || (s.FullReason != "") != shown || s.FullSince.IsZero() == shown {
			t.Errorf("%s: at once full %t since %s, %q", policy, s.Full, s.FullSince, s.FullReason)
		}
		ahead.Store(int64(evictWithin))
		b.overQuota(true)
		if s := b.Stats(); !s.Full || s.FullReason == "" || s.FullSince.IsZero() {
			t.Errorf("%s: what lasts is not shown: %+v", policy, s)
		}
		b.overQuota(false)
		if s := b.Stats(); s.Full || !s.FullSince.IsZero() {
			t.Errorf("%s: still full: %+v", policy, s)
		}
	}
}
