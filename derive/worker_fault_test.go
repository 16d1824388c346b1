package derive

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/internal/memlog"
	"github.com/sluice-edge/sluice/plant"
)

// TestAFullBufferLosesNothing: while commits are refused the mailbox merges,
// and afterwards every piece and every change of state is there.
func TestAFullBufferLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := true
		log := &memLog{}
		log.fail = func(plant.Batch) error {
			if full {
				return fmt.Errorf("buffer: commit: %w", plant.ErrFull)
			}
			return nil
		}
		core, logs := observer.New(zap.InfoLevel)
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{Mailbox: 32}, zap.New(core))
		stop := start(t, w)
		stops := 0
		for i := range 300 {
			run := i%50 != 20
			if !run {
				stops++
			}
			w.Offer(press(uint64(100+i), run))
			time.Sleep(time.Second)
		}
		if st := w.Stats(); !st.Waiting || st.WaitingSince.IsZero() {
			t.Errorf("not waiting: %+v", st)
		}
		log.mu.Lock()
		full = false
		log.mu.Unlock()
		time.Sleep(10 * time.Second)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		events := log.snapshot()
		if got := pieces(t, events); got != 299 {
			t.Errorf("%d pieces, want 299", got)
		}
		seen := 0
		for _, e := range events {
			var s plant.StartStop
			if err := json.Unmarshal(e.Data, &s); e.Kind == plant.KindStartStop && err == nil && s.Running == 0 {
				seen++
			}
			if e.Kind == plant.KindGap {
				t.Errorf("gap %s", e.Data)
			}
		}
		if seen != stops {
			t.Errorf("%d stops, want %d", seen, stops)
		}
		if n := logs.FilterMessage("recording waits: the buffer is full").Len(); n != 1 {
			t.Errorf("the edge was logged %d times", n)
		}
		if n := logs.FilterMessage("recording goes on").Len(); n != 1 {
			t.Errorf("the recovery was logged %d times", n)
		}
	})
}

// TestStoppingWhileFullIsNoFault: the gateway stops in order though nothing can
// be recorded, and the totals bring the pieces at the next start.
func TestStoppingWhileFullIsNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		w.Offer(press(10, true))
		synctest.Wait()
		log.mu.Lock()
		log.fail = func(plant.Batch) error { return plant.ErrFull }
		log.mu.Unlock()
		w.Offer(press(15, true))
		time.Sleep(time.Second)
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		log.fail = nil
		again := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop = start(t, again)
		again.Offer(press(18, true))
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := pieces(t, log.snapshot()); got != 8 {
			t.Errorf("%d pieces, want 8", got)
		}
	})
}

// TestAnOverflowIsAGap: more changes of state than the mailbox holds are lost,
// and said to be; totals lose nothing, and memory stays bounded.
func TestAnOverflowIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{delay: time.Hour}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{Mailbox: 4}, zap.NewNop())
		stop := start(t, w)
		w.Offer(press(0, true))
		synctest.Wait() // the first commit now waits for its fsync
		for i := range 1000 {
			w.Offer(press(uint64(i/10), i%2 == 0))
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(w.mailbox.items); n > 8 {
			t.Errorf("%d inputs wait in a mailbox of 4 to 8", n)
		}
		log.mu.Lock()
		log.delay = 0
		log.mu.Unlock()
		time.Sleep(2 * time.Hour)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		var missing uint64
		events := log.snapshot()
		validate(t, events)
		for _, e := range events {
			var g plant.GapData
			if e.Kind == plant.KindGap {
				if err := json.Unmarshal(e.Data, &g); err != nil {
					t.Fatal(err)
				}
				missing += g.Count
			}
		}
		if st := w.Stats(); missing == 0 || st.Overflows != missing {
			t.Errorf("%d changes in gap events, %d counted as lost", missing, st.Overflows)
		}
		if got := pieces(t, events); got != 99 {
			t.Errorf("%d pieces, want 99", got)
		}
	})
}

func TestABatchThatIsTooBigIsSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{delay: time.Second, fail: func(b plant.Batch) error {
			if len(b.Events) > 3 {
				return fmt.Errorf("buffer: commit: %w", plant.ErrTooBig)
			}
			return nil
		}}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		for i := range 40 {
			w.Offer(press(uint64(i), true))
		}
		time.Sleep(time.Hour)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := pieces(t, log.snapshot()); got != 39 {
			t.Errorf("%d pieces, want 39", got)
		}
	})
}

// TestInputsThatWaitForACommitShareTheNext: while one commit waits for the disk
// the mailbox fills, and one commit takes all of it.
func TestInputsThatWaitForACommitShareTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{delay: 100 * time.Millisecond}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		for i := range 100 {
			w.Offer(press(uint64(i), true))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := log.count(); n > 12 {
			t.Errorf("%d commits of 100 ms in 1 s", n)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := pieces(t, log.snapshot()); got != 99 {
			t.Errorf("%d pieces, want 99", got)
		}
	})
}

