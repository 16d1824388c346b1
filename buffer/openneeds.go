package buffer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
)

const (
	// openLeast is the free space with which any store is opened. TestOpenNeeds
	// has measured what Open, one commit and the merges behind them take, at most
	// 14 MiB on tmpfs and ext4 where the merges had kept up.
	openLeast = 20 << 20
	// openLogs is what it takes beside the tables: new logs, what else is written
	// while a merge runs, and a margin.
	openLogs = 8 << 20
	// mergeTables is how many tables of a level a merge writes anew at most for
	// one of the level above, which is a tenth of it.
	mergeTables = 12
)

// openNeeds is the free space with which this store may be opened. Badger merges
// tables as soon as it is open, writes the new ones out before it removes the
// old ones, and is killed by the kernel if the disk is full before that, at each
// start again. How much is to be merged is known: by what its list of tables
// says of the levels.
func openNeeds(folder string) int64 {
	manifest, err := readManifest(folder)
	if err != nil {
		// Nothing is there, or Open refuses it with the cause.
		return openLeast
	}
	type tables struct {
		n         int
		sum, most int64
	}
	levels := make([]tables, max(len(manifest.Levels), 1)+1)
	add := func(level *tables, size int64) {
		level.n, level.sum, level.most = level.n+1, level.sum+size, max(level.most, size)
	}
	for id, table := range manifest.Tables {
		if info, err := os.Stat(tablePath(folder, id)); err == nil {
			add(&levels[table.Level], info.Size())
		}
	}
	logs, _ := filepath.Glob(filepath.Join(folder, "*"+logExt)) // its only error is of the pattern
	needs := int64(openLogs)
	for _, name := range logs {
		if info, err := os.Stat(name); err == nil {
			// A log is made larger than what is written to it.
			size := min(diskUse(info), info.Size())
			add(&levels[0], size)
			needs += size
		}
	}
	o := badgerOptions(folder, zap.NewNop())
	if levels[0].n >= o.NumLevelZeroTables {
		// All of level zero goes to the first level that has tables, and with all of it.
		needs += levels[0].sum
		for _, level := range levels[1:] {
			if level.n > 0 {
				needs += level.sum
				break
			}
		}
	}
	for i, level := range levels[1 : len(levels)-1] {
		if below := levels[i+2]; level.sum >= o.BaseLevelSize && below.n > 0 {
			needs += level.most + min(below.sum, mergeTables*below.most)
		}
	}
	return max(needs, openLeast)
}

// tablePath is where Badger keeps a table.
func tablePath(folder string, id uint64) string {
	return filepath.Join(folder, fmt.Sprintf("%06d.sst", id))
}

// readManifest reads Badger's list of tables; fs.ErrNotExist means a new store.
func readManifest(folder string) (badger.Manifest, error) {
	name := filepath.Join(folder, badger.ManifestFilename)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return badger.Manifest{}, err
	}
	if err != nil {
		return badger.Manifest{}, fmt.Errorf("buffer: open %s: %w: give the gateway's user the right to read it", name, err)
	}
	manifest, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(folder))
	if err := errors.Join(err, f.Close()); err != nil {
		return badger.Manifest{}, fmt.Errorf("buffer: open %s: %w: %s", name, oneLine{err}, remedyRepair)
	}
	return manifest, nil
}
