package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
)

// Key encrypts a store at rest with AES-CTR: 16, 24 or 32 bytes, empty for no
// encryption. It never shows itself.
type Key []byte

// String returns "(key)", or nothing if there is none.
func (k Key) String() string {
	if len(k) == 0 {
		return ""
	}
	return "(key)"
}

// GoString returns what String does, so that %#v leaks nothing.
func (k Key) GoString() string { return k.String() }

// MarshalText returns what String does.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

func (k Key) valid() bool {
	switch len(k) {
	case 0, 16, 24, 32:
		return true
	}
	return false
}

// What Badger keeps of an encrypted store in memory: it reads no block and no
// index of one without these caches (it panics).
const (
	blockCache = 8 << 20
	indexCache = 8 << 20
)

// encrypted adds the key to Badger's options.
func (k Key) encrypted(o badger.Options) badger.Options {
	if len(k) == 0 {
		return o
	}
	return o.WithEncryptionKey(k).WithBlockCacheSize(blockCache).WithIndexCacheSize(indexCache)
}

// Where Badger's key registry says whether the store is encrypted: after 16
// bytes of an initialisation vector stands this text, in clear or not.
const registryText, registryTextAt = "Hello Badger", 16

// ErrKey says that the key and the store do not belong together.
var ErrKey = errors.New("the key does not fit the store")

// fits refuses a store in folder that is plain where a key is given, or
// encrypted where none is. Badger itself would go on writing to a plain store
// and encrypt only what is new.
func (k Key) fits(folder string) error {
	fail := func(text string) error { return fmt.Errorf("buffer: open %s: %w: %s", folder, ErrKey, text) }
	f, err := os.Open(filepath.Join(folder, badger.KeyRegistryFileName))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(folder, badger.ManifestFilename)); err != nil || len(k) == 0 {
			return nil // a new store
		}
		return fail("its file " + badger.KeyRegistryFileName + " is missing, which holds the keys of its tables: put it back from a copy; without it an encrypted store cannot be read by anybody")
	}
	if err != nil {
		return fmt.Errorf("buffer: open %s: %w", folder, err)
	}
	head := make([]byte, registryTextAt+len(registryText))
	_, err = io.ReadFull(f, head)
	if err = errors.Join(err, f.Close()); err != nil {
		if len(k) == 0 {
			return nil // Badger says what is wrong with the file
		}
		return fail("its file " + badger.KeyRegistryFileName + " is cut short, which holds the keys of its tables: put it back from a copy")
	}
	switch plain := bytes.Equal(head[registryTextAt:], []byte(registryText)); {
	case plain && len(k) > 0:
		return fail("it is not encrypted, and the config gives a key (buffer: key:): nothing is encrypted by the way. Make a backup (sluice backup), move the folder aside, restore the backup with the key in the config, and destroy the old folder")
	case !plain && len(k) == 0:
		return fail("it is encrypted, and the config gives no key: write buffer: {key: file:PATH} or env:NAME. If it never was encrypted, the file " + badger.KeyRegistryFileName + " is damaged: keep a copy of the whole folder, then remove this one file")
	}
	return nil
}

// explain adds what a wrong key means to an error of Badger's opening.
func (k Key) explain(folder string, err error) error {
	if len(k) == 0 {
		return nil
	}
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) {
		return fmt.Errorf("buffer: open %s: %w: it was encrypted with another key: give the key that it was made with (buffer: key:); without that key nobody can read it", folder, ErrKey)
	}
	if filepath.Base(culprit(folder, err)) == badger.KeyRegistryFileName {
		return fmt.Errorf("buffer: open %s: %w: its file %s is damaged, which holds the keys of its tables: put it back from a copy of the folder, never remove it: %w", folder, ErrKey, badger.KeyRegistryFileName, oneLine{err})
	}
	return nil
}
