package opcua

import "syscall"

func shutdown(fd uintptr) error { return syscall.Shutdown(syscall.Handle(fd), syscall.SHUT_RDWR) }
