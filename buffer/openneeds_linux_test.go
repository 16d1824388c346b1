package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
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
	// What is shown is how the file system behaves, not what it lies on.
	image := filepath.Join(quickDir(t), "disk.img")
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
	o := testOptions(quickDir(t))
	o.Keep = 0
	b := open(t, o)
	q := queue(t, b, "mes", all)
	e := count(1)
	e.Data = bytes.Repeat([]byte("d"), 240)
	batch := plant.Batch{State: []byte("s")}
	for range 250 {
		batch.Events = append(batch.Events, e)
	}
	for n := 0; n < events; n += len(batch.Events) {
		if _, err := b.Commit(context.Background(), plant.MachineID(fmt.Sprint("M", n/len(batch.Events)%20)), batch); err != nil {
			t.Fatal(err)
		}
	}
	for drained && queueStats(t, b, "mes").Backlog > 0 {
		m := next(t, q)
		got := peekAll(t, q, m, 0, 1000)
		last := got[len(got)-1].Sequence
		settle(t, q, m, last, delivered(got[0].Sequence, last))
	}
	to := killedAtRest(t, b)
	mustClose(t, b)
	return to
}

// piledUp makes a store of the records of another in which as many tables lie on
// level zero as Badger lets pile up, and a log: what a kill leaves behind where
// the disk or the processor is too slow for compactions to keep up.
func piledUp(t *testing.T, from string) string {
	t.Helper()
	records := recordsOf(t, from)
	path := quickDir(t)
	copyMark(t, path, from)
	folder := filepath.Join(path, storeFolder)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	options := badgerOptions(folder, zap.NewNop()).WithSyncWrites(false)
	write := func(db *badger.DB, records []*badger.Entry) {
		for part := range slices.Chunk(records, 1000) {
			if err := db.Update(func(txn *badger.Txn) error {
				for _, r := range part {
					if err := txn.SetEntry(r); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Each table has records of all machines, so that all are merged with all.
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	below := len(records) / 4
	for _, part := range [][]*badger.Entry{records[:below], nil} {
		// What is written goes to level zero when it is closed, and on from there.
		db, err := badger.Open(options.WithNumLevelZeroTables(1))
		if err != nil {
			t.Fatal(err)
		}
		write(db, part)
		eventually(t, "level zero is empty", func() bool { return tablesOf(db, 0) == 0 })
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	db, err := badger.Open(options.WithNumCompactors(0))
	if err != nil {
		t.Fatal(err)
	}
	for rest := records[below:]; tablesOf(db, 0) < options.NumLevelZeroTablesStall; rest = rest[1000:] {
		write(db, rest[:1000])
	}
	to := crashAt(t, path)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}

// recordsOf returns all that a store holds.
func recordsOf(t *testing.T, path string) (records []*badger.Entry) {
	t.Helper()
	db, err := badger.Open(badgerOptions(filepath.Join(path, storeFolder), zap.NewNop()))
	if err != nil {
		t.Fatal(err)
	}
	if err := db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			records = append(records, badger.NewEntry(it.Item().KeyCopy(nil), value))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return records
}

// TestOpenNeeds opens stores that a kill left behind on disks with exactly as
// much free as openNeeds asks for, and finds by bisection, with -v and
// SLUICE_BISECT=1, how much they really take.
func TestOpenNeeds(t *testing.T) {
	bisect := os.Getenv("SLUICE_BISECT") != ""
	killed := killedStore(t, 100_000, false)
	slow := piledUp(t, killed)
	if openNeeds(filepath.Join(slow, storeFolder)) <= openLeast {
		t.Error("nothing is to be merged in the store of a slow disk: the test proves nothing")
	}
	stores := map[string]string{
		"empty": killedStore(t, 0, false), "killed": killed, "drained": killedStore(t, 100_000, true), "slow": slow,
	}
	for fs, disk := range map[string]func(*testing.T) string{
		"tmpfs": func(t *testing.T) string { return smallDisk(t, "256m") },
		"ext4":  func(t *testing.T) string { return loopDisk(t, 256<<20) },
	} {
		t.Run(fs, func(t *testing.T) {
			path := disk(t)
			for name, from := range stores {
				needs := openNeeds(filepath.Join(from, storeFolder))
				if !opensWith(t, path, from, needs) {
					t.Errorf("%s: a store does not open with %.1f MiB free", name, float64(needs)/(1<<20))
				}
				if bisect {
					t.Logf("%s: takes %.1f MiB, is given %.1f", name, float64(leastToOpen(t, path, from, needs))/(1<<20), float64(needs)/(1<<20))
				}
			}
		})
	}
}

// leastToOpen bisects the free space with which a store opened three times out
// of three.
func leastToOpen(t *testing.T, disk, from string, high int64) int64 {
	t.Helper()
	for low := int64(0); high-low > 512<<10; {
		mid, always := (low+high)/2, true
		for range 3 {
			always = always && opensWith(t, disk, from, mid)
		}
		if always {
			high = mid
		} else {
			low = mid
		}
	}
	return high
}

func opensWith(t *testing.T, disk, from string, free int64) bool {
	t.Helper()
	for _, name := range append([]string{storeFolder, "somebody-else"}, markFiles[:]...) {
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
