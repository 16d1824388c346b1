//go:build !linux

package buffer

import (
	"os"
	"testing"
)

// asNobody has nothing to take from who is not root.
func asNobody(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere, and only Linux lets a thread give that up")
	}
}
