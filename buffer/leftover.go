package buffer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
)

// leftovers are the tables of the folder that the manifest does not list. A kill
// leaves such, and Badger deletes them when it opens the store. But a manifest
// that has lost its end looks the same, and then they hold records that are
// nowhere else. So they are kept until the streams are known to be whole.
type leftovers struct {
	// folder is where they are kept, below the quarantine.
	folder string
	kept   []string
}

// keepLeftovers gives the files a second name beside the store.
func keepLeftovers(path, folder string, tables []string, log *zap.Logger) leftovers {
	if len(tables) == 0 {
		return leftovers{}
	}
	l := leftovers{folder: filepath.Join(path, quarantineFolder, "tables-"+time.Now().UTC().Format("20060102T150405.000000000"))}
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