// TestStateAloneIsCommittedNowAndThen: changed state without events waits for
// commit_every, and where only the times of readings change, for a minute.
func TestStateAloneIsCommittedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		w.Offer(press(5, true))
		synctest.Wait()
		after := log.count() // the first state was an event
		for range 50 {
			time.Sleep(time.Second)
			w.Offer(press(5, true))
		}
		synctest.Wait()
		if n := log.count() - after; n != 0 {
			t.Errorf("%d commits while nothing happened", n)
		}
		bad := press(0, true)
		bad.Readings[1].Quality = plant.Bad
		w.Offer(bad)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if n := log.count() - after; n != 1 {
			t.Errorf("%d commits of changed state, want 1", n)
		}
		w.Offer(press(5, true))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		before := log.count()
		w.Offer(press(5, true))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := log.count() - before; n != 1 {
			t.Errorf("%d commits of times alone, want 1", n)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSubmitReturnsWhenDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{delay: time.Second, Store: memlog.Store{Keyed: map[string][]byte{"serial/1": nil}}}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		before := time.Now()
		if err := w.Submit(t.Context(), plant.OrderChange{At: time.Now(), Order: plant.Order{Number: "A1"}, By: "erp"}); err != nil {
			t.Fatal(err)
		}
		if time.Since(before) < time.Second {
			t.Error("returned before the commit")
		}
		events := log.snapshot()
		if len(events) != 1 || events[0].Kind != plant.KindOrder {
			t.Fatalf("events %v", events)
		}
		if len(log.deleted) != 1 || log.deleted[0] != "serial/1" {
			t.Errorf("deleted %v: a value that no rule owns must go", log.deleted)
		}
		if st := w.Stats(); st.Order != "A1" || st.Inputs != 1 || st.Commits != 1 {
			t.Errorf("stats %+v", st)
		}
		// No event follows from a lost device, but what it leads to is durable too.
		if err := w.Submit(t.Context(), plant.DeviceState{At: time.Now(), Device: "press"}); err != nil {
			t.Fatal(err)
		}
		if n := log.count(); n != 2 {
			t.Errorf("%d commits after the second, want 2", n)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// steppedClock is a clock that tests set.
type steppedClock struct {
	at   time.Time
	step time.Duration
	sync bool
}

func (c *steppedClock) Now() time.Time {
	now := time.Now()
	return now.Add(c.Offset(now))
}

func (c *steppedClock) Offset(t time.Time) time.Duration {
	if !c.at.IsZero() && !t.Before(c.at) {
		return c.step
	}
	return 0
}

func (c *steppedClock) Synchronised() bool { return c.sync }

func TestAClockStepIsMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		clock := &steppedClock{}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{Clock: clock}, zap.NewNop())
		stop := start(t, w)
		w.Offer(press(1, true))
		synctest.Wait()
		clock.at, clock.step, clock.sync = time.Now().Add(time.Second), time.Hour, true
		time.Sleep(2 * time.Second)
		w.Offer(press(2, true))
		w.Offer(press(3, true))
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		events := log.snapshot()
		if len(events) != 3 {
			t.Fatalf("%d events", len(events))
		}
		if !events[0].TimeUncertain || events[1].ClockStep != time.Hour || events[1].TimeUncertain || events[2].ClockStep != 0 {
			t.Errorf("marks: %+v", events)
		}
	})
}

// TestTheSystemClockSeesNoStep: the two clocks of the system go together.
func TestTheSystemClockSeesNoStep(t *testing.T) {
	c := NewSystemClock()
	if d := c.Offset(c.Now()).Abs(); d > clockJump/2 {
		t.Errorf("offset %s at once", d)
	}
	c.Synchronised() // must answer, either way
}

// TestTicksComeByThemselves: a stop is confirmed though no reading comes any
// more.
func TestTicksComeByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scenario{path: "ticks", files: map[string]string{"config": "device: press\nstartstop: {running: run, min_stop: 5s}\n", "tags": "press/run bool\n"}}
		log := &memLog{}
		w := NewWorker(s.model(t, "config", "tags"), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		w.Offer(press(0, true))
		time.Sleep(500 * time.Millisecond) // so that the state alone is committed meanwhile
		stopped := time.Now()
		w.Offer(press(0, false))
		time.Sleep(6 * time.Second)
		events := log.snapshot()
		if len(events) != 2 || !events[1].Time.Equal(stopped) {
			t.Errorf("events %+v, want a stop at %s", events, stopped)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}
