package mqtt

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestForwarderOverTwoBrokers: the first broker dies in the middle, the second one
// takes over, and the first is gone back to when it lives again. Counted at both
// ends nothing is missing, and what came twice is no more than was in flight.
func TestForwarderOverTwoBrokers(t *testing.T) {
	const machines, each = 8, 2500
	first, second := newMosquitto(t), newMosquitto(t)
	q := newMemoryQueue(machines, each)
	o := testOptions(first.Addr())
	o.Fallback, o.FailBack = []string{"tcp://" + second.Addr()}, config.Duration(time.Second)
	o.BatchEvents, o.BackoffMin, o.BackoffMax, o.SendTimeout = 20, config.Duration(10*time.Millisecond), config.Duration(100*time.Millisecond), config.Duration(30*time.Second)
	s := openAs(t, o, uplink.Env{})
	f := uplink.NewForwarder("broker", &slowQueue{q}, s, o.Options, zap.NewNop())
	stop, left := forward(t, f), q.remaining
	at := func(broker int) func() bool {
		return func() bool { p := s.session.Place(); return p.Connected && p.Broker == broker }
	}
	eventually(t, "some events at the first broker", func() bool { return left() < machines*each*9/10 })
	first.Stop()
	// The first oracle is gone with its broker, and with it what it had not read yet:
	// of what was acknowledged by now so much may be missing from the count, not from
	// the broker.
	unread := max(0, machines*each-left()+machines*o.BatchEvents+o.Window-len(first.Arrivals()))
	eventually(t, "the second broker", at(1))
	if n := f.Stats().Notices; len(n) != 1 || n[0].Do == "" {
		t.Errorf("the page says %+v of the second broker", n)
	}
	before := left()
	eventually(t, "some events at the second broker", func() bool { return left() < before-100 })
	first.Start()
	eventually(t, "the first broker again", at(0))
	if left() == 0 {
		t.Error("all was delivered before it went back, which proves nothing of it")
	}
	eventually(t, "all events", func() bool { return left() == 0 })
	if n := f.Stats().Notices; len(n) != 0 {
		t.Errorf("the page says %+v", n)
	}
	stop()
	// Both oracles subscribe with QoS 1 and may still be reading.
	count := func() (seen map[string]int, all int) {
		seen = map[string]int{}
		for _, b := range []*mosquitto{first, second} {
			for _, a := range b.Arrivals() {
				seen[a.ID]++
				all++
			}
		}
		return seen, all
	}
	eventually(t, "every event at one of the brokers", func() bool { seen, _ := count(); return len(seen) >= machines*each-unread })
	seen, all := count()
	sessions := int(s.session.Place().Session)
	if twice := all - len(seen); twice > sessions*o.Window {
		t.Errorf("%d events came twice in %d sessions, with a window of %d", twice, sessions, o.Window)
	}
	t.Logf("%d sessions, %d events: %d at the first broker, %d at the second, %d twice", sessions, len(seen), len(first.Arrivals()), len(second.Arrivals()), all-len(seen))
}

// slowQueue takes its time, so that there are events left at each step.
type slowQueue struct{ *memoryQueue }

func (q *slowQueue) Settle(ctx context.Context, m plant.MachineID, upTo plant.Sequence, r []plant.Result) error {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
	}
	return q.memoryQueue.Settle(ctx, m, upTo, r)
}
