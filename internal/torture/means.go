//go:build linux

package main

import (
	"os"
	"os/exec"
)

// means says why this machine lacks something, empty if it does not.
type means func() string

func isRoot() string {
	if os.Geteuid() != 0 {
		return "not root"
	}
	return ""
}

func hasFUSE() string {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return "no /dev/fuse"
	}
	return ""
}

func hasLoop() string {
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return "no loop devices"
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		return "no mkfs.ext4: install e2fsprogs"
	}
	return ""
}

func hasCgroup() string {
	if _, err := os.Stat(memoryCgroup + "/memory.limit_in_bytes"); err != nil {
		return "no memory cgroup v1"
	}
	return ""
}

// memoryCgroup is where the memory controller of cgroup v1 is mounted.
const memoryCgroup = "/sys/fs/cgroup/memory"
