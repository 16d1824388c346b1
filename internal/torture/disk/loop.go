//go:build linux

package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Loop is a file system mounted through a loop device, which detaches itself
// when the last user has gone.
type Loop struct {
	folder string
	device string
}

// Format makes an ext4 file system in a new sparse image of that size.
func Format(image string, size int64) error {
	f, err := os.Create(image)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("disk: make %s: %w", image, err)
	}
	out, err := exec.Command("mkfs.ext4", "-qF", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("disk: mkfs.ext4 %s: %w\n%s", image, err, out)
	}
	return nil
}

// Mount attaches file to a free loop device and mounts its ext4 on folder.
func Mount(file, folder string) (*Loop, error) {
	l := &Loop{folder: folder}
	loop, err := l.attach(file)
	if err != nil {
		return nil, err
	}
	defer unix.Close(loop) // the mount holds it from here on
	if err := unix.Mount(l.device, folder, "ext4", 0, "errors=remount-ro"); err != nil {
		return nil, fmt.Errorf("disk: mount %s on %s: %w", l.device, folder, err)
	}
	return l, nil
}

// attach takes a free loop device, which somebody else may take first.
func (l *Loop) attach(file string) (loop int, err error) {
	// Not os.Open: its poller would ask a FUSE file of this very process.
	backing, err := unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("disk: open %s: %w", file, err)
	}
	defer unix.Close(backing)
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("disk: %w", err)
	}
	defer unix.Close(control)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return 0, fmt.Errorf("disk: no free loop device: %w", err)
		}
		l.device = fmt.Sprintf("/dev/loop%d", n)
		loop, err := unix.Open(l.device, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("disk: open %s: %w", l.device, err)
		}
		c := unix.LoopConfig{Fd: uint32(backing), Size: sector}
		c.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		copy(c.Info.File_name[:], file)
		err = unix.IoctlLoopConfigure(loop, &c)
		if err == nil {
			return loop, nil
		}
		unix.Close(loop)
		if !errors.Is(err, unix.EBUSY) {
			return 0, fmt.Errorf("disk: attach %s to %s: %w", file, l.device, err)
		}
	}
	return 0, fmt.Errorf("disk: attach %s: every loop device was taken", file)
}

// Unmount unmounts the file system, waiting for its last user a while, and
// waits until the loop device is free.
func (l *Loop) Unmount() error {
	var err error
	for range 200 {
		if err = unix.Unmount(l.folder, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		pause(25 * time.Millisecond)
	}
	if err != nil {
		err = errors.Join(err, unix.Unmount(l.folder, unix.MNT_DETACH))
	}
	for range 200 {
		if _, e := os.Stat("/sys/block/" + strings.TrimPrefix(l.device, "/dev/") + "/loop/backing_file"); e != nil {
			return err
		}
		pause(25 * time.Millisecond)
	}
	return errors.Join(err, fmt.Errorf("disk: %s is still attached", l.device))
}

// Damage makes the kernel believe that it found the file system damaged: by its
// mount option it becomes read-only.
func (l *Loop) Damage() error {
	path := "/sys/fs/ext4/" + strings.TrimPrefix(l.device, "/dev/") + "/trigger_fs_error"
	if err := os.WriteFile(path, []byte("torture"), 0); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}

// Writable remounts the file system for writing, or read-only, which fails while
// somebody has a file open for writing. After an error of the file system Linux
// does not let it be written again before it was unmounted.
func (l *Loop) Writable(on bool) error {
	flags := uintptr(unix.MS_REMOUNT)
	if !on {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(l.device, l.folder, "ext4", flags, "errors=remount-ro"); err != nil {
		return fmt.Errorf("disk: remount %s (writable: %t): %w", l.folder, on, err)
	}
	return nil
}

// Repair checks an image that is not mounted, as a boot does after an error.
func Repair(image string) error {
	out, err := exec.Command("e2fsck", "-fy", image).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() < 4 { // 1, 2: mended
		return nil
	}
	if err != nil {
		return fmt.Errorf("disk: e2fsck %s: %w\n%s", image, err, out)
	}
	return nil
}

// pause waits between two looks.
func pause(d time.Duration) { <-time.After(d) }

// Free returns the bytes that root can still write on the file system of path.
func Free(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, fmt.Errorf("disk: %s: %w", path, err)
	}
	return int64(s.Bfree) * s.Bsize, nil
}
