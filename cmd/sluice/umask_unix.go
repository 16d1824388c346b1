//go:build unix

package main

import "golang.org/x/sys/unix"

// privateFiles keeps every file that the process makes from all other users,
// also those that libraries make with wider rights (Badger: 0666 less the
// umask).
func privateFiles() { unix.Umask(0o077) }
