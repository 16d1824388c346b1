package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

func TestStagesStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStages(zap.NewNop())
		ended := make(chan string, 3)
		for _, name := range []string{"uplinks", "machines", "drivers"} {
			s.start(name, time.Second, func(ctx context.Context) error {
				<-ctx.Done()
				ended <- name
				return ctx.Err()
			})
		}
		if late := s.stop(); len(late) > 0 {
			t.Errorf("late: %v", late)
		}
		close(ended)
		var order []string
		for name := range ended {
			order = append(order, name)
		}
		if want := []string{"drivers", "machines", "uplinks"}; !slices.Equal(order, want) {
			t.Errorf("stopped %v, want %v", order, want)
		}
		if len(s.failed) > 0 {
			t.Errorf("a part that ends with its context is no failure: %v", <-s.failed)
		}
	})
}

func TestStagesLeaveBehindWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStages(zap.NewNop())
		release := make(chan struct{})
		s.start("first", time.Second, func(ctx context.Context) error { <-ctx.Done(); return nil })
		s.start("stuck", 2*time.Second, func(context.Context) error { <-release; return nil })
		begin := time.Now()
		if late := s.stop(); !slices.Equal(late, []string{"stuck"}) {
			t.Errorf("late: %v, want stuck alone", late)
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("stop took %v, want the deadline of 2 s", took)
		}
		close(release)
		synctest.Wait()
	})
}

// A slow disk makes one stage wait: it has what those before it have left, and
// all together take no longer than their deadlines.
func TestStagesHandOnWhatTheyDoNotNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStages(zap.NewNop())
		takes := func(d time.Duration) func(context.Context) error {
			return func(ctx context.Context) error { <-ctx.Done(); time.Sleep(d); return nil }
		}
		s.start("last", time.Second, takes(1500*time.Millisecond))
		s.start("slow", time.Second, takes(2500*time.Millisecond))
		s.start("quick", 2*time.Second, takes(200*time.Millisecond))
		begin := time.Now()
		if late := s.stop(); !slices.Equal(late, []string{"last"}) {
			t.Errorf("late: %v, want last alone", late)
		}
		if took := time.Since(begin); took != 4*time.Second || s.spare != 0 {
			t.Errorf("stop took %v with %v to spare, want all 4 s", took, s.spare)
		}
		synctest.Wait()
		time.Sleep(time.Second)
	})
}

func TestStagesReportThePartThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStages(zap.NewNop())
		boom := errors.New("boom")
		s.start("machines", time.Second, func(context.Context) error { return boom }, func(ctx context.Context) error { <-ctx.Done(); return nil })
		if err := <-s.failed; !errors.Is(err, boom) {
			t.Errorf("failed with %v, want %v", err, boom)
		}
		s.stop()
	})
}
