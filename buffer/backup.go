package buffer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// The format of a backup; docs/formats.md has it. It names no file, so what
// reads one can write nowhere but into the store.
const (
	backupMagic = "sluice-backup\n"
	backupMajor = 1

	backupHeader  = 'h'
	backupRecords = 'd'
	backupEnd     = 'e'

	// backupBlock is about how large a block of records is; maxBackupBlock what a
	// reader takes.
	backupBlock    = 256 << 10
	maxBackupBlock = 4 << 20
)

// ErrBadBackup says that a backup is damaged, cut short, or none.
var ErrBadBackup = errors.New("the backup is not usable")

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	// Gateway and Source are the names under which the store was open, Epoch that
	// opening.
	Gateway string `json:"gateway"`
	Source  string `json:"source"`
	Epoch   string `json:"epoch"`
	// Created is the moment whose state the backup has.
	Created time.Time `json:"created"`
	// Records counts all records, Events those that are events, Bytes what keys
	// and records take, Damaged those whose checksum was wrong already in the
	// store; they are kept as they were.
	Records uint64 `json:"records"`
	Events  uint64 `json:"events"`
	Bytes   int64  `json:"bytes"`
	Damaged uint64 `json:"damaged"`
	// Sum is the SHA-256 of the backup, in hexadecimal digits.
	Sum string `json:"sha256"`
}

// Backup writes a consistent copy of the store, as it is at one moment, while
// it is in use: events, states, cursors, dead letters and jobs, and no secret
// but what they hold. It blocks on the disk and on w. An error leaves a backup
// that is not whole, which every reader notices.
func (b *Buffer) Backup(ctx context.Context, w io.Writer) (BackupInfo, error) {
	info := BackupInfo{Gateway: b.opts.Gateway, Source: b.opts.Source, Epoch: b.epoch.String(), Created: b.opts.now().UTC()}
	if err := b.usable(ctx); err != nil {
		return info, err
	}
	out := newBackupWriter(w)
	out.raw(binary.BigEndian.AppendUint16([]byte(backupMagic), backupMajor))
	out.json(backupHeader, info)
	err := b.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := errors.Join(ctx.Err(), out.err); err != nil {
				return err
			}
			item := it.Item()
			if err := item.Value(func(v []byte) error { out.record(&info, item.Key(), v); return nil }); err != nil {
				return fmt.Errorf("%w: %w", errDamaged, err)
			}
		}
		return nil
	})
	if errors.Is(err, errDamaged) {
		err = fmt.Errorf("%w: sluice buffer check says which file", err)
	}
	if err == nil {
		out.flush()
		out.json(backupEnd, info)
		info.Sum = out.close()
		err = out.err
	}
	if err != nil {
		return info, fmt.Errorf("buffer: backup: %w", err)
	}
	return info, nil
}

// backupWriter writes blocks and remembers the first error.
type backupWriter struct {
	w     *bufio.Writer
	sum   hash.Hash
	block []byte
	err   error
}

func newBackupWriter(w io.Writer) *backupWriter {
	return &backupWriter{w: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
}

func (o *backupWriter) raw(p []byte) {
	if o.err == nil {
		o.sum.Write(p)
		_, o.err = o.w.Write(p)
	}
}

func (o *backupWriter) write(kind byte, payload []byte) {
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(payload)))
	o.raw(head)
	o.raw(payload)
	o.raw(binary.BigEndian.AppendUint32(nil, crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)))
}

func (o *backupWriter) json(kind byte, v any) {
	data, err := json.Marshal(v)
	o.err = errors.Join(o.err, err)
	o.write(kind, data)
}

// record adds one record to the block under way.
func (o *backupWriter) record(info *BackupInfo, key, value []byte) {
	if len(key) > 1 && key[0] == keyLayout && class(key[1]) == classFiller {
		return
	}
	if len(o.block) > 0 && len(o.block)+len(key)+len(value) > backupBlock {
		o.flush()
	}
	info.count(key, value)
	o.block = appendUvarints(o.block, uint64(len(key)))
	o.block = append(o.block, key...)
	o.block = appendUvarints(o.block, uint64(len(value)))
	o.block = append(o.block, value...)
}

func (o *backupWriter) flush() {
	if len(o.block) > 0 {
		o.write(backupRecords, o.block)
		o.block = o.block[:0]
	}
}

// close writes the sum of all that was written.
func (o *backupWriter) close() (sum string) {
	digest := o.sum.Sum(nil)
	if o.err == nil {
		_, o.err = o.w.Write(digest)
	}
	if o.err == nil {
		o.err = o.w.Flush()
	}
	return hex.EncodeToString(digest)
}

// count notes one record.
func (i *BackupInfo) count(key, value []byte) {
	i.Records++
	i.Bytes += int64(len(key) + len(value))
	if _, err := unseal(key, value); errors.Is(err, errDamaged) {
		i.Damaged++
	}
	if len(key) > 1 && key[0] == keyLayout && class(key[1]) == classEvent {
		i.Events++
	}
}

