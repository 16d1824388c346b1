//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-edge/sluice/internal/torture/disk"
	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// powered is a disk that can lose power, with a journalled file system on it.
type powered struct {
	image, fuse, mount string
	disk               *disk.Disk
	loop               *disk.Loop
}

// diskSize is that of the disks that are cut.
const diskSize = 384 << 20

// newPowered formats a disk in dir, still switched off.
func newPowered(dir string) (*powered, error) {
	p := &powered{image: filepath.Join(dir, "disk.img"), fuse: filepath.Join(dir, "device"), mount: filepath.Join(dir, "mount")}
	for _, d := range []string{p.fuse, p.mount} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	return p, disk.Format(p.image, diskSize)
}

// on powers the disk on and mounts it, which replays its journal.
func (p *powered) on() error {
	var err error
	if p.disk, err = disk.Open(p.image, p.fuse); err != nil {
		return err
	}
	if p.loop, err = disk.Mount(p.disk.File(), p.mount); err != nil {
		err = errors.Join(err, p.disk.Close())
		p.disk = nil
	}
	return err
}

// off takes the dead disk away. Nobody may use it any more.
func (p *powered) off() (err error) {
	if p.loop != nil {
		err = p.loop.Unmount()
		p.loop = nil
	}
	if p.disk != nil {
		err = errors.Join(err, p.disk.Close())
		p.disk = nil
	}
	return err
}

// poweredBed is a bed whose buffer is on a disk that can be cut.
func (t *trial) poweredBed() (*bed, *powered, error) {
	p, err := newPowered(t.dir)
	if err != nil {
		return nil, nil, err
	}
	t.later(func() {
		if err := p.off(); err != nil {
			t.say("clean up: %v", err)
		}
	})
	b, err := t.bed(roomy, oracle.Options{NoLoss: true})
	if err != nil {
		return nil, nil, err
	}
	b.buffer = filepath.Join(p.mount, "buffer")
	return b, p, p.on()
}

// persisted are the parts of the volatile sectors that a cut leaves behind.
var persisted = []float64{0, .1, .5, .9}

// cut takes the power away, and with it the gateway, and gives it back.
func (b *bed) cut(p *powered, o disk.Outage) (volatile int, err error) {
	gone := p.disk.Cut(o)
	select {
	case <-gone:
	case <-b.gateway.ended: // nobody writes any more
		return 0, fmt.Errorf("before the cut the gateway ended by itself, %v:\n%s", b.gateway.cmd.ProcessState, b.gateway.tail())
	case <-time.After(waitReady):
		return 0, fmt.Errorf("the disk was not written to for %v\n%s", waitReady, b.gateway.tail())
	}
	volatile, err = p.disk.Volatile()
	b.gateway.kill()
	b.rest()
	return volatile, errors.Join(err, p.off(), p.on())
}

// outage draws when the power goes: at once, in the middle of a flush, or in the
// middle of what is written for one.
func (t *trial) outage() disk.Outage {
	o := disk.Outage{Persist: persisted[t.done%len(persisted)], Rand: t.rand}
	switch t.rand.IntN(5) {
	case 0:
	case 1:
		o.Write = 1 + t.rand.IntN(20)
	default:
		o.Flush = 1 + t.rand.IntN(6)
	}
	return o
}

// powerCuts cuts the power under load, again and again, on one growing disk.
func powerCuts(t *trial) error {
	b, p, err := t.poweredBed()
	if err != nil {
		return err
	}
	// Most cuts find a few sectors that are not on the disk yet, few find thousands:
	// where there were too few to prove anything, the power is cut more often.
	sectors, enough, most := 0, 10*t.n, 6*t.n
	if t.n < 10 {
		enough = 0
	}
	for t.next() {
		volatile, err := b.cutOnce(t, p)
		if err != nil {
			return fmt.Errorf("cut %d: %w", t.done, err)
		}
		if sectors += volatile; sectors < enough && t.done == t.n && t.n < most {
			t.n++
		}
	}
	t.summarise(b)
	t.say("%d volatile sectors at the cuts", sectors)
	if sectors < enough {
		return fmt.Errorf("only %d volatile sectors in %d cuts: too few to prove anything", sectors, t.done)
	}
	if err := b.start(); err != nil {
		return err
	}
	return b.settle()
}

