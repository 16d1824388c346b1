package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
)

// Badger's marks of a value (value.go): removed, and kept in another file.
const (
	badgerRemoved = 1 << 0
	badgerPointer = 1 << 1
)

// table reads a table block by block: one that is damaged hides no other.
func (s *salvage) table(data []byte) (err error) {
	defer recovered(&err)
	t, err := table.OpenInMemoryTable(data, 1, &table.Options{ChkMode: options.OnBlockRead, Compression: options.None})
	if err != nil {
		return err
	}
	blocks := t.KeySplits(math.MaxInt, nil)
	damaged := 0
	for i, first := range blocks {
		end := ""
		if i+1 < len(blocks) {
			end = blocks[i+1]
		}
		var stop *stopped
		if err := s.block(t, first, end); errors.As(err, &stop) {
			return err
		} else if err != nil {
			damaged++
		}
	}
	if damaged > 0 {
		return fmt.Errorf("%w: %d of %d blocks have another checksum", errDamaged, damaged, len(blocks))
	}
	return nil
}

// recovered makes an error of a panic of Badger's.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", errDamaged, p)
	}
}

// block reads the keys from first up to end.
func (s *salvage) block(t *table.Table, first, end string) (err error) {
	defer recovered(&err)
	it := t.NewIterator(0)
	defer func() {
		// The table is in memory: there is nothing to give back but a count.
		_ = it.Close()
	}()
	seen := 0
	for it.Seek([]byte(first)); it.Valid(); it.Next() {
		key := it.Key()
		if end != "" && string(key) == end {
			return nil
		}
		seen++
		if len(key) < logStamp {
			return fmt.Errorf("%w: a key of %d bytes", errDamaged, len(key))
		}
		v := it.Value()
		f := found{key: key[:len(key)-logStamp], version: versionOf(key), value: v.Value, removed: v.Meta&badgerRemoved != 0}
		if v.Meta&badgerPointer != 0 {
			s.file.Damaged++ // no value of ours is that large
			continue
		}
		if err := s.take(f); err != nil {
			return err
		}
	}
	if seen == 0 {
		return fmt.Errorf("%w: a block", errDamaged)
	}
	// Without its end, it is the last one, or the next one is damaged.
	return nil
}

// versionOf reads the version at the end of Badger's keys (y/y.go, ParseTs).
func versionOf(key []byte) uint64 {
	return math.MaxUint64 - binary.BigEndian.Uint64(key[len(key)-logStamp:])
}

// log reads a log. A transaction counts once its end is there, or a later one:
// it was written whole then.
func (s *salvage) log(data []byte) error {
	data = trimZeros(data)
	var pending []found
	emit := func() error {
		for _, f := range pending {
			if err := s.take(f); err != nil {
				return err
			}
		}
		pending = pending[:0]
		return nil
	}
	damaged := 0
	for at := min(logHeaderSize, len(data)); at < len(data); {
		e, ok := nextLogEntry(data, at)
		if !ok {
			next := nextMarker(data, at+1)
			if next < 0 {
				break
			}
			damaged++
			at = next
			continue
		}
		value := data[at+e.valueAt : at+e.valueAt+e.valueSize]
		at += e.size
		version := versionOf(e.key)
		if len(pending) > 0 && pending[0].version != version {
			if err := emit(); err != nil {
				return err
			}
		}
		if e.marker() {
			if err := emit(); err != nil {
				return err
			}
			continue
		}
		pending = append(pending, found{key: e.key[:len(e.key)-logStamp], version: version, value: value, removed: e.meta&badgerRemoved != 0})
	}
	if len(pending) > 0 {
		s.file.Note = "it ends with a write that is not whole, as a kill leaves it; nothing of it was acknowledged"
	}
	if damaged > 0 {
		return fmt.Errorf("%w: %d places cannot be read", errDamaged, damaged)
	}
	return nil
}

func trimZeros(data []byte) []byte {
	for len(data) > 0 && data[len(data)-1] == 0 {
		data = data[:len(data)-1]
	}
	return data
}
