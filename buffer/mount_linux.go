package buffer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// mount is one line of /proc/self/mountinfo; see proc(5).
type mount struct {
	device, root, point, fs string
	options                 []string
}

// has reports whether one of the mount's options is any of these.
func (m *mount) has(options ...string) bool {
	for _, have := range m.options {
		for _, o := range options {
			if have == o {
				return true
			}
		}
	}
	return false
}

// mountWarnings says in plain words what about the file system of folder may
// cost events that were called durable.
func mountWarnings(folder string) []string {
	path, err := filepath.EvalSymlinks(folder)
	if err != nil {
		path = folder
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		// Without /proc nothing can be said.
		return nil
	}
	m, ok := mountOf(readMounts(bytes.NewReader(info)), path)
	if !ok {
		return nil
	}
	return m.warnings(path, hasJournal)
}

func readMounts(r io.Reader) (mounts []mount) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 6 || len(tail) < 2 {
			continue
		}
		m := mount{device: head[2], root: unescape(head[3]), point: unescape(head[4]), fs: tail[0], options: strings.Split(head[5], ",")}
		if len(tail) > 2 {
			m.options = append(m.options, strings.Split(tail[2], ",")...)
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// unescape undoes the kernel's octal escapes of blanks.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

// mountOf finds the mount that path is on: the longest mount point above it,
// and of several at one place the last, which covers the others.
func mountOf(mounts []mount, path string) (found mount, ok bool) {
	for _, m := range mounts {
		inside := m.point == "/" || path == m.point || strings.HasPrefix(path, m.point+"/")
		if inside && len(m.point) >= len(found.point) {
			found, ok = m, true
		}
	}
	return found, ok
}

// hasJournal reports whether an ext4 file system has one, by what its driver
// says. known is false where the driver says nothing.
func hasJournal(device string) (journal, known bool) {
	disk, err := filepath.EvalSymlinks("/sys/dev/block/" + device)
	if err != nil {
		return false, false
	}
	task, err := os.ReadFile(filepath.Join("/sys/fs/ext4", filepath.Base(disk), "journal_task"))
	if err != nil {
		return false, false
	}
	return strings.TrimSpace(string(task)) != "<none>", true
}

func (m *mount) warnings(folder string, journal func(device string) (has, known bool)) (list []string) {
	warn := func(problem, remedy string) {
		list = append(list, fmt.Sprintf("%s is on %s (%s, %s): %s", folder, problem, m.fs, m.point, remedy))
	}
	const local = "give buffer.path a folder on a local disk with ext4 or xfs"
	switch fs := m.fs; {
	case fs == "tmpfs" || fs == "ramfs":
		warn("a disk in memory, which is empty after a power cut", local)
	case strings.HasPrefix(fs, "nfs") || fs == "cifs" || fs == "smb3" || fs == "smbfs" || fs == "9p" || fs == "ceph" || fs == "afs":
		warn("another computer's disk, and a write that this one called safe may be lost there", local)
	case fs == "overlay" || fs == "aufs":
		warn("the layer of a container, which goes with the container", "mount a volume of the host at buffer.path")
	case strings.HasPrefix(fs, "fuse"):
		warn("a file system that a program serves, and whether it keeps what it was told to is the program's affair", local)
	case fs == "vfat" || fs == "msdos" || fs == "exfat" || fs == "ext2":
		warn("a file system without a journal, which a power cut may leave in pieces", "use ext4 with its journal, or xfs")
	case fs == "ext4":
		if has, known := journal(m.device); known && !has {
			warn("an ext4 without its journal, which a power cut may leave in pieces", "unmount it and give it one: tune2fs -O has_journal")
		}
	}
	if m.has("nobarrier", "barrier=0") {
		warn("a disk that is not asked to write its cache out, so a power cut loses what was called safe", "mount it without nobarrier")
	}
	return list
}
