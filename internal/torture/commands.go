//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// askUntilOver gives a command again and again until the gateway is gone. What it
// says does not matter: the gateway may be killed in the middle of its answer.
func (b *bed) askUntilOver(args ...string) {
	for deadline := time.Now().Add(waitReady); !b.gateway.over() && time.Now().Before(deadline); pause(20 * time.Millisecond) {
		_, _ = b.command(args...)
	}
}

// abandoned is an uplink that was taken out of the config.
const abandoned = "old"

// abandonUplink lets the gateway keep events for an uplink, and takes it out of the
// config. One that a kill has left half forgotten is there again.
func (b *bed) abandonUplink() error {
	b.uplink = fmt.Sprintf("  %s: {driver: rest, url: \"http://127.0.0.1:1/\", from: now}\n", abandoned)
	defer func() { b.uplink = "" }()
	if err := b.start(); err != nil {
		return err
	}
	b.load(100 * time.Millisecond)
	if err := b.accepting(20); err != nil {
		return err
	}
	b.gateway.kill()
	b.rest()
	return nil
}

// deadLetters kills the gateway while dead letters are given up, since there are
// too many, and while somebody drops them or sends them again.
func deadLetters(t *trial) error {
	b, err := t.bed(roomy+", dead_letters: 100", oracle.Options{})
	if err != nil {
		return err
	}
	// Every other one: refusals in a row would look like a wrong config, and be held.
	b.sinks.refuse(regexp.MustCompile(`"lot":"L\d*[13579]"`))
	points := []string{"dead.beforeBound", "dead.afterBound", "dead.beforeChange", "dead.afterChange"}
	for t.next() {
		point := points[t.done%len(points)]
		if err := b.start(fmt.Sprintf("%s=%d:kill", point, 1+t.rand.IntN(3))); err != nil {
			return err
		}
		b.load(100 * time.Millisecond)
		if strings.HasSuffix(point, "Change") {
			// A retry of before goes on by itself, and may meet the failpoint first.
			if err := b.accepting(20); err != nil && !b.gateway.over() {
				return err
			}
			verb := []string{"retry", "--uplink", erp}
			if t.done%8 > 3 {
				verb = []string{"drop", "--reason", "torture", "--uplink", erp}
			}
			b.askUntilOver(append(append([]string{"events", "dead"}, verb...), "--config", b.config, "--machine", mixer)...)
		}
		if !b.gateway.wait(waitReady) || !b.gateway.killed() {
			return fmt.Errorf("%s: not passed within %v, %v\n%s", point, waitReady, b.gateway.cmd.ProcessState, b.gateway.tail())
		}
		b.rest()
	}
	if err := b.start(); err != nil {
		return err
	}
	if err := b.settle(); err != nil {
		return err
	}
	t.summarise(b)
	if s := b.judge.Summary(); s.Refused == 0 {
		return errors.New("no event was refused: no dead letter was in danger")
	}
	return nil
}

// repairs kills sluice buffer check --repair between its steps: the next one, or the
// next start where the repaired store was whole, does the rest, and nothing that
// could be read is missing.
func repairs(t *trial) error {
	b, err := t.bed(keeping, oracle.Options{})
	if err != nil {
		return err
	}
	all, err := b.snapshots(t)
	if err != nil {
		return err
	}
	points := []string{"repair.salvaged", "repair.between", "repair.after"}
	results := tally{}
	for t.next() {
		s := all[t.done%len(all)]
		if err := b.restore(s); err != nil {
			return err
		}
		point := points[t.done%len(points)]
		result, err := b.repairOnce(t, point, t.done/len(points)%2 == 0)
		if err != nil {
			return fmt.Errorf("repair %d of a store that was %s, killed at %s: %w", t.done, s.name, point, err)
		}
		results[point+" "+result]++
	}
	t.say("%s", results)
	return nil
}

func (b *bed) repairOnce(t *trial, point string, again bool) (string, error) {
	tables, err := filepath.Glob(filepath.Join(b.buffer, "store", "*.sst"))
	if err != nil || len(tables) == 0 {
		return "", fmt.Errorf("the store has no table: %w", err)
	}
	d, err := t.harm(tables[t.rand.IntN(len(tables))])
	if err != nil {
		return "", err
	}
	if err := b.writeConfig(); err != nil {
		return "", err
	}
	repair := []string{"buffer", "check", "--repair", "--config", b.config}
	out, code := b.commandWith(point+"=1:kill", repair...)
	if code != -1 || !strings.Contains(out, point+": kill") {
		if _, err := os.Lstat(filepath.Join(b.buffer, "store.repair")); err == nil || code > 1 {
			return "", fmt.Errorf("%s: sluice buffer check ends with %d and was not killed\n%s", d.what, code, out)
		}
		return "found nothing to repair", nil // a flip where nothing was written
	}
	if again {
		if out, code := b.command(repair...); code > 1 || code < 0 || strings.Contains(out, "goroutine ") {
			return "", fmt.Errorf("%s: the repair after the kill ends with %d\n%s", d.what, code, out)
		}
	}
	result, err := b.survive(d, waitRot)
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", filepath.Base(d.file), d.what, err)
	}
	if result == "refused" && again {
		return "", fmt.Errorf("%s: %s: a repaired store was refused\n%s", filepath.Base(d.file), d.what, b.gateway.tail())
	}
	return result, nil
}
