package buffer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

func TestMachinesTakeTurns(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", all)
	for n := range 3 {
		for _, m := range []plant.MachineID{"A", "B", "C"} {
			commit(t, b, m, count(n))
		}
	}
	order := ""
	for range 9 {
		m := next(t, q)
		order += string(m)
		e := peekAll(t, q, m, 0, 1)
		settle(t, q, m, e[0].Sequence, delivered(e[0].Sequence, e[0].Sequence))
	}
	if order != "ABCABCABC" {
		t.Errorf("served %s, want ABCABCABC", order)
	}
}

func TestCommitWakesNext(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", only(plant.KindCounter))
	got := make(chan plant.MachineID)
	for range 2 {
		go func() {
			m, err := q.Next(context.Background())
			if err != nil {
				t.Error(err)
			}
			got <- m
		}()
	}
	commit(t, b, "M1", parameter(1))
	commit(t, b, "M1", count(2))
	commit(t, b, "M2", count(1))
	a, c := <-got, <-got
	if a == c {
		t.Fatalf("machine %s was leased twice", a)
	}
}

func TestLease(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", all)
	other := queue(t, b, "erp", all)
	ctx := context.Background()
	commit(t, b, "M1", count(1), count(2), count(3))
	if _, err := q.Peek(ctx, "M1", 0, 1, 1); err == nil {
		t.Error("peeked without a lease")
	}
	if err := q.Settle(ctx, "M1", 1, nil); err == nil {
		t.Error("settled without a lease")
	}
	m := next(t, q)
	peekAll(t, q, m, 0, 2)
	if err := q.Settle(ctx, m, 3, nil); err == nil || !strings.Contains(err.Error(), "only 2 was read") {
		t.Errorf("settled what was never read: %v", err)
	}
	if b.Err() != nil {
		t.Fatalf("a wrong argument latched the store: %v", b.Err())
	}
	// Given back: the same again, and the other uplink is not concerned.
	settle(t, q, m, 0)
	if m = next(t, q); fmt.Sprint(sequences(peekAll(t, q, m, 0, 9))) != "[1 2 3]" {
		t.Error("what was given back is not there")
	}
	if m = next(t, other); fmt.Sprint(sequences(peekAll(t, other, m, 0, 9))) != "[1 2 3]" {
		t.Error("the other uplink does not have all")
	}
	if _, err := b.Queue("mes", all); err == nil {
		t.Error("one uplink was opened twice")
	}
}

func TestPeekBounds(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", all)
	big := count(1)
	big.Data = make([]byte, 10<<10)
	commit(t, b, "M1", big, big, big, count(4))
	m := next(t, q)
	for _, tt := range []struct {
		after          plant.Sequence
		events, bytes_ int
		want           string
	}{
		{0, 10, 1, "[1]"},
		{0, 0, 1 << 20, "[1]"},
		{0, 10, 25 << 10, "[1 2]"},
		{2, 10, 25 << 10, "[3 4]"},
		{1, 1, 1 << 20, "[2]"},
		{4, 1, 1 << 20, "[]"},
		{99, 1, 1 << 20, "[]"},
	} {
		got, err := q.Peek(context.Background(), m, tt.after, tt.events, tt.bytes_)
		if err != nil || fmt.Sprint(sequences(got)) != tt.want {
			t.Errorf("after %d, at most %d events and %d bytes: %v, %v, want %s", tt.after, tt.events, tt.bytes_, sequences(got), err, tt.want)
		}
	}
}

