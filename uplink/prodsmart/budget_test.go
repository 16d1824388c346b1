package prodsmart

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBudgetSpreads: whoever asks, requests are one interval apart from the first
// on, so that no minute holds more than the share.
func TestBudgetSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(108)
		var mu sync.Mutex
		var granted []time.Time
		begun := time.Now()
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				if b.take(t.Context(), fmt.Sprint(i), class(i%5), time.Now().Add(time.Hour)) {
					mu.Lock()
					defer mu.Unlock()
					granted = append(granted, time.Now())
				}
			})
		}
		all.Wait()
		if len(granted) != 300 || granted[0].Sub(begun) != b.interval {
			t.Fatalf("%d granted, the first after %v", len(granted), granted[0].Sub(begun))
		}
		slices.SortFunc(granted, time.Time.Compare)
		for i := range granted {
			n := 0
			for _, other := range granted[i:] {
				if other.Sub(granted[i]) < time.Minute {
					n++
				}
			}
			if n > 108 {
				t.Fatalf("%d in a minute", n)
			}
			if i > 0 && granted[i].Sub(granted[i-1]) < b.interval {
				t.Fatalf("%v after the one before", granted[i].Sub(granted[i-1]))
			}
		}
	})
}

// TestBudgetPriorities: starts and stops first, and nothing waits for ever.
func TestBudgetPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(60)
		var mu sync.Mutex
		var order []class
		ask := func(key string, c class) {
			go func() {
				if b.take(t.Context(), key, c, time.Now().Add(time.Hour)) {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, c)
				}
			}()
			synctest.Wait()
		}
		for _, c := range []class{classOrders, classParameters, classCounter, classMovement, classState} {
			ask("first", c)
		}
		elapse(10 * time.Second)
		if want := []class{classState, classMovement, classCounter, classParameters, classOrders}; !slices.Equal(order, want) {
			t.Errorf("granted in the order %v", order)
		}
		// Counts without end do not keep parameters out for longer than it takes to
		// move up.
		order = nil
		ask("before", classState) // takes what is free now
		ask("parameters", classParameters)
		for i := range 100 {
			ask(fmt.Sprint(i), classCounter)
			ask(fmt.Sprint("more", i), classCounter)
			elapse(time.Second)
		}
		at := slices.Index(order, classParameters)
		if at < 55 || at > 70 {
			t.Errorf("the parameters were request %d", at)
		}
	})
}

// TestBudgetKeepsThePlace of who looks away, but not for ever.
func TestBudgetKeepsThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(6) // one in 10 s
		take := func(key string, patience time.Duration) bool {
			return b.take(t.Context(), key, classCounter, time.Now().Add(patience))
		}
		if take("A", 5*time.Second) {
			t.Fatal("there was no room yet")
		}
		ended := make(chan bool)
		go func() { ended <- take("B", time.Minute) }()
		synctest.Wait()
		if !take("A", 6*time.Second) {
			t.Error("A lost its place to B")
		}
		if !<-ended {
			t.Error("B was not granted")
		}
		take("A", time.Second)
		elapse(absence + time.Second)
		if !take("B", 0) && !take("B", time.Second) {
			t.Error("A kept B out, and was away")
		}
		if len(b.queue) != 0 {
			t.Errorf("%d places are left", len(b.queue))
		}
	})
}

func TestBudgetPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(60)
		begun := time.Now()
		b.pause(begun.Add(30 * time.Second))
		if !b.take(t.Context(), "A", classState, begun.Add(time.Minute)) || time.Since(begun) < 30*time.Second {
			t.Errorf("granted after %v", time.Since(begun))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if b.take(ctx, "B", classState, time.Now().Add(time.Minute)) {
			t.Error("granted to who had gone")
		}
	})
}

// TestTheShareIsASetting: what the gateway asks for in a minute is its share, by so
// many percent as rate_use says.
func TestTheShareIsASetting(t *testing.T) {
	for _, test := range []struct{ share, use, want int }{{120, 90, 108}, {60, 90, 54}, {60, 50, 30}, {60, 100, 60}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, company(), func(o *Options) { o.RequestsPerMinute, o.RateUse = test.share, test.use })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			n := 0
			for r.sender.budget.take(ctx, "M-1", classCounter, time.Now().Add(time.Hour)) {
				n++
			}
			if n < test.want-1 || n > test.want {
				t.Errorf("%d %% of %d: %d in a minute, want %d", test.use, test.share, n, test.want)
			}
		})
	}
}
