// Package fault holds the failpoints: named places at which the torture rig can
// kill, stop or fail the gateway. Without the build tag chaos every function is
// inlined to nothing, and no trace of it is in the binary.
package fault
