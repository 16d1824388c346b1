//go:build !linux

package buffer

// mountWarnings knows nothing of other systems' file systems.
func mountWarnings(string) []string { return nil }
