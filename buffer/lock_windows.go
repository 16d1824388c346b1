package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

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
		return nil, fmt.Errorf("another process has this store open: stop the gateway first: %w", err)
	}
	return f.Close, nil
}
