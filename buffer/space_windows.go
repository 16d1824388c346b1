//go:build windows

package buffer

import (
	"io/fs"

	"golang.org/x/sys/windows"
)

// errDiskFull is what a write to a full disk returns.
const errDiskFull = windows.ERROR_DISK_FULL

// errReadOnly is what opening a file for writing returns on a disk that is
// read-only.
const errReadOnly = windows.ERROR_WRITE_PROTECT

// diskErrors are what a disk or a file system that fails returns.
var diskErrors = []error{windows.ERROR_CRC, windows.ERROR_IO_DEVICE, windows.ERROR_WRITE_PROTECT, windows.ERROR_WRITE_FAULT, windows.ERROR_FILE_CORRUPT, windows.ERROR_DISK_CORRUPT, windows.ERROR_DEV_NOT_EXIST}

// freeSpace is what this user may still write to the volume of path, in bytes.
func freeSpace(path string) (int64, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(free), nil
}

// diskUse is the file's size: Windows does not make Badger's files sparse.
func diskUse(info fs.FileInfo) int64 { return info.Size() }
