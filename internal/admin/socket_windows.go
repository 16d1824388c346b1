package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/user"
	"path/filepath"
	"strings"

	winio "github.com/Microsoft/go-winio"
)

// ownerOnly lets the pipe's owner, administrators and the system in, nobody
// else and nobody over the network.
const ownerOnly = "D:P(D;;GA;;;NU)(A;;GA;;;OW)(A;;GA;;;BA)(A;;GA;;;SY)"

// pipeName is the name of the pipe of a store: pipes have no folders, and two
// gateways on one computer have two stores.
func pipeName(folder string) (string, error) {
	path, err := filepath.Abs(folder)
	if err != nil {
		return "", fmt.Errorf("admin: %w", err)
	}
	sum := sha256.Sum256([]byte(strings.ToLower(path)))
	return `\\.\pipe\sluice-` + hex.EncodeToString(sum[:12]), nil
}

// namedPipe is the listening pipe of a store.
type namedPipe struct{ net.Listener }

var _ Listener = namedPipe{}

// Listen opens the pipe of the store in folder, for this user, administrators
// and the system.
func Listen(folder string) (Listener, error) {
	name, err := pipeName(folder)
	if err != nil {
		return nil, err
	}
	l, err := winio.ListenPipe(name, &winio.PipeConfig{SecurityDescriptor: ownerOnly})
	if err != nil {
		return nil, fmt.Errorf("admin: open the pipe %s: %w", name, err)
	}
	return namedPipe{l}, nil
}

// Peer implements Listener.
func (namedPipe) Peer(net.Conn) string { return "the gateway's user or an administrator" }

func dial(ctx context.Context, folder string) (net.Conn, error) {
	name, err := pipeName(folder)
	if err != nil {
		return nil, err
	}
	c, err := winio.DialPipeContext(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("admin: connect to the pipe %s: %w: run the command as the gateway's user or as an administrator", name, err)
	}
	return c, nil
}

// Me names the user of this process, as the audit log has it.
func Me() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
