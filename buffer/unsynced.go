package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/durable"
)

// A write that the disk refused is refused once. The kernel's cache goes on
// showing it, and counts it as written: a start that follows reads records and
// lists of tables that the disk does not have, builds on them, and the next power
// cut takes them away from below. So before a store is opened, what the cache
// shows of it is written once more, or the start is refused.

// rewriteName is the name under which Badger makes a manifest anew. It removes
// one that it finds.
const rewriteName = "MANIFEST-REWRITE"

// writeThrough writes the manifest and the logs once more as they are read, and
// returns when the disk has them. Tables need none of it: one whose write failed
// is in no manifest.
func writeThrough(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("buffer: open %s: %w", folder, err)
	}
	for _, e := range entries {
		name := filepath.Join(folder, e.Name())
		switch {
		case e.Name() == badger.ManifestFilename:
			err = replaceManifest(folder, nil)
		case filepath.Ext(name) == logExt, filepath.Ext(name) == valueLogExt, e.Name() == badger.KeyRegistryFileName:
			if err = writeAgain(name); err != nil {
				// The first sync may tell of a failure that is long over.
				err = writeAgain(name)
			}
		}
		if err != nil {
			return fmt.Errorf("buffer: open %s: write it through to the disk: %w: %s", name, err, remedyDisk)
		}
	}
	return nil
}

// writeAgain writes the data of a log over itself. What is behind it, and reads
// as zeros, takes no room on the disk and is left alone.
func writeAgain(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(trimZeros(data), 0)
	return errors.Join(err, f.Sync(), f.Close())
}

// replaceManifest puts data in the manifest's place, nil for what it holds now.
func replaceManifest(folder string, data []byte) error {
	name, next := filepath.Join(folder, badger.ManifestFilename), filepath.Join(folder, rewriteName)
	if data == nil {
		var err error
		if data, err = os.ReadFile(name); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, name); err != nil {
		return err
	}
	return durable.SyncFolder(folder)
}

// maxTakenBack is how many changes of the manifest may have failed at once: a
// flush, and one of each compactor, with a margin.
const maxTakenBack = 8

// takeBack removes changes from the end of the manifest that never took effect.
// Where their sync failed Badger deletes the tables that they add and keeps those
// that they remove, but the cache goes on showing them. They are taken back only
// where all tables of before are there, and with them the records: those that
// were merged are, or the log that was to become a table is.
func takeBack(path, folder string, log *zap.Logger) error {
	name := filepath.Join(folder, badger.ManifestFilename)
	now, err := readManifest(folder)
	if err != nil || tablesAreThere(folder, &now) {
		return nil // what is wrong with a manifest is said by checkTables
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("buffer: open %s: %w", name, err)
	}
	ends := changeEnds(data)
	for n := 1; n <= maxTakenBack && n < len(ends); n++ {
		kept := data[:ends[len(ends)-1-n]]
		before, err := replayManifest(folder, kept)
		if err != nil {
			return fmt.Errorf("buffer: open %s: look at it without its last changes: %w", name, err)
		}
		if !tablesAreThere(folder, &before) || !hasMore(&before, &now) && countLogs(folder) < 2 {
			continue
		}
		aside := filepath.Join(path, quarantineFolder, badger.ManifestFilename+"-"+time.Now().UTC().Format(asideStamp))
		err = os.MkdirAll(filepath.Dir(aside), 0o700)
		if err == nil {
			err = os.WriteFile(aside, data, 0o600)
		}
		if err = errors.Join(err, replaceManifest(folder, kept)); err != nil {
			return fmt.Errorf("buffer: open %s: take back changes that failed: %w", name, err)
		}
		log.Warn("the last changes of the store's list of tables failed on the disk and are taken back; no record is lost by that",
			zap.Int("changes", n), zap.String("as_it_was", aside))
		return nil
	}
	return nil
}

// changeEnds returns where the manifest's header and each whole change of it end
// (badger/manifest.go: 8 bytes; then length and checksum, 4 bytes each,
// big-endian, and the change).
func changeEnds(data []byte) []int {
	const header, frame = 8, 8
	if len(data) < header {
		return nil
	}
	ends := []int{header}
	for at := header; len(data)-at >= frame; {
		length := int(binary.BigEndian.Uint32(data[at:]))
		if length > len(data)-at-frame {
			break
		}
		at += frame + length
		ends = append(ends, at)
	}
	return ends
}

// replayManifest reads a manifest that is no file yet.
func replayManifest(folder string, data []byte) (manifest badger.Manifest, err error) {
	f, err := os.CreateTemp(folder, ".manifest-*")
	if err != nil {
		return manifest, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(data); err != nil {
		return manifest, err
	}
	if _, err := f.Seek(0, 0); err != nil {
		return manifest, err
	}
	manifest, _, err = badger.ReplayManifestFile(f, 0, badger.DefaultOptions(folder))
	return manifest, err
}

func tablesAreThere(folder string, m *badger.Manifest) bool {
	for id := range m.Tables {
		if _, err := os.Stat(tablePath(folder, id)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// hasMore reports whether before lists a table that now does not.
func hasMore(before, now *badger.Manifest) bool {
	for id := range before.Tables {
		if _, ok := now.Tables[id]; !ok {
			return true
		}
	}
	return false
}

func countLogs(folder string) int {
	logs, err := filepath.Glob(filepath.Join(folder, "*"+logExt))
	if err != nil {
		return 0
	}
	return len(logs)
}
