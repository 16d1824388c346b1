package buffer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
)

// Badger's log: a header, then entries, each with meta, user meta, the uvarint
// lengths of key and value, the uvarint expiry, key, value and a CRC-32C over
// all that. The last entry of a transaction has the marker bit and this key. At
// Open Badger reads up to the first entry that is not whole, cuts off what is
// behind it, and says nothing.
const (
	logExt        = ".mem"
	valueLogExt   = ".vlog"
	logHeaderSize = 20
	logMarkerBit  = 1 << 7
	logTxnBit     = 1 << 6
	// logStamp is the length of the version at the end of each of Badger's keys.
	logStamp = 8
)

var logMarker = []byte("!badger!txn")

// tornLog is a log with transactions behind a place that cannot be read.
type tornLog struct {
	file string
	// at is where Badger stops reading, end where the log's data ended.
	at, end int
	// commits is how many whole transactions were found behind at.
	commits int
	// ever is the highest sequence of each machine found there.
	ever map[plant.MachineID]plant.Sequence
	// certain is false where a kill or a power cut in the middle of the last
	// write looks the same; nothing acknowledged is lost then.
	certain bool
}

// readLogs looks through Badger's logs before Badger cuts them, with the keys of an
// encrypted store. It returns those that have lost records which were acknowledged.
func readLogs(folder string, keys dataKeys, log *zap.Logger) ([]tornLog, error) {
	names, err := filepath.Glob(filepath.Join(folder, "*"+logExt))
	if err != nil {
		return nil, fmt.Errorf("buffer: open %s: %w", folder, err)
	}
	var torn []tornLog
	for i, name := range names {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("buffer: open %s: %w", name, err)
		}
		if len(keys) > 0 {
			data, _ = keys.plainFile(name, data, 0) // Badger says what is wrong with its head
		}
		t := checkLog(trimZeros(data), i == len(names)-1)
		if t.at >= t.end {
			continue
		}
		t.file = filepath.Base(name)
		if t.certain {
			torn = append(torn, t)
			continue
		}
		log.Warn("the store's log ends with a write that is not whole: a kill or a power cut leaves that; if there was none, the newest record is damaged",
			zap.String("file", t.file), zap.Int("at", t.at), zap.Int("bytes", t.end-t.at))
	}
	return torn, nil
}

// checkLog finds where Badger will stop reading a log, and what is behind.
func checkLog(data []byte, newest bool) tornLog {
	t := tornLog{at: min(logHeaderSize, len(data)), end: len(data)}
	var txn []byte
	for at := t.at; ; {
		e, ok := nextLogEntry(data, at)
		if !ok {
			break
		}
		at += e.size
		stamp := e.key[len(e.key)-logStamp:]
		if e.marker() {
			if txn == nil || !bytes.Equal(txn, stamp) {
				break
			}
			txn, t.at = nil, at
			continue
		}
		if e.meta&logTxnBit == 0 || (txn != nil && !bytes.Equal(txn, stamp)) {
			break
		}
		txn = stamp
	}
	// Trimming may have cut zeros off the end of the last entry.
	if t.at < t.end {
		t.search(data)
	}
	// A transaction is written only when the one before it is safe. So of the
	// newest log the last one alone may be half written.
	t.certain = t.commits > 1 || (!newest && t.at < t.end)
	return t
}

// search looks behind the place where Badger stops. Where one transaction ends
// the next begins, so whole entries are found again after each marker.
func (t *tornLog) search(data []byte) {
	t.ever = map[plant.MachineID]plant.Sequence{}
	at := t.at
	for at < len(data) {
		e, ok := nextLogEntry(data, at)
		if !ok {
			if at = nextMarker(data, at+1); at < 0 {
				return
			}
			continue
		}
		at += e.size
		if e.marker() {
			t.commits++
			continue
		}
		if m, sequence, ok := eventOf(e.key[:len(e.key)-logStamp]); ok {
			t.ever[m] = max(t.ever[m], sequence)
		}
	}
}

