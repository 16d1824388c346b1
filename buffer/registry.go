package buffer

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/durable"
)

// The key registry of an encrypted store (badger/key_registry.go): 16 bytes of an
// initialisation vector, an encrypted text, then for each data key length and CRC-32C,
// 4 bytes each, and a message with the encrypted key. What it has lost nobody can read
// any more. So a copy of it is kept outside of Badger's folder, made anew at each
// change, and whatever either of the two still has is put together.

// registryCopy is the copy, beside the store. What it holds is encrypted as in the
// registry itself.
const registryCopy = badger.KeyRegistryFileName + ".copy"

const (
	registryHead = registryTextAt + len(registryText)
	// registryFrame stands before each message.
	registryFrame = 8
)

// registryEntry is one data key as a registry has it.
type registryEntry struct {
	id      uint64
	message []byte
	key     cipher.Block
	// whole is set if its checksum is right.
	whole bool
}

// registry is what one file has.
type registry struct {
	// opened says that the key has opened the registry's text.
	opened  bool
	entries []registryEntry
	// problem is what is wrong with it, empty for nothing.
	problem string
}

// parse reads a registry. An entry that is damaged hides none of the others.
func (k Key) parse(data []byte) (r registry, err error) {
	block, err := aes.NewCipher(k)
	if err != nil {
		return r, err
	}
	if len(data) < registryHead {
		r.problem = "it is cut short"
		return r, nil
	}
	open := func(iv, sealed []byte) []byte {
		clearText := make([]byte, len(sealed))
		cipher.NewCTR(block, iv).XORKeyStream(clearText, sealed)
		return clearText
	}
	r.opened = string(open(data[:registryTextAt], data[registryTextAt:registryHead])) == registryText
	for rest := data[registryHead:]; len(rest) > 0; {
		if len(rest) < registryFrame || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-registryFrame) {
			r.problem = "its last entry is cut short or damaged"
			break
		}
		size := int(binary.BigEndian.Uint32(rest))
		e := registryEntry{message: rest[registryFrame : registryFrame+size]}
		var sealed, iv []byte
		var ok bool
		if e.id, sealed, iv, ok = dataKeyOf(e.message); ok {
			e.key, err = aes.NewCipher(open(iv, sealed))
			ok = err == nil
		}
		e.whole = ok && crc32.Checksum(e.message, castagnoli) == binary.BigEndian.Uint32(rest[4:])
		if !e.whole {
			r.problem = "an entry is damaged"
		}
		if ok {
			r.entries = append(r.entries, e)
		}
		rest = rest[registryFrame+size:]
	}
	return r, nil
}

// keyRing is what the key registry and its copy hold together.
type keyRing struct {
	keys dataKeys
	// opened says that the key has opened the registry's text.
	opened bool
	// problem is what is wrong with the registry itself; lost are the keys that the
	// files of the store name and that nobody has any more.
	problem string
	lost    []uint64
	// image is the registry as it must be where it is not so, and whole otherwise.
	image []byte
}

// ring reads the key registry of the store in folder, and its copy beside it. An
// entry with a wrong checksum counts where its key opens a file. fs.ErrNotExist says
// that neither is there.
func (k Key) ring(folder string) (r keyRing, err error) {
	r.keys = dataKeys{}
	data, err := os.ReadFile(filepath.Join(folder, badger.KeyRegistryFileName))
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return r, err
	}
	own, parseErr := k.parse(data)
	if parseErr != nil {
		return r, parseErr
	}
	if missing {
		own.problem = "it is missing"
	}
	saved, kept := k.copyOf(folder, &own)
	if missing && !kept {
		return r, err
	}
	r.opened, r.problem = own.opened, own.problem
	entries := map[uint64]registryEntry{}
	for _, e := range slices.Concat(own.entries, saved.entries) {
		if _, known := entries[e.id]; e.whole && !known {
			entries[e.id], r.keys[e.id] = e, e.key
		}
	}
	for _, e := range slices.Concat(own.entries, saved.entries) {
		if _, known := entries[e.id]; !e.whole && !known && e.holds(folder) {
			entries[e.id], r.keys[e.id] = e, e.key
		}
	}
	missed := false
	for _, id := range namedKeys(folder) {
		if r.keys[id] == nil {
			r.lost = append(r.lost, id)
		}
		missed = missed || !slices.ContainsFunc(own.entries, func(e registryEntry) bool { return e.whole && e.id == id })
	}
	proved := r.opened || kept || r.keys.fitsAny(folder)
	if len(r.lost) == 0 && proved && (missed || own.problem != "" || !own.opened) {
		r.image, err = k.image(entries)
	} else {
		err = nil
	}
	return r, err
}

