package drivers

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

// script is a device that does what a test says.
type script struct {
	connect func(ctx context.Context, session uint64) error
	read    func(ctx context.Context) ([]plant.Scan, error)
	write   func(ctx context.Context, w plant.Write) error

	mu       sync.Mutex
	connects []time.Duration // since the start of the test
	reads    []time.Duration
	sessions []uint64
	closes   int
	start    time.Time
}

var _ Driver = (*script)(nil)

func (s *script) Connect(ctx context.Context, session uint64) error {
	s.mu.Lock()
	s.connects = append(s.connects, time.Since(s.start))
	s.sessions = append(s.sessions, session)
	s.mu.Unlock()
	if s.connect == nil {
		return nil
	}
	return s.connect(ctx, session)
}

func (s *script) Read(ctx context.Context) ([]plant.Scan, error) {
	s.mu.Lock()
	s.reads = append(s.reads, time.Since(s.start))
	s.mu.Unlock()
	if s.read == nil {
		return nil, nil
	}
	return s.read(ctx)
}

func (s *script) Write(ctx context.Context, w plant.Write) error { return s.write(ctx, w) }

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closes++
	return nil
}

// tape is a Sink that keeps what it is offered, also as readable lines.
type tape struct {
	start time.Time
	lines []string
	scans []plant.Scan
}

var _ Sink = (*tape)(nil)

func (t *tape) Offer(in plant.Input) {
	at := in.When().Sub(t.start)
	switch in := in.(type) {
	case plant.DeviceState:
		t.lines = append(t.lines, strings.TrimSpace(fmt.Sprintf("%v session %d connected %v %s", at, in.Session, in.Connected, in.Cause)))
	case plant.Scan:
		t.scans = append(t.scans, in)
		t.lines = append(t.lines, fmt.Sprintf("%v session %d %d readings", at, in.Session, len(in.Readings)))
	}
}

// bench runs a Poller over a script in a bubble of synctest.
type bench struct {
	*Poller
	script *script
	tape   *tape
	logs   *observer.ObservedLogs
	stop   func()
}

func run(t *testing.T, s *script, o PollerOptions) *bench {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	s.start = time.Now()
	o.Device = "press"
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	b := &bench{script: s, tape: &tape{start: s.start}, logs: logs}
	b.Poller = NewPoller(o, s, []Sink{b.tape}, zap.New(core))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return b
}

func (b *bench) messages() []string {
	var out []string
	for _, e := range b.logs.All() {
		out = append(out, e.Message)
	}
	return out
}

// scan is one good reading now.
func scan(session uint64, quality plant.Quality, cause string) []plant.Scan {
	return []plant.Scan{{
		Device: "press", Session: session, Received: time.Now(),
		Readings: []plant.Reading{{Tag: "made", Value: plant.UintValue(1), Quality: quality, Cause: cause}},
	}}
}

// Devices with phases keep them over reconnects, and their first poll waits for
// nothing.
func TestPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		s := &script{}
		s.read = func(context.Context) ([]plant.Scan, error) {
			if down.CompareAndSwap(true, false) {
				return nil, errors.New("cut")
			}
			return scan(1, plant.Good, ""), nil
		}
		b := run(t, s, PollerOptions{Interval: time.Second, Phase: 300 * time.Millisecond, MinBackoff: 100 * time.Millisecond, MaxBackoff: 100 * time.Millisecond})
		time.Sleep(3500 * time.Millisecond)
		down.Store(true)
		time.Sleep(2500 * time.Millisecond)
		b.stop()
		if want := []int{0, 1300, 2300, 3300, 4300}; len(s.reads) < 7 {
			t.Fatal(s.reads)
		} else {
			for i, ms := range want {
				if at := time.Duration(ms) * time.Millisecond; s.reads[i] != at {
					t.Errorf("poll %d at %v, want %v", i, s.reads[i], at)
				}
			}
		}
		// The session was lost at 4.3 s; its next one begins at once.
		again := s.reads[5]
		if again < 4300*time.Millisecond || again > 4600*time.Millisecond || s.reads[6] != 5300*time.Millisecond {
			t.Errorf("behind the loss at %v and %v, want the phase kept: %v", again, s.reads[6], s.reads)
		}
	})
}

func TestPollsOnAGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{read: func(context.Context) ([]plant.Scan, error) {
			time.Sleep(30 * time.Millisecond)
			return nil, nil
		}}
		b := run(t, s, PollerOptions{Interval: 100 * time.Millisecond})
		time.Sleep(450 * time.Millisecond)
		b.stop()
		want := []time.Duration{0, 100e6, 200e6, 300e6, 400e6}
		if !slices.Equal(s.reads, want) {
			t.Errorf("polls started at %v, want %v", s.reads, want)
		}
		st := b.Stats()
		if st.Late != 0 || st.Skipped != 0 || st.ReadTime != 30*time.Millisecond || st.Reads != 5 || !st.Connected {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestASlowPollSkipsSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		durations := []time.Duration{250e6, 120e6, 10e6, 10e6}
		s := &script{}
		s.read = func(context.Context) ([]plant.Scan, error) {
			time.Sleep(durations[min(len(s.reads)-1, 3)])
			return nil, nil
		}
		b := run(t, s, PollerOptions{Interval: 100 * time.Millisecond})
		time.Sleep(260 * time.Millisecond)
		// Slot 100 is lost, slot 200 starts at 250 and takes until 370, slot 300
		// starts then, and slot 400 is in time again.
		time.Sleep(115 * time.Millisecond)
		if st := b.Stats(); st.Late != 50*time.Millisecond || st.Skipped != 1 {
			t.Errorf("Late = %v, Skipped = %d; want 50ms, 1", st.Late, st.Skipped)
		}
		time.Sleep(105 * time.Millisecond)
		b.stop()
		want := []time.Duration{0, 250e6, 370e6, 400e6}
		if !slices.Equal(s.reads, want) {
			t.Errorf("polls started at %v, want %v", s.reads, want)
		}
		if st := b.Stats(); st.Late != 0 || st.Skipped != 1 {
			t.Errorf("at the end: Late = %v, Skipped = %d; want 0, 1", st.Late, st.Skipped)
		}
	})
}

func TestANightWithoutThePLCIsTwoLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
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
		s := &script{}
		s.connect = func(context.Context, uint64) error {
			if away.Load() {
				return errors.New("connection refused")
			}
			return nil
		}
		s.read = func(context.Context) ([]plant.Scan, error) {
			if away.Load() {
				return nil, errors.New("no answer")
			}
			return scan(s.sessions[len(s.sessions)-1], plant.Good, ""), nil
		}
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

func TestSubscribingDriverReadsInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.read = func(ctx context.Context) ([]plant.Scan, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Hour): // longer than any time-out
				return scan(1, plant.Good, ""), nil
			}
		}
		b := run(t, s, PollerOptions{Interval: 0, Timeout: time.Second})
		time.Sleep(150 * time.Minute)
		b.stop()
		if st := b.Stats(); st.Reads != 2 || st.Errors != 0 || st.Session != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}

// The scans of one Read are of one poll, which the last of them that is no record
// ends.
func TestWhichAnswersOfAPollAreFollowedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{read: func(context.Context) ([]plant.Scan, error) {
			three := slices.Concat(scan(1, plant.Good, ""), scan(1, plant.Good, ""), scan(1, plant.Good, ""))
			three[2].Record = "dose"
			three[1].More = true // of the poll before
			return three, nil
		}}
		b := run(t, s, PollerOptions{Interval: time.Second})
		time.Sleep(1500 * time.Millisecond)
		b.stop()
		if len(b.tape.scans) != 6 {
			t.Fatalf("%d scans", len(b.tape.scans))
		}
		for i, in := range b.tape.scans {
			if want := i%3 == 0; in.More != want {
				t.Errorf("scan %d (record %q): more %v", i, in.Record, in.More)
			}
		}
	})
}

func TestPanicsLoseTheDeviceOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.read = func(context.Context) ([]plant.Scan, error) {
			if len(s.reads) <= 2 {
				panic("index out of range")
			}
			return scan(3, plant.Good, ""), nil
		}
		s.write = func(context.Context, plant.Write) error { panic("write") }
		b := run(t, s, PollerOptions{Interval: time.Second})
		time.Sleep(10 * time.Second)
		err := b.Write(t.Context(), plant.Write{Tag: "ack"})
		if err == nil || !strings.Contains(err.Error(), "panicked") {
			t.Errorf("Write: %v", err)
		}
		b.stop()
		st := b.Stats()
		if st.Panics != 3 || !st.Connected || st.Session != 3 || st.WriteErrors != 1 || st.Writes != 1 {
			t.Errorf("stats %+v", st)
		}
		if got := b.messages(); !slices.Equal(got, []string{"driver panicked", "device is away", "device is back"}) {
			t.Errorf("logged %q", got)
		}
		if stack := b.logs.All()[0].ContextMap()["stack"]; !strings.Contains(fmt.Sprint(stack), "poller") {
			t.Error("the log line of a panic has no stack")
		}
	})
}

func TestWriteGoesToTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.write = func(ctx context.Context, w plant.Write) error {
			if w.Session != 1 {
				return ErrSessionOver
			}
			if w.Tag == "slow" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		b := run(t, s, PollerOptions{Interval: time.Second})
		synctest.Wait()
		if err := b.Write(t.Context(), plant.Write{Session: 1, Tag: "ack"}); err != nil {
			t.Error(err)
		}
		err := b.Write(t.Context(), plant.Write{Session: 2, Tag: "ack"})
		if !errors.Is(err, ErrSessionOver) || !strings.Contains(err.Error(), "press/ack") {
			t.Errorf("Write in another session: %v", err)
		}
		if err := b.Write(t.Context(), plant.Write{Session: 1, Tag: "slow"}); err == nil {
			t.Error("a write without an answer succeeded")
		}
		b.stop()
	})
}

func TestBadTagsAreNamedUntilTheyAreGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.read = func(context.Context) ([]plant.Scan, error) {
			if len(s.reads) == 2 {
				return scan(1, plant.Bad, "not a number"), nil
			}
			return scan(1, plant.Good, ""), nil
		}
		b := run(t, s, PollerOptions{Interval: time.Second})
		time.Sleep(1500 * time.Millisecond)
		st := b.Stats()
		if st.BadTags["made"] != "not a number" || st.BadReadings != 1 || st.Readings != 2 {
			t.Errorf("stats %+v", st)
		}
		time.Sleep(time.Second)
		if st := b.Stats(); len(st.BadTags) != 0 || st.BadReadings != 1 {
			t.Errorf("stats %+v", st)
		}
		if st.BadTags["made"] == "" || st.BadSince["made"].IsZero() {
			t.Errorf("an older snapshot changed, or has no beginning: %q %v", st.BadTags, st.BadSince)
		}
		b.stop()
	})
}

func TestStopsWhileWaiting(t *testing.T) {
	for name, s := range map[string]*script{
		"in a read": {read: func(ctx context.Context) ([]plant.Scan, error) { <-ctx.Done(); return nil, ctx.Err() }},
		"in a connect": {connect: func(ctx context.Context, _ uint64) error {
			<-ctx.Done()
			return ctx.Err()
		}},
		"in a back-off": {connect: func(context.Context, uint64) error { return errors.New("refused") }},
		"between polls": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := run(t, s, PollerOptions{Interval: time.Hour, Timeout: time.Hour})
				time.Sleep(100 * time.Millisecond)
				before := time.Now()
				b.stop()
				if d := time.Since(before); d != 0 {
					t.Errorf("stopping took %v", d)
				}
				if s.closes != len(s.connects) {
					t.Errorf("%d connects, %d closes", len(s.connects), s.closes)
				}
			})
		})
	}
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

func TestPollerOptions(t *testing.T) {
	if o := (Plan{Endpoint: "10.0.0.7:502", Interval: 1, Timeout: 2}).PollerOptions("press"); !reflect.DeepEqual(o, PollerOptions{Device: "press", Endpoint: "10.0.0.7:502", Interval: 1, Timeout: 2}) {
		t.Errorf("options %+v", o)
	}
	err := (&PollerOptions{Interval: -1, MinBackoff: 2, MaxBackoff: 1}).Validate()
	for _, field := range []string{"device", "interval", "timeout", "max_backoff"} {
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("Validate() = %v does not name %s", err, field)
		}
	}
}
