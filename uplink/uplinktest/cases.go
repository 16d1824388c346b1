package uplinktest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// grace is what a loaded machine may take on top of a time-out.
const grace = 3 * time.Second

func deliversInOrder(r *rig) {
	events := Events("M-1", 1, 120)
	for _, batch := range chunks(events, 50) {
		if n := r.send(time.Minute, batch); n != len(batch) {
			r.Fatalf("%d of %d delivered by a healthy receiver", n, len(batch))
		}
	}
	r.inOrder(events)
	if got := len(r.receiver.Arrivals()); got != len(events) {
		r.Errorf("%d arrivals of %d events without a fault", got, len(events))
	}
}

func keepsMachinesApart(r *rig) {
	var machines [][]plant.Event
	for _, m := range []plant.MachineID{"A", "B", "C", "D", "E", "F", "G", "H"} {
		machines = append(machines, Events(m, 1, 60))
	}
	var senders sync.WaitGroup
	for _, events := range machines {
		senders.Go(func() {
			for _, batch := range chunks(events, 25) {
				if n := r.send(time.Minute, batch); n != len(batch) {
					r.Errorf("%s: %d of %d delivered", events[0].Machine, n, len(batch))
				}
			}
		})
	}
	senders.Wait()
	r.inOrder(machines...)
}

func absent(r *rig) {
	events := Events("M-1", 1, 3)
	r.proxy.Refuse()
	r.within(grace, func() {
		if n := r.send(time.Minute, events); n != 0 {
			r.Errorf("%d delivered to nobody", n)
		}
	})
	r.proxy.Pass()
	r.deliver(events)
	r.inOrder(events)
}

func silent(r *rig) {
	events := Events("M-1", 1, 4)
	r.deliver(events[:1])
	r.proxy.Stall()
	r.within(2*r.timeout+grace, func() {
		if n := r.send(time.Minute, events[1:]); n != 0 {
			r.Errorf("%d delivered while frozen", n)
		}
	})
	r.proxy.Pass()
	r.deliver(events[1:])
	r.inOrder(events)
}

func silentFromTheStart(r *rig) {
	events := Events("M-1", 1, 1)
	r.proxy.Stall()
	r.within(2*r.timeout+grace, func() {
		if n := r.send(time.Minute, events); n != 0 {
			r.Errorf("%d delivered while frozen", n)
		}
	})
	r.proxy.Pass()
	r.deliver(events)
}

func endsWithContext(r *rig) {
	events := Events("M-1", 1, 3)
	r.proxy.Stall()
	cancelled := func(what string, ready func() bool) {
		ctx, cancel := context.WithCancel(r.Context())
		ended := make(chan int)
		go func() { ended <- r.sendWith(ctx, events[1:]) }()
		r.eventually(what, ready)
		cancel()
		r.within(grace, func() {
			if n := <-ended; n != 0 {
				r.Errorf("%d delivered after %s", n, what)
			}
		})
	}
	cancelled("the connection to be made", func() bool { return r.proxy.Accepted() > 0 })
	r.proxy.Pass()
	r.deliver(events[:1])
	r.proxy.Stall()
	cancelled("the session to be frozen", func() bool { return true })
}

func endsWithClose(r *rig) {
	events := Events("M-1", 1, 3)
	r.deliver(events[:1])
	r.proxy.Stall()
	ended := make(chan int)
	go func() { ended <- r.send(time.Minute, events[1:]) }()
	r.within(grace, func() {
		r.close()
		if n := <-ended; n != 0 {
			r.Errorf("%d delivered", n)
		}
	})
	if n := r.send(time.Second, events[1:]); n != 0 {
		r.Errorf("%d delivered after Close", n)
	}
	r.close()
	// A second one, closed when its Send is certain to wait.
	r.sender = r.subject.Open(r, r.proxy.Addr(), r.timeout)
	before := r.proxy.Accepted()
	go func() { ended <- r.send(time.Minute, events[1:]) }()
	r.eventually("the connection to be made", func() bool { return r.proxy.Accepted() > before })
	r.within(grace, func() {
		if err := r.sender.Close(); err != nil {
			r.Errorf("Close: %v", err)
		}
		if n := <-ended; n != 0 {
			r.Errorf("%d delivered", n)
		}
	})
}

func restart(r *rig) {
	events := Events("M-1", 1, 20)
	r.deliver(events[:10])
	r.honest() // a receiver that is stopped may forget what it has not shown yet
	r.receiver.Stop()
	r.within(2*r.timeout+grace, func() {
		if n := r.send(time.Minute, events[10:]); n != 0 {
			r.Errorf("%d delivered to a stopped receiver", n)
		}
	})
	r.receiver.Start()
	r.deliver(events[10:])
	r.inOrder(events)
}

