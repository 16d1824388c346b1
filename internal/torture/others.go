//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// oldCopy puts an old copy of the store back: of Badger's folder alone, which the
// high-water mark beside it shows, and of everything, where what was accepted
// since is lost and ids must still not be given twice. Every other time the broker
// is asked then what it had last, and the rollback is told.
func oldCopy(t *trial) error {
	for t.next() {
		whole, asked := t.done%2 == 0, t.done%4 == 0
		if err := t.copyOnce(whole, asked); err != nil {
			return fmt.Errorf("old copy %d (with the mark: %t, the broker is asked: %t): %w", t.done, whole, asked, err)
		}
	}
	return nil
}

func (t *trial) copyOnce(whole, asked bool) error {
	defer t.clean()
	b, err := t.bed(keeping, oracle.Options{Restored: whole})
	if err != nil {
		return err
	}
	if err := b.running(); err != nil {
		return err
	}
	b.rest()
	if err := b.gateway.stop(); err != nil {
		return err
	}
	copied, old := time.Now(), filepath.Join(t.dir, "old")
	if err := copyFolder(b.buffer, old); err != nil {
		return err
	}
	if err := b.running(); err != nil {
		return err
	}
	if err := b.sinks.shut(true); err != nil {
		return err
	}
	if err := b.accepting(b.gateway.tapped.Load() + 200); err != nil {
		return err
	}
	b.rest()
	pause(markWithin)
	if err := b.gateway.stop(); err != nil {
		return err
	}
	if whole {
		err = copyFolder(old, b.buffer)
		b.judge.Excuse(copied, time.Now())
	} else {
		err = copyFolder(filepath.Join(old, "store"), filepath.Join(b.buffer, "store"))
	}
	if asked {
		b.asks = ", cursor_topic: \"" + hadTopic + "{machine}\""
		err = errors.Join(err, b.sinks.remember())
	}
	if err := errors.Join(err, b.sinks.shut(false)); err != nil {
		return err
	}
	if err := b.start(); err != nil {
		return err
	}
	b.load(0)
	if err := b.accepting(20); err != nil {
		return err
	}
	if !whole || asked {
		if err := b.until(waitSettle, "an old copy was put back and no gap event says so", func() bool {
			return b.judge.Summary().Told > 0
		}); err != nil {
			return err
		}
	}
	return b.settle()
}

// jumps are what the wall clock does: forward, back, over the end of 32 bits.
var jumps = []time.Duration{
	time.Hour, -time.Hour, -400 * 24 * time.Hour, 10 * 365 * 24 * time.Hour,
	3 * time.Second, -90 * time.Second, 13 * 365 * 24 * time.Hour, 0,
}

// clockJumps lets the gateway's wall clock jump under load, with kills between.
func clockJumps(t *trial) error {
	binary, err := buildSkewed(t.dir)
	if err != nil {
		return err
	}
	b, err := t.bed(roomy, oracle.Options{NoLoss: true})
	if err != nil {
		return err
	}
	b.binary = binary
	var clock *os.File
	defer func() {
		if clock != nil {
			_ = clock.Close()
		}
	}()
	for t.next() {
		if b.gateway == nil || b.gateway.over() {
			if clock != nil {
				_ = clock.Close()
			}
			if clock, err = b.startSkewed(); err != nil {
				return err
			}
			b.load(50 * time.Millisecond)
		}
		jump := jumps[(t.done-1)%len(jumps)]
		if _, err := fmt.Fprintf(clock, "%d\n", int64(jump/time.Second)); err != nil {
			return err
		}
		if err := b.accepting(b.gateway.tapped.Load() + 60); err != nil {
			return fmt.Errorf("jump %d, the clock is off by %v: %w", t.done, jump, err)
		}
		if err := b.drained(); err != nil {
			return fmt.Errorf("jump %d, the clock is off by %v: %w", t.done, jump, err)
		}
		if t.done%3 == 0 {
			b.gateway.kill()
		}
	}
	t.summarise(b)
	if !b.gateway.over() {
		b.gateway.kill()
	}
	b.binary = t.binary // the true time again
	if err := b.start(); err != nil {
		return err
	}
	return b.settle()
}

// startSkewed starts a gateway whose clock follows the returned pipe.
func (b *bed) startSkewed() (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	return write, b.launch(launch{fail: []string{"clock.fd4=on"}, extra: []*os.File{read}})
}

