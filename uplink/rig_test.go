package uplink

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

// rig is one Forwarder over fakes, inside a synctest bubble.
type rig struct {
	t      *testing.T
	queue  *fakeQueue
	sender *fakeSender
	f      *Forwarder
	logs   *observer.ObservedLogs
	stop   context.CancelFunc
	ended  chan error
}

func start(t *testing.T, queue *fakeQueue, sender Sender, fake *fakeSender, change ...func(*Options)) *rig {
	t.Helper()
	return startOn(t, queue, queue, sender, fake, change...)
}

// startOn starts a Forwarder on q, which is fake or around it.
func startOn(t *testing.T, q Queue, queue *fakeQueue, sender Sender, fake *fakeSender, change ...func(*Options)) *rig {
	t.Helper()
	o := DefaultOptions()
	for _, c := range change {
		c(&o)
	}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	ctx, stop := context.WithCancel(t.Context())
	r := &rig{t: t, queue: queue, sender: fake, logs: logs, stop: stop, ended: make(chan error, 1)}
	r.f = NewForwarder("up", q, sender, o, zap.New(core))
	go func() { r.ended <- r.f.Run(ctx) }()
	synctest.Wait()
	return r
}

// elapse lets d go by and everything that it causes come to rest.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// finish stops the Forwarder and checks that it broke no rule.
func (r *rig) finish() {
	r.t.Helper()
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.check()
}

func (r *rig) check() {
	r.t.Helper()
	for _, fault := range append(r.queue.faults, r.sender.faults...) {
		r.t.Error(fault)
	}
	for m, leased := range r.queue.leased {
		if leased {
			r.t.Errorf("the lease of %s was not given back", m)
		}
	}
	if !r.sender.closed {
		r.t.Error("the sender was not closed")
	}
}

func scripted(answer func(context.Context, plant.MachineID, []plant.Event) []plant.Result) (*fakeQueue, *fakeSender) {
	q := newFakeQueue()
	return q, &fakeSender{queue: q, answer: answer}
}
