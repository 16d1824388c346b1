// Package uplinktest is the conformance suite that every Sender passes: a real
// receiver behind a proxy that refuses, freezes, delays and cuts, and the one
// question whether the Sender ever says "delivered" of what the receiver has
// not, or waits where it must not.
package uplinktest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Arrival is one event that a receiver has accepted.
type Arrival struct {
	Source, ID string
	Body       []byte
}

// Receiver is a real system on a loopback port. Its methods are called from
// the test's goroutines.
type Receiver interface {
	// Addr returns its host:port, which a restart does not change.
	Addr() string
	// Arrivals returns what it has accepted since it was made, also before a
	// restart, in the order of acceptance, duplicates included.
	Arrivals() []Arrival
	// Stop ends it, with its connections; Start begins it again.
	Stop()
	Start()
}

// Rememberer is a Receiver that says what it last had of a machine.
type Rememberer interface {
	// Remember makes text the answer for that machine; empty says that it has had
	// nothing.
	Remember(m plant.MachineID, text string)
}

// Subject is a kind of Sender under test.
type Subject struct {
	// Receiver starts a receiver that ends with the test.
	Receiver func(t testing.TB) Receiver
	// Open makes a Sender to addr that waits so long for an acknowledgement. The
	// suite closes it.
	Open func(t testing.TB, addr string, ackTimeout time.Duration) uplink.Sender
	// OpenAsking is Open of a Sender that is an uplink.Watermarker and asks the
	// receiver, a Rememberer; nil if the kind cannot ask.
	OpenAsking func(t testing.TB, addr string, ackTimeout time.Duration) uplink.Sender
	// TooLarge is a size of Data that the Sender must refuse; 0 if it takes all.
	TooLarge int
}

const (
	// short is the time-out where the receiver falls silent; a pause of a loaded
	// machine makes a Retry there, as it should.
	short = 300 * time.Millisecond
	// patient is the time-out where only a fault of the Sender can be the cause of
	// a Retry, or where something else must end a Send.
	patient = 10 * time.Second
)

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	for _, c := range []struct {
		name    string
		timeout time.Duration
		run     func(*rig)
	}{
		{"delivers in order", patient, deliversInOrder},
		{"keeps machines apart", patient, keepsMachinesApart},
		{"says retry while the receiver is absent", short, absent},
		{"says retry when the receiver falls silent", short, silent},
		{"says retry when nobody answers the connection", short, silentFromTheStart},
		{"ends with its context", patient, endsWithContext},
		{"ends with Close", patient, endsWithClose},
		{"survives a restart of the receiver", short, restart},
		{"waits for a slow receiver", patient, slow},
		{"sends again after a lost acknowledgement", short, lostAcknowledgement},
		{"sends again after a cut within a message", short, cutWithin},
		{"claims nothing that did not arrive", short, randomCuts},
		{"refuses what is too large and goes on", short, tooLarge},
		{"leaves no goroutine behind", short, leavesNothing},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newRig(t, s, c.timeout)) })
	}
	if s.OpenAsking == nil {
		return
	}
	s.Open = s.OpenAsking
	for _, c := range []struct {
		name    string
		timeout time.Duration
		run     func(*rig)
	}{
		{"says what the receiver had last", patient, saysWhatItHad},
		{"names an answer that it cannot use", patient, namesBadAnswers},
		{"asks in vain and delivers", short, asksInVain},
		{"asks and leaves no goroutine behind", patient, asksAndLeavesNothing},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newRig(t, s, c.timeout)) })
	}
}

// Events returns n events of a machine from that sequence on, as the buffer
// hands them to an uplink.
func Events(m plant.MachineID, from plant.Sequence, n int) []plant.Event {
	events := make([]plant.Event, n)
	for i := range events {
		s := from + plant.Sequence(i)
		events[i] = plant.Event{
			Gateway: "gw", Source: "/acme/lisbon/packing/" + string(m), Machine: m,
			Epoch: 7, Sequence: s, Previous: s - 1, Kind: plant.KindCounter, Version: 1,
			Time: time.UnixMilli(1_770_000_000_000 + int64(s)), TimeSource: plant.GatewayTime,
			Data: fmt.Appendf(nil, `{"machine":%q,"mode":"production","good":%d,"good_delta":1,"from":"2026-02-02T02:40:00.000Z","to":"2026-02-02T02:40:01.000Z","raw":%d}`, m, s, s),
		}
	}
	return events
}

// rig is one Sender in front of one receiver, with the proxy between them.
type rig struct {
	*testing.T
	subject  Subject
	timeout  time.Duration
	receiver Receiver
	proxy    *faultnet.Proxy
	sender   uplink.Sender
	close    func()

	mu sync.Mutex
	// claimed are the ids that the Sender has said to be delivered.
	claimed map[string]bool
}