// ReadBackup reads a backup to its end and checks all of it: each block, the
// order of the keys, the counts, the sum over everything, and that nothing
// follows. each, if not nil, gets every record; the bytes are valid during the
// call only, and what it has had means nothing before ReadBackup has returned
// without an error. It takes memory for one block. An error is ErrBadBackup, or
// of r, or of each.
func ReadBackup(r io.Reader, each func(key, value []byte) error) (BackupInfo, error) {
	in := backupReader{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New(), each: each}
	info, err := in.all()
	if err != nil {
		return BackupInfo{}, fmt.Errorf("buffer: read backup: %w", err)
	}
	return info, nil
}

type backupReader struct {
	r     *bufio.Reader
	sum   hash.Hash
	each  func(key, value []byte) error
	block []byte
	last  []byte
	seen  BackupInfo
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadBackup, fmt.Sprintf(format, args...))
}

func (in *backupReader) all() (info BackupInfo, err error) {
	start, err := in.take(len(backupMagic) + 2)
	switch {
	case err != nil:
		return info, err
	case string(start[:len(backupMagic)]) != backupMagic:
		return info, bad("it does not begin as one: name a file that sluice backup has written")
	}
	if v := binary.BigEndian.Uint16(start[len(backupMagic):]); v != backupMajor {
		return info, bad("it is of version %d, this gateway reads %d: use the version that made it, or a newer one", v, backupMajor)
	}
	kind, payload, err := in.next()
	if err != nil {
		return info, err
	}
	var first BackupInfo
	if kind != backupHeader || json.Unmarshal(payload, &first) != nil {
		return info, bad("its header cannot be read")
	}
	for {
		kind, payload, err := in.next()
		if err != nil {
			return info, err
		}
		switch kind {
		case backupRecords:
			if err := in.records(payload); err != nil {
				return info, err
			}
			continue
		case backupEnd:
		default:
			return info, bad("a block of the sort %q is not known", kind)
		}
		if json.Unmarshal(payload, &info) != nil || info.Gateway != first.Gateway || info.Epoch != first.Epoch {
			return BackupInfo{}, bad("its end does not belong to its beginning")
		}
		return info, in.end(&info)
	}
}

// end checks the counts, the sum, and that nothing follows.
func (in *backupReader) end(info *BackupInfo) error {
	if in.seen.Records != info.Records || in.seen.Events != info.Events || in.seen.Bytes != info.Bytes || in.seen.Damaged != info.Damaged {
		return bad("it has %d records of %d", in.seen.Records, info.Records)
	}
	digest := in.sum.Sum(nil)
	told := make([]byte, sha256.Size)
	if _, err := io.ReadFull(in.r, told); err != nil {
		return cut(err)
	}
	if !bytes.Equal(digest, told) {
		return bad("its sum does not match")
	}
	info.Sum = hex.EncodeToString(digest)
	if _, err := in.r.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.Join(bad("something follows its end"), err)
	}
	return nil
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return bad("it is cut short: copy it again, or take another one")
	}
	return err
}

// take reads n bytes into the block and adds them to the sum.
func (in *backupReader) take(n int) ([]byte, error) {
	// In steps, so that a length which is a lie costs no memory.
	const step = 64 << 10
	in.block = in.block[:0]
	for len(in.block) < n {
		at := len(in.block)
		in.block = append(in.block, make([]byte, min(step, n-at))...)
		if _, err := io.ReadFull(in.r, in.block[at:]); err != nil {
			return nil, cut(err)
		}
	}
	in.sum.Write(in.block)
	return in.block, nil
}

// next reads one block; the payload is valid until the next one.
func (in *backupReader) next() (kind byte, payload []byte, err error) {
	head, err := in.take(1 + 4)
	if err != nil {
		return 0, nil, err
	}
	kind = head[0]
	sum := crc32.Checksum(head, castagnoli)
	length := binary.BigEndian.Uint32(head[1:])
	if length > maxBackupBlock {
		return 0, nil, bad("a block of %d bytes", length)
	}
	data, err := in.take(int(length) + 4)
	if err != nil {
		return 0, nil, err
	}
	payload = data[:length]
	if crc32.Update(sum, castagnoli, payload) != binary.BigEndian.Uint32(data[length:]) {
		return 0, nil, bad("a block is damaged")
	}
	return kind, payload, nil
}

// records takes a block of records apart.
func (in *backupReader) records(payload []byte) error {
	if len(payload) == 0 {
		return bad("a block is empty")
	}
	f := fields{rest: payload}
	for len(f.rest) > 0 {
		key, value := f.bytes(), f.bytes()
		switch {
		case f.bad || len(key) == 0:
			return bad("a record is cut short")
		case bytes.Compare(key, in.last) <= 0:
			return bad("its records are not in order")
		}
		in.last = append(in.last[:0], key...)
		in.seen.count(key, value)
		if in.each != nil {
			if err := in.each(key, value); err != nil {
				return err
			}
		}
	}
	return nil
}
