package card

import "syscall"

// onCard makes a socket use one card only, also where another card's network has
// the same addresses. A kernel or a container that forbids it leaves the choice
// to the routes and to the card's own address.
func onCard(c syscall.RawConn, card string) error {
	return c.Control(func(fd uintptr) { _ = syscall.BindToDevice(int(fd), card) })
}
