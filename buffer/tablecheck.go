package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
)

// checkTables looks at the end of each of Badger's tables before Badger does:
// where that is damaged, Badger panics in a goroutine of its own, which ends the
// process and names the file nowhere. Of an encrypted store only what is not
// encrypted is looked at. It returns the tables that the manifest does not list, which
// Badger removes.
func checkTables(folder string, encrypted bool) (left []string, err error) {
	manifest, err := readManifest(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a new store
	}
	if err != nil {
		return nil, err
	}
	for id := range manifest.Tables {
		name := tablePath(folder, id)
		err := checkTable(name)
		if err == nil && !encrypted {
			err = tryTable(name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("buffer: open %s: the table is missing, or %s, which lists it, is cut short: put the file back; if it is lost, %s", name, badger.ManifestFilename, remedyRepair)
		}
		if err != nil {
			return nil, fmt.Errorf("buffer: open %s: %w: %s", name, err, remedyRepair)
		}
	}
	return unlisted(folder, &manifest)
}

// checkTable checks what Badger trusts in a table (table/builder.go, Done): it
// ends with the index, the index's length, a checksum over the index as a
// protobuf message, and that message's length; lengths are 4 bytes, big-endian.
func checkTable(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(checkTableEnd(f), f.Close())
}

// tryTable opens a table as Badger does, who reads its last block then, but where
// a panic can be caught.
func tryTable(name string) (err error) {
	mapped, err := z.OpenMmapFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mapped.Close(-1)) }()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the last block of the table cannot be read", errDamaged)
		}
	}()
	_, err = table.OpenTable(mapped, table.Options{Compression: options.None, ChkMode: options.NoVerification})
	return err
}

func checkTableEnd(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	end := info.Size()
	// before returns the n bytes before end.
	before := func(n int64) ([]byte, error) {
		if n < 0 || n > end {
			return nil, fmt.Errorf("%w: the table of %d bytes is cut short or overwritten at its end", errDamaged, info.Size())
		}
		end -= n
		data := make([]byte, n)
		_, err := f.ReadAt(data, end)
		return data, err
	}
	length := func() (int64, error) {
		data, err := before(4)
		if err != nil {
			return 0, err
		}
		return int64(binary.BigEndian.Uint32(data)), nil
	}
	n, err := length()
	if err != nil {
		return err
	}
	message, err := before(n)
	if err != nil {
		return err
	}
	if n, err = length(); err != nil {
		return err
	}
	index, err := before(n)
	if err != nil {
		return err
	}
	if sum, ok := tableSum(message); !ok || len(index) == 0 || sum != uint64(crc32.Checksum(index, castagnoli)) {
		return fmt.Errorf("%w: the index of the table has another checksum", errDamaged)
	}
	return nil
}

// tableSum reads the message Checksum of Badger's pb: field 1 the algorithm, 0
// for CRC-32C and then left out; field 2 the sum.
func tableSum(message []byte) (sum uint64, ok bool) {
	const fieldAlgorithm, fieldSum = 1 << 3, 2 << 3 // both varints
	f := fields{rest: message}
	for len(f.rest) > 0 && !f.bad {
		switch f.uvarint() {
		case fieldAlgorithm:
			if f.uvarint() != 0 {
				return 0, false
			}
		case fieldSum:
			sum = f.uvarint()
		default:
			return 0, false
		}
	}
	return sum, !f.bad
}