// copyOf reads the copy of a store's registry. One that the key does not open, or
// that has another key under a number of own, is of another store.
func (k Key) copyOf(folder string, own *registry) (saved registry, ok bool) {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(folder), registryCopy))
	if err != nil {
		return registry{}, false // none was made yet, or nobody can read it
	}
	if saved, err = k.parse(data); err != nil || !saved.opened {
		return registry{}, false
	}
	for _, e := range saved.entries {
		other := func(o registryEntry) bool {
			return o.id == e.id && o.whole && e.whole && !bytes.Equal(o.message, e.message)
		}
		if slices.ContainsFunc(own.entries, other) {
			return registry{}, false
		}
	}
	return saved, true
}

// image is a registry of those entries.
func (k Key) image(entries map[uint64]registryEntry) ([]byte, error) {
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	var head [registryHead]byte
	if _, err := rand.Read(head[:registryTextAt]); err != nil {
		return nil, err
	}
	cipher.NewCTR(block, head[:registryTextAt]).XORKeyStream(head[registryTextAt:], []byte(registryText))
	data := head[:]
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		message := entries[id].message
		data = binary.BigEndian.AppendUint32(data, uint32(len(message)))
		data = binary.BigEndian.AppendUint32(data, crc32.Checksum(message, castagnoli))
		data = append(data, message...)
	}
	return data, nil
}

