package buffer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/sluice-edge/sluice/plant"
)

func testOptions(path string) Options {
	o := DefaultOptions(path)
	o.Gateway, o.Source = "edge-1", "/acme/lisbon/packing"
	o.Ballast = 0 // written out in the tests of the ballast only
	return o
}

// unmergedOptions are for a store with a damaged table: Badger's merge of it comes
// whenever its goroutine gets its turn, drops what is behind the damage, or ends the
// test binary with a panic that nobody can recover.
func unmergedOptions(path string) Options {
	o := testOptions(path)
	o.unmerged = true
	return o
}

func open(t testing.TB, o Options) *Buffer {
	t.Helper()
	b, err := Open(context.Background(), o, zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func mustClose(t testing.TB, b *Buffer) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

var testTime = time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC)

func count(n int) plant.Event {
	return plant.Event{
		Kind: plant.KindCounter, Version: 1, Time: testTime.Add(time.Duration(n) * time.Second), TimeSource: plant.GatewayTime,
		Data: []byte(fmt.Sprintf(`{"machine":"M","good":%d}`, n)),
	}
}

func parameter(n int) plant.Event {
	e := count(n)
	e.Kind = plant.KindParameters
	return e
}

func commit(t testing.TB, b *Buffer, m plant.MachineID, events ...plant.Event) plant.Sequence {
	t.Helper()
	first, err := b.Commit(context.Background(), m, plant.Batch{Events: events})
	if err != nil {
		t.Fatalf("commit to %s: %v", m, err)
	}
	return first
}

func all(plant.EventKind) bool { return true }

func only(kinds ...plant.EventKind) func(plant.EventKind) bool {
	return func(k plant.EventKind) bool {
		for _, o := range kinds {
			if o == k {
				return true
			}
		}
		return false
	}
}

func queue(t testing.TB, b *Buffer, name string, carries func(plant.EventKind) bool) *Queue {
	t.Helper()
	q, err := b.Queue(name, carries)
	if err != nil {
		t.Fatalf("queue %s: %v", name, err)
	}
	return q
}

func next(t testing.TB, q *Queue) plant.MachineID {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := q.Next(ctx)
	if err != nil {
		t.Fatalf("next of %s: %v", q.name, err)
	}
	return m
}

// idle checks that nothing waits.
func idle(t testing.TB, q *Queue) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if m, ok := q.take(); ok {
		t.Fatalf("queue %s still has machine %s", q.name, m)
	}
	if _, err := q.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("next with an ended ctx: %v", err)
	}
}

func peekAll(t testing.TB, q *Queue, m plant.MachineID, after plant.Sequence, maxEvents int) []plant.Event {
	t.Helper()
	events, err := q.Peek(context.Background(), m, after, maxEvents, 1<<20)
	if err != nil {
		t.Fatalf("peek %s: %v", m, err)
	}
	return events
}

func settle(t testing.TB, q *Queue, m plant.MachineID, upTo plant.Sequence, r ...plant.Result) {
	t.Helper()
	if err := q.Settle(context.Background(), m, upTo, r); err != nil {
		t.Fatalf("settle %s up to %d: %v", m, upTo, err)
	}
}

func delivered(first, last plant.Sequence) plant.Result {
	return plant.Result{First: first, Last: last, Status: plant.Delivered}
}

func sequences(events []plant.Event) []uint64 {
	s := make([]uint64, len(events))
	for i := range events {
		s[i] = uint64(events[i].Sequence)
	}
	return s
}

func queueStats(t testing.TB, b *Buffer, name string) QueueStats {
	t.Helper()
	for _, q := range b.Stats().Queues {
		if q.Uplink == name {
			return q
		}
	}
	t.Fatalf("no queue %s in the stats", name)
	return QueueStats{}
}

