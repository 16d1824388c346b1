package buffer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// tableExt is how the names of Badger's tables end.
const tableExt = ".sst"

// leftovers are the tables of the folder that the manifest does not list. A kill
// leaves such, and Badger deletes them when it opens the store. But a manifest
// that has lost its end looks the same, and then they hold records that are
// nowhere else. So they are kept until the streams are known to be whole.
type leftovers struct {
	// folder is where they are kept, below the quarantine.
	folder string
	kept   []string
	// all is set if each of them is kept.
	all bool
}

// keepLeftovers gives the files a second name beside the store.
func keepLeftovers(path, folder string, tables []string, log *zap.Logger) leftovers {
	if len(tables) == 0 {
		return leftovers{}
	}
	l := leftovers{folder: filepath.Join(path, quarantineFolder, "tables-"+time.Now().UTC().Format(asideStamp))}
	err := os.MkdirAll(l.folder, 0o700)
	for _, name := range append(tables, badger.ManifestFilename) {
		if err != nil {
			break
		}
		to := filepath.Join(l.folder, name)
		if name == badger.ManifestFilename {
			// Badger writes on into this one.
			var data []byte
			if data, err = os.ReadFile(filepath.Join(folder, name)); err == nil {
				err = os.WriteFile(to, data, 0o600)
			}
		} else {
			err = os.Link(filepath.Join(folder, name), to)
		}
		if err == nil {
			l.kept = append(l.kept, name)
		}
	}
	l.all = err == nil
	if err != nil {
		log.Warn("tables that a kill has left over cannot be kept until the store is known to be whole", zap.String("folder", l.folder), zap.Error(err))
	}
	return l
}

// release lets go of what was kept where nothing is missing, else says where it
// is.
func (l *leftovers) release(whole bool, log *zap.Logger) {
	if len(l.kept) == 0 {
		return
	}
	if !whole {
		log.Error("records are missing, and the store had tables that its list of tables does not name: they are kept, and may hold them",
			zap.String("folder", l.folder), zap.Strings("files", l.kept))
		return
	}
	var errs []error
	for _, name := range l.kept {
		errs = append(errs, os.Remove(filepath.Join(l.folder, name)))
	}
	errs = append(errs, os.Remove(l.folder))
	// Gone too if nothing else was ever set aside.
	_ = os.Remove(filepath.Dir(l.folder))
	if err := errors.Join(errs...); err != nil {
		log.Warn("tables that a kill has left over cannot be removed", zap.String("folder", l.folder), zap.Error(err))
	}
}

// forgotten is the refusal of a store of which records are missing while it has
// such tables: a repair reads them, a start would tell them as lost.
func (l *leftovers) forgotten(folder string) error {
	return fmt.Errorf("buffer: open %s: %w: records are missing, and it does not name %s, which may hold them: it has lost its end: %s",
		filepath.Join(folder, badger.ManifestFilename), errDamaged, strings.Join(l.tables(), ", "), remedyRepair)
}

func (l *leftovers) tables() []string {
	return slices.DeleteFunc(slices.Clone(l.kept), func(name string) bool { return filepath.Ext(name) != tableExt })
}

// putBack puts the tables into the folder again, out of which Badger has deleted
// them, and takes the manifest away that does not name them (a copy as it was is
// kept). Without a manifest nothing but a repair opens the store, and that reads
// every table. Badger must have closed it.
func (l *leftovers) putBack(folder string) error {
	if !l.all {
		return nil
	}
	for _, name := range l.tables() {
		from, to := filepath.Join(l.folder, name), filepath.Join(folder, name)
		err := os.Link(from, to)
		// Badger may have given the name to a table of its own.
		for n := 900_000; errors.Is(err, fs.ErrExist) && n < 1_000_000; n++ {
			err = os.Link(from, filepath.Join(folder, fmt.Sprintf("%06d%s", n, tableExt)))
		}
		if err != nil {
			return fmt.Errorf("put back the table: %w: move it from %s to %s by hand", err, from, to)
		}
	}
	if err := os.Remove(filepath.Join(folder, badger.ManifestFilename)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take the damaged manifest away: %w", err)
	}
	return nil
}

// unlisted returns the tables in the folder that the manifest does not list.
func unlisted(folder string, manifest *badger.Manifest) (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.sst"))
	if err != nil {
		return nil, err
	}
	listed := map[string]bool{}
	for id := range manifest.Tables {
		listed[fmt.Sprintf("%06d.sst", id)] = true
	}
	for _, f := range files {
		if name := filepath.Base(f); !listed[name] {
			names = append(names, name)
		}
	}
	return names, nil
}

// eachIsThere reports whether every event is there that no record says is gone. A
// manifest that is cut within its first entries forgets the oldest tables, and then
// the end of each stream, in the log, is right. It reads every key.
func (b *Buffer) eachIsThere(ctx context.Context) (bool, error) {
	for _, s := range b.order {
		missing, err := b.misses(ctx, s)
		if errors.Is(err, errDamaged) {
			continue // what a damaged table hides is told when it is read
		}
		if err != nil {
			return false, fmt.Errorf("buffer: look for the events of %s: %w", s.machine, err)
		}
		if missing {
			return false, nil
		}
	}
	return true, nil
}

// sideIsThere reports whether as much is kept beside events as the sums say: dead
// letters, the memory of uplinks and of the ledger, values of machines, jobs. The
// states need no look: what a state was committed with shows in the events. It reads
// every key.
func (b *Buffer) sideIsThere(ctx context.Context, sums *side) (bool, error) {
	found, err := b.countSide(ctx)
	if err != nil || found.doubtful {
		return true, err // what a damaged table hides is told when it is read
	}
	if found.other < sums.other || sums.lostDead > 0 {
		return false, nil
	}
	for of, sum := range sums.dead {
		if now := found.dead[of]; now == nil || now.count < sum.count {
			return false, nil
		}
	}
	return true, nil
}

// misses reports whether an event of s is gone without a record of it. It is for
// Open, while nobody else has s.
func (b *Buffer) misses(ctx context.Context, s *stream) (missing bool, err error) {
	prefix := machineKey(classEvent, s.machine)
	err = b.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		done := s.low.sequence
		known := takenReader{b: b, machine: s.machine}
		// gone reports whether one of those is missing that nobody has told.
		gone := func(first, last plant.Sequence) (bool, error) {
			for _, o := range s.lost.without(first, last) {
				for n := o.first; n <= o.last; n++ {
					fate, upTo, err := known.fate(n)
					if err != nil || fate == fateKept || fate == fateUnknown && n > s.thin.sequence {
						return err == nil, err
					}
					n = upTo
				}
			}
			return false, nil
		}
		for it.Seek(appendSequence(prefix[:len(prefix):len(prefix)], done)); it.Valid() && !missing && done < s.head.sequence; it.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if n := sequenceOf(it.Item().Key()); n > done {
				var err error
				if missing, err = gone(done+1, n-1); err != nil {
					return err
				}
				done = n
			}
		}
		if missing || done >= s.head.sequence {
			return nil
		}
		var err error
		missing, err = gone(done+1, s.head.sequence)
		return err
	})
	return missing, err
}