func slow(r *rig) {
	events := Events("M-1", 1, 10)
	r.proxy.Delay(short / 4)
	if n := r.send(time.Minute, events); n != len(events) {
		r.Errorf("%d of %d delivered by a slow receiver", n, len(events))
	}
	r.inOrder(events)
}

// lostAcknowledgement cuts the answers after each number of bytes in turn: one
// of them is between the acceptance of an event and its acknowledgement.
func lostAcknowledgement(r *rig) {
	events := Events("M-1", 1, 24)
	for i := range events {
		r.proxy.Cut()
		r.proxy.CutAfter(i)
		r.deliver(events[i : i+1])
		r.proxy.Pass()
	}
	r.inOrder(events)
	r.eventually("an event to come twice; else no acknowledgement was lost, and nothing is proved", func() bool {
		return len(r.receiver.Arrivals()) > len(events)
	})
}

func cutWithin(r *rig) {
	events := Events("M-1", 1, 12)
	for i := range events {
		r.proxy.Cut()
		r.proxy.CutRequestsAfter(1 + 90*i)
		r.deliver(events[i : i+1])
		r.proxy.Pass()
	}
	r.inOrder(events)
}

// randomCuts lets several machines send while the link is cut, frozen and
// refused at random.
func randomCuts(r *rig) {
	var machines [][]plant.Event
	for _, m := range []plant.MachineID{"A", "B", "C", "D"} {
		machines = append(machines, Events(m, 1, 400))
	}
	seed := rand.Uint64()
	r.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	done := make(chan struct{})
	var chaos, senders sync.WaitGroup
	chaos.Go(func() {
		for i := 0; ; i++ {
			switch random.IntN(4) {
			case 0:
				r.proxy.CutAfter(random.IntN(200))
			case 1:
				r.proxy.CutRequestsAfter(random.IntN(20_000))
			case 2:
				r.proxy.Cut()
			case 3:
				r.proxy.Delay(time.Duration(random.IntN(5)) * time.Millisecond)
			}
			wait := time.Duration(5+random.IntN(60)) * time.Millisecond
			if i == 25 {
				r.proxy.Pass()
				return
			}
			select {
			case <-done:
				r.proxy.Pass()
				return
			case <-time.After(wait):
			}
		}
	})
	for _, events := range machines {
		senders.Go(func() {
			deadline := time.Now().Add(30 * time.Second)
			for rest := events; len(rest) > 0 && time.Now().Before(deadline); {
				n := r.send(10*r.timeout, rest[:min(len(rest), 20)])
				rest = rest[n:]
			}
		})
	}
	senders.Wait()
	close(done)
	chaos.Wait()
	r.inOrder(machines...)
}

func tooLarge(r *rig) {
	if r.subject.TooLarge == 0 {
		return
	}
	events := Events("M-1", 1, 3)
	events[1].Data = append(append([]byte(`{"text":"`), bytes.Repeat([]byte{'x'}, r.subject.TooLarge)...), `"}`...)
	ctx, cancel := context.WithTimeout(r.Context(), patient)
	defer cancel()
	var got plant.Result
	for rest := events; len(rest) > 0 && got.Status != plant.Rejected; {
		results := r.sender.Send(ctx, "M-1", rest)
		if len(results) == 0 {
			r.Fatal("no results")
		}
		for _, got = range results {
			if got.Status != plant.Delivered {
				break
			}
			rest = rest[got.Last-rest[0].Sequence+1:]
		}
	}
	if got.First != 2 || got.Last != 2 || got.Status != plant.Rejected || got.Cause == nil {
		r.Fatalf("the result of the large event is %+v", got)
	}
	r.deliver(events[2:])
	r.eventually("the two that fit", func() bool { return r.copies(&events[0]) == 1 && r.copies(&events[2]) == 1 })
}

func leavesNothing(r *rig) {
	r.deliver(Events("M-1", 1, 1))
	r.close()
	r.eventually("the first session to end", func() bool { return r.proxy.Conns() == 0 })
	before := runtime.NumGoroutine()
	for i := range 20 {
		s := r.subject.Open(r, r.proxy.Addr(), r.timeout)
		r.sender = s
		if i%2 == 1 {
			r.proxy.CutAfter(3 * i)
		}
		r.send(grace, Events("M-1", plant.Sequence(2+i), 1))
		if err := s.Close(); err != nil {
			r.Errorf("Close: %v", err)
		}
		r.proxy.Pass()
	}
	r.eventually("20 sessions to leave nothing behind", func() bool {
		return r.proxy.Conns() == 0 && runtime.NumGoroutine() <= before
	})
}
