package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// TestEveryByteDamaged: whatever byte is turned, the entries of the other lines
// are found, the damaged one is counted, and nothing is shown as what it was not.
func TestEveryByteDamaged(t *testing.T) {
	l := filled(t, 3, options())
	names, err := l.names()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.Folder(), names[0])
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range good {
		for _, turn := range []byte{0x01, 0x80, good[at] ^ '\n'} {
			if turn == 0 {
				continue
			}
			bad := slices.Clone(good)
			bad[at] ^= turn
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			found := search(t, &l.Reader, Filter{}, 0, 100)
			if n := len(found.Entries); n < 1 || n > 2 || found.Damaged == 0 && at != len(good)-1 {
				t.Fatalf("byte %d ^ %#x: %d entries, %d damaged", at, turn, n, found.Damaged)
			}
			for i := range found.Entries {
				e := &found.Entries[i]
				if fmt.Sprint(e.Exchange) != fmt.Sprint(exchange(int(e.Number)-1)) {
					t.Fatalf("byte %d: %+v", at, e)
				}
			}
		}
	}
}

// TestCrash: half a line at the end goes, and the numbers go on behind what is
// whole.
func TestCrash(t *testing.T) {
	l := filled(t, 5, options())
	folder := filepath.Dir(l.Folder())
	names, err := l.names()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.Folder(), names[0])
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, good[:len(good)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	again := New(folder, options(), zap.NewNop())
	again.Add(exchange(77))
	again.Flush()
	found := search(t, &again.Reader, Filter{}, 0, 100)
	if got := fmt.Sprint(numbers(found.Entries)); got != "[5 4 3 2 1]" || found.Damaged != 0 || found.Entries[0].RequestID != "request-77" {
		t.Errorf("%s, %d damaged, %+v", got, found.Damaged, found.Entries[0])
	}
}

// TestCleanStopLosesNothing: what was added before Run's end is on disk.
func TestCleanStopLosesNothing(t *testing.T) {
	l := New(t.TempDir(), options(), zap.NewNop())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	for i := range 500 {
		l.Add(exchange(i))
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if found := search(t, &l.Reader, Filter{}, 0, 1000); len(found.Entries) != 500 {
		t.Errorf("%d of 500 entries", len(found.Entries))
	}
	l.Add(exchange(501))
	if l.Stats().Lost != 1 {
		t.Error("an entry after the end is not counted as lost")
	}
}

// TestFullDiskStopsTheLogOnly: what is not kept is counted, shown, and told by
// the first line that has room again.
func TestFullDiskStopsTheLogOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := true
		o := options()
		o.Room = func() bool { return room }
		l := New(t.TempDir(), o, zap.NewNop())
		l.Add(exchange(0))
		l.Flush()
		room = false
		for i := range 30 {
			l.Add(exchange(1 + i))
			l.Flush()
			time.Sleep(time.Second)
		}
		if s := l.Stats(); s.Lost != 30 || !strings.Contains(s.Problem, "nearly full") || time.Since(s.Since) < 29*time.Second {
			t.Errorf("%+v", s)
		}
		room = true
		l.Flush()
		l.Add(exchange(40))
		l.Flush()
		found := search(t, &l.Reader, Filter{}, 0, 100)
		if got := fmt.Sprint(numbers(found.Entries)); got != "[3 2 1]" || found.Entries[1].Outcome != Lost || found.Entries[1].Lost != 30 {
			t.Errorf("%s %+v", got, found.Entries)
		}
		if s := l.Stats(); s.Problem != "" {
			t.Errorf("%+v", s)
		}
	})
}

// TestBrokenFolder: a disk that does not take a file is tried again from time to
// time, and no Add waits for it.
func TestBrokenFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		l := New(folder, options(), zap.NewNop())
		if err := os.WriteFile(l.Folder(), nil, 0o600); err != nil { // a file where the folder belongs
			t.Fatal(err)
		}
		for i := range 3 {
			l.Add(exchange(i))
			l.Flush()
		}
		first := l.Stats()
		if first.Lost != 3 || !strings.Contains(first.Problem, "make the folder") {
			t.Errorf("%+v", first)
		}
		if err := os.Remove(l.Folder()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryEvery + time.Second)
		l.Add(exchange(3))
		l.Flush()
		if found := search(t, &l.Reader, Filter{}, 0, 10); len(found.Entries) != 2 || found.Entries[1].Lost != 3 {
			t.Errorf("%+v", found.Entries)
		}
		// A disk that takes nothing at all costs a bounded memory.
		for i := range 100_000 {
			l.Add(exchange(i))
		}
		if l.bytes > maxPending || l.Stats().Lost < 90_000 {
			t.Errorf("%d bytes wait, %+v", l.bytes, l.Stats())
		}
	})
}
