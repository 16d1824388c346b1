package buffer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sluice-edge/sluice/plant"
)

// secretWord is in a machine's state and events; no file of an encrypted store
// may show it.
const secretWord = "CANARY-RECIPE-4711"

func holds(t *testing.T, folder, word string) (files []string) {
	t.Helper()
	if err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(word)) {
			files = append(files, filepath.Base(path))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

func TestEncryptedAtRest(t *testing.T) {
	for _, size := range []int{0, 16, 24, 32} {
		o := testOptions(quickDir(t))
		o.Key = bytes.Repeat([]byte{7}, size)
		b := open(t, o)
		// Enough for tables, and a rest in the log.
		for i := range 300 {
			e := count(i)
			e.Data = fmt.Appendf(nil, `{"machine":"M1","note":%q,"pad":%q}`, secretWord, strings.Repeat("x", 20_000))
			if _, err := b.Commit(t.Context(), "M1", plant.Batch{State: []byte(secretWord), Events: []plant.Event{e}}); err != nil {
				t.Fatal(err)
			}
		}
		// Killed, and closed: both must be unreadable.
		killed := crash(t, b)
		for _, folder := range []string{killed, o.Path} {
			if found := holds(t, folder, secretWord); (len(found) > 0) != (size == 0) {
				t.Errorf("key of %d bytes: the word stands in %v", size, found)
			}
		}
		o.Path = killed
		b = open(t, o)
		n := 0
		for e, err := range b.Events(t.Context(), "M1", 0, 1000) {
			if err != nil || !bytes.Contains(e.Data, []byte(secretWord)) {
				t.Fatal(err)
			}
			n++
		}
		if n != 300 || b.Stats().Lost != 0 {
			t.Errorf("key of %d bytes: %d events, %d lost", size, n, b.Stats().Lost)
		}
		mustClose(t, b)
	}
}

// A key and a store that do not belong together are told apart, in both
// directions, and nothing is changed.
func TestKeysThatDoNotFit(t *testing.T) {
	key, other := Key(bytes.Repeat([]byte{1}, 32)), Key(bytes.Repeat([]byte{2}, 32))
	made := func(k Key) string {
		o := testOptions(quickDir(t))
		o.Key = k
		b := open(t, o)
		commit(t, b, "M1", count(1))
		mustClose(t, b)
		return o.Path
	}
	remove := func(path string) string {
		if err := errors.Join(os.Remove(filepath.Join(path, storeFolder, badger.KeyRegistryFileName)), os.Remove(filepath.Join(path, registryCopy))); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, path string
		key        Key
		want       string
	}{
		{"plain with a key", made(nil), key, "it is not encrypted"},
		{"encrypted without a key", made(key), nil, "gives no key"},
		{"another key", made(key), other, "another key"},
		{"a shorter key", made(key), key[:16], "another key"},
		{"no registry", remove(made(key)), key, "put it back"},
	} {
		before := listing(t, filepath.Join(c.path, storeFolder))
		o := testOptions(c.path)
		o.Key = c.key
		b, err := Open(t.Context(), o, zap.NewNop())
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			mustClose(t, b)
		}
		if after := listing(t, filepath.Join(c.path, storeFolder)); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: the store was changed: %v, %v", c.name, before, after)
		}
	}
	o := testOptions(quickDir(t))
	o.Key = key[:17]
	if err := o.Validate(); err == nil || strings.Contains(err.Error(), string(key[:17])) {
		t.Errorf("17 bytes: %v", err)
	}
}

// The key registry of a plain store holds nothing that it needs: damaged, it is set
// aside and made anew, and nothing is missing.
func TestADamagedRegistryOfAPlainStoreIsMadeAnew(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"cut short": func(b []byte) []byte { return b[:5] },
		"emptied":   func([]byte) []byte { return nil },
		"a flip":    func(b []byte) []byte { b[20] ^= 4; return b },
	} {
		b := open(t, testOptions(quickDir(t)))
		commit(t, b, "M1", count(1), count(2))
		path := crash(t, b)
		file := filepath.Join(path, storeFolder, badger.KeyRegistryFileName)
		change(t, file, spoil)
		was, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		core, logged := observer.New(zap.WarnLevel)
		b, err = Open(t.Context(), testOptions(path), zap.New(core))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if events, _ := readable(t, b, "M1"); events != 2 || b.Stats().Lost != 0 {
			t.Errorf("%s: %d events, %d lost", name, events, b.Stats().Lost)
		}
		aside, err := filepath.Glob(filepath.Join(path, quarantineFolder, badger.KeyRegistryFileName+"-*"))
		if err != nil || len(aside) != 1 {
			t.Fatalf("%s: set aside are %v, %v", name, aside, err)
		}
		if data, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(data, was) {
			t.Errorf("%s: set aside is %q, %v", name, data, err)
		}
		if logged.FilterMessageSnippet("key registry").Len() != 1 {
			t.Errorf("%s: nobody says so: %v", name, logged.All())
		}
	}
}