func TestRejectedBecomesDeadLetter(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2), count(3), count(4), count(5))
	m := next(t, q)
	peekAll(t, q, m, 0, 10)
	settle(t, q, m, 4,
		delivered(1, 1),
		plant.Result{First: 2, Last: 3, Status: plant.Rejected, Cause: errors.New("order 4711 is closed" + strings.Repeat("!", 2*maxCause))},
		plant.Result{First: 4, Last: 4, Status: plant.Delivered, Put: []plant.KV{{Key: "op", Value: []byte("88")}}},
		plant.Result{First: 5, Last: 5, Status: plant.Held, WaitsFor: "parent"})
	mustClose(t, b)
	b = open(t, testOptions(path))
	q = queue(t, b, "mes", all)
	if got := queueStats(t, b, "mes"); got.DeadLetters != 1 || got.Backlog != 1 {
		t.Fatalf("%d dead letters and a backlog of %d, want 1 and 1", got.DeadLetters, got.Backlog)
	}
	if v, err := q.Memory("op"); string(v) != "88" || err != nil {
		t.Fatalf("memory %q, %v", v, err)
	}
	if v, err := q.Memory("none"); v != nil || err != nil {
		t.Fatalf("memory of nothing: %q, %v", v, err)
	}
	n := 0
	for d, err := range b.DeadLetters(context.Background(), "mes") {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if d.Event.Sequence != 3 || d.First != 2 || !strings.HasPrefix(d.Cause, "order 4711 is closed!") || len(d.Cause) != maxCause || d.Refused.IsZero() || string(d.Event.Data) != string(count(3).Data) {
			t.Errorf("dead letter %+v", d)
		}
	}
	if n != 1 {
		t.Fatalf("%d dead letters listed", n)
	}
	m = next(t, q)
	if e := peekAll(t, q, m, 0, 10); len(e) != 1 || e[0].Sequence != 5 || e[0].Previous != 4 {
		t.Fatalf("next is %v", e)
	}
}

// TestWhatARetryPutsIsKept, durably, though the cursor stays.
func TestWhatARetryPutsIsKept(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2))
	m := next(t, q)
	peekAll(t, q, m, 0, 10)
	settle(t, q, m, 0, plant.Result{First: 1, Last: 1, Status: plant.Retry, Put: []plant.KV{{Key: "retry_after", Value: []byte("an hour")}}})
	mustClose(t, b)
	b = open(t, testOptions(path))
	q = queue(t, b, "mes", all)
	if v, err := q.Memory("retry_after"); string(v) != "an hour" || err != nil {
		t.Errorf("memory %q, %v", v, err)
	}
	if got := queueStats(t, b, "mes"); got.Backlog != 2 || got.DeadLetters != 0 {
		t.Errorf("a backlog of %d, %d dead letters", got.Backlog, got.DeadLetters)
	}
}

func TestManyLargeDeadLettersInOneSettle(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", all)
	big := count(1)
	big.Data = make([]byte, 100<<10)
	for range 20 {
		commit(t, b, "M1", big)
	}
	m := next(t, q)
	events, err := q.Peek(context.Background(), m, 0, 100, 1<<30)
	if err != nil || len(events) != 20 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	var results []plant.Result
	for _, e := range events {
		results = append(results, plant.Result{First: e.Sequence, Last: e.Sequence, Status: plant.Rejected, Cause: errors.New("no")})
	}
	settle(t, q, m, 20, results...)
	n := 0
	for _, err := range b.DeadLetters(context.Background(), "mes") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if got := queueStats(t, b, "mes"); n != 20 || got.DeadLetters != 20 || got.Backlog != 0 {
		t.Fatalf("%d dead letters listed, %d counted, backlog %d", n, got.DeadLetters, got.Backlog)
	}
}

func TestLazySettleIsWrittenSoon(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2))
	m := next(t, q)
	peekAll(t, q, m, 0, 1)
	start := time.Now()
	settle(t, q, m, 1, delivered(1, 1))
	eventually(t, "the cursor is on disk", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return !b.queues[0].cursors[0].dirty
	})
	t.Logf("written after %s", time.Since(start))
	again := open(t, testOptions(crash(t, b)))
	queue(t, again, "mes", all)
	if got := queueStats(t, again, "mes"); got.Backlog != 1 {
		t.Fatalf("a backlog of %d after the kill, want 1", got.Backlog)
	}
}

