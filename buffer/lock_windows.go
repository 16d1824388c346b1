package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// lockPath makes a file in the folder of a buffer that it shares with nobody, as
// Badger does in that of the store (dir_windows.go). It is gone with the handle.
func lockPath(path string) (unlock func() error, err error) {
	name, err := windows.UTF16PtrFromString(filepath.Join(path, lockName))
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(name, 0, 0, nil, windows.OPEN_ALWAYS,
		windows.FILE_ATTRIBUTE_TEMPORARY|windows.FILE_FLAG_DELETE_ON_CLOSE, 0)
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return nil, fmt.Errorf("%w (%w)", errInUse, err)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return func() error { return windows.CloseHandle(h) }, nil
}

// lockStore finds out whether Badger has the store open: it keeps its lock file
// open and shares it with nobody (dir_windows.go).
func lockStore(folder string) (unlock func() error, err error) {
	if _, err := os.Stat(folder); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(folder, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInUse, err)
	}
	return f.Close, nil
}