// A key that is not the store's own is told as such by the check and the repair
// too, which change nothing then.
func TestCheckWithAKeyThatDoesNotFit(t *testing.T) {
	key := Key(bytes.Repeat([]byte{1}, 32))
	for _, c := range []struct {
		made, given Key
		want        string
	}{
		{key, bytes.Repeat([]byte{2}, 32), "another key"},
		{key, key[:16], "another key"},
		{key, nil, "gives no key"},
		{nil, key, "it is not encrypted"},
	} {
		path := tabled(t, c.made)
		before := listing(t, path)
		_, checkErr := Check(t.Context(), keyed(path, c.given))
		_, repairErr := Repair(t.Context(), keyed(path, c.given), func() error { t.Error("begun"); return nil }, zap.NewNop())
		for _, err := range []error{checkErr, repairErr} {
			if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("key %x: %v", []byte(c.given), err)
			}
		}
		if after := listing(t, path); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("the folder was changed: %v, %v", before, after)
		}
		if _, err := Check(t.Context(), keyed(path, c.made)); err != nil {
			t.Errorf("with its own key: %v", err)
		}
	}
}

// What stands behind a damaged place in the log of an encrypted store is seen, as
// it is in a plain one.
func TestATornLogOfAnEncryptedStore(t *testing.T) {
	key := Key(bytes.Repeat([]byte{1}, 32))
	b := open(t, keyed(quickDir(t), key))
	for i := range 50 {
		commit(t, b, "M1", count(i))
	}
	path := crash(t, b)
	name := filesOf(t, path, "*.mem")[0]
	change(t, name, func(b []byte) []byte { b[len(trimZeros(b))/2] ^= 4; return b })
	torn, err := new(Options{Path: path, Key: key}).readLogs(filepath.Join(path, storeFolder), zap.NewNop())
	if err != nil || len(torn) != 1 || torn[0].ever["M1"] != 50 || torn[0].commits < 20 {
		t.Errorf("%+v, %v", torn, err)
	}
	check, err := Check(t.Context(), keyed(path, key))
	if err != nil || check.Problems != 1 || check.Events != 49 {
		t.Errorf("%+v, %v", check, err)
	}
}

// A plain backup becomes an encrypted store: the way that the refusal names.
func TestRestoreEncrypts(t *testing.T) {
	_, data, _ := backedUp(t)
	o := testOptions(filepath.Join(t.TempDir(), "new"))
	o.Key = bytes.Repeat([]byte{9}, 32)
	if _, err := restore(t, o, data, false); err != nil {
		t.Fatal(err)
	}
	b := open(t, o)
	if len(dead(t, b, "mes")) != 3 {
		t.Error("the dead letters are not there")
	}
	mustClose(t, b)
	o.Key = nil
	if _, err := Open(t.Context(), o, zap.NewNop()); !errors.Is(err, ErrKey) {
		t.Errorf("the restored store is not encrypted: %v", err)
	}
}

func TestKeysDoNotShowThemselves(t *testing.T) {
	o := testOptions("x")
	o.Key = Key("0123456789abcdef")
	text, err := json.Marshal(struct{ Key Key }{o.Key})
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(o.Key), fmt.Sprintf("%v %+v %#v %s", o.Key, o.Key, o.Key, o.Key), string(text), fmt.Sprintf("%+v", struct{ K Key }{o.Key})} {
		if strings.Contains(shown, "0123") || strings.Contains(shown, "48 49") || strings.Contains(shown, "MDEy") {
			t.Errorf("the key is shown: %s", shown)
		}
	}
}
