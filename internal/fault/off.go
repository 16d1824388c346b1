//go:build !chaos

package fault

// Hit passes a failpoint whose caller can fail; it returns nil. In a build with
// the tag chaos it returns the error that the rig asked for, or does not return.
func Hit(string) error { return nil }

// Pass passes a failpoint whose caller cannot fail.
func Pass(string) {}

// Enabled reports whether the rig has switched a protection off, for its
// negative controls. It returns false.
func Enabled(string) bool { return false }
