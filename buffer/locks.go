package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// locks keep every other process away from a buffer. One is on the folder of the
// buffer, from before its first file is read until the store is closed: a start
// replaces the manifest and clears away what a kill leaves, and under a gateway
// that runs it would take away files that are in use. The other is Badger's, on
// the folder of the store, for a process that does not know the first one. The
// system lets go of both when the process ends, however it ends.
type locks struct {
	path, store func() error
}

// lockBuffer takes both locks of a buffer that is there.
func lockBuffer(path string) (*locks, error) {
	l := &locks{}
	return l, l.lock(path)
}

// take makes the folder of the buffer and takes both locks; those that it has
// already it keeps.
func (l *locks) take(path string) error {
	if l.path != nil {
		return nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		if info, statErr := os.Stat(path); statErr == nil && !info.IsDir() {
			return fmt.Errorf("buffer: open %s: it is a file: give a folder", path)
		}
		return fmt.Errorf("buffer: open %s: make the folder: %w: give the gateway's user a folder that it may write", path, err)
	}
	err := l.lock(path)
	switch {
	case errors.Is(err, errInUse):
		return fmt.Errorf("buffer: open %s: another process has this store open: stop the other gateway, or give each its own buffer path", path)
	case err != nil:
		return fmt.Errorf("buffer: open %s: lock the folder: %w: give the gateway's user the right to read and write there", path, err)
	}
	return nil
}

// errInUse says that another process has the lock.
var errInUse = errors.New("another process has this store open: stop the gateway first")

func (l *locks) lock(path string) (err error) {
	if l.path, err = lockPath(path); err != nil {
		return err
	}
	l.store, err = lockStore(filepath.Join(path, storeFolder))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // a new store
	}
	if err != nil {
		err = errors.Join(err, l.release())
	}
	return err
}

// releaseStore lets go of Badger's lock only.
func (l *locks) releaseStore() error {
	unlock := l.store
	if l.store = nil; unlock == nil {
		return nil
	}
	return unlock()
}

func (l *locks) release() error {
	err := l.releaseStore()
	unlock := l.path
	if l.path = nil; unlock == nil {
		return err
	}
	return errors.Join(err, unlock())
}
