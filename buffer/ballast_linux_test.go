package buffer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-edge/sluice/plant"
)

// small settings for small disks.
func ballastOptions(path string) Options {
	o := testOptions(path)
	o.Reserve, o.Ballast, o.housework = 32<<20, 24<<20, 20*time.Millisecond
	o.Keep = 0
	return o
}

func TestBallastIsWrittenOut(t *testing.T) {
	for name, disk := range map[string]func(*testing.T) string{
		"tmpfs": func(t *testing.T) string { return smallDisk(t, "192m") },
		"ext4":  func(t *testing.T) string { return loopDisk(t, 192<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			o := ballastOptions(disk(t))
			b := open(t, o)
			path := filepath.Join(o.Path, ballastName)
			eventually(t, "the ballast is there", func() bool { return b.Stats().Ballast == o.Ballast })
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if use := diskUse(info); use < o.Ballast {
				t.Fatalf("a ballast of %d bytes takes %d on the disk", o.Ballast, use)
			}
			if _, err := os.Stat(filepath.Join(o.Path, ballastTemp)); !os.IsNotExist(err) {
				t.Errorf("the file under way is still there: %v", err)
			}
			mustClose(t, b)
			// Another size is another ballast.
			o.Ballast /= 2
			b = open(t, o)
			if got := b.Stats().Ballast; got != 2*o.Ballast {
				t.Fatalf("found a ballast of %d", got)
			}
			eventually(t, "the ballast is dropped", func() bool { return b.Stats().Ballast == 0 })
			mustClose(t, b)
			b = open(t, o)
			eventually(t, "it is made in the new size", func() bool { return b.Stats().Ballast == o.Ballast })
		})
	}
}

// TestForeignWriterFillsTheDiskForGood has somebody else fill a disk to the last
// byte: the store opens at once with its ballast, delivers what it has, and
// records again when there is room, all without a crash.
func TestForeignWriterFillsTheDiskForGood(t *testing.T) {
	for name, disk := range map[string]func(*testing.T) string{
		"tmpfs": func(t *testing.T) string { return smallDisk(t, "256m") },
		"ext4":  func(t *testing.T) string { return loopDisk(t, 256<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			o := ballastOptions(quickDir(t))
			b := open(t, o)
			queue(t, b, "mes", all)
			e := count(1)
			e.Data = make([]byte, 400)
			batch := plant.Batch{State: []byte("s")}
			for range 100 {
				batch.Events = append(batch.Events, e)
			}
			const n = 20_000
			for range n / 100 {
				if _, err := b.Commit(context.Background(), "M1", batch); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the ballast is there", func() bool { return b.Stats().Ballast == o.Ballast })
			// As a kill leaves it, on the disk that is full then.
			o.Path = moveStore(t, killedAtRest(t, b), disk(t))
			if err := os.WriteFile(filepath.Join(o.Path, ballastName), make([]byte, o.Ballast), 0o600); err != nil {
				t.Fatal(err)
			}
			leaveFree(t, o.Path, 0)

			b = open(t, o)
			q := queue(t, b, "mes", all)
			if s := b.Stats(); !s.Full || s.Ballast != 0 {
				t.Fatalf("full %t, ballast %d: it must open with the ballast given up, and record nothing", s.Full, s.Ballast)
			}
			if _, err := b.Commit(context.Background(), "M1", batch); !errors.Is(err, plant.ErrFull) {
				t.Fatalf("a commit on a full disk: %v", err)
			}
			lowest := int64(1 << 40)
			for last := plant.Sequence(0); last < n; {
				m := next(t, q)
				events := peekAll(t, q, m, 0, 500)
				if first := events[0].Sequence; first != last+1 {
					t.Fatalf("event %d follows %d", first, last)
				}
				last = events[len(events)-1].Sequence
				settle(t, q, m, last, delivered(events[0].Sequence, last))
				free, err := freeSpace(o.Path)
				if err != nil {
					t.Fatal(err)
				}
				lowest = min(lowest, free)
			}
			t.Logf("at least %d KiB were free during the drain", lowest>>10)
			if lowest < 2<<20 {
				t.Errorf("only %d KiB were free during the drain: one more table and the kernel ends the process", lowest>>10)
			}
			if err := os.Remove(filepath.Join(o.Path, "somebody-else")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it records again", func() bool {
				_, err := b.Commit(context.Background(), "M1", batch)
				return err == nil
			})
			if s := b.Stats(); s.Lost != 0 {
				t.Errorf("%d lost", s.Lost)
			}
		})
	}
}

