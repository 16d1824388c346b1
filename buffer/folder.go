package buffer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
)

// lockName is Badger's file that is there while a store is open or was killed.
const lockName = "LOCK"

// awaitFolder makes the folder of the store usable and waits until the disk has
// room to open it, for which it gives the ballast up. It takes the locks first. Badger maps its files:
// without room the kernel kills the process in the middle of Open, at each
// restart again.
func (o *Options) awaitFolder(ctx context.Context, locks *locks, log *zap.Logger) (folder string, err error) {
	ticker := time.NewTicker(o.housework)
	defer ticker.Stop()
	var since time.Time
	for {
		if err = locks.take(o.Path); err == nil {
			folder, err = prepareFolder(o.Path, log)
		}
		if err != nil && !errors.Is(err, errDiskFull) {
			return "", err
		}
		free, statErr := o.freeSpace(nearest(o.Path))
		if statErr != nil {
			return "", fmt.Errorf("buffer: open %s: read the free disk space: %w: look at the disk and its mount", o.Path, statErr)
		}
		if (err != nil || free < o.Reserve) && o.dropBallast(log, free) {
			continue
		}
		needs := openNeeds(filepath.Join(o.Path, storeFolder))
		if err == nil && free >= needs {
			if !since.IsZero() {
				log.Info("the disk has room again: the store is opened", zap.String("folder", o.Path), zap.Int64("free_bytes", free),
					zap.Duration("after", o.now().Sub(since)))
			}
			return folder, nil
		}
		if since.IsZero() {
			since = o.now()
			log.Error("the disk is too full to open the store: waiting; free space on this disk, nothing that is stored is lost",
				zap.String("folder", o.Path), zap.Int64("free_bytes", free), zap.Int64("needed_bytes", needs), zap.Error(err))
		}
		o.showWaiting(free, needs, since)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", fmt.Errorf("buffer: open %s: wait for disk space, %s free, %s needed: %w: free space on this disk",
				o.Path, config.Size(free), config.Size(needs), ctx.Err())
		}
	}
}

// showWaiting tells whoever asked that the store waits for disk space.
func (o *Options) showWaiting(free, needs int64, since time.Time) {
	if o.Waiting == nil {
		return
	}
	o.Waiting(Stats{
		Path: o.Path, Quota: o.Quota, Reserve: o.Reserve, FreeBytes: free, Full: true, FullSince: since,
		FullReason: fmt.Sprintf("waiting for disk space: %s is needed to open the store", config.Size(needs)),
	})
}

// nearest is the folder, or the one above it that is there.
func nearest(path string) string {
	for {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		above := filepath.Dir(path)
		if above == path {
			return path
		}
		path = above
	}
}

// prepareFolder makes the folder, proves that it can be written, and takes
// away what would keep Badger from opening.
func prepareFolder(path string, log *zap.Logger) (string, error) {
	folder := filepath.Join(path, storeFolder)
	if err := finishRepair(path, log); err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		if info, statErr := os.Stat(path); statErr == nil && !info.IsDir() {
			return "", fmt.Errorf("buffer: open %s: it is a file: give a folder", path)
		}
		return "", fmt.Errorf("buffer: open %s: make the folder: %w: give the gateway's user a folder that it may write", path, err)
	}
	probe, err := os.CreateTemp(folder, ".probe-*")
	if err != nil {
		return "", fmt.Errorf("buffer: open %s: write a file: %w: give the gateway's user the right to write there, and mount the disk read-write", folder, err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return "", fmt.Errorf("buffer: open %s: write a file: %w", folder, err)
	}
	return folder, clearFolder(folder, log)
}

// contents is which of Badger's files a folder has.
type contents struct {
	manifest, locked, log, table bool
	// data is the name of one that holds records, empty for none.
	data string
}

// clearFolder removes log files of length zero, which a kill between creating
// and sizing one leaves behind and which Badger does not open. It refuses a
// folder whose table of contents is gone, since Badger would delete the tables.
func clearFolder(folder string, log *zap.Logger) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("buffer: open %s: %w", folder, err)
	}
	var has contents
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("buffer: open %s: %w", folder, err)
		}
		switch name := e.Name(); {
		case name == badger.ManifestFilename:
			has.manifest = true
		case name == lockName:
			has.locked = true
		case filepath.Ext(name) == ".sst":
			has.table, has.data = true, name
		case filepath.Ext(name) == logExt && info.Size() > 0:
			has.log, has.data = true, name
		case filepath.Ext(name) == logExt, filepath.Ext(name) == valueLogExt && info.Size() == 0:
			has.log = has.log || filepath.Ext(name) == logExt
			if err := os.Remove(filepath.Join(folder, name)); err != nil {
				return fmt.Errorf("buffer: open %s: remove empty log: %w", folder, err)
			}
			log.Warn("removed an empty log file, as a kill leaves one behind that had just been made; if it ever had records, they are lost", zap.String("file", name))
		}
	}
	return has.check(folder, log)
}

func (has *contents) check(folder string, log *zap.Logger) error {
	if has.data != "" && !has.manifest {
		return fmt.Errorf("buffer: open %s: the file %s is missing while %s is there: put the file back; if it is lost, %s", folder, badger.ManifestFilename, has.data, remedyRepair)
	}
	if has.locked && has.table && !has.log {
		log.Warn("the store was not closed, and yet it has no log file: if one was removed, the newest records are lost", zap.String("folder", folder))
	}
	return nil
}

