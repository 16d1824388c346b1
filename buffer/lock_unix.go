//go:build unix

package buffer

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockStore takes the lock that Badger takes (dir_unix.go: flock on the folder),
// so that nobody has the store open meanwhile. It changes no file.
func lockStore(folder string) (unlock func() error, err error) {
	d, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process has this store open: stop the gateway first (%w)", err), d.Close())
	}
	return d.Close, nil
}
