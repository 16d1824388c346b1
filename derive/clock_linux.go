package derive

import "golang.org/x/sys/unix"

// synchronised asks the kernel, see adjtimex(2): TIME_ERROR and STA_UNSYNC mean
// that no time daemon disciplines the clock. A kernel that does not answer (a
// container may forbid the call) is taken at its word.
func synchronised() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err != nil || state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}