// remedyRepair is what is left where Badger cannot read the store.
const remedyRepair = "stop the gateway, keep a copy of the whole folder, then run: sluice buffer check --repair (it keeps every record that can be read, moves the old store aside, and tells what is missing by gap events)"

// remedyDisk holds where the disk failed, not what is on it: what a repair
// wrote there would be no safer.
const remedyDisk = "the disk does not do what it is asked, dmesg and SMART say why: cable, power, a disk that dies, or a file system that has to be checked (fsck); keep a copy of the whole folder on another disk before anything else, and do not repair the store on this one"

// remedyRegistry holds since the store is not encrypted.
const remedyRegistry = "keep a copy of the whole folder, then remove this one file: it holds keys of encrypted stores, this one is not encrypted, and the file is made again"

// explainOpen adds to what Badger says which file it means, and the remedy.
func explainOpen(folder string, err error) error {
	at, remedy := culprit(folder, err), remedyRepair
	var path *fs.PathError
	switch {
	case strings.Contains(err.Error(), "Cannot acquire directory lock"):
		return fmt.Errorf("buffer: open %s: another process has this store open: stop the other gateway, or give each its own buffer path", folder)
	case errors.Is(err, errDiskFull):
		remedy = "free space on this disk and start again: nothing that is stored is lost"
	case errors.Is(err, fs.ErrPermission):
		remedy = "give the gateway's user the right to read and write all files there"
	case diskFailed(err):
		remedy = remedyDisk
	case filepath.Base(at) == badger.KeyRegistryFileName:
		remedy = remedyRegistry
	case errors.As(err, &path):
		at = path.Path
	}
	return fmt.Errorf("buffer: open %s: %w: %s", at, oneLine{err}, remedy)
}

// culprit is the file that Badger means where its words show it, else the
// folder.
func culprit(folder string, err error) string {
	words := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(words, p) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, badger.ErrEncryptionKeyMismatch), has("key registry", "sanity text", "keyRegistryIterator", "validRegistry", "checksum for data key"):
		return filepath.Join(folder, badger.KeyRegistryFileName)
	case has("manifest", "MANIFEST", "external magic number"):
		return filepath.Join(folder, badger.ManifestFilename)
	}
	return folder
}

// panickedTable is how Badger names the table in whose block it panicked
// (table/iterator.go).
var panickedTable = regexp.MustCompile(`Table ID: (\d+)`)

// damagedTable is the table that a read stumbled over where the words show it,
// else the folder.
func damagedTable(folder string, err error) string {
	if m := panickedTable.FindStringSubmatch(err.Error()); m != nil {
		if n, err := strconv.ParseUint(m[1], 10, 64); err == nil {
			return filepath.Join(folder, fmt.Sprintf("%06d.sst", n))
		}
	}
	return folder
}

// oneLine is an error whose words are kept on one line.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }
func (e oneLine) Unwrap() error { return e.error }

// home is the folder that was opened. Badger goes on writing into files that
// are deleted, and never notices.
type home struct {
	folder string
	info   fs.FileInfo
}

func newHome(folder string) (home, error) {
	info, err := os.Stat(folder)
	if err != nil {
		return home{}, fmt.Errorf("buffer: open %s: %w", folder, err)
	}
	return home{folder: folder, info: info}, nil
}

// check reports that what is at the place of the store is not what was opened.
// Other errors say that the disk does not answer.
func (h *home) check() (gone, err error) {
	info, err := os.Stat(h.folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return h.lost("is gone"), nil
	case err != nil:
		return nil, err
	case !os.SameFile(info, h.info):
		return h.lost("is not the folder that was opened"), nil
	}
	for _, name := range []string{badger.ManifestFilename, lockName} {
		switch _, err := os.Stat(filepath.Join(h.folder, name)); {
		case errors.Is(err, fs.ErrNotExist):
			return h.lost("has no file " + name + " any more"), nil
		case err != nil:
			return nil, err
		}
	}
	return nil, nil
}

func (h *home) lost(what string) error {
	return fmt.Errorf("the folder %s %s: it was deleted, moved, mounted over or unmounted while the gateway ran, and what was recorded there is not at its place: put it back", h.folder, what)
}

// checkWritable latches the store if its disk has become read-only, as a file
// system does that finds an error of its own. A file is opened for writing and
// nothing is written: it wears nothing.
func (b *Buffer) checkWritable() {
	if err := b.opts.writable(b.home.folder); errors.Is(err, errReadOnly) {
		b.latch(fmt.Errorf("the disk of %s has become read-only: look at dmesg for the cause, check the file system, and mount it read-write: %w", b.home.folder, err))
	}
}

// openForWriting opens a file of the store for writing, and writes nothing.
func openForWriting(folder string) error {
	f, err := os.OpenFile(filepath.Join(folder, badger.ManifestFilename), os.O_WRONLY, 0)
	if err == nil {
		_ = f.Close() // nothing was written
	}
	return err
}

// checkHome latches the store if its folder was taken away, and returns what
// keeps it from knowing.
func (b *Buffer) checkHome() error {
	gone, err := b.home.check()
	if gone != nil {
		b.latch(gone)
	}
	return err
}
