//go:build unix

package buffer

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockPath locks the folder of a buffer. It changes no file, leaves none behind,
// and needs no right but that to read the folder.
func lockPath(path string) (unlock func() error, err error) { return lockStore(path) }

// lockStore takes the lock that Badger takes (dir_unix.go: flock on the folder),
// so that nobody has the store open meanwhile. It changes no file.
func lockStore(folder string) (unlock func() error, err error) {
	d, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w (%w)", errInUse, err)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d.Close, nil
}