func (b *bed) cutOnce(t *trial, p *powered) (volatile int, err error) {
	if err := b.start(); err != nil {
		return 0, err
	}
	b.load(60 * time.Millisecond)
	away := t.done%3 == 0
	if t.rand.IntN(10) < 8 {
		if err := b.accepting(int64(1 + t.rand.IntN(60))); err != nil {
			return 0, err
		}
		if err := b.drained(); err != nil {
			return 0, err
		}
	}
	if away {
		if err := b.sinks.shut(true); err != nil {
			return 0, err
		}
	}
	pause(t.upTo(400 * time.Millisecond))
	if b.gateway.over() {
		return 0, fmt.Errorf("the gateway ended by itself, %v:\n%s", b.gateway.cmd.ProcessState, b.gateway.tail())
	}
	volatile, err = b.cut(p, t.outage())
	if away {
		err = errors.Join(err, b.sinks.shut(false))
	}
	return volatile, err
}

// stopped waits until the gateway has stopped itself at a failpoint.
func (b *bed) stopped() error {
	return b.until(waitReady, "the gateway does not reach the failpoint", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.gateway.cmd.Process.Pid))
		_, state, _ := strings.Cut(string(text), ") ")
		return err == nil && strings.HasPrefix(state, "T")
	})
}

// failCommit lets a commit of several pages fail with EIO, by stopping the
// gateway just before it and just after. With good set the disk works again
// before the gateway has heard of it.
func (b *bed) failCommit(t *trial, p *powered, heals bool, fail ...string) error {
	n := 3 + t.rand.IntN(25)
	// While a commit sleeps, what the machines say piles up for the next one.
	plan := append([]string{
		fmt.Sprintf("commit.before=%d:sleep400ms", n),
		fmt.Sprintf("commit.before=%d:stop", n+2),
		"commit.failed=1:stop",
	}, fail...)
	if err := b.start(plan...); err != nil {
		return err
	}
	b.load(20 * time.Millisecond)
	if err := b.stopped(); err != nil {
		return err
	}
	p.disk.Fail(true)
	b.gateway.signal(syscall.SIGCONT)
	err := b.stopped()
	if heals {
		p.disk.Fail(false)
	}
	if b.gateway.over() {
		// Another write, that of the mark or of a table, has met the disk first
		// and latched the store; whoever asked looks at the exit code.
		return nil
	}
	if err != nil {
		return fmt.Errorf("a commit on a disk that fails every write was not reported: %w", err)
	}
	b.gateway.signal(syscall.SIGCONT)
	return nil
}

// exitStorage is the documented code of a latched buffer, exitWithin the time it
// has.
const (
	exitStorage = 70
	exitWithin  = 10 * time.Second
)

// ends waits for the exit of a latched gateway.
func (b *bed) ends() error {
	if !b.gateway.wait(exitWithin) {
		return fmt.Errorf("after a failed commit the gateway did not end within %v\n%s", exitWithin, b.gateway.tail())
	}
	if code := b.gateway.cmd.ProcessState.ExitCode(); code != exitStorage {
		return fmt.Errorf("after a failed commit the gateway ended with %v, want exit code %d\n%s", b.gateway.cmd.ProcessState, exitStorage, b.gateway.tail())
	}
	return nil
}

