package driverstest

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

func absent(t *testing.T, r *rig) {
	before := runtime.NumGoroutine()
	for name, away := range map[string]func(){
		"refused": r.proxy.Refuse, "silent": r.proxy.Stall,
	} {
		away()
		err := r.within(t, func() error {
			if err := r.driver.Connect(t.Context(), 1); err != nil {
				return err
			}
			// TCP alone may be there; the device is not.
			_, err := r.read(t)
			return err
		})
		if err == nil {
			t.Errorf("%s: an absent device answered", name)
		}
		if err := r.driver.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
	r.proxy.Refuse()
	settle(t, "goroutines", before, runtime.NumGoroutine)
}

func everyType(t *testing.T, r *rig) {
	r.connect(t)
	for range 3 {
		r.compare(t, r.mustRead(t), nil)
		if r.Subscribing {
			return // nothing changes, nothing more comes
		}
	}
}

func badTag(t *testing.T, r *rig) {
	r.connect(t)
	got := r.mustRead(t)
	bad := got[r.Bad]
	if bad.Quality != plant.Bad || bad.Cause == "" || !bad.Value.IsZero() {
		t.Errorf("%s = %v (%v %q), want no value, bad, with a cause", r.Bad, bad.Value, bad.Quality, bad.Cause)
	}
	r.compare(t, got, nil)
}

func change(t *testing.T, r *rig) {
	r.connect(t)
	r.mustRead(t)
	r.server.Set(r.Changing, r.NewValue)
	r.await(t, r.Changing, r.NewValue)
}

func (r *rig) await(t *testing.T, tag plant.TagID, want plant.Value) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		scans, err := r.read(t)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range scans {
			for _, reading := range s.Readings {
				if reading.Tag == tag && reading.Value == want && reading.Quality == plant.Good {
					return
				}
			}
		}
	}
	t.Fatalf("%s never became %v", tag, want)
}

func sessions(t *testing.T, r *rig) {
	for range 3 {
		r.connect(t)
		seen := map[plant.TagID]bool{}
		for round := 0; round < 3 && (round == 0 || !r.Subscribing); round++ {
			scans, err := r.read(t)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range scans {
				if s.Session != r.session {
					t.Errorf("session %d, want %d", s.Session, r.session)
				}
				for _, reading := range s.Readings {
					if reading.Quality == plant.Good && s.Snapshot == seen[reading.Tag] {
						t.Errorf("%s in round %d: snapshot is %v", reading.Tag, round, s.Snapshot)
					}
					if reading.Quality == plant.Good {
						seen[reading.Tag] = true
					}
				}
			}
		}
		if err := r.driver.Close(); err != nil {
			t.Error(err)
		}
	}
}

func cut(t *testing.T, r *rig) {
	for range 3 {
		r.connect(t)
		r.mustRead(t)
		r.proxy.Cut()
		if err := r.lose(t); err == nil {
			t.Error("a read over a cut connection succeeded")
		}
		// Nothing below the driver redials within a session.
		if _, err := r.read(t); err == nil {
			t.Error("the session went on after its connection")
		}
		r.driver.Close()
	}
	r.connect(t)
	r.compare(t, r.mustRead(t), nil)
}

func cutWithin(t *testing.T, r *rig) {
	for n := range 24 {
		r.proxy.CutAfter(n)
		if err := r.within(t, func() error {
			r.session++
			if err := r.driver.Connect(t.Context(), r.session); err != nil {
				return err
			}
			_, err := r.read(t)
			return err
		}); err == nil {
			t.Errorf("cut after %d bytes: no error", n)
		}
		r.driver.Close()
	}
	r.proxy.Pass()
	r.connect(t)
	r.compare(t, r.mustRead(t), nil)
}

func frozen(t *testing.T, r *rig) {
	r.connect(t)
	r.mustRead(t)
	r.proxy.Stall()
	err := r.lose(t)
	if err == nil {
		t.Fatal("a frozen device answered")
	}
	if errors.Is(err, context.Canceled) {
		t.Errorf("the error is of a context that nobody cancelled: %v", err)
	}
	if err := r.within(t, r.driver.Close); err != nil {
		t.Error(err)
	}
	r.proxy.Pass()
	r.connect(t)
	r.compare(t, r.mustRead(t), nil)
}

// soon is how long a call may outlive its context; the best of some attempts
// counts, since a busy machine may be late itself.
const (
	soon     = 100 * time.Millisecond
	attempts = 10
)

