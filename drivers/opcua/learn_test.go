package opcua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// sessionsUntil connects and reads, a new session after each failure, until all
// tags t0 … are good, and returns how many sessions that took.
func sessionsUntil(t *testing.T, d drivers.Driver, tags int) (sessions uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for sessions = 1; ; sessions++ {
		good := map[plant.TagID]bool{}
		err := d.Connect(ctx, sessions)
		for err == nil && len(good) < tags {
			var scans []plant.Scan
			if scans, err = d.Read(ctx); err != nil {
				break
			}
			for _, s := range scans {
				for _, r := range s.Readings {
					if r.Quality == plant.Good && strings.HasPrefix(string(r.Tag), "t") {
						if want := string(r.Tag)[1:]; r.Value.Text() != want {
							t.Fatalf("%s is %v", r.Tag, r.Value)
						}
						good[r.Tag] = true
					}
				}
			}
		}
		if err == nil {
			return sessions
		}
		if ctx.Err() != nil {
			t.Fatalf("%d sessions, the last error: %v", sessions, err)
		}
		if !errors.Is(err, drivers.ErrAway) {
			t.Errorf("session %d: it would not be tried again soon: %v", sessions, err)
		}
		_ = d.Close()
	}
}

// many is a device with tags t0 … whose values are their numbers.
func many(s *plantsim.OPCUA, mode string, tags int) string {
	text := "driver: opcua\nendpoint: opc.tcp://ENDPOINT\n" + mode + ": 50ms\ntags:\n"
	s.Update(func(n *plantsim.Nodes) {
		for i := range tags {
			n.Set(fmt.Sprint("Many.", i), int32(i))
			text += fmt.Sprintf("  t%d: ns=2;s=Many.%d\n", i, i)
		}
	})
	return text
}

// A server that takes less in one call than it says is asked for less, and keeps
// being asked for less.
func TestLimitsThatAServerDoesNotName(t *testing.T) {
	for _, limit := range []uint32{1, 7} {
		s := newPLC(t, plantsim.OPCUAOptions{MaxNodesPerRead: limit, MaxItemsPerCall: limit, Unnamed: true})
		for _, mode := range []string{"publishing", "poll"} {
			d := openText(t, many(s, mode, 200), s.Addr())
			sessions := sessionsUntil(t, d, 200)
			t.Logf("%d a call, %s: %d sessions", limit, mode, sessions)
			if refused := s.Counts().TooMany; sessions != 1 || refused == 0 {
				t.Errorf("%d a call, %s: %d sessions, %d refusals", limit, mode, sessions, refused)
			}
			_ = d.Close()
			before := s.Counts().TooMany
			if again := sessionsUntil(t, d, 200); again != 1 || s.Counts().TooMany != before {
				t.Errorf("%d a call, %s: %d sessions and %d refusals after all was learned", limit, mode, again, s.Counts().TooMany-before)
			}
			_ = d.Close()
		}
	}
}

// A server that cannot be subscribed to is polled, and the page says so.
func TestAServerWithoutSubscriptions(t *testing.T) {
	for _, c := range []struct {
		service plantsim.Service
		status  ua.StatusCode
	}{
		{plantsim.ServiceCreateSubscription, ua.StatusBadServiceUnsupported},
		{plantsim.ServiceCreateSubscription, ua.StatusBadTooManySubscriptions},
		{plantsim.ServicePublish, ua.StatusBadServiceUnsupported},
	} {
		s := newPLC(t, plantsim.OPCUAOptions{})
		d := openText(t, many(s, "publishing", 20), s.Addr())
		s.Refuse(c.service, uint32(c.status))
		if sessions := sessionsUntil(t, d, 20); sessions != 2 {
			t.Errorf("%v: %d sessions, want 2", c.status, sessions)
		}
		s.Set("Many.7", int32(700))
		scan := until(t, d, "a change", func(s plant.Scan) bool { r, ok := find(s, "t7"); return ok && r.Value == plant.IntValue(700) })
		if scan.Snapshot {
			t.Errorf("%v: a change is no snapshot: %+v", c.status, scan)
		}
		if said := strings.Join(d.(drivers.Adviser).Advice(), "; "); !strings.Contains(said, "cannot be subscribed to") || !strings.Contains(said, "write poll") {
			t.Errorf("%v: the page says %q", c.status, said)
		}
		_ = d.Close()
	}
}

// What the server has no room to watch is read beside what it watches.
func TestMoreItemsThanAServerWatches(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{MaxItems: 5, MaxNodesPerRead: 4})
	d := openText(t, many(s, "publishing", 12), s.Addr())
	if sessions := sessionsUntil(t, d, 12); sessions != 1 {
		t.Errorf("%d sessions, want 1", sessions)
	}
	for _, i := range []int{2, 11} { // one that is watched, one that is not
		tag := plant.TagID(fmt.Sprint("t", i))
		s.Set(fmt.Sprint("Many.", i), int32(500+i))
		scan := until(t, d, "a change", func(s plant.Scan) bool { r, ok := find(s, tag); return ok && r.Value == plant.IntValue(int64(500+i)) })
		if scan.Snapshot {
			t.Errorf("%s: a change is no snapshot: %+v", tag, scan)
		}
	}
	if said := strings.Join(d.(drivers.Adviser).Advice(), "; "); !strings.Contains(said, "watches no more items: 7 tags, the first is t5, read each 500ms") {
		t.Errorf("the page says %q", said)
	}
}

