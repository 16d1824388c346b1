// Package audit keeps the record of what people changed: one JSON line an
// entry, each chained to the one before by SHA-256, synced before the change is
// made, bounded in size, and with the newest hash kept in a second place, so
// that a changed, removed or cut line is noticed. docs/formats.md has the line.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/internal/durable"
	"github.com/sluice-edge/sluice/internal/fault"
)

// Names below the folder that New is given, and the bounds of the files there.
const (
	folderName = "audit"
	headName   = "audit.head"
	fileMode   = 0o600
	folderMode = 0o700

	// DefaultFileBytes is when a new file is begun, DefaultFiles how many are
	// kept: 10 MiB in all. The oldest is then dropped, which is an entry itself.
	DefaultFileBytes = 1 << 20
	DefaultFiles     = 10
)

// Entry is what somebody did, or tried to.
type Entry struct {
	// By says who: the user that the operating system named, or a part of the
	// gateway.
	By string
	// Action is what was done, in words joined by dots: "dead.drop".
	Action string
	// Object is what it was done to, Detail what else there is to know. Neither
	// may hold a secret.
	Object, Detail string
	// Outcome is "begun" before the change, then "done" or "failed".
	Outcome string
}

// The outcomes of an Entry.
const (
	Begun  = "begun"
	Done   = "done"
	Failed = "failed"
)

// Options bounds the log. The zero Options are the defaults.
type Options struct {
	FileBytes int64
	Files     int
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Log appends to the audit log of one store. Only the process that has the
// store open may have one. Its methods may be called from any goroutine.
type Log struct {
	folder, headPath string
	options          Options

	mu      sync.Mutex
	opened  bool
	file    *os.File
	size    int64
	at      head
	problem string
	since   time.Time
	// chain is what CheckChain has found.
	chain string
}

// New returns the log that lies beside the store in folder. It does no I/O; the
// first Append opens the files.
func New(folder string, o Options) *Log {
	if o.FileBytes <= 0 {
		o.FileBytes = DefaultFileBytes
	}
	if o.Files < 2 {
		o.Files = DefaultFiles
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Log{folder: filepath.Join(folder, folderName), headPath: filepath.Join(folder, headName), options: o}
}

// Append writes e and returns when it is on disk, with the number of the entry.
// It blocks for the fsync. After an error the change that e announces must not
// be made; the next Append tries again from what the disk has.
func (l *Log) Append(e Entry) (number uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer func() { l.note(err) }()
	if err := l.open(); err != nil {
		return 0, err
	}
	if err := l.rotate(); err != nil {
		return 0, err
	}
	return l.write(e)
}

// Check opens the files and reports in Problem what is wrong with them, so that
// the page shows it before somebody wants to change something. It blocks on the
// disk.
func (l *Log) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.open()
	l.note(err)
	return err
}

// CheckChain does what Verify does, and reports in Problem what it finds: lines in
// the middle that were changed show nowhere else. It blocks on the disk, and only
// where something is wrong it holds writers up.
func (l *Log) CheckChain() error {
	folder := filepath.Dir(l.headPath)
	report, err := Verify(folder)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && report.Broken != "" {
		// A file may have gone meanwhile. Once more while nobody writes.
		report, err = Verify(folder)
	}
	if err != nil {
		return err
	}
	l.chain = report.Broken
	l.note(nil)
	return nil
}

// Problem returns in plain words why nothing can be written or what the chain
// has lost, and since when that is known; empty if all is well.
func (l *Log) Problem() (text string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.problem, l.since
}

// Close closes the files.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forget()
}

// note keeps the first of a row of failures. A broken chain stays a problem: it
// does not heal.
func (l *Log) note(err error) {
	text := ""
	switch {
	case err != nil:
		text = err.Error()
	case l.at.Broken != "":
		text = l.at.Broken
	case l.chain != "":
		text = l.chain
	}
	if text == "" {
		l.problem, l.since = "", time.Time{}
		return
	}
	if l.problem == "" {
		l.since = l.options.Now()
	}
	l.problem = text
}

// forget lets go of the files, so that the next use looks at the disk again.
func (l *Log) forget() error {
	l.opened = false
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// open reads where the chain ends. Whatever is missing there leaves a mark that
// stays: the numbers go on behind the newest one that either place knows.
func (l *Log) open() error {
	if l.opened {
		return nil
	}
	if err := os.MkdirAll(l.folder, folderMode); err != nil {
		return fmt.Errorf("audit: make the folder: %w: give the gateway's user the right to write there", err)
	}
	h, err := readHead(l.headPath)
	if err != nil {
		return err
	}
	names, err := files(l.folder)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		names = []string{fileName(1)}
		if h.Number > 0 {
			h.Broken = fmt.Sprintf("the audit log is empty, and %d entries were in it: somebody removed its files", h.Number)
			names[0] = fileName(h.Number + 1)
		}
	}
	newest := names[len(names)-1]
	end, err := lastOf(l.folder, newest)
	if err != nil {
		return err
	}
	l.file, err = os.OpenFile(filepath.Join(l.folder, newest), os.O_CREATE|os.O_RDWR|os.O_APPEND, fileMode)
	if err != nil {
		return fmt.Errorf("audit: open: %w", err)
	}
	if err := l.mend(&h, end); err != nil {
		return errors.Join(err, l.forget())
	}
	l.at, l.opened = h, true
	return nil
}