// ends cancels the context of call while it waits, and wants it to return soon.
// prepare is called before each attempt.
func (r *rig) ends(t *testing.T, what string, prepare func(), call func(context.Context) error) {
	t.Helper()
	var best time.Duration
	for attempt := range attempts {
		prepare()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan time.Time)
		go func() {
			for ctx.Err() == nil {
				if call(ctx) != nil {
					break
				}
			}
			done <- time.Now()
		}()
		// Let the call get to its wait; a shorter time only makes the test weaker.
		time.Sleep(min(20*time.Millisecond, r.Timeout/4))
		start := time.Now()
		cancel()
		select {
		case end := <-done:
			if d := end.Sub(start); attempt == 0 || d < best {
				best = d
			}
		case <-time.After(patience):
			t.Fatalf("the %s outlived its context", what)
		}
		if best <= soon {
			return
		}
	}
	t.Errorf("the %s ended %v after its context, want at most %v", what, best, soon)
}

func cancelled(t *testing.T, r *rig) {
	stalled := func(ready func()) func() {
		return func() {
			r.proxy.Pass()
			r.driver.Close()
			ready()
			r.proxy.Stall()
		}
	}
	r.ends(t, "read", stalled(func() { r.connect(t); r.mustRead(t) }), func(ctx context.Context) error {
		_, err := r.driver.Read(ctx)
		return err
	})
	r.ends(t, "connect", stalled(func() { r.session++ }), func(ctx context.Context) error {
		if err := r.driver.Connect(ctx, r.session); err != nil {
			return err
		}
		// TCP alone may be there; it is the first read that waits.
		_, err := r.driver.Read(ctx)
		return err
	})
	if r.Writable == "" {
		return
	}
	r.ends(t, "write", stalled(func() { r.connect(t); r.mustRead(t) }), func(ctx context.Context) error {
		return r.driver.Write(ctx, plant.Write{Device: Device, Session: r.session, Tag: r.Writable, Value: r.NewWritten})
	})
}

func connectTwice(t *testing.T, r *rig) {
	r.connect(t)
	r.mustRead(t)
	r.connect(t)
	r.compare(t, r.mustRead(t), nil)
	if r.Writable != "" {
		if err := r.write(t, r.session-1, r.Writable, r.NewWritten); !errors.Is(err, drivers.ErrSessionOver) {
			t.Errorf("write of the session before: %v, want ErrSessionOver", err)
		}
	}
	settle(t, "connections", 1, r.proxy.Conns)
	if err := r.driver.Close(); err != nil {
		t.Error(err)
	}
	settle(t, "connections", 0, r.proxy.Conns)
}

// honest reads until an error or the end of d, and fails on any good reading
// that is not what the device holds.
func (r *rig) honest(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for ctx.Err() == nil {
		scans, err := r.driver.Read(ctx)
		if err != nil {
			return
		}
		for _, s := range scans {
			for _, reading := range s.Readings {
				if want := r.Values[reading.Tag]; reading.Quality == plant.Good && reading.Value != want {
					t.Errorf("%s = %v, want %v", reading.Tag, reading.Value, want)
				}
			}
		}
	}
}

func lateAnswer(t *testing.T, r *rig) {
	for _, late := range []time.Duration{r.Timeout / 2, r.Timeout + r.Timeout/10, 2 * r.Timeout} {
		r.connect(t)
		if r.Subscribing {
			r.mustRead(t)
		}
		r.proxy.Delay(late)
		r.honest(t, 3*r.Timeout)
		r.proxy.Pass()
		r.honest(t, r.Timeout)
		r.driver.Close()
	}
	r.connect(t)
	r.compare(t, r.mustRead(t), nil)
}

func doubledAnswer(t *testing.T, r *rig) {
	r.connect(t)
	r.mustRead(t)
	r.proxy.Duplicate()
	r.honest(t, r.Timeout)
	r.driver.Close()
	r.proxy.Pass()
	r.connect(t)
	r.compare(t, r.mustRead(t), nil)
}

func singleBytes(t *testing.T, r *rig) {
	// A busy machine may take longer over the bytes than the driver's time-out:
	// that is an error, and the next session is tried.
	for attempt := 1; ; attempt++ {
		r.connect(t)
		r.proxy.Slow(20_000)
		got, err := r.readAll(t)
		if err == nil {
			r.compare(t, got, nil)
			return
		}
		if attempt == 20 {
			t.Fatal(err)
		}
		r.proxy.Pass()
		r.driver.Close()
	}
}

