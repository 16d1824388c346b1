//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Kinds of files that stand beside the store. Their damage means something else
// than that of a table.
const (
	auditKind  = "audit"
	headKind   = "audit.head"
	configKind = "sluice.yaml"
)

// people lets somebody change something, so that the audit log has entries, and
// leaves what a damaged record and a panic of Badger's would leave.
func (b *bed) people() error {
	for _, mode := range []string{"maintenance", "production", "config"} {
		if out, code := b.command("mode", "--config", b.config, oven, mode); code != 0 {
			return fmt.Errorf("sluice mode: exit code %d\n%s", code, out)
		}
	}
	folder := filepath.Join(b.buffer, "quarantine")
	const record = `{"found": "2026-07-27T12:00:00Z", "record": "an event", "machine": "PRESS", "sequence": 7, "reason": "the checksum differs", "key": "ZQ==", "value": "AAAA"}`
	const crash = "panic: runtime error: index out of range\n\ngithub.com/dgraph-io/badger/v4/table.(*blockIterator).seek(...)\n"
	return errors.Join(
		os.MkdirAll(folder, 0o700),
		os.WriteFile(filepath.Join(folder, strings.Repeat("0c", 16)+".json"), []byte(record), 0o600),
		os.WriteFile(filepath.Join(b.buffer, "crash.log"), []byte(crash), 0o600),
	)
}

// command runs the binary beside the gateway and returns what it prints, and its
// exit code; -1 if it did not end in time, or was killed.
func (b *bed) command(args ...string) (out string, code int) { return b.commandWith("", args...) }

// commandWith is command with a plan for SLUICE_FAIL.
func (b *bed) commandWith(plan string, args ...string) (out string, code int) {
	cmd := exec.Command(b.binary, args...)
	cmd.Env = append(os.Environ(), "SLUICE_FAIL="+plan)
	cmd.WaitDelay = time.Second
	kill := time.AfterFunc(waitReady, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	text, _ := cmd.CombinedOutput() // the exit code is what is looked at
	return string(text), cmd.ProcessState.ExitCode()
}

// survivesDamage starts the gateway after a damage and says what came of it.
func (b *bed) survivesDamage(kind string, d damage) (string, error) {
	switch kind {
	case auditKind, headKind:
		return b.survivesInAudit(d)
	case configKind:
		return b.survivesInConfig(d)
	default:
		return b.survive(d, waitRot)
	}
}

// survivesInAudit: the log of what people changed costs no event, and says that it
// was changed, before the gateway runs on it and after.
func (b *bed) survivesInAudit(d damage) (string, error) {
	verify := func(when string) error {
		out, code := b.command("audit", "verify", "--config", b.config)
		if code == 0 || strings.Contains(out, "goroutine ") {
			return fmt.Errorf("%s, sluice audit verify ends with %d and says nothing of the damage\n%s", when, code, out)
		}
		return nil
	}
	if err := verify("before the start"); err != nil {
		return "", err
	}
	result, err := b.survive(d, waitRot)
	if err != nil || result != "no effect" {
		return result, err
	}
	return "named by verify", verify("after the start")
}

// survivesInConfig: a config is taken whole or refused by name, before the store is
// touched. One that is still a good config is not run: a digit that changed is
// another digit, which reliability.md says.
func (b *bed) survivesInConfig(d damage) (string, error) {
	if err := b.sinks.shut(false); err != nil {
		return "", err
	}
	out, code := b.command("check", b.config)
	switch {
	case strings.Contains(out, "goroutine ") || code < 0 || code > 2:
		return "", fmt.Errorf("sluice check ends with %d\n%s", code, out[:min(len(out), 1500)])
	case code == 0:
		return "still good", b.unharmed(d)
	case !strings.Contains(out, filepath.Base(d.file)):
		return "", fmt.Errorf("sluice check refuses the config without its name\n%s", out[:min(len(out), 1500)])
	}
	before, err := listing(b.buffer)
	if err != nil {
		return "", err
	}
	if out, ran := b.command("run", "--config", b.config); ran != code || !strings.Contains(out, filepath.Base(d.file)) || strings.Contains(out, "goroutine ") {
		return "", fmt.Errorf("sluice check refuses with %d and sluice run ends with %d\n%s", code, ran, out[:min(len(out), 1500)])
	}
	after, err := listing(b.buffer)
	if err != nil {
		return "", err
	}
	if before != after {
		return "", fmt.Errorf("a config was refused, and the store was touched before\n%s\n%s", before, after)
	}
	return "refused", b.unharmed(d)
}

// unharmed starts the gateway with the good config again.
func (b *bed) unharmed(d damage) error {
	result, err := b.survive(d, waitRot)
	if err == nil && result != "no effect" {
		err = fmt.Errorf("with the good config again: %s", result)
	}
	return err
}

// listing says which files are in a folder, of which size and age.
func listing(folder string) (string, error) {
	kinds, err := filesByKind(folder)
	if err != nil {
		return "", err
	}
	var lines []string
	for _, files := range kinds {
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				return "", err
			}
			lines = append(lines, fmt.Sprintln(f, info.Size(), info.ModTime()))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}
