//go:build !linux

package card

import "syscall"

// onCard has nothing to add to the card's own address here.
func onCard(syscall.RawConn, string) error { return nil }
