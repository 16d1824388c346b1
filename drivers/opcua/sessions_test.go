package opcua

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/faultnet"
	"github.com/sluice-edge/sluice/internal/plantsim"
	"github.com/sluice-edge/sluice/plant"
)

// Sessions leave no goroutine and no socket behind, whether they end with a
// farewell or with a cut, and nothing at the server: what was cut is ended there
// by the next session.
func TestManySessionsLeaveNothing(t *testing.T) {
	s := newPLC(t, plantsim.OPCUAOptions{})
	before := s.Counts()
	cuts := leavesNothing(t, s.Addr(), "driver: opcua\nendpoint: opc.tcp://ENDPOINT\ntimeout: 1s\npublishing: 10ms\ntags: {made: ns=2;s=Line.Made, none: ns=2;s=Line.Nothing}\n", "made", 90)
	// The server never forgets a session by itself.
	if after := s.Counts(); after.OpenSessions != before.OpenSessions || after.Subscriptions != before.Subscriptions {
		t.Errorf("%d sessions and %d subscriptions left at the server after %d cuts", after.OpenSessions-before.OpenSessions, after.Subscriptions-before.Subscriptions, cuts)
	}
}

// leavesNothing has count sessions, of which each third is cut.
func leavesNothing(t *testing.T, addr, text string, tag plant.TagID, count uint64) (cuts int) {
	t.Helper()
	proxy, err := faultnet.New(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	d := openText(t, text, proxy.Addr())
	oneSession(t, d, 1, tag, nil)
	goroutines, files := runtime.NumGoroutine(), descriptors()
	start := time.Now()
	for number := range count {
		if number%3 == 0 {
			cuts++
			oneSession(t, d, number+2, tag, proxy.Cut)
			continue
		}
		oneSession(t, d, number+2, tag, nil)
	}
	t.Logf("%d sessions, %v each", count, (time.Since(start) / time.Duration(count)).Round(10*time.Microsecond))
	settled := func(what string, want int, now func() int) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); now() > want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d %s after %d sessions, %d before", now(), what, count, want)
			}
		}
	}
	settled("connections", 0, proxy.Conns)
	settled("goroutines", goroutines, runtime.NumGoroutine)
	settled("open files", files+3, descriptors) // the runtime's own
	return cuts
}

// oneSession connects, reads until a tag is there, and ends with a cut or not.
func oneSession(t *testing.T, d drivers.Driver, number uint64, tag plant.TagID, cut func()) {
	t.Helper()
	// A server with one session has room once what was cut is ended.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := d.Connect(ctx, number)
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, drivers.ErrBusy) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	until(t, d, "first", func(s plant.Scan) bool { _, ok := find(s, tag); return ok })
	if cut != nil {
		cut()
		if _, err := readErr(t, d); err == nil {
			t.Fatal("a read over a cut connection succeeded")
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// descriptors counts the open files of this process, 0 where the system does not
// tell.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
