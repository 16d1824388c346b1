package buffer

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/zap"
)

// badgerLog passes Badger's talk on; its Info is our Debug. What Badger's own
// goroutines fail at it tells nobody but its log.
type badgerLog struct {
	log        *zap.SugaredLogger
	background *background
}

var _ badger.Logger = badgerLog{}

// Errorf implements badger.Logger.
func (l badgerLog) Errorf(f string, a ...any) {
	l.log.Errorf("badger: "+trimLine(f), a...)
	l.background.failed(f, a)
}

// Warningf implements badger.Logger.
func (l badgerLog) Warningf(f string, a ...any) {
	l.log.Warnf("badger: "+trimLine(f), a...)
	l.background.failed(f, a)
}

// Infof implements badger.Logger.
func (l badgerLog) Infof(f string, a ...any) { l.log.Debugf("badger: "+trimLine(f), a...) }

// Debugf implements badger.Logger.
func (l badgerLog) Debugf(f string, a ...any) { l.log.Debugf("badger: "+trimLine(f), a...) }

func trimLine(f string) string { return strings.TrimRight(f, "\n") }

// backgroundWrites are the words with which Badger 4.9 logs that it could not
// turn its log into a table (db.go, flushMemtable), which it then tries for ever,
// or not merge tables (levels.go, runCompactor). A sync that failed once may
// succeed the second time and yet have lost the pages, so neither may go on.
var backgroundWrites = []string{"error flushing memtable to disk", "While running doCompact"}

// background hears of the writes of Badger's own goroutines that have failed.
type background struct {
	mu   sync.Mutex
	tell func(error)
	// early is what failed before there was somebody to tell.
	early error
}

// watch sets who is told.
func (k *background) watch(tell func(error)) {
	k.mu.Lock()
	early := k.early
	k.tell = tell
	k.mu.Unlock()
	if early != nil {
		tell(early)
	}
}

func (k *background) failed(format string, args []any) {
	if k == nil {
		return
	}
	for _, words := range backgroundWrites {
		if !strings.HasPrefix(format, words) {
			continue
		}
		cause := errors.New(words)
		for _, a := range args {
			if err, ok := a.(error); ok {
				cause = fmt.Errorf("%s: %w", words, err)
			}
		}
		k.mu.Lock()
		tell := k.tell
		if tell == nil && k.early == nil {
			k.early = cause
		}
		k.mu.Unlock()
		if tell != nil {
			tell(cause)
		}
	}
}

// backgroundFailed latches the store, but not for a full disk, which is a state:
// Badger tries again, and what it could not move is still in its log. Nor for a
// merge that fails over a damaged table: what is in it is told when it is read,
// and a restart would only meet it again.
func (b *Buffer) backgroundFailed(cause error) {
	merge := !strings.HasPrefix(cause.Error(), backgroundWrites[0])
	if b.closed.Load() || says(cause, errDiskFull) || merge && !diskFailed(cause) {
		return
	}
	b.latch(fmt.Errorf("badger: %w", cause))
}

// diskFailed reports whether an error of Badger is one of the disk.
func diskFailed(err error) bool {
	for _, of := range diskErrors {
		if says(err, of) {
			return true
		}
	}
	return false
}

// says reports whether an error is another one, also where Badger has kept
// nothing of it but its words (y/error.go, Wrap).
func says(err, other error) bool {
	return errors.Is(err, other) || strings.Contains(err.Error(), other.Error())
}
