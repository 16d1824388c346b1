//go:build !windows

package buffer

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// errDiskFull is what a write to a full disk returns.
const errDiskFull = unix.ENOSPC

// errReadOnly is what opening a file for writing returns on a disk that is
// read-only.
const errReadOnly = unix.EROFS

// diskErrors are what a disk or a file system that fails returns.
var diskErrors = []error{unix.EIO, unix.EROFS, unix.ENXIO, unix.ENODEV}

// freeSpace is what an ordinary user may still write to the file system of
// path, in bytes.
func freeSpace(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// diskUse is what a file really takes: Badger's files are sparse, so their
// sizes say little.
func diskUse(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * 512
	}
	return info.Size()
}
