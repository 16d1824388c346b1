//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/torture/disk"
)

// readOnly lets the kernel make the file system read-only under load, as it does
// when it finds an error, and lets somebody mount it so while the gateway is away.
// The gateway ends with its code, refuses or waits as long as that lasts, and goes
// on once the file system can be written again: nobody has to delete anything.
// After an error Linux lets nobody remount it for writing (emergency_ro), so there
// it is unmounted, every other time checked as a boot does, and mounted again.
func readOnly(t *trial) error {
	b, v, err := t.onVolume(false)
	if err != nil {
		return err
	}
	refused := 0
	for t.next() {
		n, err := t.readOnlyOnce(b, v)
		if err != nil {
			return fmt.Errorf("read-only %d: %w", t.done, err)
		}
		refused += n
	}
	t.summarise(b)
	t.say("%d of %d starts on a read-only file system were refused, the others waited", refused, 2*t.done)
	if err := b.start(); err != nil {
		return err
	}
	return b.settle()
}

func (t *trial) readOnlyOnce(b *bed, v *volume) (refused int, err error) {
	if err := b.running(); err != nil {
		return 0, err
	}
	if err := v.loop.Damage(); err != nil {
		return 0, err
	}
	if err := b.ends(); err != nil {
		return 0, err
	}
	b.rest()
	if refused, err = b.staysOut(); err != nil {
		return 0, err
	}
	if err := v.loop.Unmount(); err != nil {
		return 0, err
	}
	v.loop = nil
	if t.done%2 == 0 {
		err = disk.Repair(v.image)
	}
	if err := errors.Join(err, v.mount()); err != nil {
		return 0, err
	}
	if err := b.running(); err != nil {
		return 0, fmt.Errorf("mounted again: %w", err)
	}
	b.gateway.kill()
	b.rest()
	if err := v.loop.Writable(false); err != nil {
		return 0, err
	}
	n, err := b.staysOut()
	if err := errors.Join(err, v.loop.Writable(true)); err != nil {
		return 0, err
	}
	if err := b.running(); err != nil {
		return 0, fmt.Errorf("remounted for writing: %w", err)
	}
	b.gateway.kill()
	b.rest()
	return refused + n, nil
}

// staysOut starts the gateway on a read-only file system: it records nothing, and
// if it does not wait it says why.
func (b *bed) staysOut() (refused int, err error) {
	if err := b.start(); err != nil {
		return 0, err
	}
	b.load(10 * time.Millisecond)
	over := b.gateway.wait(patienceFull)
	if n := b.gateway.tapped.Load(); n > 0 {
		return 0, fmt.Errorf("%d events were accepted on a read-only file system\n%s", n, b.gateway.tail())
	}
	if over {
		words := b.gateway.tail()
		if code := b.gateway.cmd.ProcessState.ExitCode(); (code != 1 && code != exitStorage) || !strings.Contains(words, "read-only") || !strings.Contains(words, b.buffer) {
			return 0, fmt.Errorf("on a read-only file system it ended with %v and does not name it\n%s", b.gateway.cmd.ProcessState, words)
		}
		refused = 1
	}
	b.gateway.kill()
	b.rest()
	return refused, nil
}
