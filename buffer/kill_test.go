package buffer

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// childEnv tells the test binary to be the process that is killed.
const childEnv = "SLUICE_BUFFER_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if path := os.Getenv(openChildEnv); path != "" {
		if err := openChild(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Some hundred steps take seconds; -rapid.checks asks for more.
	if err := flag.Set("rapid.checks", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// openChildEnv tells the test binary to open the store at a path on a disk that
// is nearly full, with no guard: a disk that is too full kills it.
const openChildEnv = "SLUICE_BUFFER_TEST_OPEN"

func openChild(path string) error {
	o := testOptions(path)
	o.freeSpace = func(string) (int64, error) { return 1 << 40, nil }
	b, err := Open(context.Background(), o, zap.NewNop())
	if err != nil {
		return err
	}
	if _, err := b.Queue("mes", all); err != nil {
		return err
	}
	if _, err := b.Commit(context.Background(), "M0", plant.Batch{State: []byte("s"), Events: []plant.Event{count(1)}}); err != nil {
		return err
	}
	// What Badger has to move after an Open: its compactors begin within a second.
	options := b.db.Opts()
	deadline, before, since := time.Now().Add(30*time.Second), int64(-1), time.Now()
	for tablesOf(b.db, 0) >= options.NumLevelZeroTables || time.Since(since) < 300*time.Millisecond {
		if use := b.diskUse(); use != before {
			before, since = use, time.Now()
		}
		if time.Now().After(deadline) {
			return errors.New("badger does not come to rest")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return b.Close()
}

// tablesOf is how many tables lie on a level.
func tablesOf(db *badger.DB, level int) (n int) {
	for _, table := range db.Tables() {
		if table.Level == level {
			n++
		}
	}
	return n
}

const childMachines = 4

// child commits and settles until it is killed, and says on stdout what it was
// told is durable: "c machine last n" for a commit whose state is n, "s machine
// upTo" for a settlement.
func child(path string) error {
	b, err := Open(context.Background(), testOptions(path), zap.NewNop())
	if err != nil {
		return err
	}
	q, err := b.Queue("mes", all)
	if err != nil {
		return err
	}
	var out sync.Mutex
	say := func(format string, a ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintf(os.Stdout, format+"\n", a...)
	}
	failed := make(chan error, childMachines+1)
	for i := range childMachines {
		go func() {
			m := plant.MachineID(fmt.Sprint("M", i))
			state, err := b.Load(context.Background(), m, func(plant.KV) error { return nil })
			if err != nil {
				failed <- err
				return
			}
			n := 0
			_, _ = fmt.Sscan(string(state), &n)
			for {
				n++
				events := []plant.Event{count(n), count(n)}
				first, err := b.Commit(context.Background(), m, plant.Batch{State: fmt.Append(nil, n), Events: events})
				if err != nil {
					failed <- err
					return
				}
				say("c %s %d %d", m, uint64(first+1), n)
			}
		}()
	}
	go func() {
		for {
			m, err := q.Next(context.Background())
			if err != nil {
				failed <- err
				return
			}
			events, err := q.Peek(context.Background(), m, 0, 3, 1<<20)
			if err != nil {
				failed <- err
				return
			}
			last := events[len(events)-1].Sequence
			r := plant.Result{First: events[0].Sequence, Last: last, Status: plant.Delivered, Put: []plant.KV{{Key: string(m), Value: fmt.Append(nil, uint64(last))}}}
			if err := q.Settle(context.Background(), m, last, []plant.Result{r}); err != nil {
				failed <- err
				return
			}
			say("s %s %d", m, uint64(last))
		}
	}()
	return <-failed
}

// TestKilledProcess kills a process under load again and again: whatever it was
// told is durable is there, numbers are dense, state and events agree, and a
// cursor never moves apart from what was kept with it.
func TestKilledProcess(t *testing.T) {
	path := t.TempDir()
	ids := map[string]bool{}
	seen := map[plant.MachineID]plant.Sequence{}
	for round := range 6 {
		acked, settled := runChild(t, path, 40+37*round)
		b := open(t, testOptions(path))
		q := queue(t, b, "mes", all)
		for i := range childMachines {
			m := plant.MachineID(fmt.Sprint("M", i))
			state, err := b.Load(context.Background(), m, func(plant.KV) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			_, _ = fmt.Sscan(string(state), &n)
			last := plant.Sequence(0)
			for e, err := range b.Events(context.Background(), m, 0, 1<<30) {
				if err != nil || e.Sequence != last+1 {
					t.Fatalf("round %d: event %d of %s after %d, err %v", round, e.Sequence, m, last, err)
				}
				last = e.Sequence
				if last > seen[m] {
					if ids[e.ID().String()] {
						t.Fatalf("round %d: id %s was given twice", round, e.ID())
					}
					ids[e.ID().String()] = true
				}
			}
			if last < acked[m] || last < seen[m] {
				t.Fatalf("round %d: %s has %d events, %d were acknowledged", round, m, last, max(acked[m], seen[m]))
			}
			seen[m] = last
			if int(last) != 2*n {
				t.Fatalf("round %d: %s has state %d and %d events: they were committed apart", round, m, n, last)
			}
			kept, at := 0, plant.Sequence(0)
			memory, err := q.Memory(string(m))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = fmt.Sscan(string(memory), &kept)
			b.mu.Lock()
			if s := b.streams[m]; s != nil {
				at = q.cursor(s).at.sequence
			}
			b.mu.Unlock()
			if at != plant.Sequence(kept) || at < settled[m] {
				t.Fatalf("round %d: the cursor in %s is at %d, its memory says %d, %d was settled", round, m, at, kept, settled[m])
			}
		}
		if s := b.Stats(); s.Lost != 0 {
			t.Fatalf("round %d: %d lost: %+v", round, s.Lost, s.Damage)
		}
		mustClose(t, b)
	}
	t.Logf("%d ids in 6 kills", len(ids))
}

// runChild kills the child after so many lines and returns the last of what it
// said of each machine.
func runChild(t *testing.T, path string, lines int) (acked, settled map[plant.MachineID]plant.Sequence) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked, settled = map[plant.MachineID]plant.Sequence{}, map[plant.MachineID]plant.Sequence{}
	read := 0
	for in := bufio.NewScanner(stdout); in.Scan(); {
		word := strings.Fields(in.Text())
		if len(word) < 3 {
			continue
		}
		n, err := strconv.ParseUint(word[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		last := plant.Sequence(n)
		if word[0] == "c" {
			acked[plant.MachineID(word[1])] = last
		} else {
			settled[plant.MachineID(word[1])] = last
		}
		if read++; read == lines {
			// What is still in the pipe was said before the kill too.
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if read < lines {
		t.Fatalf("the child ended by itself after %d lines", read)
	}
	return acked, settled
}
