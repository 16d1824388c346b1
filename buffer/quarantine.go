package buffer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/durable"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// quarantineFolder lies beside the store and holds what is left of records
	// that cannot be read, one file each.
	quarantineFolder = "quarantine"
	// maxQuarantineFiles and maxQuarantineBytes bound it: the first records that
	// rot say most, so later ones are only counted.
	maxQuarantineFiles = 1000
	maxQuarantineBytes = 16 << 20
	// asideStamp is the time in the name of a file that is set aside as a whole.
	asideStamp = "20060102T150405.000000000"
)

// quarantine is the folder of that name.
type quarantine struct {
	mu      sync.Mutex
	path    string
	read    bool
	files   int
	bytes   int64
	dropped uint64
	failing bool
}

// Quarantine says what is left of records that cannot be read.
type Quarantine struct {
	// Files and Bytes are what is kept; Dropped counts records since the start
	// that were not kept for lack of room.
	Files   int
	Bytes   int64
	Dropped uint64
}

func (q *quarantine) stats() Quarantine {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Quarantine{Files: q.files, Bytes: q.bytes, Dropped: q.dropped}
}

// setAside is the content of a file.
type setAside struct {
	Found  time.Time `json:"found"`
	Record string    `json:"record"`
	// Machine and Sequence are empty where the record belongs to none.
	Machine  plant.MachineID `json:"machine,omitempty"`
	Sequence plant.Sequence  `json:"sequence,omitempty"`
	Reason   string          `json:"reason"`
	// Key and Value are the record as it was read; of an encrypted store there is
	// no Value.
	Key   []byte `json:"key"`
	Value []byte `json:"value,omitempty"`
}

// quarantine keeps what is left of a damaged record, durably, once over all
// restarts: its file is named by its content.
func (b *Buffer) quarantine(a setAside) {
	a.Found = b.opts.now().UTC()
	if len(b.opts.Key) > 0 {
		// What is stored encrypted lies nowhere in clear text.
		a.Value = nil
	}
	q := &b.aside
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.open()
	if err == nil && b.underFloor() {
		err = plant.ErrFull
	}
	if err == nil {
		err = q.keep(&a)
	}
	if err != nil {
		q.dropped++
	}
	if err != nil && !q.failing {
		b.log.Warn("a damaged record cannot be put into quarantine; it is counted all the same", zap.String("folder", q.path), zap.Error(err))
	}
	q.failing = err != nil
}

// open finds out what is there already.
func (q *quarantine) open() error {
	if q.read {
		return nil
	}
	entries, err := os.ReadDir(q.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	q.files, q.bytes = 0, 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && strings.HasSuffix(e.Name(), ".json") {
			q.files++
			q.bytes += info.Size()
		}
	}
	q.read = true
	return nil
}

func (q *quarantine) keep(a *setAside) error {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d ", len(a.Key))
	sum.Write(a.Key)
	sum.Write(a.Value)
	file := filepath.Join(q.path, hex.EncodeToString(sum.Sum(nil)[:16])+".json")
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	if q.files >= maxQuarantineFiles || q.bytes+int64(len(data)) > maxQuarantineBytes {
		return fmt.Errorf("the folder holds %d files already: look at them and move them away", q.files)
	}
	if err := os.MkdirAll(q.path, 0o700); err != nil {
		return err
	}
	if err := writeWhole(file, data); err != nil {
		return err
	}
	q.files++
	q.bytes += int64(len(data))
	return nil
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(file string, data []byte) error {
	f, err := os.OpenFile(file+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(file+".tmp", file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file+".tmp"))
	}
	return durable.SyncFolder(filepath.Dir(file))
}

// damagedRecord counts a damaged record that is no event, and keeps what is left
// of it.
func (b *Buffer) damagedRecord(m plant.MachineID, what string, key, value []byte, cause error) {
	b.quarantine(setAside{Record: what, Machine: m, Reason: cause.Error(), Key: key, Value: value})
	b.damagedValue(m, what, cause)
}
