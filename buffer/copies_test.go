package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// quickDir is a folder in memory where the system has one with room, for tests
// that make many stores and cut no power.
func quickDir(t testing.TB) string {
	t.Helper()
	// Containers often have 64 MiB there, which a store takes for a full disk.
	if free, err := freeSpace("/dev/shm"); err != nil || free < 2<<30 {
		return t.TempDir()
	}
	path, err := os.MkdirTemp("/dev/shm", "sluice-test-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(path) })
	return path
}

// crash returns a copy of the store as a kill would leave it: nothing is
// flushed or closed. It is taken again if Badger moved its files meanwhile,
// since such a copy is no picture of one moment.
func crash(t testing.TB, b *Buffer) string {
	t.Helper()
	return crashAt(t, b.opts.Path)
}

func crashAt(t testing.TB, path string) string {
	t.Helper()
	from := filepath.Join(path, storeFolder)
	for range 100 {
		to := quickDir(t)
		if err := os.Mkdir(filepath.Join(to, storeFolder), 0o700); err != nil {
			t.Fatal(err)
		}
		// The mark first: it is never ahead of the store.
		copyMark(t, to, path)
		before := listing(t, from)
		err := copyStore(filepath.Join(to, storeFolder), from, before)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("copy the store: %v", err)
		}
		if err == nil && maps.Equal(before, listing(t, from)) {
			return to
		}
		_ = os.RemoveAll(to)
	}
	t.Fatal("the files of the store never come to rest")
	return ""
}

// killedAtRest is crash at a moment at which Badger makes, merges and deletes no
// table: where a test looks at the tables, or at what is refused because of those
// that the manifest does not name.
func killedAtRest(t testing.TB, b *Buffer) (killed string) {
	t.Helper()
	eventually(t, "the tables rest", func() bool {
		tables := tablesIn(t, b.opts.Path)
		if !slices.Equal(tables, tablesNamed(b)) {
			return false // one is being made, or is merged and not yet deleted
		}
		killed = crash(t, b)
		return slices.Equal(tables, tablesIn(t, killed)) && slices.Equal(tables, tablesNamed(b))
	})
	return killed
}

// tablesNamed are the files of tables that Badger's manifest names.
func tablesNamed(b *Buffer) (names []string) {
	for _, table := range b.db.Tables() {
		names = append(names, fmt.Sprintf("%06d.sst", table.ID))
	}
	slices.Sort(names)
	return names
}

// tablesIn are those of a store's folder.
func tablesIn(t testing.TB, path string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(path, storeFolder, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	return names
}

// copyMark copies the high-water mark.
func copyMark(t testing.TB, to, from string) {
	t.Helper()
	for _, name := range markFiles {
		data, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// listing returns the sizes of a store's files.
func listing(t testing.TB, folder string) map[string]int64 {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sizes[e.Name()] = info.Size()
		}
	}
	return sizes
}

// copyStore copies all but the lock; the files are sparse and stay so.
func copyStore(to, from string, names map[string]int64) error {
	for name := range names {
		if name == "LOCK" {
			continue
		}
		if err := copySparse(filepath.Join(to, name), filepath.Join(from, name)); err != nil {
			return err
		}
	}
	return nil
}

func copySparse(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	const page = 64 << 10
	zero := make([]byte, page)
	for at := 0; at < len(data); at += page {
		part := data[at:min(at+page, len(data))]
		if bytes.Equal(part, zero[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, int64(at)); err != nil {
			return err
		}
	}
	return f.Truncate(int64(len(data)))
}
