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
	cut      bool
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

// Cut takes the power away: each volatile sector is persisted with probability
// p, drawn in the order of the sectors so that a seed repeats it, and everything
// that follows fails. It returns how many sectors were volatile and persisted.
func (d *Disk) Cut(p float64, r *rand.Rand) (volatile, persisted int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = true
	volatile = len(d.volatile)
	keys := make([]int64, 0, volatile)
	for k := range d.volatile {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if r.Float64() < p {
			persisted++
			if _, e := d.raw.WriteAt(d.volatile[k], k*sector); e != nil {
				err = e
			}
		}
	}
	d.volatile = nil
	return volatile, persisted, err
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
	if d.cut || d.failing {
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
