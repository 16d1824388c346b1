package buffer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
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

// errRegistry says that the key registry of a plain store is damaged, which holds
// nothing that such a store needs.
var errRegistry = errors.New("the file " + badger.KeyRegistryFileName + " is damaged")

// fits refuses a store in folder that is plain where a key is given, encrypted
// where none is, or encrypted with another key. Badger itself would go on writing
// to a plain store and encrypt only what is new. The error is errRegistry where
// only the registry of a plain store is in the way.
func (k Key) fits(folder string) error {
	fail := func(text string) error { return fmt.Errorf("buffer: open %s: %w: %s", folder, ErrKey, text) }
	head, err := readStart(filepath.Join(folder, badger.KeyRegistryFileName), registryTextAt+len(registryText))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(folder, badger.ManifestFilename)); err != nil || len(k) == 0 {
			return nil // a new store
		}
		return fail("its file " + badger.KeyRegistryFileName + " is missing, which holds the keys of its tables: put it back from a copy; without it an encrypted store cannot be read by anybody")
	}
	if err != nil {
		return fmt.Errorf("buffer: open %s: %w", folder, err)
	}
	short := len(head) < registryTextAt+len(registryText)
	plain := !short && string(head[registryTextAt:]) == registryText
	if plain && len(k) == 0 {
		return nil
	}
	if !plain {
		// The other files say whether it is encrypted: the registry itself may be
		// damaged.
		encrypted, clearText := whose(folder)
		plain = clearText > encrypted
		if plain && len(k) == 0 {
			return fmt.Errorf("buffer: open %s: %w", folder, errRegistry)
		}
	}
	switch {
	case plain:
		return fail("it is not encrypted, and the config gives a key (buffer: key:): nothing is encrypted by the way. Make a backup (sluice backup), move the folder aside, restore the backup with the key in the config, and destroy the old folder")
	case len(k) == 0:
		return fail("it is encrypted, and the config gives no key: write buffer: {key: file:PATH} or env:NAME")
	case short:
		return fail("its file " + badger.KeyRegistryFileName + " is cut short, which holds the keys of its tables: put it back from a copy")
	}
	ring, err := k.ring(folder)
	if err != nil {
		return fmt.Errorf("buffer: open %s: %w", folder, err)
	}
	if ring.opened {
		return nil
	}
	if ring.keys.fitsAny(folder) {
		return fail("the key is right, but the head of its file " + badger.KeyRegistryFileName + " is damaged: put it back from a copy, or " + remedyRepair)
	}
	return fail("it was encrypted with another key: give the key that it was made with (buffer: key:); without that key nobody can read it")
}

// fitKey refuses a key that does not fit. Where only the key registry of a plain
// store is damaged it is set aside, and Badger makes it anew.
// That of an encrypted store is mended where its copy or its own entries have every
// key that the store needs.
func (o *Options) fitKey(folder string, log *zap.Logger) error {
	if err := o.mendRegistry(folder, log); err != nil {
		return err
	}
	err := o.Key.fits(folder)
	if !errors.Is(err, errRegistry) {
		return err
	}
	name := filepath.Join(folder, badger.KeyRegistryFileName)
	aside := filepath.Join(o.Path, quarantineFolder, badger.KeyRegistryFileName+"-"+o.now().UTC().Format(asideStamp))
	if err = os.MkdirAll(filepath.Dir(aside), 0o700); err == nil {
		err = os.Rename(name, aside)
	}
	if err != nil {
		return fmt.Errorf("buffer: open %s: %w, and cannot be set aside: %w: move it out of the folder; the store is not encrypted and needs none", name, errRegistry, err)
	}
	log.Warn("the store's key registry was damaged and is made anew; the store is not encrypted, so nothing is lost by that", zap.String("as_it_was", aside))
	return nil
}

// readLogs looks through the logs before Badger does.
func (o *Options) readLogs(folder string, log *zap.Logger) ([]tornLog, error) {
	var keys dataKeys
	if len(o.Key) > 0 {
		ring, err := o.Key.ring(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("buffer: open %s: %w", folder, err)
		}
		keys = ring.keys
	}
	return readLogs(folder, keys, log)
}

// readStart reads the first n bytes of a file, or what there is.
func readStart(name string, n int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	head := make([]byte, n)
	got, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:got], errors.Join(err, f.Close())
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
