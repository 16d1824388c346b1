package drivers

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

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
