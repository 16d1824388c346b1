package admin

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// peerID asks the kernel who connected (SO_PEERCRED, unix(7)).
func peerID(c *net.UnixConn) (uid uint32, known bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || failed != nil {
		return 0, false
	}
	return cred.Uid, true
}

// address returns how a socket is named to the kernel. A path that is too long
// is named through the descriptor of its folder (proc(5)).
func address(folder, name string) (at string, done func(), err error) {
	path := filepath.Join(folder, name)
	if len(path) <= longestPath {
		return path, func() {}, nil
	}
	d, err := os.Open(folder)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), func() { _ = d.Close() }, nil
}
