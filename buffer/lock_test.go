package buffer

import (
	"bytes"
	"context"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// storedFile is a file and which one it is: one that was replaced by the same
// bytes is another, and Badger goes on writing into the old one.
type storedFile struct {
	info fs.FileInfo
	data []byte
}

// storedFiles reads every file below path. The lock file is not read: Windows
// lets nobody.
func storedFiles(t *testing.T, path string) map[string]storedFile {
	t.Helper()
	files := map[string]storedFile{}
	if err := filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var f storedFile
		if f.info, err = os.Stat(name); err != nil {
			return err
		}
		if !e.IsDir() && e.Name() != lockName {
			if f.data, err = os.ReadFile(name); err != nil {
				return err
			}
		}
		files[name] = f
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

func wantSameFiles(t *testing.T, was, is map[string]storedFile) {
	t.Helper()
	for name, before := range was {
		after, ok := is[name]
		switch {
		case !ok:
			t.Errorf("%s is gone", name)
		case !os.SameFile(before.info, after.info):
			t.Errorf("%s is another file now", name)
		case !bytes.Equal(before.data, after.data):
			t.Errorf("%s has other bytes", name)
		case before.info.Mode() != after.info.Mode():
			t.Errorf("%s has the mode %v, had %v", name, after.info.Mode(), before.info.Mode())
		}
	}
	for name := range is {
		if _, ok := was[name]; !ok {
			t.Errorf("%s is new", name)
		}
	}
}

// TestARefusalChangesNothing: whoever comes second to a store that is open is
// refused before the first file is touched. A manifest that was replaced, even by
// the same bytes, is no longer the one that the first process writes.
func TestARefusalChangesNothing(t *testing.T) {
	refusals := map[string]func(ctx context.Context, o Options) error{
		"open": func(ctx context.Context, o Options) error {
			b, err := Open(ctx, o, zap.NewNop())
			if err == nil {
				err = b.Close()
			}
			return err
		},
		"open on a disk that is full": func(ctx context.Context, o Options) error {
			o.freeSpace = func(string) (int64, error) { return 0, nil }
			_, err := Open(ctx, o, zap.NewNop())
			return err
		},
		"check": func(ctx context.Context, o Options) error {
			_, err := Check(ctx, o)
			return err
		},
		"repair": func(ctx context.Context, o Options) error {
			_, err := Repair(ctx, o, func() error { t.Error("the repair of an open store was begun"); return nil }, zap.NewNop())
			return err
		},
	}
	for name, refused := range refusals {
		t.Run(name, func(t *testing.T) {
			path := quickDir(t)
			b := open(t, testOptions(path))
			commit(t, b, "M1", count(1), count(2))
			mustClose(t, b)
			// What a start clears away, and the first process may just be making.
			for file, text := range map[string]string{ballastTemp: "x", crashFile: "panic: another", ballastName: "ballast"} {
				if err := os.WriteFile(filepath.Join(path, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b = open(t, testOptions(path))
			for file, text := range map[string]string{storeFolder + "/000999.mem": "", crashFile: "panic: another"} {
				if err := os.WriteFile(filepath.Join(path, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			was := storedFiles(t, path)
			// The one that waits for disk space would wait for ever.
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := refused(ctx, testOptions(path))
			if err == nil || !strings.Contains(err.Error(), "another process has this store open: stop the") {
				t.Errorf("refused with: %v", err)
			}
			wantSameFiles(t, was, storedFiles(t, path))

			commit(t, b, "M1", count(3))
			mustClose(t, b)
			b = open(t, testOptions(path))
			defer b.Close()
			n := 0
			for e, err := range b.Events(t.Context(), "M1", 0, math.MaxInt) {
				if n++; err != nil || int(e.Sequence) != n {
					t.Fatalf("event %d is %d: %v", n, e.Sequence, err)
				}
			}
			if n != 3 {
				t.Errorf("%d events are left, want 3", n)
			}
		})
	}
}
