// Package journal is the integration log: what was exchanged with the central
// systems, one JSON line an entry, in files of its own beside the store. It is
// bounded in size and age. It costs a Send no disk: lines are written within a
// second, so a crash may lose that second; a clean stop loses nothing. A disk
// without room stops the log, and never the gateway: what was not kept is counted
// and told by a line of the outcome "lost". docs/formats.md has the line.
package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// Lost is the outcome of a line about entries that were not kept.
const Lost uplink.Outcome = "lost"

// Bounds that are not settings.
const (
	folderName = "log"
	fileMode   = 0o600
	folderMode = 0o700

	// flushEvery is how long an entry may wait to be written: what a crash loses.
	flushEvery = time.Second
	// flushBytes of waiting entries are written at once; maxPending is when further
	// ones are not kept, because the disk does not take them.
	flushBytes = 256 << 10
	maxPending = 1 << 20
	// entryBytes is what an entry takes besides its words.
	entryBytes = 300
	// retryEvery is how often a disk is tried that did not take a line.
	retryEvery = 10 * time.Second
	// pruneEvery is how often old files are looked for where none is begun.
	pruneEvery = time.Hour
	// files is into how many the size is parted: the oldest goes as a whole.
	files = 16
	// minFile keeps a small log from being all files.
	minFile = 64 << 10
	// fileAge begins a new file each day, so that the age bound can take one.
	fileAge = 24 * time.Hour
)

// Options bounds the log.
type Options struct {
	// Bytes is how much all files may take together, Keep how long an entry stays.
	Bytes int64
	Keep  time.Duration
	// Room says whether the disk has room for a log; nil says that it has. It must
	// not block.
	Room func() bool
}

// Entry is one line.
type Entry struct {
	// Number counts the entries of this gateway, over restarts. After a crash some
	// may be missing or, of lines that never came to the disk, be given again.
	Number uint64 `json:"n"`
	uplink.Exchange
	// Lost is how many entries were not kept, in a line of that outcome.
	Lost uint64 `json:"lost,omitempty"`
}

// Stats is what the page shows of the log, by value.
type Stats struct {
	// Problem says in plain words why nothing is kept, since Since; empty if all is
	// well.
	Problem string
	Since   time.Time
	// Lost counts the entries that were not kept since the start.
	Lost uint64
}

// Log takes exchanges and writes them. Only the process that has the store open
// may have one. Its methods may be called from any goroutine.
type Log struct {
	Reader
	options Options
	log     *zap.Logger
	full    chan struct{}

	mu      sync.Mutex
	pending []uplink.Exchange
	bytes   int
	// plain is, for each stream, where its newest entry waits.
	plain map[streamKey]int
	// lost counts what was not kept and is not told yet.
	lost   uint64
	stats  Stats
	closed bool

	// writing guards what is below: one goroutine at a time writes.
	writing sync.Mutex
	file    *os.File
	size    int64
	begun   time.Time
	next    uint64
	retry   time.Time
}

type streamKey struct {
	uplink  string
	machine plant.MachineID
}

// New returns the log that lies beside the store in folder. It does no I/O.
func New(folder string, o Options, log *zap.Logger) *Log {
	return &Log{Reader: NewReader(folder), options: o, log: log, full: make(chan struct{}, 1), plain: map[streamKey]int{}}
}

// Add takes x. It never blocks on the disk: what there is no room for is counted
// and told later. Deliveries of a machine that say nothing else become one line
// a second.
func (l *Log) Add(x uplink.Exchange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := streamKey{x.Uplink, x.Machine}
	if at, ok := l.plain[key]; ok && x.Plain() && l.pending[at].Plain() {
		l.pending[at].Join(&x)
		return
	}
	cost := entryBytes + len(x.Words) + len(x.Where) + len(x.RequestID) + len(x.ReceiverID) + 64*len(x.Merged)
	if l.closed || l.bytes+cost > maxPending {
		l.lose(1)
		return
	}
	l.plain[key] = len(l.pending)
	l.pending = append(l.pending, x)
	if l.bytes += cost; l.bytes >= flushBytes {
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
}

// lose counts entries that are not kept. The caller has the lock.
func (l *Log) lose(n int) {
	l.lost += uint64(n)
	l.stats.Lost += uint64(n)
}

// Stats returns a snapshot.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Run writes what was added until ctx ends, then the rest, and returns when the
// disk has it. It returns no error: without a log the gateway goes on.
func (l *Log) Run(ctx context.Context) error {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	pruned := time.Now()
	for {
		select {
		case <-ctx.Done():
			return l.Close()
		case <-l.full:
		case <-ticker.C:
		}
		l.Flush()
		if now := time.Now(); now.Sub(pruned) >= pruneEvery {
			pruned = now
			if err := l.tidy(now); err != nil {
				l.log.Warn("old files of the integration log stay", zap.Error(err))
			}
		}
	}
}

// tidy removes what is too old, also where nothing new is written.
func (l *Log) tidy(now time.Time) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.prune(now)
}

// Flush writes what waits, so that a reader finds it.
func (l *Log) Flush() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if !closed { // else Close has written all there is
		l.flush(time.Now())
	}
}

// Close writes the rest and closes the file, without an error: it is logged. Run
// does it; who does not Run the Log calls it.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.retry = time.Time{}
	l.flush(time.Now())
	if l.file == nil {
		return nil
	}
	err := errors.Join(l.file.Sync(), l.file.Close())
	l.file = nil
	if err != nil {
		l.log.Warn("the end of the integration log may be missing", zap.Error(err))
	}
	return nil
}

