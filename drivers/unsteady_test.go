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

// flapper is a device whose sessions end of themselves: behind lives, or before
// the second answer where lives is 0.
func flapper(lives *atomic.Int64) *script {
	s := &script{}
	var found time.Time
	s.connect = func(context.Context, uint64) error { found = time.Time{}; return nil }
	s.read = func(context.Context) ([]plant.Scan, error) {
		if found.IsZero() {
			found = time.Now()
		} else if int64(time.Since(found)) >= lives.Load() {
			return nil, errors.New("the device closed the connection")
		}
		return scan(s.sessions[len(s.sessions)-1], plant.Good, ""), nil
	}
	return s
}

// A device that comes and goes is named, whatever its rhythm; the log has one line
// when that begins and one when it has calmed, and the sinks hear of each loss.
func TestADeviceThatComesAndGoesIsNamed(t *testing.T) {
	for _, lives := range []time.Duration{0, 2 * time.Second, 20 * time.Second, 90 * time.Second, 8 * time.Minute} {
		t.Run(lives.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var now atomic.Int64
				now.Store(int64(lives))
				s := flapper(&now)
				b := run(t, s, PollerOptions{Interval: max(500*time.Millisecond, lives/10)})
				time.Sleep(max(20*time.Minute, 12*lives))
				st := b.Stats()
				if st.Unsteady.Since.IsZero() || st.Unsteady.Times < 3 || !strings.Contains(st.Unsteady.String(), "comes and goes") {
					t.Errorf("it is not named: %+v", st.Unsteady)
				}
				edges := func() (n int) {
					for _, m := range b.messages() {
						if strings.Contains(m, "comes and goes") {
							n++
						}
					}
					return n
				}
				before := len(b.messages())
				if edges() != 1 || before > 12 {
					t.Errorf("%d lines, %d of them of its coming and going: %q", before, edges(), b.messages())
				}
				now.Store(int64(10 * time.Hour))
				time.Sleep(65 * time.Minute)
				if st := b.Stats(); !st.Unsteady.Since.IsZero() || !st.Connected {
					t.Errorf("after an hour without a loss: %+v", st.Unsteady)
				}
				if last := b.messages()[len(b.messages())-1]; edges() != 2 || last != "device no longer comes and goes: it stays connected" {
					t.Errorf("the log ends with %q", b.messages()[before:])
				}
				b.stop()
				if n := slices.IndexFunc(b.tape.lines, func(line string) bool { return strings.Contains(line, "connected false") }); n < 0 {
					t.Error("the sinks heard of no loss")
				}
			})
		})
	}
}

// A PLC that is started a few times over is none that comes and goes.
func TestAFewRestartsAreNoComingAndGoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lives atomic.Int64
		lives.Store(int64(4 * time.Minute))
		s := flapper(&lives)
		b := run(t, s, PollerOptions{Interval: time.Second})
		time.Sleep(9 * time.Minute) // two losses
		lives.Store(int64(24 * time.Hour))
		time.Sleep(8 * time.Hour)
		b.stop()
		for _, m := range b.messages() {
			if strings.Contains(m, "comes and goes") {
				t.Errorf("logged %q", b.messages())
			}
		}
	})
}

// Sessions that do not last are asked for less and less often; those that give
// values for some time each few seconds, so that not much of them is lost.
func TestShortSessionsBackOff(t *testing.T) {
	for _, c := range []struct {
		name        string
		interval    time.Duration
		good        bool
		lives       time.Duration
		least, most int // attempts in 10 minutes
	}{
		{"hangs up at once", 0, true, 0, 20, 90},
		{"only bad values, then hangs up", 100 * time.Millisecond, false, 0, 20, 90},
		{"one answer each connection", 100 * time.Millisecond, true, 0, 180, 700},
		{"some values, then hangs up", 100 * time.Millisecond, true, time.Second, 100, 420},
		{"works for 6 s", 100 * time.Millisecond, true, 6 * time.Second, 80, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var lives atomic.Int64
				lives.Store(int64(c.lives))
				s := flapper(&lives)
				read := s.read
				s.read = func(ctx context.Context) ([]plant.Scan, error) {
					scans, err := read(ctx)
					if len(scans) > 0 && c.interval == 0 { // with the record that its first values trigger
						scans = append(scans, scans[0])
						scans[0].Snapshot, scans[1].Record = true, "PRESS-01/serial"
					}
					for i := range scans {
						if !c.good {
							scans[i].Readings[0] = plant.Reading{Tag: "made", Cause: "no line"}
						}
					}
					return scans, err
				}
				b := run(t, s, PollerOptions{Interval: c.interval})
				time.Sleep(10 * time.Minute)
				b.stop()
				if n := len(s.connects); n < c.least || n > c.most {
					t.Errorf("%d attempts in 10 minutes, want %d to %d", n, c.least, c.most)
				}
			})
		})
	}
}

// A device that comes and goes and is then away for longer is found soon after it
// is back, when nothing answered at its address meanwhile.
func TestAnUnsteadyDeviceThatWasAwayIsFoundSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lives atomic.Int64
		lives.Store(int64(time.Second))
		var away atomic.Bool
		s := flapper(&lives)
		connect := s.connect
		s.connect = func(ctx context.Context, n uint64) error {
			if away.Load() {
				return fmt.Errorf("connect: %w", ErrAway)
			}
			return connect(ctx, n)
		}
		b := run(t, s, PollerOptions{Interval: 100 * time.Millisecond})
		time.Sleep(time.Minute)
		away.Store(true)
		time.Sleep(2 * time.Minute)
		lives.Store(int64(time.Hour))
		away.Store(false)
		back := time.Since(s.start)
		time.Sleep(1500 * time.Millisecond)
		if st := b.Stats(); !st.Connected {
			t.Errorf("1.5 s after its return at %v it is not found", back)
		}
		b.stop()
	})
}

// What the sinks hear last of a device is how it is, with what is known of its
// coming and going.
func TestSinksHearThatADeviceComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lives atomic.Int64
		lives.Store(int64(time.Second))
		s := flapper(&lives)
		sink := &states{}
		p := NewPoller(PollerOptions{Device: "press", Interval: 100 * time.Millisecond, Timeout: time.Second}, s, []Sink{sink}, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(time.Minute)
		lives.Store(int64(time.Hour))
		time.Sleep(10 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := slices.IndexFunc(sink.all, func(d plant.DeviceState) bool { return d.Unsteady != "" }); n < 0 || n > 6 || sink.all[n].Connected {
			t.Errorf("told first with state %d of %+v", n, sink.all)
		}
		if last := sink.all[len(sink.all)-1]; last.Unsteady != "" || !last.Connected {
			t.Errorf("the last is %+v", last)
		}
	})
}

// states is a Sink that keeps the states of a device.
type states struct{ all []plant.DeviceState }

func (s *states) Offer(in plant.Input) {
	if d, ok := in.(plant.DeviceState); ok {
		s.all = append(s.all, d)
	}
}
