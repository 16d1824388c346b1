package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/fault"
)

const (
	// repairFolder is where a repaired store is written before it takes its place;
	// a broken one is moved to brokenFolder with the time.
	repairFolder = "store.repair"
	brokenFolder = "store.broken-"
)

// Repaired says what a Repair did.
type Repaired struct {
	StoreCheck
	// Kept counts the records that were salvaged, each key once for each version
	// that stood in a file.
	Kept uint64 `json:"kept"`
	// Broken is where the broken store is now; nothing of it was removed.
	Broken string `json:"broken"`
}

// Repair makes a new store out of every record of a broken one that can be
// read, and moves the broken one aside, of which it changes and removes nothing.
// ready is called before anything is written; its error ends Repair. What is
// missing becomes gap events at the next Open, which compares the store with the
// high-water mark and draws a new epoch. A store that was encrypted is encrypted
// again with the same key. It blocks on the disk.
func Repair(ctx context.Context, o Options, ready func() error, log *zap.Logger) (Repaired, error) {
	o = o.withSeams()
	var r Repaired
	err := o.repair(ctx, &r, ready, log)
	if err != nil {
		return r, fmt.Errorf("buffer: repair %s: %w", o.Path, err)
	}
	return r, nil
}

func (o *Options) repair(ctx context.Context, r *Repaired, ready func() error, log *zap.Logger) (err error) {
	locks, err := lockBuffer(o.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, locks.release()) }()
	s, err := newSalvage(*o)
	if err != nil {
		return err
	}
	if err := o.roomFor(s.folder); err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	folder := filepath.Join(o.Path, repairFolder)
	// An earlier repair may have been killed.
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := o.salvageInto(ctx, s, folder, &r.Kept, log); err != nil {
		return errors.Join(err, os.RemoveAll(folder))
	}
	fault.Pass("repair.salvaged")
	r.StoreCheck = s.report
	r.Broken = filepath.Join(o.Path, brokenFolder+o.now().UTC().Format("20060102T150405.000Z"))
	if _, err := os.Lstat(r.Broken); err == nil {
		return fmt.Errorf("%s is there already: try again", r.Broken)
	}
	// A kill between the two leaves no store at its place; finishRepair then does
	// the second.
	if err := os.Rename(s.folder, r.Broken); err != nil {
		return err
	}
	fault.Pass("repair.between")
	err = takePlace(folder, s.folder)
	fault.Pass("repair.after")
	return err
}

// roomFor asks for the disk space of a copy.
func (o *Options) roomFor(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	var size int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size += diskUse(info)
		}
	}
	need := 3*size + o.Reserve
	if free, err := o.freeSpace(o.Path); err != nil || free < need {
		return errors.Join(err, fmt.Errorf("%s are free and %s needed: free space on this disk", config.Size(free), config.Size(need)))
	}
	return nil
}

// salvageInto writes what s finds into a new store, under the versions that it
// had: the newest of a key counts, wherever it was found.
func (o *Options) salvageInto(ctx context.Context, s *salvage, folder string, kept *uint64, log *zap.Logger) (err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	db, err := badger.OpenManaged(o.Key.encrypted(badgerOptions(folder, log)))
	if err != nil {
		return err
	}
	batch := db.NewManagedWriteBatch()
	err = s.walk(ctx, func(f found) error {
		if bytes.Equal(f.key, appendClass(nil, classSums)) {
			return nil // the next opening counts; how many dead letters there were it compares
		}
		*kept++
		key := append([]byte{}, f.key...)
		if f.removed {
			return batch.DeleteAt(key, f.version)
		}
		return batch.SetEntryAt(badger.NewEntry(key, append([]byte{}, f.value...)), f.version)
	})
	if err == nil && !s.format {
		err = batch.SetEntryAt(badger.NewEntry(formatKey, o.lostFormat()), s.formatVersion+1)
	}
	if err == nil {
		err = batch.Flush()
	}
	batch.Cancel()
	return errors.Join(err, db.Close())
}

// lostFormat is the format record of a store that has lost it. The high-water
// mark knows which store it was.
func (o *Options) lostFormat() []byte {
	dst := appendUvarints(appendEnvelope(nil), formatMajor, formatMinor)
	var known highMark
	if mark, err := readMark(o.Path); err == nil && mark.known {
		known = mark.highMark
	}
	dst = appendUvarints(append(dst, known.store[:]...), known.opening)
	seal(dst, 0, formatKey, envelopeSize)
	return dst
}

// finishRepair ends a repair that was killed between its two renames: the broken
// store is aside then, and the repaired one is whole.
func finishRepair(path string, log *zap.Logger) error {
	folder, place := filepath.Join(path, repairFolder), filepath.Join(path, storeFolder)
	if _, err := os.Lstat(place); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	aside, err := filepath.Glob(filepath.Join(path, brokenFolder+"*"))
	if err != nil || len(aside) == 0 {
		return nil
	}
	if _, err := os.Lstat(folder); err != nil {
		return nil
	}
	if err := takePlace(folder, place); err != nil {
		return fmt.Errorf("buffer: open %s: a repair was killed before its end: %w: move %s to %s by hand", path, err, folder, place)
	}
	log.Warn("a repair of the store was killed just before its end; it is finished", zap.String("broken", aside[len(aside)-1]))
	return nil
}
