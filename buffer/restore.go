package buffer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/durable"
)

// restoreFolder is where a restored store is written before it takes its place.
const restoreFolder = "store.restore"

// Refusals of a Restore. Nothing was changed.
var (
	// ErrStoreNotEmpty says that there is a store already.
	ErrStoreNotEmpty = errors.New("there is a store already")
	// ErrForeignBackup says that the backup is of another gateway.
	ErrForeignBackup = errors.New("the backup is of another gateway")
)

// Restore makes a store at o.Path out of a backup. It reads the backup twice:
// once to check all of it, and only then to write. The store takes its place by
// one rename at the end. A backup of a gateway with another name needs force.
// ready, if not nil, is called between the two; its error ends Restore. The next
// Open draws a new epoch, and compares what is there with the high-water mark,
// if there is one: what was recorded after the backup then becomes gap events,
// and no number is given again. It blocks on the disk.
func Restore(ctx context.Context, o Options, from io.ReadSeeker, force bool, ready func(BackupInfo) error, log *zap.Logger) (_ BackupInfo, err error) {
	o = o.withSeams()
	fail := func(err error) error {
		return fmt.Errorf("buffer: restore to %s: %w", o.Path, err)
	}
	if err := o.Validate(); err != nil {
		return BackupInfo{}, fail(err)
	}
	if err := vacant(o.Path); err != nil {
		return BackupInfo{}, fail(err)
	}
	// A format that is newer is refused here, while nothing is written yet.
	info, err := ReadBackup(from, formatOnly())
	if err != nil {
		return BackupInfo{}, fail(err)
	}
	if info.Gateway != o.Gateway && !force {
		return BackupInfo{}, fail(fmt.Errorf("%w: it is of %q, the config says %q: its events keep their ids, new ones get the new name; force it if that is meant", ErrForeignBackup, info.Gateway, o.Gateway))
	}
	if err := os.MkdirAll(o.Path, 0o700); err != nil {
		return BackupInfo{}, fail(fmt.Errorf("make the folder: %w", err))
	}
	locks, err := lockBuffer(o.Path)
	if err != nil {
		return BackupInfo{}, fail(err)
	}
	defer func() { err = errors.Join(err, locks.release()) }()
	if err := vacant(o.Path); err != nil {
		return BackupInfo{}, fail(err)
	}
	// Badger writes each record to its log, and then to a table.
	if free, err := o.freeSpace(o.Path); err != nil || free < 3*info.Bytes+o.Reserve {
		return BackupInfo{}, fail(errors.Join(err, fmt.Errorf("%s are free and %s needed: free space on this disk", config.Size(free), config.Size(3*info.Bytes+o.Reserve))))
	}
	if ready != nil {
		if err := ready(info); err != nil {
			return BackupInfo{}, fail(err)
		}
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return BackupInfo{}, fail(err)
	}
	if err := o.restoreInto(ctx, from, info, log); err != nil {
		return BackupInfo{}, fail(err)
	}
	return info, nil
}

// vacant refuses a path that has a store.
func vacant(path string) error {
	entries, err := os.ReadDir(filepath.Join(path, storeFolder))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%w: move the folder %s aside first; nothing is overwritten", ErrStoreNotEmpty, filepath.Join(path, storeFolder))
	}
	return nil
}

// formatOnly checks the format record, which is the first of all records, and
// refuses a backup without it.
func formatOnly() func(key, value []byte) error {
	checked := false
	return func(key, value []byte) error {
		if checked {
			return nil
		}
		checked = true
		if !bytes.Equal(key, formatKey) {
			return bad("it has no format record")
		}
		body, err := opaque(key, value)
		if err != nil {
			return bad("its format record cannot be read: %v", err)
		}
		f := fields{rest: body}
		if major := f.uvarint(); f.bad || major > formatMajor {
			return bad("its store is of version %d, this gateway reads %d: install the newer gateway first", major, formatMajor)
		}
		return nil
	}
}

// restoreInto writes the records into a new store beside its place, and moves it
// there.
func (o *Options) restoreInto(ctx context.Context, from io.Reader, info BackupInfo, log *zap.Logger) error {
	folder, place := filepath.Join(o.Path, restoreFolder), filepath.Join(o.Path, storeFolder)
	// An earlier restore may have been killed.
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	err := o.fill(ctx, folder, log, func(put func(key, value []byte) error) error {
		again, err := ReadBackup(from, put)
		if err == nil && again.Sum != info.Sum {
			err = bad("it changed while it was read")
		}
		return err
	})
	if err != nil {
		return errors.Join(err, os.RemoveAll(folder))
	}
	return takePlace(folder, place)
}

// fill makes a new store in folder out of what each gives to put.
func (o *Options) fill(ctx context.Context, folder string, log *zap.Logger, each func(put func(key, value []byte) error) error) (err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	db, err := badger.Open(o.Key.encrypted(badgerOptions(folder, log)))
	if err != nil {
		return err
	}
	batch := db.NewWriteBatch()
	err = each(func(key, value []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Badger keeps what it is given until the batch is written.
		return batch.Set(append([]byte{}, key...), append([]byte{}, value...))
	})
	if err == nil {
		err = batch.Flush()
	}
	batch.Cancel()
	return errors.Join(err, db.Close())
}

// takePlace moves a folder to its place, which is empty or not there, and makes
// that durable.
func takePlace(folder, place string) error {
	if err := os.Remove(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrStoreNotEmpty, err)
	}
	if err := os.Rename(folder, place); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(place))
}
