// Package durable makes names survive a power cut: a file that was made, renamed
// or removed is so on the disk only when its folder is, too.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Replace makes data the content of the file at path, all of it or nothing, also
// over a power cut: it is written beside it, synced, and renamed. It blocks for two
// fsyncs; after an error the file is as it was, and nothing is left beside it.
func Replace(path string, data []byte, mode fs.FileMode) error {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return SyncFolder(filepath.Dir(path))
}

// SyncFolder returns when the disk has the names in the folder. It blocks for an
// fsync.
func SyncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there; NTFS journals names itself
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
