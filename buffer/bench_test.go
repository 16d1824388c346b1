package buffer

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// The work of P2: machines that each commit their state and some events.
const (
	benchMachines = 32
	benchEvents   = 4
)

func benchBatch() plant.Batch {
	batch := plant.Batch{State: bytes.Repeat([]byte("s"), 200)}
	for range benchEvents {
		e := count(1)
		e.Data = bytes.Repeat([]byte("d"), 240)
		batch.Events = append(batch.Events, e)
	}
	return batch
}

// BenchmarkCommit measures the commit path, and Badger alone writing the same
// keys and bytes in groups of the same mean size, in turns.
func BenchmarkCommit(b *testing.B) {
	mean := float64(benchMachines)
	for _, round := range []string{"1", "2", "3"} {
		b.Run("buffer/"+round, func(b *testing.B) { mean = benchBuffer(b) })
		b.Run("limit/"+round, func(b *testing.B) { benchLimit(b, mean) })
	}
}

// benchBuffer returns the mean number of commits in a group.
func benchBuffer(b *testing.B) float64 {
	o := testOptions(b.TempDir())
	o.Quota = 0
	store, err := Open(context.Background(), o, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	took := make([][]time.Duration, benchMachines)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range benchMachines {
		wg.Go(func() {
			m := plant.MachineID(fmt.Sprintf("MACHINE-%02d", i))
			batch := benchBatch()
			for n := i; n < b.N; n += benchMachines {
				start := time.Now()
				if _, err := store.Commit(context.Background(), m, batch); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	s := store.Stats()
	mean := float64(s.Commits) / float64(max(s.Groups, 1))
	b.ReportMetric(mean, "commits/group")
	reportLatency(b, slices.Concat(took...))
	return mean
}

// benchLimit does what the committer cannot avoid: Badger transactions.
func benchLimit(b *testing.B, mean float64) {
	db, err := badger.Open(badgerOptions(filepath.Join(b.TempDir(), storeFolder), zap.NewNop()))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var k kinds
	body := bytes.Repeat([]byte("d"), eventHeaderSize+1+len(plant.KindCounter)+4+240)
	state := bytes.Repeat([]byte("s"), 200)
	heads := make([]position, benchMachines)
	var took []time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	due := 0.0
	for n := 0; n < b.N; {
		due += mean
		size := min(int(due), b.N-n, benchMachines)
		due -= float64(size)
		start := time.Now()
		txn := db.NewTransaction(true)
		for i := range size {
			m := plant.MachineID(fmt.Sprintf("MACHINE-%02d", (n+i)%benchMachines))
			head := &heads[(n+i)%benchMachines]
			for range benchEvents {
				head.add(head.sequence+1, len(body), k.of(plant.KindCounter))
				must(b, txn.Set(eventKey(m, head.sequence), body))
			}
			key := machineKey(classState, m)
			record, _ := appendState(nil, key, state, head, 1, &k)
			must(b, txn.Set(key, record))
		}
		must(b, txn.Commit())
		took = append(took, time.Since(start))
		n += size
	}
	b.StopTimer()
	reportLatency(b, took)
}

func must(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}

func reportLatency(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(float64(b.N*benchEvents)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
}

// BenchmarkDrain measures Next, Peek and Settle of a backlog.
func BenchmarkDrain(b *testing.B) {
	o := testOptions(b.TempDir())
	o.Quota = 0
	store, err := Open(context.Background(), o, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	q, err := store.Queue("mes", all)
	if err != nil {
		b.Fatal(err)
	}
	batch := plant.Batch{}
	for n := range 100 {
		batch.Events = append(batch.Events, count(n))
	}
	for n := 0; n < b.N; n += len(batch.Events) {
		m := plant.MachineID(fmt.Sprintf("M%d", rand.IntN(10)))
		if _, err := store.Commit(context.Background(), m, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for q.b.Stats().Queues[0].Backlog > 0 {
		m, err := q.Next(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		events, err := q.Peek(context.Background(), m, 0, 100, 1<<20)
		if err != nil {
			b.Fatal(err)
		}
		last := events[len(events)-1].Sequence
		if err := q.Settle(context.Background(), m, last, []plant.Result{{First: events[0].Sequence, Last: last, Status: plant.Delivered}}); err != nil {
			b.Fatal(err)
		}
	}
}

// filled returns a store of 50 machines with so many events that wait for an
// uplink.
func filled(b *testing.B, backlog int) *Buffer {
	o := testOptions(b.TempDir())
	o.Quota = 0
	store, err := Open(context.Background(), o, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	_, err = store.Queue("mes", all)
	must(b, err)
	batch := plant.Batch{}
	for range 500 {
		e := count(1)
		e.Data = bytes.Repeat([]byte("d"), 240)
		batch.Events = append(batch.Events, e)
	}
	for n := 0; n < backlog; n += len(batch.Events) {
		_, err := store.Commit(context.Background(), plant.MachineID(fmt.Sprintf("M%02d", n/500%50)), batch)
		must(b, err)
	}
	return store
}

// BenchmarkOpen measures the start with a million events waiting, from a copy of
// the files as a kill leaves them, until the first event is handed out.
func BenchmarkOpen(b *testing.B) {
	const backlog = 1_000_000
	store := filled(b, backlog)
	defer store.Close()
	o := store.opts
	b.Logf("RssAnon with the backlog written: %s", rssAnon())
	quiet(b, o.Path)
	killed := crash(b, store)
	must(b, store.Close())
	b.Logf("RssAnon after the close: %s", rssAnon())
	b.ResetTimer()
	for range b.N {
		o.Path = killed
		again, err := Open(context.Background(), o, zap.NewNop())
		if err != nil {
			b.Fatal(err)
		}
		q, err := again.Queue("mes", all)
		if err != nil {
			b.Fatal(err)
		}
		m, err := q.Next(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		if events, err := q.Peek(context.Background(), m, 0, 10, 1<<20); err != nil || len(events) != 10 {
			b.Fatalf("%d events, %v", len(events), err)
		}
		b.StopTimer()
		if got := again.Stats().Queues[0].Backlog; got != backlog {
			b.Fatalf("a backlog of %d after the restart", got)
		}
		b.Logf("RssAnon with the backlog open: %s", rssAnon())
		quiet(b, o.Path)
		killed = crash(b, again)
		must(b, again.Close())
		b.StartTimer()
	}
}

// quiet waits until Badger has moved its tables where it wants them: files that
// are copied while they change are no picture of a kill.
func quiet(b *testing.B, path string) {
	before, since := map[string]int64(nil), time.Now()
	eventually(b, "the files of the store come to rest", func() bool {
		if now := listing(b, filepath.Join(path, storeFolder)); !maps.Equal(now, before) {
			before, since = now, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
}

// rssAnon is the memory of this process that the kernel cannot drop.
func rssAnon() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "not known on this system"
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "not known on this system"
}

// BenchmarkCommitOnABacklog measures commits of one machine beside backlogs of
// three sizes: the cost must not grow with them.
func BenchmarkCommitOnABacklog(b *testing.B) {
	for _, backlog := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(backlog), func(b *testing.B) {
			store := filled(b, backlog)
			defer store.Close()
			quiet(b, store.opts.Path)
			batch := benchBatch()
			took := make([]time.Duration, 0, b.N)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				start := time.Now()
				if _, err := store.Commit(context.Background(), "M00", batch); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			b.StopTimer()
			reportLatency(b, took)
		})
	}
}