// oneEIO lets one commit fail, restarts the gateway on the disk that works
// again, and cuts the power later.
func oneEIO(t *trial) error {
	b, p, err := t.poweredBed()
	if err != nil {
		return err
	}
	remounts := 0
	for t.next() {
		if err := b.failCommit(t, p, true); err != nil {
			return fmt.Errorf("EIO %d: %w", t.done, err)
		}
		if err := b.ends(); err != nil {
			return fmt.Errorf("EIO %d: %w", t.done, err)
		}
		if !writable(p.mount) {
			// The journal was hit too: the kernel has made the file system
			// read-only, and only a new mount helps.
			remounts++
			<-p.disk.Cut(disk.Outage{Rand: t.rand})
			if err := errors.Join(p.off(), p.on()); err != nil {
				return err
			}
		}
		if err := b.start(); err != nil {
			return err
		}
		b.load(20 * time.Millisecond)
		if err := b.accepting(int64(50 + t.rand.IntN(200))); err != nil {
			return fmt.Errorf("EIO %d: after the restart: %w", t.done, err)
		}
		if _, err := b.cut(p, t.outage()); err != nil {
			return err
		}
	}
	t.summarise(b)
	t.say("%d times the file system became read-only", remounts)
	if err := b.start(); err != nil {
		return err
	}
	return b.settle()
}

// writable reports whether a file can be made in the folder.
func writable(dir string) bool {
	probe, err := os.CreateTemp(dir, ".rig-*")
	if err != nil {
		return false
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name())) == nil
}

// goodEIO lets every write fail from a commit on: the gateway must end with its
// code in time, must not hang at the next start, and must lose nothing.
func goodEIO(t *trial) error {
	b, p, err := t.poweredBed()
	if err != nil {
		return err
	}
	for t.next() {
		if err := b.failCommit(t, p, false); err != nil {
			return fmt.Errorf("EIO for good %d: %w", t.done, err)
		}
		if err := b.ends(); err != nil {
			return fmt.Errorf("EIO for good %d: %w", t.done, err)
		}
		if err := b.start(); err != nil {
			return err
		}
		// It may wait for the disk or refuse; it must not accept.
		b.gateway.wait(500 * time.Millisecond)
		if n := b.gateway.tapped.Load(); n > 0 {
			return fmt.Errorf("EIO for good %d: %d events were accepted on a disk that takes no write", t.done, n)
		}
		b.gateway.kill()
		b.rest()
		<-p.disk.Cut(disk.Outage{Persist: persisted[t.done%len(persisted)], Rand: t.rand})
		if err := errors.Join(p.off(), p.on()); err != nil {
			return err
		}
	}
	t.summarise(b)
	if err := b.start(); err != nil {
		return err
	}
	return b.settle()
}

// controlFailstop goes on after the failed commit.
func controlFailstop(t *trial) error {
	for t.next() {
		if err := t.attempt(func(b *bed, p *powered) error {
			if err := b.failCommit(t, p, true, "failstop.off=on", "mark.off=on"); err != nil {
				return err
			}
			err := b.accepting(b.gateway.tapped.Load() + 400)
			if b.gateway.over() {
				b.rest()
				return nil // one of Badger's own writes has ended it: the next try
			}
			if err != nil {
				return err
			}
			_, err = b.cut(p, disk.Outage{Rand: t.rand})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// controlSync commits without waiting for the disk.
func controlSync(t *trial) error {
	for t.next() {
		if err := t.attempt(func(b *bed, p *powered) error {
			if err := b.start("sync.off=on"); err != nil {
				return err
			}
			b.load(20 * time.Millisecond)
			if err := b.accepting(300); err != nil {
				return err
			}
			_, err := b.cut(p, disk.Outage{Rand: t.rand})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// attempt makes one try of a control on a new disk: with the receivers away, so
// that what the disk loses is lost, then a start, and the oracle's word.
func (t *trial) attempt(do func(*bed, *powered) error) error {
	defer t.clean()
	b, p, err := t.poweredBed()
	if err != nil {
		return err
	}
	if err := errors.Join(b.sinks.shut(true), do(b, p), b.sinks.shut(false)); err != nil {
		return err
	}
	if err := b.start(); err != nil {
		return err
	}
	if err := b.accepting(20); err != nil {
		return err
	}
	return b.settleShort()
}
