package buffer

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/sluice-edge/sluice/plant"
)

// smallDisk mounts a file system of that size.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	path := t.TempDir()
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size="+size); err != nil {
		if errors.Is(err, unix.EPERM) || os.Geteuid() != 0 {
			t.Skip("mounting a small disk needs root; TestFullDiskIsAState covers the guard without")
		}
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestRealSmallDiskFillsAndDrains(t *testing.T) {
	o := testOptions(smallDisk(t, "128m"))
	o.Keep, o.Quota, o.housework = 0, 0, 50*time.Millisecond
	b := open(t, o)
	q := queue(t, b, "mes", all)
	e := count(1)
	e.Data = make([]byte, 8<<10)
	lowest := int64(1 << 40)
	next := plant.Sequence(1)
	fill := func() (n int) {
		for {
			first, err := b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{e, e, e, e}})
			if errors.Is(err, plant.ErrFull) {
				return n
			}
			if err != nil || first != next {
				t.Fatalf("commit: first %d, want %d, err %v", first, next, err)
			}
			next += 4
			n += 4
			free, err := freeSpace(o.Path)
			if err != nil {
				t.Fatal(err)
			}
			lowest = min(lowest, free)
		}
	}
	drain := func() {
		for queueStats(t, b, "mes").Backlog > 0 {
			m, err := q.Next(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			events := peekAll(t, q, m, 0, 64)
			last := events[len(events)-1].Sequence
			settle(t, q, m, last, delivered(events[0].Sequence, last))
		}
	}
	for round := range 2 {
		n := fill()
		if n == 0 {
			t.Fatalf("round %d: nothing fits", round)
		}
		drain()
		t.Logf("round %d: %d events fitted, at least %d MiB were free", round, n, lowest>>20)
		eventually(t, "the space is back after the drain", func() bool { return !b.Stats().Full })
	}
	if lowest < o.floor() {
		t.Errorf("only %d bytes were free, under the floor of %d", lowest, o.floor())
	}
	if s := b.Stats(); s.Lost != 0 {
		t.Errorf("%d lost: %+v", s.Lost, s.Damage)
	}
}

func TestForeignWriterFillsTheDisk(t *testing.T) {
	o := testOptions(smallDisk(t, "160m"))
	b := open(t, o)
	commit(t, b, "M1", count(1))
	foreign := o.Path + "/somebody-else"
	if err := os.WriteFile(foreign, make([]byte, 110<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(context.Background(), "M1", plant.Batch{Events: []plant.Event{count(2)}}); !errors.Is(err, plant.ErrFull) {
		t.Fatalf("commit on a full disk: %v", err)
	}
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	if first := commit(t, b, "M1", count(2)); first != 2 {
		t.Fatalf("the sequence goes on at %d, want 2", first)
	}
}

func TestReadOnlyDiskIsRefused(t *testing.T) {
	path := smallDisk(t, "160m")
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), testOptions(path), zaptest.NewLogger(t))
	if err == nil || !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "a folder that it may write") {
		t.Fatalf("open on a read-only disk: %v", err)
	}
}
