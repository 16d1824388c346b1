//go:build linux

// Package disk is a block device that can lose power: a FUSE file over a raw
// image that keeps each written 512-byte sector volatile until it is told to
// flush, fails writes on demand, and at the cut persists a random part of what
// is volatile. Linux mounts it through a loop device as any other disk.
package disk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// fileName is the one file of the mount.
const fileName = "disk.img"

// Disk is one power-on of a block device. Make one with Open.
type Disk struct {
	fs.Inode
	server *fuse.Server
	folder string

	mu       sync.Mutex
	raw      *os.File
	size     int64
	volatile map[int64][]byte
	failing  bool
	failed   int
	outage   *Outage
	gone     chan struct{}
	cut      bool
	lost     int
	broken   error
}

var (
	_ fs.NodeGetattrer = (*Disk)(nil)
	_ fs.NodeSetattrer = (*Disk)(nil)
	_ fs.NodeOpener    = (*Disk)(nil)
	_ fs.NodeReader    = (*Disk)(nil)
	_ fs.NodeWriter    = (*Disk)(nil)
	_ fs.NodeFsyncer   = (*Disk)(nil)
)

// root holds the file.
type root struct {
	fs.Inode
	disk *Disk
}

// OnAdd implements fs.NodeOnAdder.
func (r *root) OnAdd(ctx context.Context) {
	r.AddChild(fileName, r.NewPersistentInode(ctx, r.disk, fs.StableAttr{Mode: syscall.S_IFREG}), false)
}

// Open powers the disk on: the image becomes the file File in folder, which must
// be empty. It needs root and /dev/fuse.
func Open(image, folder string) (*Disk, error) {
	raw, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	info, err := raw.Stat()
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	d := &Disk{folder: folder, raw: raw, size: info.Size(), volatile: map[int64][]byte{}}
	forever := time.Hour
	d.server, err = fs.Mount(folder, &root{disk: d}, &fs.Options{
		AttrTimeout: &forever, EntryTimeout: &forever,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, MaxWrite: 1 << 17, FsName: "sluice-torture", Name: "torndisk"},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("disk: mount on %s: %w", folder, err), raw.Close())
	}
	return d, nil
}

// File is the path to attach a loop device to.
func (d *Disk) File() string { return d.folder + "/" + fileName }

// Fail makes every write and every flush fail with EIO, or work again. It
// returns how many have failed since the disk was opened.
func (d *Disk) Fail(on bool) (failed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = on
	return d.failed
}

// Outage says when the power goes and what it leaves behind.
type Outage struct {
	// Flush is how many flushes from now the power goes, in the middle of that
	// one: all that was written since the last is then volatile. Write is the
	// same for writes. 0 for both means at once.
	Flush, Write int
	// Persist is the probability with which each volatile sector is persisted,
	// drawn from Rand in the order of the sectors, so that a seed repeats it.
	Persist float64
	Rand    *rand.Rand
}

// Cut takes the power away at o; everything that follows fails. The channel is
// closed when it has gone.
func (d *Disk) Cut(o Outage) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outage, d.gone = &o, make(chan struct{})
	if o.Flush == 0 && o.Write == 0 {
		d.die()
	}
	return d.gone
}

// die makes the cut. It is called with d.mu held.
func (d *Disk) die() {
	d.cut = true
	keys := make([]int64, 0, len(d.volatile))
	for k := range d.volatile {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	d.lost = len(keys)
	for _, k := range keys {
		if d.outage.Rand.Float64() < d.outage.Persist {
			if _, err := d.raw.WriteAt(d.volatile[k], k*sector); err != nil {
				d.broken = err
			}
		}
	}
	d.volatile = nil
	close(d.gone)
}

// due counts down to the cut and reports whether it has come. It is called with
// d.mu held.
func (d *Disk) due(left func(*Outage) *int) bool {
	if d.outage == nil || d.cut {
		return false
	}
	n := left(d.outage)
	if *n == 0 {
		return false
	}
	if *n--; *n > 0 {
		return false
	}
	d.die()
	return true
}

// Volatile returns how many sectors were volatile at the cut, and an error if
// the image could not take those that persist.
func (d *Disk) Volatile() (sectors int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost, d.broken
}

// Close unmounts the file and closes the image; what is volatile is lost. The
// loop device must be detached.
func (d *Disk) Close() error {
	err := d.server.Unmount()
	if err != nil {
		err = errors.Join(err, syscall.Unmount(d.folder, syscall.MNT_DETACH))
	}
	d.server.Wait()
	return errors.Join(err, d.raw.Close())
}

// Getattr implements fs.NodeGetattrer.
func (d *Disk) Getattr(_ context.Context, _ fs.FileHandle, o *fuse.AttrOut) syscall.Errno {
	o.Size, o.Mode = uint64(d.size), syscall.S_IFREG|0o600
	return 0
}

// Setattr implements fs.NodeSetattrer: a disk has a fixed size, and times that
// nobody looks at.
func (d *Disk) Setattr(ctx context.Context, h fs.FileHandle, _ *fuse.SetAttrIn, o *fuse.AttrOut) syscall.Errno {
	return d.Getattr(ctx, h, o)
}

// Open implements fs.NodeOpener.
func (d *Disk) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) { return nil, 0, 0 }

// Read implements fs.NodeReader.
func (d *Disk) Read(_ context.Context, _ fs.FileHandle, b []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cut {
		return nil, syscall.EIO
	}
	n, err := d.raw.ReadAt(b, off)
	if err != nil && n == 0 && off < d.size {
		return nil, syscall.EIO
	}
	for i := int64(0); i+sector <= int64(n); i += sector {
		if v, ok := d.volatile[(off+i)/sector]; ok {
			copy(b[i:], v)
		}
	}
	return fuse.ReadResultData(b[:n]), 0
}

// Write implements fs.NodeWriter.
func (d *Disk) Write(_ context.Context, _ fs.FileHandle, b []byte, off int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failing {
		d.failed++
	}
	if d.cut || d.failing || off%sector != 0 || len(b)%sector != 0 {
		return 0, syscall.EIO
	}
	if d.due(func(o *Outage) *int { return &o.Write }) {
		return 0, syscall.EIO
	}
	for i := 0; i < len(b); i += sector {
		d.volatile[(off+int64(i))/sector] = slices.Clone(b[i : i+sector])
	}
	return uint32(len(b)), 0
}

// Fsync implements fs.NodeFsyncer: it is the disk's flush.
func (d *Disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failing {
		d.failed++
	}
	if d.cut || d.failing || d.due(func(o *Outage) *int { return &o.Flush }) {
		return syscall.EIO
	}
	for k, v := range d.volatile {
		if _, err := d.raw.WriteAt(v, k*sector); err != nil {
			return syscall.EIO
		}
	}
	clear(d.volatile)
	return 0
}
