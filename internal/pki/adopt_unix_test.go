//go:build unix

package pki

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What root types must not shut the gateway's user out of its own certificate.
func TestWhatRootMakesBelongsToTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make something for somebody else")
	}
	const nobody = 65534
	data := t.TempDir()
	if err := os.Chown(data, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s := New(filepath.Join(data, "pki"))
	if _, _, err := s.Own("gw-1"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"pki", "pki/own", "pki/own/gateway.pem", "pki/own/gateway.der"} {
		info, err := os.Stat(filepath.Join(data, path))
		if err != nil {
			t.Fatal(err)
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); !ok || owner.Uid != nobody || owner.Gid != nobody {
			t.Errorf("%s belongs to %+v", path, owner)
		}
	}
}