// mend compares the end of the newest file with the head, and takes away a line
// that a kill has cut: it was never acknowledged.
func (l *Log) mend(h *head, end tail) error {
	l.size = end.whole
	switch {
	case end.number == h.Number && end.hash == h.Hash:
	case end.number == h.Number+1 && end.prev == h.Hash:
		// Killed between the line and the head.
		h.Number, h.Hash = end.number, end.hash
	case end.empty() && h.Broken != "":
	case end.empty() && h.Number > 0 && fileName(h.Number+1) == filepath.Base(l.file.Name()):
		// Killed just after a new file was begun.
	default:
		if h.Broken == "" {
			h.Broken = fmt.Sprintf("the audit log ends at entry %d and its head says %d: lines were changed or removed", end.number, h.Number)
		}
		if end.number > h.Number {
			h.Number, h.Hash = end.number, end.hash
		}
	}
	if end.torn == 0 {
		return nil
	}
	if h.Broken != "" {
		// Evidence stays; the next line begins a line of its own.
		n, err := l.file.WriteString("\n")
		l.size = end.whole + end.torn + int64(n)
		return err
	}
	if err := l.file.Truncate(end.whole); err != nil {
		return fmt.Errorf("audit: cut off half a line: %w", err)
	}
	return nil
}

// write appends one entry and moves the head.
func (l *Log) write(e Entry) (uint64, error) {
	text, hash := encode(l.at.Number+1, l.options.Now(), e, l.at.Hash)
	n, err := l.file.Write(text)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		// What of it is on disk is not known: read it again next time, without the
		// half line.
		err = fmt.Errorf("audit: write entry %d: %w: make room on the disk and look at the folder %s", l.at.Number+1, err, l.folder)
		if n > 0 {
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return 0, errors.Join(err, l.forget())
	}
	fault.Pass("audit.afterLine")
	l.size += int64(n)
	next := l.at
	next.Number, next.Hash = l.at.Number+1, hash
	if err := writeHead(l.headPath, next); err != nil {
		return 0, errors.Join(err, l.forget())
	}
	fault.Pass("audit.afterHead")
	l.at = next
	return next.Number, nil
}

// rotate begins a new file where the present one is full, and drops the oldest
// where there are too many.
func (l *Log) rotate() error {
	if l.size < l.options.FileBytes {
		return nil
	}
	name := fileName(l.at.Number + 1)
	file, err := os.OpenFile(filepath.Join(l.folder, name), os.O_CREATE|os.O_RDWR|os.O_APPEND, fileMode)
	if err != nil {
		return fmt.Errorf("audit: begin file %s: %w", name, err)
	}
	if err := errors.Join(l.file.Close(), durable.SyncFolder(l.folder)); err != nil {
		return errors.Join(fmt.Errorf("audit: begin file %s: %w", name, err), file.Close())
	}
	l.file, l.size = file, 0
	names, err := files(l.folder)
	if err != nil || len(names) <= l.options.Files {
		return err
	}
	return l.dropOldest(names)
}

// dropOldest makes the beginning of the second file the beginning of the chain,
// says so in the log, and only then removes the oldest file.
func (l *Log) dropOldest(names []string) error {
	start, err := firstOf(l.folder, names[1])
	if err != nil {
		return err
	}
	before := l.at
	if start.number <= before.first() {
		// A kill came between the entry about it and the removal.
		return l.remove(names[0])
	}
	l.at.First, l.at.FirstPrev = start.number, start.prev
	if _, err := l.write(Entry{By: "gateway", Action: "audit.drop", Object: names[0],
		Detail: fmt.Sprintf("the log is full: entries %d to %d are dropped", before.first(), start.number-1), Outcome: Done}); err != nil {
		return err
	}
	return l.remove(names[0])
}

func (l *Log) remove(name string) error {
	if err := os.Remove(filepath.Join(l.folder, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("audit: drop the oldest file: %w", err)
	}
	return nil
}

// hash is one link of the chain.
type hash [sha256.Size]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements encoding.TextMarshaler.
func (h hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return errors.New("a hash has 64 hexadecimal digits")
	}
	_, err := hex.Decode(h[:], text)
	return err
}
