package buffer

import (
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"
)

// askJournal has the file system note a change in its journal: the time of a file.
// ext4 gives up its journal first and becomes read-only a moment later (in between it
// writes its superblock), and a sync in that moment may say that all is well while what
// was written is lost. The change finds the journal given up, and the file system is
// read-only before it returns (trials: docs/reliability.md). It is in memory only; the
// next commit of the journal writes it with what comes anyway.
func askJournal(folder string) {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	// A refusal is seen by whoever opens the file for writing next.
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(folder, badger.ManifestFilename), now, 0)
}
