package buffer

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// TestACommitAsksTheJournal: ext4 gives up its journal a moment before it becomes
// read-only, and only a change of its own finds that out (askJournal). That this ends
// the loss is shown on a disk, by make torture ONLY=read-only.
func TestACommitAsksTheJournal(t *testing.T) {
	b := open(t, testOptions(quickDir(t)))
	manifest := filepath.Join(b.home.folder, badger.ManifestFilename)
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(manifest, long, long); err != nil {
		t.Fatal(err)
	}
	commit(t, b, "M1", count(1))
	if info, err := os.Stat(manifest); err != nil || info.ModTime().Sub(long) < time.Minute {
		t.Errorf("%v: changed at %v", err, info.ModTime())
	}
}