// flush writes what waits. The caller has writing.
func (l *Log) flush(now time.Time) {
	l.mu.Lock()
	entries, lost := l.pending, l.lost
	failing := l.stats.Problem != ""
	if len(entries) == 0 && (lost == 0 || failing && now.Before(l.retry)) {
		l.mu.Unlock()
		return
	}
	l.pending, l.bytes, l.lost = nil, 0, 0
	clear(l.plain)
	l.mu.Unlock()

	err := l.write(now, entries, lost)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.lose(len(entries))
		l.lost += lost
		if !failing {
			l.stats.Since = now
			l.log.Warn("the integration log is not written; events are delivered all the same", zap.Error(err))
		}
		if !errors.Is(err, errWait) {
			l.stats.Problem = err.Error()
		}
		return
	}
	if failing {
		l.log.Info("the integration log is written again", zap.Uint64("entries_lost", lost))
		l.stats.Problem, l.stats.Since = "", time.Time{}
	}
}

// errNoRoom says that the disk is for the events.
var errNoRoom = errors.New("the disk is nearly full and its room is for the events: what is exchanged is not noted until there is space")

// errWait says that the disk has just failed and is not tried yet.
var errWait = errors.New("the disk is tried again in a moment")

// write appends the entries, behind a line about those lost before them.
func (l *Log) write(now time.Time, entries []uplink.Exchange, lost uint64) error {
	if l.options.Room != nil && !l.options.Room() {
		return errNoRoom
	}
	if now.Before(l.retry) {
		return errWait
	}
	if err := l.open(now); err != nil {
		l.retry = now.Add(retryEvery)
		return err
	}
	var text []byte
	number := l.next
	if lost > 0 {
		text = appendLine(text, &Entry{Number: number, Lost: lost, Exchange: uplink.Exchange{
			Time: now.UTC(), Outcome: Lost, Words: strconv.FormatUint(lost, 10) + " entries before this one were not kept: the disk had no room or was too slow; the events themselves were delivered or wait",
		}})
		number++
	}
	for i := range entries {
		text = appendLine(text, &Entry{Number: number, Exchange: entries[i]})
		number++
	}
	if _, err := l.file.Write(text); err != nil {
		l.retry = now.Add(retryEvery)
		err = fmt.Errorf("journal: write: %w: make room on the disk and look at the folder %s", err, l.folder)
		// Without the half line; what was whole before stays.
		return errors.Join(err, l.file.Truncate(l.size), l.forget())
	}
	l.size += int64(len(text))
	l.next = number
	return nil
}

// forget closes the file, so that the next write looks at the disk again.
func (l *Log) forget() error {
	err := l.file.Close()
	l.file = nil
	return err
}

// open opens the newest file, or begins one where it is full or old.
func (l *Log) open(now time.Time) error {
	if l.file != nil && l.size < l.fileBytes() && now.Sub(l.begun) < fileAge {
		return nil
	}
	if l.file != nil {
		if err := l.forget(); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		return l.begin(now)
	}
	if err := os.MkdirAll(l.folder, folderMode); err != nil {
		return fmt.Errorf("journal: make the folder: %w: give the gateway's user the right to write there", err)
	}
	names, err := l.names()
	if err != nil {
		return err
	}
	l.next = max(l.next, 1)
	if len(names) == 0 {
		return l.begin(now)
	}
	newest := names[len(names)-1]
	end, err := lastOf(l.folder, newest)
	if err != nil {
		return err
	}
	l.next = max(l.next, firstNumber(newest), end.number+1)
	if end.whole >= l.fileBytes() || !end.first.IsZero() && now.Sub(end.first) >= fileAge {
		return l.begin(now)
	}
	f, err := os.OpenFile(filepath.Join(l.folder, newest), os.O_WRONLY|os.O_APPEND, fileMode)
	if err != nil {
		return fmt.Errorf("journal: open: %w", err)
	}
	if end.torn > 0 { // half a line of a crash says nothing
		if err := f.Truncate(end.whole); err != nil {
			return errors.Join(fmt.Errorf("journal: cut off half a line: %w", err), f.Close())
		}
	}
	l.file, l.size, l.begun = f, end.whole, now
	if !end.first.IsZero() {
		l.begun = end.first
	}
	return l.prune(now)
}

func (l *Log) fileBytes() int64 { return max(l.options.Bytes/files, minFile) }

// begin begins a file and removes those beyond the bounds.
func (l *Log) begin(now time.Time) error {
	f, err := os.OpenFile(filepath.Join(l.folder, fileName(l.next)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, fileMode)
	if err != nil {
		return fmt.Errorf("journal: begin a file: %w", err)
	}
	l.file, l.size, l.begun = f, 0, now
	return l.prune(now)
}

// prune removes the oldest files beyond the bounds, never the one that is
// written. A file that cannot be removed now goes with the next.
func (l *Log) prune(now time.Time) error {
	names, err := l.names()
	if err != nil {
		return err
	}
	// The file that is written may still grow to its bound.
	room := l.options.Bytes - l.fileBytes()
	for i := len(names) - 2; i >= 0; i-- {
		info, err := os.Stat(filepath.Join(l.folder, names[i]))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		room -= info.Size()
		if room >= 0 && now.Sub(info.ModTime()) < l.options.Keep {
			continue
		}
		if err := os.Remove(filepath.Join(l.folder, names[i])); err != nil && !errors.Is(err, os.ErrNotExist) {
			l.log.Warn("an old file of the integration log stays", zap.Error(err))
		}
	}
	return nil
}