// markerHead is how a marker begins: meta, user meta, and the length of its key,
// in clear also where key and value are encrypted.
var markerHead = []byte{logMarkerBit, 0, byte(len(logMarker) + logStamp)}

// nextMarker returns where the next whole marker entry begins, -1 for nowhere.
func nextMarker(data []byte, from int) int {
	for from < len(data) {
		i := bytes.Index(data[from:], markerHead)
		if i < 0 {
			return -1
		}
		from += i
		if _, ok := nextLogEntry(data, from); ok {
			return from
		}
		from++
	}
	return -1
}

// logEntry is one entry; key points into the log, the value begins valueAt bytes
// behind the entry's beginning.
type logEntry struct {
	meta byte
	key  []byte
	size int

	valueAt, valueSize int
}

func (e *logEntry) marker() bool {
	return e.meta&logMarkerBit != 0 && bytes.HasPrefix(e.key, logMarker)
}

func nextLogEntry(data []byte, at int) (e logEntry, ok bool) {
	rest := data[at:]
	if len(rest) < 2 {
		return e, false
	}
	e.meta = rest[0]
	n, lengths := 2, [3]uint64{}
	for i := range lengths {
		v, size := binary.Uvarint(rest[n:])
		if size <= 0 {
			return e, false
		}
		lengths[i] = v
		n += size
	}
	key, value := lengths[0], lengths[1]
	if key < logStamp || key > 1<<16 || value > 2*memTableSize || uint64(n)+key+value > uint64(len(rest)) {
		return e, false
	}
	e.key = rest[n : n+int(key)]
	e.valueAt, e.valueSize = n+int(key), int(value)
	n += int(key + value)
	// The zeros at the end of the file are cut off, also those of a checksum.
	var sum [4]byte
	copy(sum[:], rest[n:])
	e.size = min(n+len(sum), len(rest))
	return e, crc32.Checksum(rest[:n], castagnoli) == binary.BigEndian.Uint32(sum[:])
}

// eventOf takes an event's key apart.
func eventOf(key []byte) (plant.MachineID, plant.Sequence, bool) {
	prefix := appendClass(nil, classEvent)
	if !bytes.HasPrefix(key, prefix) {
		return "", 0, false
	}
	name, tail, ok := cutName(key[len(prefix):])
	return plant.MachineID(name), sequenceOf(tail), ok && len(tail) == 8
}

// noteTorn counts what the torn logs have lost besides events, logs it, and
// returns the highest sequence that they still show of each machine. The lost
// events themselves are counted where the streams are counted again.
func (b *Buffer) noteTorn(torn []tornLog) map[plant.MachineID]plant.Sequence {
	ever := map[plant.MachineID]plant.Sequence{}
	for _, t := range torn {
		b.damagedValue("", "the store's log "+t.file,
			fmt.Errorf("%w: at byte %d of %d; the records of at least %d commits behind that place are lost", errDamaged, t.at, t.end, t.commits))
		b.mu.Lock()
		for m, sequence := range t.ever {
			b.streamLocked(m)
			ever[m] = max(ever[m], sequence)
		}
		b.mu.Unlock()
	}
	return ever
}

// checkValueLog returns what is wrong with the head of a value log. No value of ours
// is in one, but Badger opens no store with one that it cannot read.
func checkValueLog(name string, keys dataKeys) string {
	head, err := readStart(name, logHeaderSize)
	if err != nil {
		return oneLine{err}.Error()
	}
	return foreignKey(head, keys)
}

// foreignKey is the problem of a log whose head names a key that the store does
// not have: its first 8 bytes, 0 for none (Badger's memtable.go, bootstrap). Badger
// does not open the store then.
func foreignKey(log []byte, keys dataKeys) string {
	if len(log) < logHeaderSize {
		return ""
	}
	id := binary.BigEndian.Uint64(log)
	switch _, known := keys[id]; {
	case known, id == 0 && len(keys) == 0:
		return ""
	case len(keys) == 0:
		return "its head is damaged: it names a key, and the store is not encrypted"
	}
	return "its head is damaged, or " + badger.KeyRegistryFileName + " is: it names a key that is not there"
}
