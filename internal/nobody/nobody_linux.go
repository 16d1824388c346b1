// Package nobody lets tests see what a user sees who has no right to the files,
// also where the tests run as root.
package nobody

import (
	"os"
	"runtime"
	"syscall"
	"testing"
)

// Become takes root's rights to files from the test's thread until it ends, so
// that a refusal can be tested as root too. Linux has the rights to files by the
// thread (setfsuid(2)): what the test begins in other goroutines keeps them.
func Become(t *testing.T) {
	t.Helper()
	const nobody = 65534
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()
	if err := syscall.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setfsuid(0); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
	})
}