func TestKeepAndClaims(t *testing.T) {
	path := quickDir(t)
	o := testOptions(path)
	o.Keep, o.housework = time.Hour, 5*time.Millisecond
	now := testTime
	o.now = func() time.Time { return now }
	b := open(t, o)
	mes := queue(t, b, "mes", only(plant.KindCounter))
	old := queue(t, b, "old", all)
	for n := range 600 {
		commit(t, b, "M1", count(n), parameter(n))
	}
	deliver := func(q *Queue, n int) {
		for n > 0 {
			m := next(t, q)
			e := peekAll(t, q, m, 0, n)
			n -= len(e)
			last := e[len(e)-1].Sequence
			settle(t, q, m, last, delivered(e[0].Sequence, last))
		}
	}
	deliver(mes, 600)
	deliver(old, 700)
	mustClose(t, b)
	stored := func() uint64 { return b.Stats().Streams[0].Stored }

	// Nothing is old enough.
	b = open(t, o)
	queue(t, b, "mes", only(plant.KindCounter))
	if err := b.retain(context.Background()); err != nil || stored() != 1200 {
		t.Fatalf("%d stored, %v", stored(), err)
	}
	mustClose(t, b)

	// All is old enough, but an uplink that left the config has had only 700.
	now = now.Add(2 * time.Hour)
	b = open(t, o)
	queue(t, b, "mes", only(plant.KindCounter))
	eventually(t, "what both had is deleted", func() bool { return stored() == 500 })
	if got := queueStats(t, b, "old"); got.Problem == "" || got.Backlog != 500 {
		t.Fatalf("the uplink that left shows %+v", got)
	}
	live := b.Stats().LiveBytes
	mustClose(t, b)

	// It comes back, and has them.
	b = open(t, o)
	queue(t, b, "mes", only(plant.KindCounter))
	old = queue(t, b, "old", all)
	if got := b.Stats().LiveBytes; got != live {
		t.Errorf("%d live bytes after a restart, %d before", got, live)
	}
	deliver(old, 500)
	eventually(t, "all is deleted", func() bool { return stored() == 0 })
	s := b.Stats()
	if s.Lost != 0 || s.LiveBytes != 0 {
		t.Fatalf("lost %d, live %d", s.Lost, s.LiveBytes)
	}
	commit(t, b, "M1", count(1))
	mustClose(t, b)
	b = open(t, o)
	if first := commit(t, b, "M1", count(2)); first != 1202 {
		t.Fatalf("the sequence goes on at %d after all was deleted, want 1202", first)
	}
}

func TestNewUplinkStartsAtTheOldestKept(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	commit(t, b, "M1", count(1), count(2))
	q := queue(t, b, "late", all)
	m := next(t, q)
	if got := sequences(peekAll(t, q, m, 0, 10)); fmt.Sprint(got) != "[1 2]" {
		t.Fatalf("a new uplink gets %v", got)
	}
}

func TestRanges(t *testing.T) {
	var r ranges
	for _, tt := range []struct {
		first, last plant.Sequence
		fresh       uint64
		want        string
	}{
		{5, 7, 3, "[{5 7}]"},
		{5, 7, 0, "[{5 7}]"},
		{9, 9, 1, "[{5 7} {9 9}]"},
		{8, 8, 1, "[{5 9}]"},
		{1, 2, 2, "[{1 2} {5 9}]"},
		{4, 12, 4, "[{1 2} {4 12}]"},
		{1, 20, 9, "[{1 20}]"},
	} {
		fresh := r.add(tt.first, tt.last)
		got := "["
		for i, s := range r {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("{%d %d}", uint64(s.first), uint64(s.last))
		}
		if got += "]"; fresh != tt.fresh || got != tt.want {
			t.Errorf("add %d-%d: %d fresh, %s; want %d, %s", uint64(tt.first), uint64(tt.last), fresh, got, tt.fresh, tt.want)
		}
	}
	for i := range plant.Sequence(10 * maxRanges) {
		r.add(100+2*i, 100+2*i)
	}
	if len(r) > maxRanges {
		t.Errorf("%d ranges are kept", len(r))
	}
}

// TestADurableSettleIsNotUndone: a cursor that waits for its turn to be written is
// older than one that is being made durable, and rides in the same transaction
// (TestModel: the refusal was kept, and the event was sent again after a kill).
func TestADurableSettleIsNotUndone(t *testing.T) {
	o := testOptions(quickDir(t))
	b := open(t, o)
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2), count(3), count(4))
	settle := func(r plant.Result) {
		t.Helper()
		m := next(t, q)
		peekAll(t, q, m, 0, 10)
		if err := q.Settle(context.Background(), m, r.Last, []plant.Result{r}); err != nil {
			t.Fatal(err)
		}
	}
	settle(delivered(1, 1))
	b.committer.mu.Lock()
	b.committer.dirtySince = time.Now().Add(-settleRide)
	b.committer.mu.Unlock()
	settle(plant.Result{First: 2, Last: 2, Status: plant.Rejected, Cause: errors.New("unknown order")})
	killed := testOptions(crash(t, b))
	mustClose(t, b)
	b = open(t, killed)
	q = queue(t, b, "mes", all)
	if got := sequences(peekAll(t, q, next(t, q), 0, 10)); len(got) != 2 || got[0] != 3 {
		t.Errorf("after a kill the uplink gets %v, want 3 and 4: the refusal of 2 was durable", got)
	}
}
