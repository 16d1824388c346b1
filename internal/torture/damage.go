//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// snapshot is a folder of a store that nobody has open, and what was accepted
// and delivered when it was made.
type snapshot struct {
	name, folder string
	judge        *oracle.Oracle
}

// copyFolder copies a folder with its holes.
func copyFolder(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s: %w\n%s", from, err, out)
	}
	return nil
}

func (b *bed) snapshot(t *trial, name string) (s snapshot, err error) {
	s = snapshot{name: name, folder: filepath.Join(t.dir, "snapshot-"+name), judge: b.judge.Clone()}
	return s, copyFolder(b.buffer, s.folder)
}

// restore puts a snapshot back, with the receivers as they were.
func (b *bed) restore(s snapshot) error {
	b.judge = s.judge.Clone()
	b.sinks.tell(b.judge)
	return copyFolder(s.folder, b.buffer)
}

// markWithin is more than the time within which the high-water mark follows.
const markWithin = 1500 * time.Millisecond

// snapshots makes a store with delivered and undelivered events in tables and in
// the log, as a kill leaves it and as an orderly stop does.
func (b *bed) snapshots(t *trial) (all []snapshot, err error) {
	if err := b.start(); err != nil {
		return nil, err
	}
	b.load(10 * time.Millisecond)
	if err := b.accepting(500); err != nil {
		return nil, err
	}
	if err := b.drained(); err != nil {
		return nil, err
	}
	if err := b.sinks.shut(true); err != nil {
		return nil, err
	}
	if err := b.people(); err != nil {
		return nil, err
	}
	if err := b.until(waitReady, "no table is written", func() bool {
		tables, err := filepath.Glob(filepath.Join(b.buffer, "store", "*.sst"))
		return err == nil && len(tables) >= 1
	}); err != nil {
		return nil, err
	}
	b.rest()
	// What was accepted within the last second before the damage may be lost
	// unnamed. Here nothing is that young, so nothing may.
	pause(markWithin)
	b.gateway.kill()
	killed, err := b.snapshot(t, "killed")
	if err != nil {
		return nil, err
	}
	if err := b.start(); err != nil {
		return nil, err
	}
	if err := b.until(waitReady, "the gateway does not connect", func() bool {
		return strings.Contains(b.gateway.said(), "device connected")
	}); err != nil {
		return nil, err
	}
	pause(markWithin)
	if err := b.gateway.stop(); err != nil {
		return nil, err
	}
	closed, err := b.snapshot(t, "closed")
	b.gateway = nil
	return []snapshot{killed, closed}, err
}

// fileKind puts a file of the store among its like: what damage means is the
// same for all of a kind.
func fileKind(name string) string {
	switch ext := filepath.Ext(name); {
	case strings.HasPrefix(name, "mark."):
		return "mark"
	case strings.HasPrefix(name, "audit-"):
		return auditKind
	case ext == ".json":
		return "quarantine"
	case ext == ".sst" || ext == ".mem" || ext == ".vlog":
		return ext
	}
	return name
}

// filesByKind returns the files below folder, sorted, by their kind.
func filesByKind(folder string) (map[string][]string, error) {
	kinds := map[string][]string{}
	err := filepath.WalkDir(folder, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			kind := fileKind(d.Name())
			kinds[kind] = append(kinds[kind], p)
		}
		return err
	})
	return kinds, err
}

// damage is one thing done to a file.
type damage struct {
	file string
	what string
}

// harm damages the file: a flipped bit, a cut end, a block of zeros.
func (t *trial) harm(file string) (d damage, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return d, err
	}
	used := len(bytes.TrimRight(content, "\x00"))
	if t.rand.IntN(4) == 0 || used == 0 {
		used = len(content) // also where nothing was written yet
	}
	d.file = file
	if used == 0 {
		d.what = "one byte in an empty file"
		return d, os.WriteFile(file, []byte{0xff}, 0o600)
	}
	at := t.rand.IntN(used)
	switch t.rand.IntN(5) {
	case 0:
		d.what = fmt.Sprintf("cut to %d of %d bytes", at, len(content))
		return d, os.Truncate(file, int64(at))
	case 1:
		end := min(at+4096, len(content))
		d.what = fmt.Sprintf("zeros from %d to %d of %d", at, end, len(content))
		clear(content[at:end])
	default:
		bit := t.rand.IntN(8)
		d.what = fmt.Sprintf("bit %d of byte %d of %d flipped", bit, at, len(content))
		content[at] ^= 1 << bit
	}
	return d, writeInPlace(file, content)
}

// writeInPlace keeps the file's mode and its holes where it can.
func writeInPlace(file string, content []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	return errors.Join(err, f.Close())
}

// tally counts what damage led to.
type tally map[string]int

func (t tally) String() string {
	var parts []string
	for _, k := range slices.Sorted(mapKeys(t)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, t[k]))
	}
	return strings.Join(parts, ", ")
}

