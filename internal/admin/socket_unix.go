//go:build unix

package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// longestPath is what fits into the address of a socket (sun_path of 108 bytes
// on Linux, 104 on the BSDs and macOS, with a zero at the end).
const longestPath = 103

// socket is the listening socket beside a store.
type socket struct {
	*net.UnixListener
	path string
	info fs.FileInfo
}

var _ Listener = (*socket)(nil)

// Listen opens the socket of the store in folder, for this user alone. The
// caller has the store open, so a socket that is there is one that a killed
// process has left, and is replaced. It never stands there with other rights
// than 0600: it is made in a private folder and then moved to its place.
func Listen(folder string) (Listener, error) {
	fail := func(err error) error { return fmt.Errorf("admin: open the socket in %s: %w", folder, err) }
	private, err := os.MkdirTemp(folder, ".admin-")
	if err != nil {
		return nil, fail(err)
	}
	defer func() { _ = os.RemoveAll(private) }()
	at, done, err := address(private, "s")
	if err != nil {
		return nil, fail(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at, Net: "unix"})
	done()
	if err != nil {
		return nil, fail(err)
	}
	l.SetUnlinkOnClose(false)
	made, path := filepath.Join(private, "s"), filepath.Join(folder, SocketName)
	err = os.Chmod(made, 0o600)
	if err == nil {
		err = os.Rename(made, path)
	}
	var info fs.FileInfo
	if err == nil {
		info, err = os.Lstat(path)
	}
	if err != nil {
		return nil, fail(errors.Join(err, l.Close()))
	}
	return &socket{UnixListener: l, path: path, info: info}, nil
}

// Close closes the socket and removes it, unless it is another's by now.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if info, statErr := os.Lstat(s.path); statErr == nil && os.SameFile(info, s.info) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}

// Accept takes a connection of this user or of root. The mode of the socket
// says so, too; a system that ignores it must not open the gateway to all.
func (s *socket) Accept() (net.Conn, error) {
	for {
		c, err := s.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, known := peerID(c)
		if !known || uid == 0 || uid == uint32(os.Geteuid()) {
			return c, nil
		}
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return nil, err
		}
	}
}

// Peer implements Listener.
func (s *socket) Peer(c net.Conn) string {
	if counted, ok := c.(*counted); ok {
		c = counted.Conn
	}
	if u, ok := c.(*net.UnixConn); ok {
		if uid, known := peerID(u); known {
			return userName(strconv.FormatUint(uint64(uid), 10))
		}
	}
	return "somebody with the rights of the gateway's user"
}

// dial connects to the socket of the store in folder. ErrNotRunning means that
// nobody listens there.
func dial(ctx context.Context, folder string) (net.Conn, error) {
	at, done, err := address(folder, SocketName)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNotRunning
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("admin: connect to %s: %w: run the command as the gateway's user or as root", filepath.Join(folder, SocketName), err)
	}
	if err != nil {
		return nil, fmt.Errorf("admin: connect to %s: %w", filepath.Join(folder, SocketName), err)
	}
	return c, nil
}

// Me names the user of this process, as the audit log has it.
func Me() string { return userName(strconv.Itoa(os.Getuid())) }
