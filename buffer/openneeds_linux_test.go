package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluice-edge/sluice/plant"
)

// loopDisk makes an ext4 file system of that many bytes on a loop device, with
// those mkfs options, and mounts it.
func loopDisk(t *testing.T, size int64, mkfs ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a loop-mounted ext4 needs root; the tests on tmpfs and with a pretended free space cover the guard")
	}
	image := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", append(append([]string{"-qF", "-m", "0"}, mkfs...), image)...).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	device, err := exec.Command("losetup", "-f", "--show", image).Output()
	if err != nil {
		t.Skipf("no loop device is free: %v", err)
	}
	loop := strings.TrimSpace(string(device))
	t.Cleanup(func() {
		if err := exec.Command("losetup", "-d", loop).Run(); err != nil {
			t.Errorf("losetup -d %s: %v", loop, err)
		}
	})
	path := t.TempDir()
	if err := unix.Mount(loop, path, "ext4", 0, ""); err != nil {
		t.Fatalf("mount %s: %v", loop, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

// leaveFree fills the disk with somebody else's file until that much is free.
func leaveFree(t *testing.T, path string, free int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(path, "somebody-else"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stuck := 0
	for stuck < 20 {
		now, err := freeSpace(path)
		if err != nil {
			t.Fatal(err)
		}
		step := min(now-free, 4<<20)
		if step < 4096 {
			return
		}
		n, err := f.Write(make([]byte, step))
		if err == nil {
			err = f.Sync()
		}
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		if n == 0 {
			// The last blocks of a file system are not for the data of files.
			stuck++
		}
	}
}

// killedStore makes the files of a store that a kill left behind under load.
func killedStore(t *testing.T, events int, drained bool) string {
	t.Helper()
	o := testOptions(t.TempDir())
	o.Keep = 0
	b := open(t, o)
	q := queue(t, b, "mes", all)
	e := count(1)
	e.Data = bytes.Repeat([]byte("d"), 240)
	batch := plant.Batch{State: []byte("s")}
	for range 100 {
		batch.Events = append(batch.Events, e)
	}
	for n := 0; n < events; n += 100 {
		if _, err := b.Commit(context.Background(), plant.MachineID(fmt.Sprint("M", n/100%20)), batch); err != nil {
			t.Fatal(err)
		}
	}
	for drained && queueStats(t, b, "mes").Backlog > 0 {
		m := next(t, q)
		got := peekAll(t, q, m, 0, 1000)
		last := got[len(got)-1].Sequence
		settle(t, q, m, last, delivered(got[0].Sequence, last))
	}
	to := crash(t, b)
	mustClose(t, b)
	return to
}

// TestOpenNeeds opens stores that a kill left behind on disks with exactly
// openNeeds free, and finds by bisection, with -v and SLUICE_BISECT=1, how much
// they really take.
func TestOpenNeeds(t *testing.T) {
	if testing.Short() {
		t.Skip("some dozen processes on small disks")
	}
	bisect := os.Getenv("SLUICE_BISECT") != ""
	for _, shape := range []struct {
		name    string
		events  int
		drained bool
	}{{"empty", 0, false}, {"100 k events", 100_000, false}, {"300 k events", 300_000, false}, {"100 k events, drained", 100_000, true}} {
		from := killedStore(t, shape.events, shape.drained)
		for fs, disk := range map[string]func() string{
			"tmpfs": func() string { return smallDisk(t, "256m") },
			"ext4":  func() string { return loopDisk(t, 256<<20) },
		} {
			t.Run(shape.name+"/"+fs, func(t *testing.T) {
				path := disk()
				opens := func(free int64) bool { return opensWith(t, path, from, free) }
				if !opens(openNeeds) {
					t.Errorf("a store does not open with %d MiB free", openNeeds>>20)
				}
				if !bisect {
					return
				}
				low, high := int64(0), int64(openNeeds)
				for high-low > 512<<10 {
					mid, always := (low+high)/2, true
					for range 3 {
						always = always && opens(mid)
					}
					if always {
						high = mid
					} else {
						low = mid
					}
				}
				t.Logf("needs %.1f MiB", float64(high)/(1<<20))
			})
		}
	}
}

func opensWith(t *testing.T, disk, from string, free int64) bool {
	t.Helper()
	for _, name := range []string{storeFolder, "somebody-else"} {
		if err := os.RemoveAll(filepath.Join(disk, name)); err != nil {
			t.Fatal(err)
		}
	}
	moveStore(t, from, disk)
	leaveFree(t, disk, free)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), openChildEnv+"="+disk)
	out, err := cmd.CombinedOutput()
	left, _ := freeSpace(disk)
	if err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		t.Logf("with %s free: %v: %.100s (%s left)", strconv.FormatInt(free>>10, 10)+" KiB", err, line, strconv.FormatInt(left>>10, 10)+" KiB")
	}
	return err == nil
}
