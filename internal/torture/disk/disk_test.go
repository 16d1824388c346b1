//go:build linux

package disk

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const testSectors = 64

// bare is a Disk without a mount: the kernel's calls are made by the test.
func bare(t *testing.T) *Disk {
	t.Helper()
	raw, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if err := raw.Truncate(testSectors * sector); err != nil {
		t.Fatal(err)
	}
	return &Disk{raw: raw, size: testSectors * sector, volatile: map[int64][]byte{}}
}

func (d *Disk) write(t *testing.T, at int64, fill byte) {
	t.Helper()
	if n, errno := d.Write(t.Context(), nil, bytes.Repeat([]byte{fill}, sector), at*sector); n != sector || errno != 0 {
		t.Fatalf("write of sector %d: %d, %v", at, n, errno)
	}
}

func (d *Disk) flush(t *testing.T) {
	t.Helper()
	if errno := d.Fsync(t.Context(), nil, 0); errno != 0 {
		t.Fatalf("flush: %v", errno)
	}
}

// seen returns the first byte of each sector as the kernel reads it.
func (d *Disk) seen(t *testing.T) []byte {
	t.Helper()
	buf := make([]byte, testSectors*sector)
	r, errno := d.Read(t.Context(), nil, buf, 0)
	if errno != 0 {
		t.Fatalf("read: %v", errno)
	}
	all, _ := r.Bytes(nil)
	return firsts(all)
}

// platter returns the first byte of each sector as it would be after a cut.
func (d *Disk) platter(t *testing.T) []byte {
	t.Helper()
	all := make([]byte, testSectors*sector)
	if _, err := d.raw.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
	return firsts(all)
}

func firsts(all []byte) []byte {
	var b []byte
	for i := 0; i < len(all); i += sector {
		b = append(b, all[i])
	}
	return b
}

func TestAWriteIsVolatileUntilTheFlush(t *testing.T) {
	d := bare(t)
	d.write(t, 3, 'a')
	d.write(t, 4, 'b')
	if seen, platter := d.seen(t), d.platter(t); seen[3] != 'a' || seen[4] != 'b' || platter[3] != 0 || platter[4] != 0 {
		t.Errorf("before the flush: read %q, on the platter %q", seen[3:5], platter[3:5])
	}
	d.flush(t)
	d.write(t, 4, 'c')
	if seen, platter := d.seen(t), d.platter(t); seen[4] != 'c' || platter[3] != 'a' || platter[4] != 'b' {
		t.Errorf("after the flush: read %q, on the platter %q", seen[3:5], platter[3:5])
	}
}

func TestWhatACutLeavesBehind(t *testing.T) {
	left := func(persist float64, seed uint64) []byte {
		d := bare(t)
		for i := range int64(testSectors) {
			d.write(t, i, 'o')
		}
		d.flush(t)
		for i := range int64(testSectors) {
			d.write(t, i, 'n')
		}
		select {
		case <-d.Cut(Outage{Persist: persist, Rand: rand.New(rand.NewPCG(seed, 0))}):
		default:
			t.Fatal("a cut at once has not come")
		}
		if n, err := d.Volatile(); n != testSectors || err != nil {
			t.Errorf("%d sectors were volatile, %v; want %d", n, err, testSectors)
		}
		ctx := context.Background()
		_, wrote := d.Write(ctx, nil, make([]byte, sector), 0)
		_, read := d.Read(ctx, nil, make([]byte, sector), 0)
		if flushed := d.Fsync(ctx, nil, 0); wrote != syscall.EIO || read != syscall.EIO || flushed != syscall.EIO {
			t.Errorf("after the cut: write %v, read %v, flush %v; want EIO", wrote, read, flushed)
		}
		return d.platter(t)
	}
	if got := left(0, 1); bytes.IndexByte(got, 'n') >= 0 {
		t.Errorf("with 0 something persists: %q", got)
	}
	if got := left(1, 1); bytes.IndexByte(got, 'o') >= 0 {
		t.Errorf("with 1 something is lost: %q", got)
	}
	half, again, other := left(.5, 1), left(.5, 1), left(.5, 2)
	if n := bytes.Count(half, []byte{'n'}); n < testSectors/4 || n > testSectors*3/4 {
		t.Errorf("with 0.5, %d of %d persist", n, testSectors)
	}
	if bytes.IndexByte(half, 'n') > bytes.LastIndexByte(half, 'o') {
		t.Errorf("sectors persist in their order, none torn: %q", half)
	}
	if !bytes.Equal(half, again) || bytes.Equal(half, other) {
		t.Error("the same seed must leave the same behind, another one something else")
	}
}