// patience bounds a hang. How long the disk of a loaded machine takes is not what is
// tested.
const patience = time.Minute

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestCommitLoadAndReadBack(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	ctx := context.Background()
	e := count(1)
	e.ClockOffset, e.ClockStep, e.TimeUncertain, e.TimeSource = -3*time.Second, time.Hour, true, plant.DeviceTime
	first, err := b.Commit(ctx, "M1", plant.Batch{
		State: []byte("state 1"), Events: []plant.Event{e, count(2)},
		Put: []plant.KV{{Key: "serial/a", Value: []byte("1")}, {Key: "serial/b", Value: nil}},
	})
	if err != nil || first != 1 {
		t.Fatalf("first commit: first %d, err %v", first, err)
	}
	if first, err = b.Commit(ctx, "M1", plant.Batch{Events: []plant.Event{count(3)}, Delete: []string{"serial/a"}}); err != nil || first != 3 {
		t.Fatalf("second commit: first %d, err %v", first, err)
	}
	if first, err = b.Commit(ctx, "M1", plant.Batch{State: []byte("state 2")}); err != nil || first != 0 {
		t.Fatalf("commit without events: first %d, err %v", first, err)
	}
	epoch := b.Epoch()
	mustClose(t, b)

	o := testOptions(path)
	o.Gateway, o.Source = "edge-2", "/acme/porto/packing"
	b = open(t, o)
	if b.Epoch() == epoch {
		t.Fatalf("the epoch %s was given twice", epoch)
	}
	kv := map[string]string{}
	state, err := b.Load(ctx, "M1", func(p plant.KV) error { kv[p.Key] = string(p.Value); return nil })
	if err != nil || string(state) != "state 2" {
		t.Fatalf("load: %q, %v", state, err)
	}
	if len(kv) != 1 || kv["serial/b"] != "" {
		t.Fatalf("kept values %v, want serial/b only", kv)
	}
	if state, err := b.Load(ctx, "M2", func(plant.KV) error { return nil }); state != nil || err != nil {
		t.Fatalf("load of a machine that never committed: %q, %v", state, err)
	}
	commit(t, b, "M1", count(4))
	var got []plant.Event
	for e, err := range b.Events(ctx, "M1", 0, 100) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 4 {
		t.Fatalf("%d events read, want 4", len(got))
	}
	want := e
	want.Gateway, want.Source, want.Machine, want.Epoch, want.Sequence = "edge-1", "/acme/lisbon/packing/M1", "M1", epoch, 1
	if fmt.Sprint(got[0]) != fmt.Sprint(want) {
		t.Errorf("event 1 came back as\n%v\nwant\n%v", got[0], want)
	}
	if id := got[2].ID().String(); id != "edge-1/M1/"+epoch.String()+"-3" {
		t.Errorf("id %s changed with the config", id)
	}
	if id := got[3].ID().String(); id != "edge-2/M1/"+b.Epoch().String()+"-4" {
		t.Errorf("id %s does not carry the new names", id)
	}
}

func TestQueuePeekAndSettle(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	q := queue(t, b, "mes", only(plant.KindCounter))
	commit(t, b, "M1", parameter(1), count(2), parameter(3), count(4), count(5), parameter(6))
	if got := queueStats(t, b, "mes"); got.Backlog != 3 || !got.Oldest.Equal(count(2).Time) {
		t.Fatalf("backlog %d since %s, want 3 since event 2", got.Backlog, got.Oldest)
	}
	m := next(t, q)
	idle(t, q)
	events := peekAll(t, q, m, 0, 2)
	if s := fmt.Sprint(sequences(events)); s != "[2 4]" {
		t.Fatalf("peeked %s, want the counters 2 and 4", s)
	}
	if events[0].Previous != 0 || events[1].Previous != 2 {
		t.Fatalf("previous %d and %d, want 0 and 2", events[0].Previous, events[1].Previous)
	}
	more := peekAll(t, q, m, 4, 10)
	if s := fmt.Sprint(sequences(more)); s != "[5]" || more[0].Previous != 4 {
		t.Fatalf("peeked %s after 4 with previous %d", s, more[0].Previous)
	}
	settle(t, q, m, 2, delivered(2, 2))
	if got := queueStats(t, b, "mes"); got.Backlog != 2 || !got.Oldest.Equal(count(4).Time) {
		t.Fatalf("backlog %d since %s, want 2 since event 4", got.Backlog, got.Oldest)
	}
	mustClose(t, b)

	b = open(t, testOptions(path))
	q = queue(t, b, "mes", only(plant.KindCounter))
	if got := queueStats(t, b, "mes"); got.Backlog != 2 || !got.Oldest.Equal(count(4).Time) {
		t.Fatalf("after a restart: backlog %d since %s, want 2 since event 4", got.Backlog, got.Oldest)
	}
	m = next(t, q)
	events = peekAll(t, q, m, 0, 10)
	if s := fmt.Sprint(sequences(events)); s != "[4 5]" || events[0].Previous != 2 {
		t.Fatalf("after a restart: peeked %s with previous %d, want 4 and 5 after 2", s, events[0].Previous)
	}
	settle(t, q, m, 5, delivered(4, 5))
	idle(t, q)
	commit(t, b, "M1", parameter(7))
	idle(t, q)
	if got := queueStats(t, b, "mes"); got.Backlog != 0 || !got.Oldest.IsZero() {
		t.Fatalf("backlog %d since %s, want none", got.Backlog, got.Oldest)
	}
	commit(t, b, "M1", count(8))
	m = next(t, q)
	if events = peekAll(t, q, m, 0, 10); len(events) != 1 || events[0].Sequence != 8 || events[0].Previous != 5 {
		t.Fatalf("peeked %v, want event 8 after 5", events)
	}
}