func mapKeys(t tally) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range t {
			if !yield(k) {
				return
			}
		}
	}
}

// bitRot damages one file of a store after the other: no effect, a refusal that
// names the file, or gap events for all that is missing; never silence.
func bitRot(t *trial) error { return t.rot() }

// controlMark is bitRot of the log with the high-water mark switched off.
func controlMark(t *trial) error {
	b, err := t.bed(keeping, oracle.Options{})
	if err != nil {
		return err
	}
	t.say("the high-water mark is off")
	all, err := b.snapshots(t)
	if err != nil {
		return err
	}
	for t.next() {
		if err := b.restore(all[0]); err != nil {
			return err
		}
		logs, err := filepath.Glob(filepath.Join(b.buffer, "store", "*.mem"))
		if err != nil || len(logs) == 0 {
			return fmt.Errorf("the killed store has no log: %w", err)
		}
		marks, err := filepath.Glob(filepath.Join(b.buffer, "mark.*"))
		if err != nil {
			return err
		}
		for _, m := range marks {
			if err := os.Remove(m); err != nil {
				return err
			}
		}
		content, err := os.ReadFile(logs[len(logs)-1])
		if err != nil {
			return err
		}
		// An end that is cut off looks as if it had never been.
		if err := os.Truncate(logs[len(logs)-1], int64(len(bytes.TrimRight(content, "\x00"))/2)); err != nil {
			return err
		}
		if _, err := b.survive(damage{logs[len(logs)-1], "cut to the half"}, 8*time.Second, "mark.off=on"); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) rot() error {
	b, err := t.bed(keeping, oracle.Options{})
	if err != nil {
		return err
	}
	all, err := b.snapshots(t)
	if err != nil {
		return err
	}
	results := tally{}
	var faults []error
	for t.next() {
		s := all[t.done%len(all)]
		if err := b.restore(s); err != nil {
			return err
		}
		kinds, err := filesByKind(b.buffer)
		if err != nil {
			return err
		}
		kinds[configKind] = []string{b.config}
		names := make([]string, 0, len(kinds))
		for k := range kinds {
			names = append(names, k)
		}
		slices.Sort(names)
		kind := names[(t.done/len(all))%len(names)]
		d, err := t.harm(kinds[kind][t.rand.IntN(len(kinds[kind]))])
		if err != nil {
			return err
		}
		result, err := b.survivesDamage(kind, d)
		if err != nil {
			// Each damage has a store of its own, so the others are worth a look.
			faults = append(faults, fmt.Errorf("damage %d, a store that was %s, %s: %s: %w", t.done, s.name, filepath.Base(d.file), d.what, err))
			result = "WRONG"
		}
		results[kind+" "+result]++
		if len(faults) >= mostFaults {
			break
		}
	}
	t.say("%s", results)
	return errors.Join(faults...)
}

// waitRot is the patience with a damaged store, mostFaults how many wrong
// outcomes end the case.
const (
	waitRot    = 30 * time.Second
	mostFaults = 8
)

// survive starts the gateway on a damaged store and says what came of it.
func (b *bed) survive(d damage, patience time.Duration, fail ...string) (string, error) {
	if err := b.sinks.shut(false); err != nil {
		return "", err
	}
	if err := b.start(fail...); err != nil {
		return "", err
	}
	defer b.gateway.kill()
	// Either it refuses before it is ready, or it is ready.
	for deadline := time.Now().Add(waitReady); !b.gateway.over() && !strings.Contains(b.gateway.said(), "sluice is ready"); pause(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return "", fmt.Errorf("neither ready nor refused within %v\n%s", waitReady, b.gateway.tail())
		}
	}
	if b.gateway.over() && !strings.Contains(b.gateway.said(), "sluice is ready") {
		return "refused", b.refused(d)
	}
	b.plant.freeze(20)
	err := b.until(patience, "after the damage", func() bool { return b.judge.Violated() || b.judge.Settled() })
	if wrong := b.judge.Judge(); len(wrong) > 0 {
		return "", &violationError{wrong, err}
	}
	if err != nil {
		return "", err
	}
	b.rest()
	if err := b.gateway.stop(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, b.gateway.tail())
	}
	if b.judge.Summary().GapEvents > 0 {
		return "named by gaps", nil
	}
	return "no effect", nil
}

// refused checks that the last words name the file and a remedy, and that
// nothing was damaged further.
func (b *bed) refused(d damage) error {
	code := b.gateway.cmd.ProcessState.ExitCode()
	words := b.gateway.tail()
	if code != 1 && code != 2 || !strings.Contains(words, filepath.Base(d.file)) || strings.Contains(words, "goroutine ") {
		return fmt.Errorf("refused with %v and without the name of the file:\n%s", b.gateway.cmd.ProcessState, words[:min(len(words), 1500)])
	}
	return nil
}
