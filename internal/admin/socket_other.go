//go:build unix && !linux

package admin

import (
	"fmt"
	"net"
	"path/filepath"
)

// peerID is not known here; the mode of the socket keeps others out.
func peerID(*net.UnixConn) (uid uint32, known bool) { return 0, false }

func address(folder, name string) (at string, done func(), err error) {
	path := filepath.Join(folder, name)
	if len(path) > longestPath {
		return "", nil, fmt.Errorf("the path %s has %d bytes, and a socket's has %d at most: choose a shorter buffer path", path, len(path), longestPath)
	}
	return path, func() {}, nil
}
