package buffer

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// addChange appends a change to the manifest as Badger does, before its sync
// fails: pb.ManifestChangeSet, whose field 1 is a change with the table's id (1),
// what is done (2; 1 is a removal, 0 is left out) and the level (3).
func addChange(t *testing.T, folder string, changes ...[]byte) {
	t.Helper()
	var set []byte
	for _, c := range changes {
		set = append(append(set, 1<<3|2, byte(len(c))), c...)
	}
	entry := binary.BigEndian.AppendUint32(nil, uint32(len(set)))
	entry = binary.BigEndian.AppendUint32(entry, crc32.Checksum(set, castagnoli))
	f, err := os.OpenFile(filepath.Join(folder, badger.ManifestFilename), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(append(entry, set...)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func created(id byte) []byte { return []byte{1 << 3, id, 3 << 3, 6} }
func removed(id byte) []byte { return []byte{1 << 3, id, 2 << 3, 1} }

// TestAManifestChangeThatFailedIsTakenBack: after a failed sync of the manifest
// the kernel's cache shows a list with tables that Badger has deleted again. The
// store was refused until the computer was switched off.
func TestAManifestChangeThatFailedIsTakenBack(t *testing.T) {
	for name, failed := range map[string][][]byte{
		"a merge":    {append([]byte{}, removed(1)...), created(7), created(8)},
		"two merges": {removed(1), created(7)},
	} {
		t.Run(name, func(t *testing.T) {
			path, table := tableStore(t)
			if filepath.Base(table) != "000001.sst" {
				t.Fatalf("the store's table is %s", table)
			}
			folder := filepath.Dir(table)
			addChange(t, folder, failed...)
			if name == "two merges" {
				addChange(t, folder, removed(7), created(9))
			}
			shown, err := os.ReadFile(filepath.Join(folder, badger.ManifestFilename))
			if err != nil {
				t.Fatal(err)
			}
			b := open(t, testOptions(path))
			if s := b.Stats(); s.Lost != 0 || s.Streams[0].Last != 2 {
				t.Errorf("%d events lost, the last is %d", s.Lost, s.Streams[0].Last)
			}
			mustClose(t, b)
			kept, err := filepath.Glob(filepath.Join(path, quarantineFolder, badger.ManifestFilename+"-*"))
			if err != nil || len(kept) != 1 {
				t.Fatalf("the manifest as it was is not kept: %v %v", kept, err)
			}
			if data, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(data, shown) {
				t.Errorf("another manifest is kept: %v", err)
			}
		})
	}
}

// TestAMissingTableIsNotTakenBack: a table that was there, and whose records are
// nowhere else, is no change that failed.
func TestAMissingTableIsNotTakenBack(t *testing.T) {
	path, table := tableStore(t)
	addChange(t, filepath.Dir(table), removed(1), created(7))
	if err := os.Remove(table); err != nil {
		t.Fatal(err)
	}
	refused(t, path, "000007.sst")

	path, table = tableStore(t)
	if err := os.Remove(table); err != nil {
		t.Fatal(err)
	}
	refused(t, path, filepath.Base(table))
}

// TestWriteThroughChangesNothing: what is written once more is what was there,
// and the files take no more room.
func TestWriteThroughChangesNothing(t *testing.T) {
	path := t.TempDir()
	b := open(t, testOptions(path))
	commit(t, b, "M1", count(1), count(2))
	killed := t.TempDir()
	from := filepath.Join(path, storeFolder)
	if err := copyStore(killed, from, listing(t, from)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, b)
	before := listing(t, killed)
	texts := map[string][]byte{}
	past := time.Now().Add(-time.Hour).Truncate(time.Second)
	was := map[string]os.FileInfo{}
	for name := range before {
		if err := os.Chtimes(filepath.Join(killed, name), past, past); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(killed, name))
		if err != nil {
			t.Fatal(err)
		}
		was[name] = info
		text, err := os.ReadFile(filepath.Join(killed, name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = text
	}
	if err := writeThrough(killed); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, killed); len(after) != len(before) {
		t.Errorf("the folder had %v and has %v", before, after)
	}
	for name, text := range texts {
		if now, err := os.ReadFile(filepath.Join(killed, name)); err != nil || !bytes.Equal(now, text) {
			t.Errorf("%s is another: %v", name, err)
		}
	}
	// And yet it has written: the manifest is another file with the same bytes, the
	// others were written over.
	written := map[string]int{}
	for name, old := range was {
		now, err := os.Stat(filepath.Join(killed, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == badger.ManifestFilename {
			if os.SameFile(old, now) {
				t.Error("the manifest is the same file as before: it was not made anew")
			}
			written[name]++
		}
		if ext := filepath.Ext(name); ext == logExt || ext == valueLogExt || name == badger.KeyRegistryFileName {
			if now.ModTime().Equal(past) {
				t.Errorf("%s was not written again", name)
			}
			written[ext]++
		}
	}
	if len(written) != 4 {
		t.Errorf("looked at were %v, want the manifest, logs, value logs and the key registry", written)
	}
}

// TestWriteThroughRefuses: where a log cannot be written once more, nothing is
// built on what the cache shows of it.
func TestWriteThroughRefuses(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "00001.mem"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeThrough(folder); err == nil || !strings.Contains(err.Error(), "00001.mem") {
		t.Errorf("a log that cannot be written: %v", err)
	}
}
