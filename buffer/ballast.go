package buffer

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	random "math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/durable"
)

// The ballast is a file that is really written, not sparse, so that giving it
// up makes space for certain: Badger is killed by the kernel on a full disk and
// needs space even to open and to delete.
const (
	ballastName = "ballast"
	// ballastTemp is a ballast under way; a kill leaves it behind.
	ballastTemp = ballastName + ".tmp"
	// ballastChunk is written at once: little, so that commits get their turn.
	ballastChunk = 1 << 20
	// ballastAfter is how long the disk must have been under the floor before a
	// running gateway gives its ballast up: whoever fills the disk would only
	// fill that too.
	ballastAfter = 10 * time.Second
	// ballastPause spaces the attempts to make one.
	ballastPause = 30 * time.Second
)

// dropBallast removes the ballast, or what a kill left of one, and reports
// whether there was any. free is for the log.
func (o *Options) dropBallast(log *zap.Logger, free int64) bool {
	dropped := false
	for _, name := range []string{ballastName, ballastTemp} {
		switch err := os.Remove(filepath.Join(o.Path, name)); {
		case err == nil:
			dropped = true
		case !errors.Is(err, fs.ErrNotExist):
			log.Warn("the ballast file cannot be removed", zap.Error(err))
		}
	}
	if dropped {
		log.Warn("the disk is nearly full: the ballast is given up to have room for delivering", zap.Int64("free_bytes", free))
	}
	return dropped
}

// ballastSize is what a ballast takes that is there, 0 for none.
func (o *Options) ballastSize() int64 {
	info, err := os.Stat(filepath.Join(o.Path, ballastName))
	if err != nil {
		return 0
	}
	return info.Size()
}

// keepBallast gives the ballast up where the disk stays so full that nothing
// can be delivered, and makes it again when there is room. The keeper calls it.
func (b *Buffer) keepBallast() error {
	s := &b.space
	s.mu.Lock()
	free, have, low := s.free, s.ballast, s.lowSince
	unsure := !s.failed.IsZero()
	s.mu.Unlock()
	now := b.opts.now()
	switch want := b.opts.Ballast; {
	case unsure || have == want:
		if have == 0 || unsure || low.IsZero() || now.Sub(low) < ballastAfter {
			return nil
		}
		b.opts.dropBallast(b.log, free)
		b.setBallast(0)
		b.measure()
		return nil
	case have > want:
		// Made under another setting.
		b.opts.dropBallast(b.log, free)
		b.setBallast(0)
		return nil
	case free+have < b.opts.ballastRoom() || now.Sub(b.keeper.ballasted) < ballastPause:
		return nil
	}
	return b.makeBallast()
}

// closeNeeds is what Badger may write when it is closed: the log under way as a
// table, and what a compaction behind it takes.
const closeNeeds = 2*memTableSize + 4<<20

// roomToClose reports whether there is room to close Badger. It gives the
// ballast up for it.
func (b *Buffer) roomToClose() bool {
	b.measure()
	if b.space.freeNow() < closeNeeds && b.opts.dropBallast(b.log, b.space.freeNow()) {
		b.setBallast(0)
		b.measure()
	}
	return b.space.freeNow() >= closeNeeds
}

// ballastRoom is the free space at which a ballast is made: enough that the
// disk is not nearly full again behind it.
func (o *Options) ballastRoom() int64 { return o.reopen() + o.Ballast + o.Ballast/4 }

func (b *Buffer) setBallast(size int64) {
	b.keeper.ballasted = b.opts.now()
	b.space.mu.Lock()
	b.space.ballast = size
	b.space.mu.Unlock()
}

// makeBallast writes the ballast out and syncs it. It stops where the disk gets
// short meanwhile.
func (b *Buffer) makeBallast() error {
	temp, path := filepath.Join(b.opts.Path, ballastTemp), filepath.Join(b.opts.Path, ballastName)
	err := b.writeBallast(temp)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		err = durable.SyncFolder(b.opts.Path)
	}
	if err != nil {
		b.setBallast(b.opts.ballastSize())
		return errors.Join(fmt.Errorf("make the ballast: %w", err), removeIfThere(temp))
	}
	b.setBallast(b.opts.Ballast)
	b.log.Debug("the ballast is made", zap.Int64("bytes", b.opts.Ballast))
	b.measure()
	return nil
}

// errShort says that the disk got short while the ballast was made.
var errShort = errors.New("the disk got short of space")

func (b *Buffer) writeBallast(path string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Random, so that no file system makes it small. It is no secret: the kernel's
	// own source, which takes five times as long, gives the seed only.
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return err
	}
	source := random.NewChaCha8(seed)
	chunk := make([]byte, ballastChunk)
	for left := b.opts.Ballast; left > 0; left -= int64(len(chunk)) {
		if err := b.keeper.ctx.Err(); err != nil {
			return err
		}
		if b.measure(); b.space.freeNow() < b.opts.reopen() {
			return errShort
		}
		chunk = chunk[:min(left, ballastChunk)]
		if _, err := source.Read(chunk); err != nil {
			return err
		}
		if _, err := f.Write(chunk); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func (s *space) freeNow() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