func awayAndBack(t *testing.T, r *rig) {
	r.connect(t)
	r.mustRead(t)
	if err := r.server.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.lose(t); err == nil {
		t.Error("a device that is away answered")
	}
	r.driver.Close()
	if err := r.server.Start(); err != nil {
		t.Fatal(err)
	}
	r.connect(t)
	r.compare(t, r.mustRead(t), nil)
}

func (r *rig) write(t *testing.T, session uint64, tag plant.TagID, v plant.Value) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return r.driver.Write(ctx, plant.Write{Device: Device, Session: session, Tag: tag, Value: v})
}

func write(t *testing.T, r *rig) {
	if r.Writable == "" {
		t.Skip("the driver writes nothing")
	}
	r.connect(t)
	r.mustRead(t)
	if err := r.write(t, r.session, r.Writable, r.NewWritten); err != nil {
		t.Fatal(err)
	}
	r.await(t, r.Writable, r.NewWritten)
}

func writeWhileReading(t *testing.T, r *rig) {
	if r.Writable == "" {
		t.Skip("the driver writes nothing")
	}
	r.connect(t)
	r.mustRead(t)
	r.proxy.Delay(min(20*time.Millisecond, r.Timeout/4)) // so that reads are under way
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		for {
			if _, err := r.driver.Read(ctx); err != nil {
				failed <- err
				return
			}
		}
	}()
	for i := range 6 {
		v := r.NewWritten
		if i%2 == 1 {
			v = r.Values[r.Writable]
		}
		if err := r.within(t, func() error { return r.write(t, r.session, r.Writable, v) }); err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	}
	select {
	case err := <-failed:
		t.Fatalf("the read failed beside the writes: %v", err)
	default:
	}
	cancel()
	<-failed
}

func refusedWrites(t *testing.T, r *rig) {
	if r.Writable == "" {
		t.Skip("the driver writes nothing")
	}
	if err := r.write(t, 1, r.Writable, r.NewWritten); !errors.Is(err, drivers.ErrNotConnected) {
		t.Errorf("write without a session: %v, want ErrNotConnected", err)
	}
	r.connect(t)
	r.mustRead(t)
	if err := r.write(t, r.session, r.ReadOnly, r.Values[r.ReadOnly]); !errors.Is(err, drivers.ErrNotWritable) {
		t.Errorf("write to %s: %v, want ErrNotWritable", r.ReadOnly, err)
	}
	if err := r.write(t, r.session, "no such tag", r.NewWritten); !errors.Is(err, drivers.ErrNotWritable) {
		t.Errorf("write to an unknown tag: %v, want ErrNotWritable", err)
	}
	old := r.session
	r.driver.Close()
	r.connect(t)
	r.mustRead(t)
	if err := r.write(t, old, r.Writable, r.NewWritten); !errors.Is(err, drivers.ErrSessionOver) {
		t.Errorf("write of the session before: %v, want ErrSessionOver", err)
	}
	if !r.Subscribing {
		r.compare(t, r.mustRead(t), nil) // none of them arrived
	}
}

func closing(t *testing.T, r *rig) {
	if err := r.driver.Close(); err != nil {
		t.Errorf("close without a session: %v", err)
	}
	if _, err := r.read(t); !errors.Is(err, drivers.ErrNotConnected) {
		t.Errorf("read without a session: %v, want ErrNotConnected", err)
	}
	r.connect(t)
	for range 2 {
		if err := r.driver.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := r.read(t); !errors.Is(err, drivers.ErrNotConnected) {
		t.Errorf("read after close: %v, want ErrNotConnected", err)
	}
}

func noLeak(t *testing.T, r *rig) {
	// One session before the count: then the server is all there.
	r.connect(t)
	r.mustRead(t)
	if err := r.driver.Close(); err != nil {
		t.Error(err)
	}
	settle(t, "connections", 0, r.proxy.Conns)
	before := runtime.NumGoroutine()
	for i := range 20 {
		r.connect(t)
		r.mustRead(t)
		if i%2 == 1 {
			r.proxy.Cut()
			r.lose(t)
		}
		if err := r.driver.Close(); err != nil {
			t.Error(err)
		}
	}
	settle(t, "connections", 0, r.proxy.Conns)
	settle(t, "goroutines", before, runtime.NumGoroutine)
	if n := r.proxy.Accepted(); n != 21 {
		t.Errorf("%d connections for 21 sessions", n)
	}
}

// settle waits until count is back at want.
func settle(t *testing.T, what string, want int, count func() int) {
	t.Helper()
	for deadline := time.Now().Add(patience); count() > want; {
		if time.Now().After(deadline) {
			t.Fatalf("%d %s left, want %d", count(), what, want)
		}
		time.Sleep(time.Millisecond)
	}
}
