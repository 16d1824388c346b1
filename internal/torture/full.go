//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/torture/disk"
	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// smallDisk is the size of the disks that are filled: the reserve, the ballast
// and the store, and some more.
const smallDisk = 224 << 20

// volume is a small file system with the buffer on it.
type volume struct {
	folder, filler string
	loop           *disk.Loop // nil for a tmpfs
	image          string
}

// volume mounts a small ext4, or a tmpfs.
func (t *trial) volume(tmpfs bool) (*volume, error) {
	v := &volume{folder: filepath.Join(t.dir, "volume"), image: filepath.Join(t.dir, "volume.img")}
	v.filler = filepath.Join(v.folder, "filler")
	if err := os.MkdirAll(v.folder, 0o700); err != nil {
		return nil, err
	}
	if tmpfs {
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", smallDisk), "sluice-torture", v.folder).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("mount a tmpfs: %w\n%s", err, out)
		}
		t.later(func() {
			if out, err := exec.Command("umount", "-l", v.folder).CombinedOutput(); err != nil {
				t.say("clean up: %v %s", err, out)
			}
		})
		return v, nil
	}
	if err := disk.Format(v.image, smallDisk); err != nil {
		return nil, err
	}
	t.later(func() {
		if v.loop == nil {
			return
		}
		if err := v.loop.Unmount(); err != nil {
			t.say("clean up: %v", err)
		}
	})
	return v, v.mount()
}

func (v *volume) mount() (err error) {
	v.loop, err = disk.Mount(v.image, v.folder)
	return err
}

// fill lets a foreign process take the space until so many bytes are left, 0 for
// all of it.
func (v *volume) fill(leave int64) error {
	free, err := disk.Free(v.folder)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(v.filler, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for left := free - leave; left > 0; {
		n, err := f.Write(block[:min(left, int64(len(block)))])
		left -= int64(n)
		if err != nil {
			if leave == 0 {
				break // full, as was wanted
			}
			return errors.Join(err, f.Close())
		}
	}
	_ = f.Sync() // it may find no room either
	return f.Close()
}

// free gives the space of the foreign process back.
func (v *volume) free() error { return os.Remove(v.filler) }

// onVolume makes a bed with its buffer on a small file system.
func (t *trial) onVolume(tmpfs bool) (*bed, *volume, error) {
	v, err := t.volume(tmpfs)
	if err != nil {
		return nil, nil, err
	}
	b, err := t.bed(keeping, oracle.Options{NoLoss: true})
	if err != nil {
		return nil, nil, err
	}
	b.buffer = filepath.Join(v.folder, "buffer")
	return b, v, nil
}

// fullByItself lets the gateway fill what a foreign process has left, with the
// receivers away: it stops recording before the disk is full, and goes on when
// there is room.
func fullByItself(t *trial) error {
	for t.next() {
		if err := t.fullOnce(t.done%2 == 0, func(b *bed, v *volume) error {
			if err := b.running(); err != nil {
				return err
			}
			if err := b.sinks.shut(true); err != nil {
				return err
			}
			const reserve, room = 32 << 20, 3 << 20
			if err := v.fill(reserve + room); err != nil {
				return err
			}
			if err := b.until(waitSettle, "the disk does not fill", func() bool { return strings.Contains(b.gateway.said(), "recording waits") }); err != nil {
				return err
			}
			pause(500 * time.Millisecond)
			if err := b.keepsItsRecord(); err != nil {
				return err
			}
			return errors.Join(b.sinks.shut(false), v.free())
		}); err != nil {
			return fmt.Errorf("full by itself %d: %w", t.done, err)
		}
	}
	return nil
}

// keepsItsRecord checks that on a full disk no handshake is completed: the PLC
// offers a dose, goes on weighing, and keeps each record. settle then finds every
// one of them at the receivers.
func (b *bed) keepsItsRecord() error {
	if err := b.until(waitReady, "the scale offers no dose", func() bool { return b.plant.waiting() > 1 }); err != nil {
		return err
	}
	tapped, told := b.gateway.tapped.Load(), len(b.plant.Acknowledged())
	pause(patienceFull)
	if n := len(b.plant.Acknowledged()) - told; n != 0 && b.gateway.tapped.Load() == tapped {
		return fmt.Errorf("on a full disk %d doses were acknowledged and nothing was recorded\n%s", n, b.gateway.tail())
	}
	if n := b.plant.waiting(); n < 2 {
		return fmt.Errorf("on a full disk %d doses wait, and two or more did\n%s", n, b.gateway.tail())
	}
	return nil
}

// running starts the gateway under load and waits until it works.
func (b *bed) running() error {
	if err := b.start(); err != nil {
		return err
	}
	b.load(10 * time.Millisecond)
	if err := b.accepting(50); err != nil {
		return err
	}
	return b.drained()
}

func (t *trial) fullOnce(tmpfs bool, do func(*bed, *volume) error) error {
	defer t.clean()
	b, v, err := t.onVolume(tmpfs)
	if err != nil {
		return err
	}
	if err := do(b, v); err != nil {
		return err
	}
	if b.gateway.over() {
		if err := b.start(); err != nil {
			return err
		}
	}
	if err := b.accepting(b.gateway.tapped.Load() + 50); err != nil {
		return fmt.Errorf("with room on the disk again: %w", err)
	}
	return b.settle()
}

// patienceFull is how long a gateway is watched on a full disk.
const patienceFull = 1500 * time.Millisecond

// fullByOthers lets a foreign process fill the disk to the last byte under load.
// One crash is allowed, and the start after it must not crash.
func fullByOthers(t *trial) error {
	crashes := 0
	for t.next() {
		if err := t.fullOnce(t.done%2 == 0, func(b *bed, v *volume) error {
			if err := b.running(); err != nil {
				return err
			}
			if err := v.fill(0); err != nil {
				return err
			}
			if b.gateway.wait(patienceFull) {
				crashes++
				if err := b.start(); err != nil {
					return err
				}
				if b.gateway.wait(patienceFull) {
					return fmt.Errorf("it crashed twice on a full disk, %v\n%s", b.gateway.cmd.ProcessState, b.gateway.tail())
				}
			}
			return v.free()
		}); err != nil {
			return fmt.Errorf("filled by others %d: %w", t.done, err)
		}
	}
	t.say("%d of %d gateways ended when the disk was filled, and started again", crashes, t.done)
	return nil
}

// fullAtStart starts the gateway on a disk without a free byte: it waits.
func fullAtStart(t *trial) error {
	for t.next() {
		if err := t.fullOnce(t.done%2 == 0, func(b *bed, v *volume) error {
			if err := b.running(); err != nil {
				return err
			}
			b.gateway.kill()
			b.rest()
			if err := v.fill(0); err != nil {
				return err
			}
			if err := b.start(); err != nil {
				return err
			}
			b.load(10 * time.Millisecond)
			if b.gateway.wait(patienceFull) {
				return fmt.Errorf("it ended on a full disk instead of waiting, %v\n%s", b.gateway.cmd.ProcessState, b.gateway.tail())
			}
			return v.free()
		}); err != nil {
			return fmt.Errorf("full at the start %d: %w", t.done, err)
		}
	}
	return nil
}