// moveStore copies a store to a disk.
func moveStore(t *testing.T, from, disk string) string {
	t.Helper()
	to := filepath.Join(disk, storeFolder)
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := copyStore(to, filepath.Join(from, storeFolder), listing(t, filepath.Join(from, storeFolder))); err != nil {
		t.Fatal(err)
	}
	return disk
}

// TestCloseOnAFullDisk: Badger writes its log out when it is closed, and is
// killed if there is no room. It is left alone then.
func TestCloseOnAFullDisk(t *testing.T) {
	for name, withBallast := range map[string]bool{"with a ballast": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			o := ballastOptions(smallDisk(t, "160m"))
			if !withBallast {
				o.Ballast = 0
			}
			b := open(t, o)
			e := count(1)
			e.Data = make([]byte, 1000)
			for range 2000 {
				commit(t, b, "M1", e)
			}
			eventually(t, "the ballast is there", func() bool { return b.Stats().Ballast == o.Ballast })
			leaveFree(t, o.Path, 0)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if b.db.IsClosed() != withBallast {
				t.Fatalf("closed: %t", b.db.IsClosed())
			}
			if !withBallast {
				if err := os.Remove(filepath.Join(o.Path, "somebody-else")); err != nil {
					t.Fatal(err)
				}
				if err := b.db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			b = open(t, o)
			if last := b.Stats().Streams[0].Last; last != 2000 {
				t.Fatalf("the newest event is %d, want 2000", last)
			}
		})
	}
}

// TestBallastOfARunningStore: who is under the floor for long gives it up, to be
// able to settle what is delivered.
func TestBallastOfARunningStore(t *testing.T) {
	o := ballastOptions(quickDir(t))
	o.housework = time.Millisecond
	var free, clock atomic.Int64
	free.Store(1 << 40)
	o.freeSpace = func(string) (int64, error) { return free.Load(), nil }
	o.now = func() time.Time { return testTime.Add(time.Duration(clock.Load())) }
	b := open(t, o)
	eventually(t, "the ballast is made", func() bool { return b.Stats().Ballast == o.Ballast })
	free.Store(o.floor() - 1)
	eventually(t, "the guard shuts", func() bool { return b.underFloor() })
	clock.Add(int64(ballastAfter) - 1)
	for range 3 {
		asked := b.Stats()
		if asked.Ballast == 0 {
			t.Fatal("given up at once: whoever fills the disk takes that too")
		}
		turn(t, b)
	}
	clock.Add(1)
	eventually(t, "the ballast is given up", func() bool { return b.Stats().Ballast == 0 })
	clock.Add(int64(time.Hour))
	free.Store(o.ballastRoom() - 1)
	eventually(t, "the guard opens", func() bool { return !b.underFloor() })
	turn(t, b)
	if b.Stats().Ballast != 0 {
		t.Fatal("made again although the disk is nearly full with it")
	}
	free.Store(o.ballastRoom())
	eventually(t, "it is made again", func() bool { return b.Stats().Ballast == o.Ballast })
}

// TestReadOnlyByItsOwnError has a real ext4 find an error in itself.
func TestReadOnlyByItsOwnError(t *testing.T) {
	path := loopDisk(t, 160<<20)
	if err := unix.Mount("", path, "", unix.MS_REMOUNT, "errors=remount-ro"); err != nil {
		t.Fatal(err)
	}
	m := mountAt(t, path)
	trigger := filepath.Join("/sys/fs/ext4", strings.TrimPrefix(m, "/dev/"), "trigger_fs_error")
	if _, err := os.Stat(trigger); err != nil {
		t.Skipf("this kernel cannot make an error of a file system: %v", err)
	}
	b := open(t, testOptions(path))
	commit(t, b, "M1", count(1))
	if err := os.WriteFile(trigger, []byte("a test"), 0); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	select {
	case <-b.Fault():
	case <-time.After(patience):
		t.Fatal("not noticed within a minute")
	}
	t.Logf("noticed after %v: %v", time.Since(since), b.Err())
}

// mountAt is the device that is mounted at path.
func mountAt(t *testing.T, path string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == path {
			return f[0]
		}
	}
	t.Fatalf("%s is not mounted", path)
	return ""
}