func newRig(t *testing.T, s Subject, timeout time.Duration) *rig {
	r := &rig{T: t, subject: s, timeout: timeout, receiver: s.Receiver(t), claimed: map[string]bool{}}
	var err error
	if r.proxy, err = faultnet.New(r.receiver.Addr()); err != nil {
		t.Fatal(err)
	}
	r.sender = s.Open(t, r.proxy.Addr(), timeout)
	r.close = sync.OnceFunc(func() {
		if err := r.sender.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.Cleanup(func() {
		r.close()
		r.honest()
		if err := r.proxy.Close(); err != nil {
			t.Errorf("proxy: %v", err)
		}
	})
	return r
}

// send sends events within limit, checks the form of the results and returns
// how many events, from the first, are delivered.
func (r *rig) send(limit time.Duration, events []plant.Event) int {
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	return r.sendWith(ctx, events)
}

func (r *rig) sendWith(ctx context.Context, events []plant.Event) int {
	r.Helper()
	n := 0
	for _, result := range r.sender.Send(ctx, events[0].Machine, events) {
		if n == len(events) || result.First != events[n].Sequence || result.Last < result.First || result.Last > events[len(events)-1].Sequence {
			r.Errorf("result %+v where event %d of %d is next", result, n, len(events))
			return n
		}
		if result.Status != plant.Delivered {
			if result.Cause == nil {
				r.Errorf("%v without a cause", result.Status)
			}
			return n
		}
		r.mu.Lock()
		for ; n < len(events) && events[n].Sequence <= result.Last; n++ {
			r.claimed[key(events[n].Source, events[n].ID().String())] = true
		}
		r.mu.Unlock()
	}
	return n
}

// deliver sends events again and again until all are delivered.
func (r *rig) deliver(events []plant.Event) {
	r.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for len(events) > 0 {
		if time.Now().After(deadline) {
			r.Fatalf("%d events are not delivered", len(events))
		}
		events = events[r.send(10*r.timeout, events):]
	}
}

func key(source, id string) string { return source + " " + id }

// honest checks that the receiver has what the Sender has claimed. A receiver
// may show an arrival a little after its acknowledgement.
func (r *rig) honest() {
	r.Helper()
	r.eventually("the receiver to show all that is claimed", func() bool {
		seen := map[string]bool{}
		for _, a := range r.receiver.Arrivals() {
			seen[key(a.Source, a.ID)] = true
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for k := range r.claimed {
			if !seen[k] {
				return false
			}
		}
		return true
	})
}

// inOrder checks that each machine's events have arrived, first arrivals in
// order, and that an event that came twice had the same bytes.
func (r *rig) inOrder(machines ...[]plant.Event) {
	r.Helper()
	r.honest()
	arrivals := r.receiver.Arrivals()
	for _, events := range machines {
		next := 0
		bodies := map[string]string{}
		for _, a := range arrivals {
			if a.Source != events[0].Source {
				continue
			}
			if body, again := bodies[a.ID]; again {
				if body != string(a.Body) {
					r.Errorf("%s came again with other bytes:\n%s\n%s", a.ID, body, a.Body)
				}
				continue
			}
			bodies[a.ID] = string(a.Body)
			if next == len(events) || a.ID != events[next].ID().String() {
				r.Fatalf("%s arrived where event %d of %d is next", a.ID, next, len(events))
			}
			next++
		}
		if next != len(events) {
			r.Errorf("%d of %d events of %s arrived", next, len(events), events[0].Machine)
		}
	}
}

// copies returns how often the event has arrived.
func (r *rig) copies(e *plant.Event) int {
	n := 0
	for _, a := range r.receiver.Arrivals() {
		if a.Source == e.Source && a.ID == e.ID().String() {
			n++
		}
	}
	return n
}

// eventually polls for a condition of the world outside the process.
func (r *rig) eventually(what string, ok func() bool) {
	r.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("waited 10 s for %s", what)
		}
	}
}

// within runs do and fails if it takes longer than limit.
func (r *rig) within(limit time.Duration, do func()) {
	r.Helper()
	begun := time.Now()
	do()
	if took := time.Since(begun); took > limit {
		r.Errorf("took %v, want at most %v", took, limit)
	}
}

// chunks splits events into batches of n.
func chunks(events []plant.Event, n int) [][]plant.Event {
	return slices.Collect(slices.Chunk(events, n))
}

// Address returns a host:port of 127.0.0.1 for a receiver, which nobody else gets
// while the test runs, though the receiver is away for a while.
func Address(t testing.TB) string {
	t.Helper()
	port, err := faultnet.KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	return port.Addr()
}
