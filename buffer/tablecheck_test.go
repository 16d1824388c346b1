package buffer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// tableStore is a closed store with a table, and that table's path.
func tableStore(t *testing.T) (path, table string) {
	t.Helper()
	path = quickDir(t)
	b := open(t, testOptions(path))
	commit(t, b, "M1", count(1), count(2))
	mustClose(t, b)
	tables, err := filepath.Glob(filepath.Join(path, storeFolder, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("no table: %v", err)
	}
	return path, tables[0]
}

// refused opens a store that must be refused with a word of the file.
func refused(t *testing.T, path, file string) {
	t.Helper()
	b, err := Open(context.Background(), testOptions(path), zap.NewNop())
	if err == nil {
		_ = b.Close()
		t.Fatalf("a store with a damaged %s was opened", file)
	}
	if !strings.Contains(err.Error(), file) {
		t.Errorf("the refusal does not name %s: %v", file, err)
	}
}

// TestATableCutShortIsRefusedByName: Badger would panic in a goroutine of its
// own, at each start again.
func TestATableCutShortIsRefusedByName(t *testing.T) {
	path, table := tableStore(t)
	sound, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 3, 4, 7, 8, len(sound) / 2, len(sound) - 4, len(sound) - 1} {
		if err := os.WriteFile(table, sound[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, path, filepath.Base(table))
	}
	for at := len(sound) - 40; at < len(sound); at++ {
		harmed := append([]byte(nil), sound...)
		harmed[at] ^= 0x40
		if err := os.WriteFile(table, harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, path, filepath.Base(table))
	}
	if err := os.WriteFile(table, sound, 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, testOptions(path))
	if s := b.Stats(); s.Lost != 0 {
		t.Errorf("%d events lost", s.Lost)
	}
	mustClose(t, b)
}

// TestZerosInATableAreNamedOrTold: Badger stumbles over a block of zeros with
// words that name no file.
func TestZerosInATableAreNamedOrTold(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	for n := range 100 {
		commit(t, b, plant.MachineID(fmt.Sprintf("M%d", n%5)), count(2*n), count(2*n+1))
	}
	mustClose(t, b)
	tables, err := filepath.Glob(filepath.Join(path, storeFolder, "*.sst"))
	if err != nil || len(tables) != 1 {
		t.Fatalf("the tables are %v: %v", tables, err)
	}
	sound, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	const zeros = 4096
	named := 0
	for at := 394; at+zeros < len(sound); at += 512 {
		copied := clone(t, path, true)
		harmed := append([]byte(nil), sound...)
		clear(harmed[at : at+zeros])
		if err := os.WriteFile(filepath.Join(copied, storeFolder, filepath.Base(tables[0])), harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Open(context.Background(), unmergedOptions(copied), zap.NewNop())
		if err != nil {
			named++
			if !strings.Contains(err.Error(), filepath.Base(tables[0])) {
				t.Errorf("zeros from %d: the refusal does not name the table: %v", at, err)
			}
			continue
		}
		mustClose(t, b)
	}
	if named == 0 {
		t.Error("no zeros were refused: the test shows nothing")
	}
}

// TestALeftoverTableIsNoDamage: a kill in the middle of a flush leaves a table
// behind that nobody needs.
func TestALeftoverTableIsNoDamage(t *testing.T) {
	path, table := tableStore(t)
	leftover := filepath.Join(filepath.Dir(table), "009999.sst")
	if err := os.WriteFile(leftover, []byte("half a table"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, testOptions(path))
	commit(t, b, plant.MachineID("M1"), count(3))
	mustClose(t, b)
}

// TestADamagedManifestIsNeverSilent damages the manifest's header and first
// entry, byte by byte: the store is refused by the file's name, or, where Badger
// takes the damage for the end of the file, the events are missed by the mark.
func TestADamagedManifestIsNeverSilent(t *testing.T) {
	path, _ := tableStore(t)
	sound, err := os.ReadFile(filepath.Join(path, storeFolder, badger.ManifestFilename))
	if err != nil {
		t.Fatal(err)
	}
	for at := range min(len(sound), 48) {
		harmed := append([]byte(nil), sound...)
		harmed[at] ^= 0x10
		copied := clone(t, path, true)
		if err := os.WriteFile(filepath.Join(copied, storeFolder, badger.ManifestFilename), harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Open(context.Background(), testOptions(copied), zap.NewNop())
		switch {
		case err == nil:
			if s := b.Stats(); s.Lost != 2 {
				t.Errorf("byte %d is damaged and %d of 2 events count as lost", at, s.Lost)
			}
			mustClose(t, b)
		case !strings.Contains(err.Error(), badger.ManifestFilename):
			t.Errorf("byte %d: the refusal does not name the file: %v", at, err)
		}
	}
}

// TestALostFirstTableIsDamageAndNotForeign: a manifest cut within its first
// entry forgets the table with the format record.
func TestALostFirstTableIsDamageAndNotForeign(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	large := count(1)
	large.Data = []byte(`{"text":"` + strings.Repeat("x", 200<<10) + `"}`)
	for deadline := time.Now().Add(20 * time.Second); ; {
		commit(t, b, "M1", large)
		manifest, err := os.ReadFile(filepath.Join(path, storeFolder, badger.ManifestFilename))
		logs := 0
		for name := range listing(t, filepath.Join(path, storeFolder)) {
			if filepath.Ext(name) == logExt {
				logs++
			}
		}
		if err == nil && len(manifest) > 16 && logs == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the log was not written into a table")
		}
	}
	from := filepath.Join(path, storeFolder)
	var killed string
	for tries := 0; ; tries++ {
		killed = quickDir(t)
		if err := os.Mkdir(filepath.Join(killed, storeFolder), 0o700); err != nil {
			t.Fatal(err)
		}
		// Badger may just be removing the log whose table is written.
		err := copyStore(filepath.Join(killed, storeFolder), from, listing(t, from))
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || tries == 20 {
			t.Fatal(err)
		}
	}
	copyMark(t, killed, path)
	mustClose(t, b)
	if err := os.Truncate(filepath.Join(killed, storeFolder, badger.ManifestFilename), 20); err != nil {
		t.Fatal(err)
	}
	refused(t, killed, badger.ManifestFilename)
}
