package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// rotated is an encrypted store whose files were written under several keys, as a
// kill leaves it.
func rotated(t *testing.T, key Key) string {
	t.Helper()
	o := keyed(quickDir(t), key)
	b := open(t, o)
	for i := range 50 {
		commit(t, b, "M1", count(i))
	}
	mustClose(t, b)
	// As if ten days were over.
	with := key.encrypted(badgerOptions(filepath.Join(o.Path, storeFolder), zap.NewNop())).WithEncryptionKeyRotationDuration(time.Nanosecond)
	db, err := badger.Open(with)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set(appendClass(nil, classFiller), nil) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, o)
	for i := range 50 {
		commit(t, b, "M1", count(50+i))
	}
	path := killedAtRest(t, b)
	data, err := os.ReadFile(filepath.Join(o.Path, registryCopy))
	if err == nil {
		err = os.WriteFile(filepath.Join(path, registryCopy), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := key.parse(data); err != nil || len(r.entries) < 2 || r.problem != "" {
		t.Fatalf("the copy has %d keys, %q, %v", len(r.entries), r.problem, err)
	}
	return path
}

// frames are where the entries of a registry begin.
func frames(data []byte) (at []int) {
	for i := registryHead; i < len(data); i += registryFrame + int(binary.BigEndian.Uint32(data[i:])) {
		at = append(at, i)
	}
	return at
}

// TestADamagedRegistryIsMended: whatever of the key registry is damaged, its copy or
// its own entries mend it at the start, as long as one of them has each key, and a
// repair reads everything too.
func TestADamagedRegistryIsMended(t *testing.T) {
	key := Key(bytes.Repeat([]byte{5}, 32))
	sound := rotated(t, key)
	for name, c := range map[string]struct {
		spoil func([]byte) []byte // nil removes it
		// copied is set where the copy is there; refused where nobody has a key.
		copied, refused bool
	}{
		"a checksum, no copy": {func(b []byte) []byte { b[frames(b)[0]+5] ^= 1; return b }, false, false},
		"all checksums, no copy": {func(b []byte) []byte {
			for _, at := range frames(b) {
				b[at+5] ^= 1
			}
			return b
		}, false, false},
		"the head, no copy":         {func(b []byte) []byte { b[20] ^= 4; return b }, false, false},
		"a torn new entry, no copy": {func(b []byte) []byte { return append(b, 0, 0, 0, 70, 1, 2, 3) }, false, false},
		// Each, since nothing may be left by now that the first one is for.
		"each key, no copy": {func(b []byte) []byte {
			for _, at := range frames(b) {
				b[at+registryFrame+8] ^= 1
			}
			return b
		}, false, true},
		"a key":                      {func(b []byte) []byte { b[frames(b)[0]+registryFrame+8] ^= 1; return b }, true, false},
		"a length":                   {func(b []byte) []byte { b[frames(b)[0]+3] ^= 1; return b }, true, false},
		"zeros":                      {func(b []byte) []byte { clear(b); return b }, true, false},
		"empty":                      {func([]byte) []byte { return nil }, true, false},
		"gone":                       {nil, true, false},
		"its newest entry cut off":   {func(b []byte) []byte { at := frames(b); return b[:at[len(at)-1]] }, true, false},
		"cut within its first entry": {func(b []byte) []byte { return b[:frames(b)[0]+20] }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			spoilt := func() string {
				path := clone(t, sound, true)
				file := filepath.Join(path, storeFolder, badger.KeyRegistryFileName)
				if c.spoil == nil {
					if err := os.Remove(file); err != nil {
						t.Fatal(err)
					}
				} else {
					change(t, file, c.spoil)
				}
				if c.copied {
					data, err := os.ReadFile(filepath.Join(sound, registryCopy))
					if err == nil {
						err = os.WriteFile(filepath.Join(path, registryCopy), data, 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				return path
			}
			path := spoilt()
			core, logged := observer.New(zap.ErrorLevel)
			b, err := Open(t.Context(), keyed(path, key), zap.New(core))
			if c.refused {
				if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), badger.KeyRegistryFileName) {
					t.Errorf("nobody has a key, and: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := readable(t, b, "M1"); n != 100 || b.Stats().Lost != 0 {
				t.Errorf("%d events, %d lost", n, b.Stats().Lost)
			}
			mustClose(t, b)
			if logged.FilterMessageSnippet("key registry").Len() != 1 {
				t.Errorf("nobody says so: %v", logged.All())
			}
			for _, file := range []string{filepath.Join(path, storeFolder, badger.KeyRegistryFileName), filepath.Join(path, registryCopy)} {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if r, err := key.parse(data); err != nil || !r.opened || r.problem != "" || len(r.entries) < 2 {
					t.Errorf("%s is not whole: %+v, %v", file, r.problem, err)
				}
			}
			path = spoilt()
			check, err := Check(t.Context(), keyed(path, key))
			if err != nil || check.Problems != 1 || check.Events != 100 {
				t.Errorf("the check: %d problems, %d events, %v", check.Problems, check.Events, err)
			}
			if _, err := Repair(t.Context(), keyed(path, key), func() error { return nil }, zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			b = open(t, keyed(path, key))
			if n, _ := readable(t, b, "M1"); n != 100 || b.Stats().Lost != 0 {
				t.Errorf("repaired: %d events, %d lost", n, b.Stats().Lost)
			}
			mustClose(t, b)
		})
	}
}

// TestTheCopyOfTheRegistryFollowsIt: the keeper renews it, not from a damaged one, and
// that of another store is set aside.
func TestTheCopyOfTheRegistryFollowsIt(t *testing.T) {
	key := Key(bytes.Repeat([]byte{5}, 32))
	o := keyed(quickDir(t), key)
	o.housework = 10 * time.Millisecond
	b := open(t, o)
	copied, file := filepath.Join(o.Path, registryCopy), filepath.Join(o.Path, storeFolder, badger.KeyRegistryFileName)
	read := func(name string) string {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	first := read(file)
	if read(copied) != first {
		t.Fatal("the copy is another after the start")
	}
	other := read(filepath.Join(rotated(t, key), registryCopy))
	if err := os.WriteFile(file, []byte(first[:len(first)-1]), 0o600); err != nil {
		t.Fatal(err)
	}
	rounds := b.keeper.rounds.Load()
	eventually(t, "a round of the keeper", func() bool { return b.keeper.rounds.Load() > rounds+2 })
	if read(copied) != first {
		t.Error("a damaged one was copied")
	}
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the copy to follow", func() bool { return read(copied) == other })
	mustClose(t, b)
	aside, err := filepath.Glob(filepath.Join(o.Path, quarantineFolder, registryCopy+"-*"))
	if err != nil || len(aside) != 1 || read(aside[0]) != first {
		t.Errorf("set aside are %v, %v", aside, err)
	}
	plain := testOptions(quickDir(t))
	mustClose(t, open(t, plain))
	if _, err := os.Stat(filepath.Join(plain.Path, registryCopy)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a plain store has a copy: %v", err)
	}
}