// buildSkewed builds the gateway with a package time whose wall clock can be
// moved, by an overlay: no machine's clock is ever set.
func buildSkewed(dir string) (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("where is Go: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	head, body, ok := strings.Cut(string(text), "\nfunc Now() Time {")
	const reading = "sec, nsec, mono := runtimeNow()\n"
	if !ok || !strings.Contains(body, reading) {
		return "", errors.New("time.Now of this Go version is not the one that the overlay knows")
	}
	patched := head + "\nfunc Now() Time {" + strings.Replace(body, reading, reading+"\tsec += skew.Load()\n", 1)
	const skew = "package time\n\nimport \"sync/atomic\"\n\nvar skew atomic.Int64\n\n// SetTestSkew moves the wall clock by so many seconds.\nfunc SetTestSkew(seconds int64) { skew.Store(seconds) }\n"
	files := map[string]string{"time.txt": patched, "skew.txt": skew}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	overlay := fmt.Sprintf(`{"Replace":{%q:%q,%q:%q}}`, source, filepath.Join(dir, "time.txt"),
		filepath.Join(filepath.Dir(source), "zz_skew.go"), filepath.Join(dir, "skew.txt"))
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, []byte(overlay), 0o600); err != nil {
		return "", err
	}
	return buildGateway(dir, "-overlay", path, "-tags", "chaos skew")
}

// outOfMemory runs the gateway in a memory cgroup, so small that the kernel kills
// it sooner or later under a growing backlog.
func outOfMemory(t *trial) error {
	b, err := t.bed(roomy, oracle.Options{NoLoss: true})
	if err != nil {
		return err
	}
	group := filepath.Join(memoryCgroup, "sluice-torture-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		return err
	}
	t.later(func() {
		b.gateway.kill()
		for range 100 {
			if os.Remove(group) == nil {
				return
			}
			pause(50 * time.Millisecond)
		}
		t.say("clean up: %s is still there", group)
	})
	killed := 0
	for t.next() {
		// The 48 MiB of the design, and less, down to where it cannot live.
		limit := []int{48 << 20, 10 << 20, 5 << 20}[t.done%3]
		if err := os.WriteFile(filepath.Join(group, "memory.limit_in_bytes"), []byte(strconv.Itoa(limit)), 0); err != nil {
			return err
		}
		if err := b.start(); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(b.gateway.cmd.Process.Pid)), 0); err != nil && !b.gateway.over() {
			return err
		}
		b.load(5 * time.Millisecond)
		b.gateway.wait(2*time.Second + t.upTo(500*time.Millisecond))
		if b.gateway.over() && !b.gateway.killed() {
			return fmt.Errorf("with %d MiB the gateway ended by itself, %v\n%s", limit>>20, b.gateway.cmd.ProcessState, b.gateway.tail())
		}
		if b.gateway.over() {
			killed++
		}
		b.gateway.kill()
		b.rest()
	}
	t.summarise(b)
	t.say("%d of %d gateways were killed by the kernel", killed, t.done)
	if err := b.start(); err != nil {
		return err
	}
	return b.settle()
}

// evictions kills the gateway while it makes room for new events, before and
// after: what was evicted is named, and nothing else is missing.
func evictions(t *trial) error {
	b, err := t.bed(keeping+", when_full: evict_oldest", oracle.Options{})
	if err != nil {
		return err
	}
	if err := b.sinks.shut(true); err != nil {
		return err
	}
	for t.next() {
		point := []string{"evict.before", "evict.after"}[t.done%2]
		if err := b.start("quota.tiny=on", fmt.Sprintf("%s=%d:kill", point, 1+t.rand.IntN(3))); err != nil {
			return err
		}
		b.load(5 * time.Millisecond)
		if !b.gateway.wait(waitReady) || !b.gateway.killed() {
			return fmt.Errorf("%s: not passed within %v, %v\n%s", point, waitReady, b.gateway.cmd.ProcessState, b.gateway.tail())
		}
		b.rest()
	}
	if err := b.sinks.shut(false); err != nil {
		return err
	}
	if err := b.start("quota.tiny=on"); err != nil {
		return err
	}
	if err := b.settle(); err != nil {
		return err
	}
	t.summarise(b)
	if b.judge.Summary().Lost == 0 {
		return errors.New("no gap event names what was evicted")
	}
	return nil
}
