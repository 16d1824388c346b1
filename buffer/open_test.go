package buffer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/internal/nobody"
)

func TestEmptyLogFileIsRemoved(t *testing.T) {
	for _, name := range []string{"00999.mem", "000999.vlog"} {
		t.Run(name, func(t *testing.T) {
			path := quickDir(t)
			b := open(t, testOptions(path))
			commit(t, b, "M1", count(1))
			mustClose(t, b)
			if err := os.WriteFile(filepath.Join(path, storeFolder, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			core, logged := observer.New(zap.WarnLevel)
			b, err := Open(context.Background(), testOptions(path), zap.New(core))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if logged.FilterField(zap.String("file", name)).Len() != 1 {
				t.Error("the removal is not in the log")
			}
			if first := commit(t, b, "M1", count(2)); first != 2 {
				t.Errorf("the sequence goes on at %d, want 2", first)
			}
		})
	}
}

// TestKilledWhileTheFirstValueLogWasMade: Badger makes the file and then its
// size, and takes one without a size for damaged.
func TestKilledWhileTheFirstValueLogWasMade(t *testing.T) {
	path := quickDir(t)
	b := open(t, testOptions(path))
	mustClose(t, b)
	file := filepath.Join(path, storeFolder, "000001.vlog")
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	b = open(t, testOptions(path))
	defer b.Close()
	if first := commit(t, b, "M1", count(1)); first != 1 {
		t.Errorf("the sequence begins at %d, want 1", first)
	}
}

func TestOpenRefusals(t *testing.T) {
	fresh := func(t *testing.T) string {
		path := quickDir(t)
		b := open(t, testOptions(path))
		commit(t, b, "M1", count(1))
		mustClose(t, b)
		return path
	}
	for name, tt := range map[string]struct {
		make func(t *testing.T) string
		want string
	}{
		"a file": {func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}, "it is a file: give a folder"},
		"a second process": {func(t *testing.T) string {
			path := quickDir(t)
			open(t, testOptions(path))
			return path
		}, "another process has this store open: stop the other gateway"},
		"no right to write": {func(t *testing.T) string {
			path := quickDir(t)
			if err := os.Chmod(path, 0o500); err != nil {
				t.Fatal(err)
			}
			nobody.Become(t)
			return path
		}, "give the gateway's user"},
		"no table of contents": {func(t *testing.T) string {
			path := fresh(t)
			if err := os.Remove(filepath.Join(path, storeFolder, badger.ManifestFilename)); err != nil {
				t.Fatal(err)
			}
			return path
		}, "MANIFEST is missing while"},
		"a table is gone": {func(t *testing.T) string {
			path := fresh(t)
			tables, err := filepath.Glob(filepath.Join(path, storeFolder, "*.sst"))
			if err != nil || len(tables) == 0 {
				t.Fatalf("no table to remove: %v", err)
			}
			if err := os.Remove(tables[0]); err != nil {
				t.Fatal(err)
			}
			return path
		}, ".sst: the table is missing, or MANIFEST, which lists it, is cut short: put the file back"},
		"a newer format": {func(t *testing.T) string {
			path := fresh(t)
			damage(t, path, func(txn *badger.Txn) error {
				v := appendUvarints(appendEnvelope(nil), formatMajor+1, 0)
				seal(v, 0, formatKey, envelopeSize)
				return txn.Set(formatKey, v)
			})
			return path
		}, "install the newer gateway again"},
		"somebody else's store": {func(t *testing.T) string {
			path := quickDir(t)
			if err := os.MkdirAll(filepath.Join(path, storeFolder), 0o700); err != nil {
				t.Fatal(err)
			}
			damage(t, path, func(txn *badger.Txn) error { return txn.Set([]byte("key"), []byte("value")) })
			return path
		}, "was not made by this gateway"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := Open(context.Background(), testOptions(tt.make(t)), zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)))
			if err == nil {
				_ = b.Close()
				t.Fatal("it opened")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("the error is %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestOptionsValidate(t *testing.T) {
	if err := testOptions("/x").Validate(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	for path, spoil := range map[string]func(*Options){
		"path":    func(o *Options) { o.Path = "" },
		"gateway": func(o *Options) { o.Gateway = "a/b" },
		"source":  func(o *Options) { o.Source = "acme" },
		"quota":   func(o *Options) { o.Quota = 1 },
		"keep":    func(o *Options) { o.Keep = -time.Second },
		"reserve": func(o *Options) { o.Reserve = 0 },
		"linger":  func(o *Options) { o.Linger = time.Hour },
	} {
		o := testOptions("/x")
		spoil(&o)
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
