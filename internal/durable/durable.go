// Package durable makes names survive a power cut: a file that was made, renamed
// or removed is so on the disk only when its folder is, too.
package durable

import (
	"errors"
	"os"
	"runtime"
)

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
