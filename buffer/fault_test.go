package buffer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sluice-edge/sluice/plant"
)

func TestFirstFailedCommitLatches(t *testing.T) {
	o := testOptions(quickDir(t))
	var failing atomic.Bool
	var tried atomic.Int64
	eio := errors.New("msync: input/output error")
	o.commit = func(txn *badger.Txn) error {
		if failing.Load() {
			tried.Add(1)
			return eio
		}
		return txn.Commit()
	}
	b := open(t, o)
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1))
	m := next(t, q)
	peekAll(t, q, m, 0, 10)

	failing.Store(true)
	if _, err := b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{count(2)}}); !errors.Is(err, eio) {
		t.Fatalf("the failed commit returned %v", err)
	}
	select {
	case <-b.Fault():
	default:
		t.Fatal("the fault channel is open after a failed commit")
	}
	// The disk is well again, but what Badger would do now is not known.
	failing.Store(false)
	tries := tried.Load()
	for range 3 {
		if _, err := b.Commit(context.Background(), "M2", plant.Batch{Events: []plant.Event{count(3)}}); !errors.Is(err, eio) {
			t.Fatalf("a commit after the fault returned %v", err)
		}
	}
	if err := q.Settle(context.Background(), m, 1, []plant.Result{delivered(1, 1)}); !errors.Is(err, eio) {
		t.Fatalf("a settle after the fault returned %v", err)
	}
	if _, err := q.Next(context.Background()); !errors.Is(err, eio) {
		t.Fatalf("next after the fault returned %v", err)
	}
	if tried.Load() != tries {
		t.Error("something was written after the fault")
	}
	if err := b.Close(); !errors.Is(err, eio) {
		t.Fatalf("close returned %v", err)
	}
	if b.db.IsClosed() {
		t.Error("the store was closed after a fault")
	}
	if s := b.Stats(); s.Fault == "" {
		t.Error("the stats do not name the fault")
	}
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFaultAnswersEverybodyWhoWaits(t *testing.T) {
	o := testOptions(quickDir(t))
	armed, entered, release := atomic.Bool{}, make(chan struct{}, 1), make(chan struct{})
	o.commit = func(txn *badger.Txn) error {
		if !armed.Load() {
			return txn.Commit()
		}
		entered <- struct{}{}
		<-release
		return errors.New("gone")
	}
	b := open(t, o)
	armed.Store(true)
	var wg sync.WaitGroup
	var refused atomic.Int64
	for i := range 16 {
		wg.Go(func() {
			if _, err := b.Commit(context.Background(), plant.MachineID(fmt.Sprint("M", i)), plant.Batch{Events: []plant.Event{count(1)}}); err != nil {
				refused.Add(1)
			}
		})
	}
	<-entered
	close(release)
	wg.Wait()
	if refused.Load() != 16 {
		t.Fatalf("%d of 16 waiting commits were refused", refused.Load())
	}
	if err := b.Close(); err == nil {
		t.Error("close hides the fault")
	}
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFullDiskIsAState(t *testing.T) {
	o := testOptions(quickDir(t))
	var free atomic.Int64
	free.Store(1 << 30)
	o.freeSpace = func(string) (int64, error) { return free.Load(), nil }
	b := open(t, o)
	q := queue(t, b, "mes", all)
	commit(t, b, "M1", count(1), count(2))

	free.Store(o.Reserve - 1)
	first, err := b.Commit(context.Background(), "M1", plant.Batch{State: []byte("s"), Events: []plant.Event{count(3)}})
	if !errors.Is(err, plant.ErrFull) || first != 0 {
		t.Fatalf("commit under the reserve: first %d, err %v", first, err)
	}
	if s := b.Stats(); !s.Full || s.FullSince.IsZero() || s.FullReason == "" {
		t.Fatalf("the stats do not show the full disk: %+v", s)
	}
	m := next(t, q)
	peekAll(t, q, m, 0, 1)
	settle(t, q, m, 1, plant.Result{First: 1, Last: 1, Status: plant.Rejected, Cause: errors.New("no")})

	free.Store(o.floor() - 1)
	m = next(t, q)
	peekAll(t, q, m, 0, 1)
	if err := q.Settle(context.Background(), m, 2, []plant.Result{{First: 2, Last: 2, Status: plant.Rejected}}); !errors.Is(err, plant.ErrFull) {
		t.Fatalf("a dead letter under the floor: %v", err)
	}
	idle(t, q)

	free.Store(o.Reserve + 1)
	if _, err := b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{count(3)}}); !errors.Is(err, plant.ErrFull) {
		t.Fatalf("the guard opened without hysteresis: %v", err)
	}
	free.Store(o.reopen())
	if first := commit(t, b, "M1", count(3)); first != 3 {
		t.Fatalf("after the full disk the sequence goes on at %d, want 3", first)
	}
	if s := b.Stats(); s.Full || !s.FullSince.IsZero() {
		t.Fatalf("still full: %+v", s)
	}
	// The lease went on: what found no room is settled now, and not peeked again.
	settle(t, q, m, 2, plant.Result{First: 2, Last: 2, Status: plant.Rejected, Cause: errors.New("no")})
	if n := queueStats(t, b, "mes").DeadLetters; n != 2 {
		t.Fatalf("%d dead letters, want 2", n)
	}
	m = next(t, q)
	if got := peekAll(t, q, m, 0, 10); fmt.Sprint(sequences(got)) != "[3]" {
		t.Fatalf("peeked %v, want 3", sequences(got))
	}
}