func TestConcurrentCommitsShareGroups(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	const machines, each = 32, 20
	var wg sync.WaitGroup
	for i := range machines {
		wg.Go(func() {
			m := plant.MachineID(fmt.Sprintf("M%02d", i))
			for n := range each {
				if first, err := b.Commit(context.Background(), m, plant.Batch{State: []byte("s"), Events: []plant.Event{count(n), count(n)}}); err != nil || first != plant.Sequence(2*n+1) {
					t.Errorf("%s commit %d: first %d, err %v", m, n, first, err)
					return
				}
			}
		})
	}
	wg.Wait()
	s := b.Stats()
	if s.Commits != machines*each || s.Events != 2*machines*each {
		t.Fatalf("%d commits with %d events counted", s.Commits, s.Events)
	}
	if s.Groups*4 > s.Commits {
		t.Errorf("%d commits took %d groups, want them shared at least by 4", s.Commits, s.Groups)
	}
	t.Logf("%d commits in %d groups", s.Commits, s.Groups)
}

func TestLoneCommitDoesNotLinger(t *testing.T) {
	o := testOptions(quickDir(t))
	o.Linger = MaxLinger
	b := open(t, o)
	// Concurrency before must not slow down who is alone afterwards.
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { commit(t, b, plant.MachineID(fmt.Sprint("M", i)), count(1)) })
	}
	wg.Wait()
	// On a loaded computer a commit takes what it takes; one that waits for others
	// never takes less than MaxLinger.
	const n = 10
	numbers := 0
	eventually(t, "commits that follow each other do not wait for others", func() bool {
		start := time.Now()
		for range n {
			numbers++
			commit(t, b, "lone", count(numbers))
		}
		return time.Since(start) < n*MaxLinger/2
	})
}

func TestCommitRefusals(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Commit(ended, "M1", plant.Batch{Events: []plant.Event{count(1)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("commit with an ended ctx: %v", err)
	}
	if first, err := b.Commit(context.Background(), "M1", plant.Batch{Urgent: true}); first != 0 || err != nil {
		t.Errorf("an empty batch: %d, %v", first, err)
	}
	if got := b.Stats(); got.Events != 0 || len(got.Streams) != 0 {
		t.Errorf("something was stored: %+v", got)
	}
	mustClose(t, b)
	if _, err := b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{count(1)}}); !errors.Is(err, errClosed) {
		t.Errorf("commit after close: %v", err)
	}
	if _, err := b.Load(context.Background(), "M1", func(plant.KV) error { return nil }); !errors.Is(err, errClosed) {
		t.Errorf("load after close: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("the second close: %v", err)
	}
}

func TestListingsReadPages(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	const n = 3*pageEntries + 7
	var batch plant.Batch
	for i := range n {
		batch.Events = append(batch.Events, count(i))
		batch.Put = append(batch.Put, plant.KV{Key: fmt.Sprintf("serial/%05d", i), Value: []byte{1}})
	}
	if _, err := b.Commit(context.Background(), "M1", batch); err != nil {
		t.Fatal(err)
	}
	got := 0
	if _, err := b.Load(context.Background(), "M1", func(p plant.KV) error {
		if p.Key != batch.Put[got].Key {
			t.Fatalf("kept value %d is %s", got, p.Key)
		}
		got++
		return nil
	}); err != nil || got != n {
		t.Fatalf("%d kept values, %v", got, err)
	}
	stop := errors.New("enough")
	if _, err := b.Load(context.Background(), "M1", func(plant.KV) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("the error of each is %v", err)
	}
	for _, tt := range []struct{ after, limit, want int }{{0, n, n}, {0, 300, 300}, {n - 3, n, 3}, {n, 1, 0}, {0, 0, 0}} {
		got := 0
		for e, err := range b.Events(context.Background(), "M1", plant.Sequence(tt.after), tt.limit) {
			if got++; err != nil || int(e.Sequence) != tt.after+got {
				t.Fatalf("event %d after %d is %d, %v", got, tt.after, uint64(e.Sequence), err)
			}
		}
		if got != tt.want {
			t.Errorf("%d events after %d of at most %d, want %d", got, tt.after, tt.limit, tt.want)
		}
	}
	for range b.Events(context.Background(), "M1", 0, n) {
		break
	}
}
