package rest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// memoryQueue is a Queue of a few streams in memory, for one run.
type memoryQueue struct {
	order chan plant.MachineID

	mu      sync.Mutex
	streams map[plant.MachineID][]plant.Event
	dead    []plant.Result
}

func newQueue(each int, machines ...plant.MachineID) *memoryQueue {
	q := &memoryQueue{order: make(chan plant.MachineID, len(machines)), streams: map[plant.MachineID][]plant.Event{}}
	for _, m := range machines {
		q.streams[m] = uplinktest.Events(m, 1, each)
		q.order <- m
	}
	return q
}

func (q *memoryQueue) Next(ctx context.Context) (plant.MachineID, error) {
	select {
	case m := <-q.order:
		return m, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (q *memoryQueue) Peek(_ context.Context, m plant.MachineID, _ plant.Sequence, n, _ int) ([]plant.Event, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.streams[m][:min(n, len(q.streams[m]))], nil
}

func (q *memoryQueue) Settle(_ context.Context, m plant.MachineID, upTo plant.Sequence, results []plant.Result) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	stream := q.streams[m]
	for len(stream) > 0 && stream[0].Sequence <= upTo {
		stream = stream[1:]
	}
	for _, r := range results {
		if r.Status == plant.Rejected {
			q.dead = append(q.dead, r)
		}
	}
	if q.streams[m] = stream; len(stream) > 0 {
		q.order <- m
	}
	return nil
}

func (q *memoryQueue) Memory(string) ([]byte, error) { return nil, nil }

func (q *memoryQueue) state() (left, dead int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, stream := range q.streams {
		left += len(stream)
	}
	return left, len(q.dead)
}

// forward runs the whole uplink until done says so.
func forward(t *testing.T, q *memoryQueue, o Options, done func(uplink.Stats) bool) uplink.Stats {
	t.Helper()
	o.BackoffMin, o.BackoffMax = config.Duration(10*time.Millisecond), config.Duration(50*time.Millisecond)
	o.BatchEvents = min(o.BatchEvents, 20)
	f := uplink.NewForwarder("mes", q, openWith(t, o), o.Options, zap.NewNop())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); !done(f.Stats()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			left, dead := q.state()
			t.Fatalf("%d left, %d dead: %+v", left, dead, f.Stats())
		}
	}
	s := f.Stats()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return s
}

// TestNothingIsLostInAStorm: errors of every passing sort, one answer after the
// other, and in the end each event is there, each machine's in order.
func TestNothingIsLostInAStorm(t *testing.T) {
	storm := []int{500, 429, 502, 408, 503, 425, 504, 507}
	var mu sync.Mutex
	lost := map[string]bool{}
	r := answering(t, func(n int, q request, w http.ResponseWriter) bool {
		if n%3 == 0 {
			w.WriteHeader(storm[n/3%len(storm)])
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if id := q.header.Get("Idempotency-Key"); n%7 == 0 && !lost[id] {
			lost[id] = true // taken, and nobody gets to know it
			defer raw(t, w, "")
		}
		return true
	})
	for _, batch := range []int{1, 5} {
		t.Run(fmt.Sprint("batch ", batch), func(t *testing.T) {
			q := newQueue(40, "A", "B", "C", "D")
			o := testOptions(r.Addr())
			o.Batch = batch
			before := len(r.Arrivals())
			s := forward(t, q, o, func(uplink.Stats) bool { left, _ := q.state(); return left == 0 })
			if _, dead := q.state(); dead > 0 || s.Rejected > 0 {
				t.Errorf("%d dead letters: %+v", dead, s)
			}
			next := map[string]int{}
			for _, a := range r.Arrivals()[before:] {
				n := number(a)
				if n > next[a.Source]+1 {
					t.Fatalf("%s arrived after %d", a.ID, next[a.Source])
				}
				next[a.Source] = max(next[a.Source], n)
			}
			for source, n := range next {
				if n != 40 {
					t.Errorf("%d of 40 events of %s", n, source)
				}
			}
		})
	}
}

// TestRefusedEventsGoToTheDeadLetters, each with the receiver's words, and
// those behind them go on.
func TestRefusedEventsGoToTheDeadLetters(t *testing.T) {
	r := answering(t, func(_ int, q request, w http.ResponseWriter) bool {
		if n := number(q.events(t)[0]); n == 4 || n == 9 {
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprintf(w, "order %d is unknown", n)
			return false
		}
		return true
	})
	q := newQueue(12, "A", "B")
	forward(t, q, testOptions(r.Addr()), func(uplink.Stats) bool { left, _ := q.state(); return left == 0 })
	if len(q.dead) != 4 || len(r.Arrivals()) != 20 {
		t.Errorf("%d dead, %d arrived", len(q.dead), len(r.Arrivals()))
	}
	for _, d := range q.dead {
		if want := fmt.Sprintf("order %d is unknown", d.First); d.First != d.Last || !strings.Contains(d.Cause.Error(), want) {
			t.Errorf("dead letter %+v", d)
		}
	}
}

// TestWrongSettingsDropNothing: a wrong token or URL stops the uplink, names
// the cause, and asks once, not for each machine or event.
func TestWrongSettingsDropNothing(t *testing.T) {
	for _, status := range []int{401, 403, 404, 405, 407, 415, 301, 511} {
		r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(status)
			return false
		})
		q := newQueue(50, "A", "B", "C", "D", "E", "F", "G", "H")
		o := testOptions(r.Addr())
		o.Concurrent = 4
		s := forward(t, q, o, func(s uplink.Stats) bool { return s.Down && s.Concurrent == 0 })
		if left, dead := q.state(); left != 400 || dead != 0 || s.Delivered != 0 || !strings.Contains(s.LastError, fmt.Sprint(status)) {
			t.Errorf("%d: %d left, %d dead, %+v", status, left, dead, s)
		}
		if n := len(r.seen()); n > o.Concurrent {
			t.Errorf("%d: %d requests", status, n)
		}
	}
}