func TestQuotaDropsDeliveredFirstThenStops(t *testing.T) {
	o := testOptions(quickDir(t))
	o.Quota = MinQuota
	b := open(t, o)
	q := queue(t, b, "mes", all)
	big := count(1)
	big.Data = make([]byte, 200<<10)
	commit(t, b, "done", big, big)
	m := next(t, q)
	peekAll(t, q, m, 0, 10)
	settle(t, q, m, 2, delivered(1, 2))
	var n plant.Sequence
	for {
		first, err := b.Commit(context.Background(), "busy", plant.Batch{Events: []plant.Event{big}})
		if errors.Is(err, plant.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n = first
	}
	s := b.Stats()
	if s.LiveBytes > o.Quota || !s.Full {
		t.Fatalf("live %d of %d, full %t", s.LiveBytes, o.Quota, s.Full)
	}
	eventually(t, "what was delivered is dropped", func() bool { return b.Stats().Streams[0].Stored == 0 })
	for last := plant.Sequence(0); last < n/2; {
		m = next(t, q)
		events := peekAll(t, q, m, 0, 10)
		last = events[len(events)-1].Sequence
		settle(t, q, m, last, delivered(events[0].Sequence, last))
	}
	eventually(t, "commits are taken again", func() bool {
		first, err := b.Commit(context.Background(), "busy", plant.Batch{Events: []plant.Event{big}})
		return err == nil && first == n+1
	})
	if s := b.Stats(); s.Lost != 0 {
		t.Fatalf("%d events lost: %+v", s.Lost, s.Damage)
	}
}

func TestTooBigChangesNothing(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	commit(t, b, "M1", count(1))
	huge, half := count(2), count(2)
	huge.Data = make([]byte, maxEvent+1)
	half.Data = make([]byte, maxEvent)
	for name, batch := range map[string]plant.Batch{
		"one event":     {Events: []plant.Event{huge}},
		"a transaction": {Events: []plant.Event{half, half, half}},
		"state":         {State: make([]byte, maxEvent+1), Events: []plant.Event{count(2)}},
		"kept value":    {Put: []plant.KV{{Key: "k", Value: make([]byte, maxEvent+1)}}},
		"kept key":      {Put: []plant.KV{{Key: strings.Repeat("k", maxKVKey+1)}}},
		"no kind":       {Events: []plant.Event{{}}},
		"many":          {Events: make([]plant.Event, 5000)},
	} {
		for i := range batch.Events {
			if batch.Events[i].Kind == "" && name == "many" {
				batch.Events[i] = count(i)
				batch.Events[i].Data = make([]byte, 100)
			}
		}
		if _, err := b.Commit(context.Background(), "M1", batch); !errors.Is(err, plant.ErrTooBig) {
			t.Errorf("%s: %v, want ErrTooBig", name, err)
		}
	}
	if first := commit(t, b, "M1", half); first != 2 {
		t.Fatalf("the sequence goes on at %d, want 2", first)
	}
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
}

// TestEveryKindOfWriteLatches fails each kind of write that there is, once: the
// store latches, and nothing is written or acknowledged afterwards.
func TestEveryKindOfWriteLatches(t *testing.T) {
	eio := errors.New("msync: input/output error")
	type setting struct {
		b *Buffer
		q *Queue
	}
	for name, write := range map[string]func(t *testing.T, s setting) error{
		"a commit": func(_ *testing.T, s setting) error {
			_, err := s.b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{count(9)}})
			return err
		},
		"a state alone": func(_ *testing.T, s setting) error {
			_, err := s.b.Commit(context.Background(), "M1", plant.Batch{State: []byte("s")})
			return err
		},
		"a durable settlement": func(t *testing.T, s setting) error {
			m := next(t, s.q)
			peekAll(t, s.q, m, 0, 1)
			return s.q.Settle(context.Background(), m, 1, []plant.Result{{First: 1, Last: 1, Status: plant.Rejected, Cause: errors.New("no")}})
		},
		"a cursor": func(t *testing.T, s setting) error {
			m := next(t, s.q)
			peekAll(t, s.q, m, 0, 1)
			settle(t, s.q, m, 1, delivered(1, 1))
			<-s.b.Fault()
			return s.b.Err()
		},
		"a deletion": func(t *testing.T, s setting) error {
			st := s.b.stream("M1")
			s.b.mu.Lock()
			low, to := st.low.clone(), st.head.clone()
			s.b.mu.Unlock()
			return s.b.delete(st, &low, &to, noTime, false)
		},
		"a new uplink": func(_ *testing.T, s setting) error {
			_, err := s.b.Queue("erp", all)
			return err
		},
		"a gap": func(t *testing.T, s setting) error {
			st := s.b.stream("M1")
			s.b.lose(st, 1, 1, plant.GapDamaged, "rot")
			return s.b.tell(context.Background(), st)
		},
		"the log turned into a table": func(_ *testing.T, s setting) error { return s.b.turnLog() },
		"a rollback": func(_ *testing.T, s setting) error {
			return s.q.Reconcile(context.Background(), "M1", plant.EventID{Gateway: s.b.opts.Gateway, Machine: "M1", Epoch: 1, Sequence: 99})
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(quickDir(t))
			o.housework = time.Hour
			var failing atomic.Bool
			var after atomic.Int64
			o.commit = func(txn *badger.Txn) error {
				if failing.CompareAndSwap(true, false) {
					after.Store(1)
					return eio
				}
				if after.Load() > 0 {
					after.Add(1)
				}
				return txn.Commit()
			}
			b := open(t, o)
			q := queue(t, b, "mes", all)
			commit(t, b, "M1", count(1), count(2))
			failing.Store(true)
			if err := write(t, setting{b, q}); !errors.Is(err, eio) {
				t.Fatalf("it returned %v", err)
			}
			select {
			case <-b.Fault():
			default:
				t.Fatal("it does not latch")
			}
			if _, err := b.Commit(context.Background(), "M2", plant.Batch{Events: []plant.Event{count(1)}}); !errors.Is(err, eio) {
				t.Errorf("a commit afterwards returned %v", err)
			}
			if err := b.Close(); !errors.Is(err, eio) {
				t.Errorf("close returned %v", err)
			}
			if n := after.Load(); n != 1 {
				t.Errorf("%d transactions were written after the failed one", n-1)
			}
			if err := b.db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAFailedFlushLatches: Badger turns its log into tables in a goroutine of
// its own, and would try for ever where that fails.
func TestAFailedFlushLatches(t *testing.T) {
	o := testOptions(quickDir(t))
	o.housework = time.Hour
	b := open(t, o)
	commit(t, b, "M1", count(1))
	// A folder where the table would be.
	inTheWay := filepath.Join(o.Path, storeFolder, "000001.sst")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	go func() { _ = b.turnLog() }()
	select {
	case <-b.Fault():
	case <-time.After(patience):
		t.Fatal("a flush that fails does not latch")
	}
	if err := b.Err(); !strings.Contains(err.Error(), "flushing memtable") {
		t.Errorf("the fault is %v", err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err == nil {
		t.Error("close hides the fault")
	}
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestWhatFailsInTheBackground: Badger keeps nothing of an error but its words.
func TestWhatFailsInTheBackground(t *testing.T) {
	for words, latches := range map[string]bool{
		"error flushing memtable to disk: Opening file err: open 000001.sst: no space left on device": false,
		"error flushing memtable to disk: msync: input/output error":                                  true,
		"error flushing memtable to disk: Opening file err: permission denied":                        true,
		"While running doCompact: while compacting err: read 000001.sst: input/output error":          true,
		"While running doCompact: open 000001.sst: read-only file system":                             true,
		"While running doCompact: checksum mismatch":                                                  false,
		"While running doCompact: write 000009.sst: no space left on device":                          false,
		"error flushing memtable to disk: something that nobody has thought of":                       true,
		"Value log truncated: this is no write":                                                       false,
	} {
		b := open(t, testOptions(quickDir(t)))
		k := &background{}
		format, cause, _ := strings.Cut(words, ": ")
		k.failed(format+": %v, retrying", []any{errors.New(cause)})
		k.watch(b.backgroundFailed)
		if got := b.Err() != nil; got != latches {
			t.Errorf("%s: latches %t", words, got)
		}
		if b.Err() != nil {
			_ = b.Close()
			if err := b.db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestACommitOnADiskThatBecameReadOnlyIsNotAcknowledged: the sync may have said that
// all is well, and what it wrote is gone after the next mount.
func TestACommitOnADiskThatBecameReadOnlyIsNotAcknowledged(t *testing.T) {
	o := testOptions(quickDir(t))
	var aborted atomic.Bool
	o.writable = func(folder string) error {
		if aborted.Load() {
			return &os.PathError{Op: "open", Path: folder, Err: errReadOnly}
		}
		return openForWriting(folder)
	}
	b := open(t, o)
	commit(t, b, "M1", count(1))
	aborted.Store(true)
	if _, err := b.Commit(t.Context(), "M1", plant.Batch{Events: []plant.Event{count(2)}}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("it is acknowledged: %v", err)
	}
	select {
	case <-b.Fault():
	case <-time.After(patience):
		t.Error("the store goes on")
	}
}
