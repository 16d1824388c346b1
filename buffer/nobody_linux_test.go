package buffer

import (
	"os"
	"runtime"
	"syscall"
	"testing"
)

// asNobody takes root's rights to files from the test's thread until it ends, so
// that a refusal can be tested as root too. Linux has the rights to files by the
// thread (setfsuid(2)).
func asNobody(t *testing.T) {
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