// Where the server takes no deadband the driver applies it.
func TestADeadbandThatTheServerRefuses(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{NoDeadband: true})
	d := openText(t, "driver: opcua\nendpoint: opc.tcp://ENDPOINT\npublishing: 50ms\ntags:\n  level: {node: ns=2;s=Line.Level, scale: 0.1, deadband: 0.5}\n  made: ns=2;s=Line.Made\n", s.Addr())
	for session := range uint64(2) {
		connect(t, d, session+1)
		s.Set("Line.Level", int16(617))
		until(t, d, "first", func(s plant.Scan) bool {
			r, ok := find(s, "level")
			return ok && r.Quality == plant.Good && r.Value.Text() == "61.7"
		})
		for i, level := range []int16{620, 614, 622} { // 0.3 more, 0.3 less, 0.5 more: all within
			s.Update(func(n *plantsim.Nodes) { n.Set("Line.Level", level); n.Set("Line.Made", uint32(i)) })
			until(t, d, "made", func(s plant.Scan) bool {
				if r, ok := find(s, "level"); ok {
					t.Errorf("%v came through a deadband of 0.5", r.Value)
				}
				r, ok := find(s, "made")
				return ok && r.Value == plant.UintValue(uint64(i))
			})
		}
		s.Set("Line.Level", int16(623))
		until(t, d, "outside", func(s plant.Scan) bool { r, ok := find(s, "level"); return ok && r.Value.Text() == "62.3" })
		s.Update(func(n *plantsim.Nodes) { n.SetStatus("Line.Level", 0x80320000) })
		until(t, d, "bad", func(s plant.Scan) bool { r, ok := find(s, "level"); return ok && r.Quality == plant.Bad })
		s.Set("Line.Level", int16(623))
		until(t, d, "good again", func(s plant.Scan) bool { r, ok := find(s, "level"); return ok && r.Quality == plant.Good })
		if said := strings.Join(d.(drivers.Adviser).Advice(), "; "); !strings.Contains(said, "takes no deadband: the tag level") {
			t.Errorf("the page says %q", said)
		}
		_ = d.Close()
	}
}

// A refusal halves what is asked for, a connection lost over it twice does so
// too, and small calls are never blamed.
func TestCapacity(t *testing.T) {
	lost, refused := errors.New("the server closed the connection"), refused(ua.StatusBadTooManyOperations)
	var c capacity
	for i, step := range []struct {
		n    int
		err  error
		want int // limit(1000) afterwards
	}{
		{1000, nil, 1000}, {1000, refused, 500}, {500, refused, 250}, {250, nil, 250},
		{250, lost, 250}, {3, nil, 250}, {250, lost, 125}, {125, lost, 125}, {125, nil, 125}, {125, lost, 125},
		{40, lost, 125}, {40, lost, 125}, {125, lost, 62}, {62, lost, 62}, {62, lost, 50}, {50, lost, 50}, {50, lost, 50},
		{3, refused, 1}, {1, refused, 1},
	} {
		err := c.learn(step.n, step.err)
		if got := c.limit(1000); got != step.want || (err == nil) != (step.err == nil) {
			t.Errorf("step %d, %d nodes, %v: at most %d (%v), want %d", i, step.n, step.err, got, err, step.want)
		}
	}
	if got := c.limit(0); got != 0 {
		t.Errorf("a limit of 0 becomes %d", got)
	}
}

// A refused subscription is asked for again after a while, by the next session;
// one session that hears nothing proves nothing.
func TestRefusedSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r inability
		if r.why() != "" || r.mute() || r.why() != "" {
			t.Error("refused without a refusal")
		}
		r.heard()
		if r.mute() {
			t.Error("two silent sessions that were not in a row")
		}
		if !r.mute() {
			t.Error("two silent sessions in a row are none")
		}
		r.refuse("no room")
		if r.why() != "no room" {
			t.Error(r.why())
		}
		time.Sleep(askAgain + time.Second)
		if r.why() != "" {
			t.Error("never asked for again")
		}
	})
}

// A server that refused a call once, while it was busy, is asked for more again, a
// step each ten minutes; one that hung up over a call is not.
func TestACapacityGrowsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c capacity
		for n := 8; n > 1; n /= 2 {
			if err := c.learn(n, ua.StatusBadTooManyOperations); !errors.Is(err, drivers.ErrAway) {
				t.Error(err)
			}
		}
		for _, want := range []int{1, 2, 4, 8} {
			if got := c.limit(100); got != want {
				t.Errorf("%d at most, want %d", got, want)
			}
			time.Sleep(askAgain + time.Second)
		}
		_ = c.learn(16, ua.StatusBadTooManyOperations)
		if got := c.limit(100); got != 8 {
			t.Errorf("%d at most after another refusal, want 8", got)
		}
		var hung capacity
		for range strikes {
			_ = hung.learn(200, errors.New("the server closed the connection"))
		}
		time.Sleep(10 * askAgain)
		if got := hung.limit(1000); got != 100 {
			t.Errorf("%d at most where it hangs up, want 100", got)
		}
	})
}