// TestAnOutageComesInTheMiddle of the flush or the write that it names: that one
// fails.
func TestAnOutageComesInTheMiddle(t *testing.T) {
	d := bare(t)
	gone := d.Cut(Outage{Flush: 2, Rand: rand.New(rand.NewPCG(1, 1))})
	d.write(t, 0, 'a')
	d.flush(t)
	d.write(t, 1, 'b')
	if errno := d.Fsync(t.Context(), nil, 0); errno != syscall.EIO {
		t.Errorf("the second flush: %v", errno)
	}
	<-gone
	if platter := d.platter(t); platter[0] != 'a' || platter[1] != 0 {
		t.Errorf("on the platter %q", platter[:2])
	}
	d = bare(t)
	gone = d.Cut(Outage{Write: 3, Rand: rand.New(rand.NewPCG(1, 1))})
	d.write(t, 0, 'a')
	d.flush(t)
	d.write(t, 1, 'b')
	select {
	case <-gone:
		t.Error("the cut came early")
	default:
	}
	if n, errno := d.Write(t.Context(), nil, make([]byte, sector), 2*sector); n != 0 || errno != syscall.EIO {
		t.Errorf("the third write: %d, %v", n, errno)
	}
	<-gone
}

func TestAFailingDiskRefusesAndWorksAgain(t *testing.T) {
	d := bare(t)
	d.write(t, 0, 'a')
	d.flush(t)
	d.Fail(true)
	if n, errno := d.Write(t.Context(), nil, make([]byte, sector), 0); n != 0 || errno != syscall.EIO {
		t.Errorf("write: %d, %v", n, errno)
	}
	if errno := d.Fsync(t.Context(), nil, 0); errno != syscall.EIO {
		t.Errorf("flush: %v", errno)
	}
	if n := d.Fail(false); n != 2 {
		t.Errorf("%d calls failed, want 2", n)
	}
	if seen := d.seen(t); seen[0] != 'a' {
		t.Errorf("a write that failed is read: %q", seen[0])
	}
	d.write(t, 0, 'c')
	d.flush(t)
	if d.platter(t)[0] != 'c' {
		t.Error("the disk does not work again")
	}
}

func TestOnlyWholeSectors(t *testing.T) {
	d := bare(t)
	for _, c := range []struct{ at, n int }{{1, sector}, {0, sector - 1}, {sector / 2, sector}} {
		if n, errno := d.Write(t.Context(), nil, make([]byte, c.n), int64(c.at)); n != 0 || errno != syscall.EIO {
			t.Errorf("%d bytes at %d: %d, %v", c.n, c.at, n, errno)
		}
	}
}

// TestAFileSystemOnADiskThatLosesPower: what was synced is there after the cut,
// what was not is gone, and the journal makes the rest whole.
func TestAFileSystemOnADiskThatLosesPower(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	for _, device := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(device); err != nil {
			t.Skip("there is no " + device + " here")
		}
	}
	dir := t.TempDir()
	image, fuse, folder := filepath.Join(dir, "image"), filepath.Join(dir, "device"), filepath.Join(dir, "mount")
	for _, d := range []string{fuse, folder} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := Format(image, 32<<20); err != nil {
		t.Fatal(err)
	}
	on := func() (*Disk, *Loop) {
		t.Helper()
		d, err := Open(image, fuse)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Mount(d.File(), folder)
		if err != nil {
			t.Fatal(errors.Join(err, d.Close()))
		}
		return d, l
	}
	off := func(d *Disk, l *Loop) {
		t.Helper()
		if err := errors.Join(l.Unmount(), d.Close()); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, sync bool) {
		t.Helper()
		f, err := os.Create(filepath.Join(folder, name))
		if err == nil {
			_, err = f.WriteString(name)
		}
		if err == nil && sync {
			err = f.Sync()
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	d, l := on()
	put("synced", true)
	put("not", false)
	select {
	case <-d.Cut(Outage{Rand: rand.New(rand.NewPCG(1, 1))}):
	case <-time.After(time.Minute):
		t.Fatal("the cut does not come")
	}
	off(d, l)
	d, l = on()
	defer off(d, l)
	if text, err := os.ReadFile(filepath.Join(folder, "synced")); err != nil || string(text) != "synced" {
		t.Errorf("what was synced: %q, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(folder, "not")); err == nil && len(text) > 0 {
		t.Errorf("what was not synced is there: %q: the disk loses nothing", text)
	}
}
