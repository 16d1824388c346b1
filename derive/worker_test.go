package derive

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/internal/memlog"
	"github.com/sluice-edge/sluice/plant"
)

// memLog is a Log in memory that keeps deep copies, can be slow, and can
// refuse.
type memLog struct {
	mu sync.Mutex
	memlog.Store
	commits int
	deleted []string
	// delay is how long a commit takes; fail answers the next ones.
	delay time.Duration
	fail  func(b plant.Batch) error
	// after makes a failing commit durable all the same: its outcome is unknown.
	after bool
}

var _ Log = (*memLog)(nil)

func (l *memLog) Load(_ context.Context, _ plant.MachineID, each func(plant.KV) error) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Store.Load(each)
}

func (l *memLog) Newest(_ context.Context, _ plant.MachineID, kind plant.EventKind, most int) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Store.Newest(kind, most), nil
}

func (l *memLog) Commit(_ context.Context, _ plant.MachineID, b plant.Batch) (plant.Sequence, error) {
	l.mu.Lock()
	delay := l.delay
	l.mu.Unlock()
	time.Sleep(delay) // of the synctest bubble's clock
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed error
	if l.fail != nil {
		if failed = l.fail(b); failed != nil && !l.after {
			return 0, failed
		}
	}
	l.commits++
	l.deleted = append(l.deleted, b.Delete...)
	return l.Apply(b), failed
}

func (l *memLog) snapshot() []plant.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.Events)
}

func (l *memLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commits
}

// pieces sums the good deltas of counter events.
func pieces(t *testing.T, events []plant.Event) (sum int64) {
	t.Helper()
	for _, e := range events {
		if e.Kind != plant.KindCounter {
			continue
		}
		var c plant.Counter
		if err := json.Unmarshal(e.Data, &c); err != nil {
			t.Fatal(err)
		}
		sum += c.GoodDelta
	}
	return sum
}

func pressModel(t testing.TB) *Model {
	t.Helper()
	m, err := NewModel("PRESS-01", Options{
		Device:    "press",
		Counter:   &counter.Options{Total: "made", MaxRate: config.Rate{Count: 100, Per: time.Second}, Pieces: 1},
		StartStop: &startstop.Options{Running: startstop.Running{Tag: "run"}},
	}, Catalog{"press": {{ID: "made", Type: plant.TypeUint16}, {ID: "run", Type: plant.TypeBool}, {ID: "spare", Type: plant.TypeInt16}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func press(made uint64, run bool) plant.Scan {
	return plant.Scan{Device: "press", Session: 1, Received: time.Now(), Readings: []plant.Reading{
		{Tag: "spare", Value: plant.IntValue(1), Quality: plant.Good},
		{Tag: "made", Value: plant.UintValue(made), Quality: plant.Good},
		{Tag: "run", Value: plant.BoolValue(run), Quality: plant.Good},
	}}
}

// start runs a worker until the returned stop is called, which gives Run's
// error.
func start(t *testing.T, w *Worker) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func TestWorkerCommitsWhatFollowsFromScans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop := start(t, w)
		for i := range 10 {
			w.Offer(press(uint64(100+i), true))
			time.Sleep(time.Second)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		events := log.snapshot()
		if got := pieces(t, events); got != 9 {
			t.Errorf("%d pieces, want 9", got)
		}
		st := w.Stats()
		if st.Good != 9 || st.Running == nil || !*st.Running || st.LastSequence != plant.Sequence(len(events)) {
			t.Errorf("stats %+v", st)
		}
		again := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		stop = start(t, again)
		again.Offer(press(120, true))
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := pieces(t, log.snapshot()); got != 20 {
			t.Errorf("%d pieces after a restart, want 20", got)
		}
	})
}

func TestWorkerStopsOnAFatalCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("input/output error")
		log := &memLog{fail: func(plant.Batch) error { return broken }}
		w := NewWorker(pressModel(t), log, nil, WorkerOptions{}, zap.NewNop())
		done := make(chan error, 1)
		go func() { done <- w.Run(t.Context()) }()
		w.Offer(press(1, true))
		err := <-done
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "PRESS-01") {
			t.Errorf("error %v", err)
		}
		if err := w.Submit(t.Context(), plant.Tick{At: time.Now()}); !errors.Is(err, errStopped) {
			t.Errorf("submit after the end: %v", err)
		}
	})
}
