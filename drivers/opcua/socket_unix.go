//go:build !windows

package opcua

import "syscall"

func shutdown(fd uintptr) error { return syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }
