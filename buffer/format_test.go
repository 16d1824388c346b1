package buffer

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// TestALostFormatRecordIsBroughtBack: without the record that says what wrote the
// store it is refused with a remedy that leads out: the check names it, the repair
// writes it again, nothing else is lost, and the next opening has a new epoch.
func TestALostFormatRecordIsBroughtBack(t *testing.T) {
	for name, c := range map[string]struct {
		do func(*badger.Txn) error
		// unmarked takes the high-water mark away too: then nobody knows which store
		// it was.
		unmarked bool
	}{
		"gone":                  {func(txn *badger.Txn) error { return txn.Delete(formatKey) }, false},
		"damaged":               {flip(formatKey), false},
		"gone with the mark":    {func(txn *badger.Txn) error { return txn.Delete(formatKey) }, true},
		"damaged with the mark": {flip(formatKey), true},
	} {
		t.Run(name, func(t *testing.T) {
			path := quickDir(t)
			for n := range 3 { // several openings leave several versions of it
				b := open(t, testOptions(path))
				queue(t, b, "mes", all)
				commit(t, b, "M1", count(2*n), count(2*n+1))
				mustClose(t, b)
			}
			damage(t, path, c.do)
			if c.unmarked {
				for _, file := range markFiles {
					if err := os.Remove(filepath.Join(path, file)); err != nil {
						t.Fatal(err)
					}
				}
			}
			o := testOptions(path)
			b, err := Open(context.Background(), o, zap.NewNop())
			if err == nil {
				mustClose(t, b)
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), "--repair") {
				t.Errorf("the refusal does not name the way out: %v", err)
			}
			check, err := Check(t.Context(), o)
			if err != nil || check.Problems == 0 {
				t.Fatalf("the check finds nothing: %+v, %v", check, err)
			}
			r, err := Repair(t.Context(), o, func() error { return nil }, zap.NewNop())
			if err != nil || r.Problems == 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			again, err := Check(t.Context(), o)
			if err != nil || again.Problems > 0 {
				t.Errorf("after the repair: %+v, %v", again, err)
			}
			b = open(t, o)
			if given := commit(t, b, "M1", count(6)); !c.unmarked && given != 7 {
				t.Errorf("the next number is %d, want 7", given)
			}
			epochs := map[plant.Epoch]int{}
			events := 0
			for e, err := range b.Events(t.Context(), "M1", 0, 100) {
				if err != nil {
					t.Fatal(err)
				}
				epochs[e.Epoch]++
				if e.Kind == plant.KindCounter {
					events++
				} else if !c.unmarked {
					t.Errorf("%s is told: %s", e.Kind, e.Data)
				}
			}
			if events != 7 || len(epochs) != 4 {
				t.Errorf("%d events of %d epochs, want 7 of 4", events, len(epochs))
			}
			if s := b.Stats(); s.Lost != 0 {
				t.Errorf("%d records count as lost", s.Lost)
			}
			mustClose(t, b)
			mustClose(t, open(t, o))
		})
	}
}

// TestAForeignStoreIsNotCalledDamaged: what another program keeps there is no store
// of ours, and no repair is named.
func TestAForeignStoreIsNotCalledDamaged(t *testing.T) {
	path := quickDir(t)
	if err := os.MkdirAll(filepath.Join(path, storeFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	damage(t, path, func(txn *badger.Txn) error { return txn.Set([]byte("somebody"), []byte("else")) })
	b, err := Open(context.Background(), testOptions(path), zap.NewNop())
	if err == nil {
		mustClose(t, b)
		t.Fatal("it was opened")
	}
	if !strings.Contains(err.Error(), "another buffer path") || strings.Contains(err.Error(), "--repair") {
		t.Error(err)
	}
}

// TestAManifestThatListsNothingIsNamed: cut within its first entry it is whole for
// Badger. The check finds the tables that it does not name, with or without the words
// of a crash.
func TestAManifestThatListsNothingIsNamed(t *testing.T) {
	o := testOptions(quickDir(t))
	b := open(t, o)
	commit(t, b, "M1", count(1), count(2))
	mustClose(t, b)
	for _, crashed := range []bool{false, true} {
		for _, size := range []int{8, 13, 20} {
			o.Path = clone(t, o.Path, true)
			spoil(t, filepath.Join(o.Path, storeFolder, badger.ManifestFilename), func(data []byte) []byte { return data[:min(size, len(data))] })
			check, err := Check(t.Context(), o)
			if err != nil || check.Problems != 1 || check.Events != 2 || !slices.ContainsFunc(check.Files, func(c FileCheck) bool { return c.Name == badger.ManifestFilename && c.Problem != "" }) {
				t.Errorf("cut to %d bytes: %+v, %v", size, check, err)
			}
			if crashed {
				if err := os.WriteFile(filepath.Join(o.Path, crashFile), append([]byte("panic: x\n"), badgerFrame...), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			refused(t, o.Path, badger.ManifestFilename)
			if _, err := Repair(t.Context(), o, func() error { return nil }, zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			if crashed {
				if err := os.Remove(filepath.Join(o.Path, crashFile)); err != nil {
					t.Fatal(err)
				}
			}
			b := open(t, o)
			if n, _ := readable(t, b, "M1"); n != 2 || b.Stats().Lost != 0 {
				t.Errorf("cut to %d bytes: %d events, %d lost", size, n, b.Stats().Lost)
			}
			mustClose(t, b)
		}
	}
}
