package drivers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// goesAway is a device that refuses connections and says nothing while it is away.
func goesAway(away *atomic.Bool) *script {
	s := &script{}
	s.connect = func(context.Context, uint64) error {
		if away.Load() {
			return errors.New("connection refused")
		}
		return nil
	}
	s.read = func(context.Context) ([]plant.Scan, error) {
		if away.Load() {
			return nil, errors.New("no answer within 1s")
		}
		return scan(s.sessions[len(s.sessions)-1], plant.Good, ""), nil
	}
	return s
}

func TestANightWithoutThePLCIsTwoLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		s := goesAway(&away)
		b := run(t, s, PollerOptions{Interval: time.Second})
		time.Sleep(2500 * time.Millisecond)
		away.Store(true)
		time.Sleep(10 * time.Hour)
		st := b.Stats()
		if st.Connected || st.LastError != "connection refused" || st.Session != 1 || st.Since.Sub(s.start) != 3*time.Second {
			t.Errorf("in the night: %+v", st)
		}
		away.Store(false)
		time.Sleep(31 * time.Second)
		b.stop()
		if got := b.messages(); !slices.Equal(got, []string{"device connected", "device is away", "device is back"}) {
			t.Errorf("logged %q", got)
		}
		if got := b.tape.lines; got[4] != "3s session 1 connected false no answer within 1s" ||
			!strings.HasSuffix(got[5], "session 2 connected true") || !strings.HasSuffix(got[6], "session 2 1 readings") {
			t.Errorf("the sinks saw %q", got[:7])
		}
		if n := len(s.connects); n < 10*3600/30 || n > 10*3600/10 {
			t.Errorf("%d attempts in 10 h, want one each 15 s on average", n)
		}
		if st := b.Stats(); st.Reconnects != 1 || st.Session != 2 || !st.Connected {
			t.Errorf("in the morning: %+v", st)
		}
	})
}

// A long night must not make the first attempt after the next loss late.
func TestBackoffBeginsAnewWithEachLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		s := goesAway(&away)
		b := run(t, s, PollerOptions{Interval: time.Second})
		away.Store(true)
		time.Sleep(time.Hour)
		away.Store(false)
		time.Sleep(time.Minute)
		if !b.Stats().Connected {
			t.Fatal("the device is not back")
		}
		attempts := len(s.connects)
		away.Store(true)
		time.Sleep(5 * time.Second)
		b.stop()
		if n := len(s.connects) - attempts; n < 3 {
			t.Errorf("%d attempts in the 5 s after a loss, want at least 3: the waits of the last outage go on", n)
		}
	})
}

func TestAwayAtStartIsAState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{connect: func(context.Context, uint64) error { return errors.New("connection refused") }}
		b := run(t, s, PollerOptions{Interval: time.Second})
		time.Sleep(time.Minute)
		b.stop()
		if want := []string{"0s session 0 connected false connection refused"}; !slices.Equal(b.tape.lines, want) {
			t.Errorf("the sinks saw %q, want %q", b.tape.lines, want)
		}
		if slices.Max(s.sessions) != 1 {
			t.Errorf("failed attempts used up sessions: %v", s.sessions)
		}
		if gap := s.connects[1] - s.connects[0]; gap != 500*time.Millisecond {
			t.Errorf("the first retry came after %v, want 0.5 s", gap)
		}
		if s.closes != len(s.connects) {
			t.Errorf("%d attempts, %d closes", len(s.connects), s.closes)
		}
	})
}

// A serial gateway accepts every connection, also while the device behind it is
// off: that must neither flap nor be hammered.
func TestAConnectionWithoutAnswersIsNoDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{read: func(ctx context.Context) ([]plant.Scan, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		b := run(t, s, PollerOptions{Interval: 100 * time.Millisecond})
		time.Sleep(10 * time.Minute)
		b.stop()
		if len(b.tape.lines) != 1 || !strings.HasPrefix(b.tape.lines[0], "1s session 1 connected false") {
			t.Errorf("the sinks saw %q", b.tape.lines)
		}
		if n := len(s.connects); n > 90 {
			t.Errorf("%d attempts in 10 minutes: the back-off does not grow", n)
		}
	})
}

// A device that is full is asked often, one that nothing answers for each second,
// one that refuses us less and less often.
func TestHowOftenADeviceIsAskedAgain(t *testing.T) {
	for _, c := range []struct {
		err         error
		least, most int
	}{{fmt.Errorf("connect: %w", ErrBusy), 35, 200}, {fmt.Errorf("connect: %w", ErrAway), 120, 240}, {errors.New("refused"), 4, 20}} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{start: time.Now(), connect: func(context.Context, uint64) error { return c.err }}
			p := NewPoller(PollerOptions{Device: "plc", Timeout: time.Second}, s, nil, zap.NewNop())
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
			if n := len(s.connects); n < c.least || n > c.most {
				t.Errorf("%v: %d attempts in two minutes, want %d to %d", c.err, n, c.least, c.most)
			}
		})
	}
}