// mendRegistry makes the registry of an encrypted store whole where it is not, if all
// keys that the store needs are known. As it was it is kept in the quarantine.
func (o *Options) mendRegistry(folder string, log *zap.Logger) error {
	if len(o.Key) == 0 {
		return nil
	}
	r, err := o.Key.ring(folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && r.image == nil {
		return nil // a new store, a whole one, or one that fits refuses
	}
	name := filepath.Join(folder, badger.KeyRegistryFileName)
	aside := filepath.Join(o.Path, quarantineFolder, badger.KeyRegistryFileName+"-"+o.now().UTC().Format(asideStamp))
	var was []byte
	if err == nil {
		was, err = os.ReadFile(name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		aside, err = "", nil
	case err == nil:
		if err = os.MkdirAll(filepath.Dir(aside), 0o700); err == nil {
			err = durable.Replace(aside, was, 0o600)
		}
	}
	if err == nil {
		err = durable.Replace(name, r.image, 0o600)
	}
	if err != nil {
		return fmt.Errorf("buffer: open %s: its keys are known, but it cannot be mended: %w: look at the disk, and free some space", name, err)
	}
	log.Error("the store's key registry was damaged; it was mended, and nothing is lost by that: look at the disk", zap.String("file", name),
		zap.String("problem", cmp.Or(r.problem, "it had lost a key")), zap.Int("keys", len(r.keys)), zap.String("as_it_was", aside))
	return nil
}

// saveRegistry makes the copy of the registry anew where it has changed, and only of
// one that is whole. It is for Open and the keeper. was is what it returned before.
func (o *Options) saveRegistry(folder string, was fs.FileInfo) (now fs.FileInfo, err error) {
	if len(o.Key) == 0 {
		return nil, nil
	}
	name := filepath.Join(folder, badger.KeyRegistryFileName)
	now, err = os.Stat(name)
	if err != nil || was != nil && os.SameFile(was, now) && was.Size() == now.Size() && was.ModTime().Equal(now.ModTime()) {
		return now, err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return was, err
	}
	r, err := o.Key.parse(data)
	if err != nil || !r.opened || r.problem != "" {
		return was, err // it is just being written, or damaged: the copy is the better one
	}
	copied := filepath.Join(o.Path, registryCopy)
	if old, err := os.ReadFile(copied); err == nil {
		if bytes.Equal(old, data) {
			return now, nil
		}
		if _, same := o.Key.copyOf(folder, &r); !same {
			// It is of the store that was here before, or damaged.
			aside := filepath.Join(o.Path, quarantineFolder, registryCopy+"-"+o.now().UTC().Format(asideStamp))
			if err := errors.Join(os.MkdirAll(filepath.Dir(aside), 0o700), os.Rename(copied, aside)); err != nil {
				return was, fmt.Errorf("set the copy of another key registry aside: %w", err)
			}
		}
	}
	if err := durable.Replace(copied, data, 0o600); err != nil {
		return was, fmt.Errorf("copy the store's key registry to %s: %w", copied, err)
	}
	return now, nil
}

// holds reports whether an entry with a wrong checksum has the key that its number
// means: it opens one of the files that name it, or there is nothing yet in them.
func (e *registryEntry) holds(folder string) bool {
	files, tried := map[string]bool{}, false
	manifest, err := readManifest(folder)
	if err != nil {
		return (dataKeys{e.id: e.key}).fitsAny(folder)
	}
	for id, t := range manifest.Tables {
		if t.KeyID == e.id {
			files[tablePath(folder, id)] = true
		}
	}
	logs, _ := filepath.Glob(filepath.Join(folder, "*"+logExt)) // its only error is of the pattern
	for _, name := range append(logs, slices.Sorted(maps.Keys(files))...) {
		data, err := os.ReadFile(name)
		if !files[name] {
			data = trimZeros(data)
			if len(data) <= logHeaderSize || binary.BigEndian.Uint64(data) != e.id {
				continue
			}
		}
		if err == nil {
			if _, ok := (dataKeys{e.id: e.key}).plainFile(name, data, e.id); ok {
				return true
			}
		}
		tried = true
	}
	return !tried
}

// namedKeys are the keys that the tables and logs of a store name, but 0.
func namedKeys(folder string) (ids []uint64) {
	eachNamedKey(folder, func(id uint64) {
		if id != 0 && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	})
	return ids
}

// eachNamedKey calls do with the key that each table or log is said to be encrypted
// with, 0 for none: a log's head and the manifest name it. Logs in which nothing
// stands yet count too.
func eachNamedKey(folder string, do func(id uint64)) {
	if manifest, err := readManifest(folder); err == nil {
		for _, t := range manifest.Tables {
			do(t.KeyID)
		}
	}
	for _, ext := range []string{logExt, valueLogExt} {
		names, _ := filepath.Glob(filepath.Join(folder, "*"+ext)) // its only error is of the pattern
		for _, name := range names {
			if head, err := readStart(name, logHeaderSize); err == nil && len(head) == logHeaderSize {
				do(binary.BigEndian.Uint64(head))
			}
		}
	}
}

// dataKeyOf reads the message DataKey of Badger's pb.
func dataKeyOf(message []byte) (id uint64, sealed, iv []byte, ok bool) {
	const fieldID, fieldData, fieldIV, fieldCreated = 1 << 3, 2<<3 | 2, 3<<3 | 2, 4 << 3
	f := fields{rest: message}
	for len(f.rest) > 0 && !f.bad {
		switch f.uvarint() {
		case fieldID:
			id = f.uvarint()
		case fieldData:
			sealed = f.bytes()
		case fieldIV:
			iv = f.bytes()
		case fieldCreated:
			f.uvarint()
		default:
			return 0, nil, nil, false
		}
	}
	return id, sealed, iv, !f.bad && len(iv) == aes.BlockSize
}

// whose counts the logs and tables of a store by whether they say that they are
// encrypted.
func whose(folder string) (encrypted, plain int) {
	eachNamedKey(folder, func(id uint64) {
		if id == 0 {
			plain++
		} else {
			encrypted++
		}
	})
	return encrypted, plain
}

// fitsAny reports whether one of the keys opens any table or log in folder.
func (k dataKeys) fitsAny(folder string) bool {
	for _, ext := range []string{logExt, tableExt} {
		names, err := filepath.Glob(filepath.Join(folder, "*"+ext))
		if err != nil {
			return false
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil || len(trimZeros(data)) <= logHeaderSize {
				continue
			}
			if _, ok := k.plainFile(name, data, 0); ok {
				return true
			}
		}
	}
	return false
}
