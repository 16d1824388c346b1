//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// testCase is one class of faults.
type testCase struct {
	name, what  string
	short, long int // iterations
	inShort     bool
	needs       []means
	// control is set for a case whose gateway or oracle is broken on purpose: it
	// passes when the oracle finds a violation.
	control bool
	// together lets it run beside its neighbours in the list.
	together bool
	run      func(*trial) error
}

// trial is one run of a case.
type trial struct {
	ctx    context.Context
	dir    string
	binary string
	rand   *rand.Rand
	// n is how many iterations are asked for, done how many were made.
	n, done int
	out     io.Writer
	cleanup []func()
}

// errInterrupted ends a case when the rig is told to stop or its time is over.
var errInterrupted = errors.New("the rig was stopped, or its time is over")

// next counts an iteration; false ends the case.
func (t *trial) next() bool {
	if t.ctx.Err() != nil || t.done >= t.n {
		return false
	}
	t.done++
	return true
}

// later registers what must be undone, also after a failure.
func (t *trial) later(undo func()) { t.cleanup = append(t.cleanup, undo) }

func (t *trial) clean() {
	for i := len(t.cleanup) - 1; i >= 0; i-- {
		t.cleanup[i]()
	}
	t.cleanup = nil
}

// say prints a detail of the case.
func (t *trial) say(format string, args ...any) {
	fmt.Fprintf(t.out, "    "+format+"\n", args...)
}

// outcome is what became of a case.
type outcome struct {
	testCase
	done int
	took time.Duration
	err  error
	seed uint64
	// missing names the means that this machine does not have.
	missing string
}

// lane runs the cases one after the other and returns the exit code.
func lane(ctx context.Context, s settings, picked []testCase, out io.Writer) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.budget)
	defer cancel()
	dir, err := workFolder(s.dir)
	if err != nil {
		return 1, err
	}
	commit := revision()
	fmt.Fprintf(out, "torture: seed %d, commit %s, factor %g, in %s\n", s.seed, commit, s.factor, dir)
	binary, err := buildGateway(dir, "-tags", "chaos")
	if err != nil {
		return 1, err
	}
	var all []outcome
	code := 0
	for len(picked) > 0 && ctx.Err() == nil {
		n := max(1, slices.IndexFunc(append(picked, testCase{}), func(c testCase) bool { return !c.together }))
		for _, o := range runSide(ctx, s, picked[:n], dir, binary, out) {
			all = append(all, o)
			if o.err != nil {
				code = 1
			}
		}
		picked = picked[n:]
	}
	if ctx.Err() != nil {
		fmt.Fprintf(out, "torture: not finished: %v\n", context.Cause(ctx))
		code = 1
	}
	if code == 0 {
		if s.dir == "" {
			_ = os.RemoveAll(dir) // a leftover in the temporary folder hurts nobody
		}
		if missing := left(all); missing != "" {
			fmt.Fprintf(out, "torture: left out, since this machine has no means for it: %s\n", missing)
			if !s.allowMissing {
				code = 3
			}
		}
	}
	if s.long {
		if err := appendLedger(s.ledger, commit, all); err != nil {
			return 1, err
		}
	}
	return code, nil
}

// runSide runs cases side by side; what each says is printed when it is over.
func runSide(ctx context.Context, s settings, some []testCase, dir, binary string, out io.Writer) []outcome {
	all := make([]outcome, len(some))
	if len(some) == 1 {
		all[0] = runCase(ctx, s, some[0], dir, binary, out)
		report(out, s, &all[0])
		return all
	}
	var mu sync.Mutex
	var side sync.WaitGroup
	for i, c := range some {
		side.Go(func() {
			var words bytes.Buffer
			all[i] = runCase(ctx, s, c, dir, binary, &words)
			report(&words, s, &all[i])
			mu.Lock()
			defer mu.Unlock()
			_, _ = out.Write(words.Bytes()) // as for every other word to a person
		})
	}
	side.Wait()
	return all
}

// left names the cases that were left out.
func left(all []outcome) string {
	var names []string
	for _, o := range all {
		if o.missing != "" {
			names = append(names, o.name+" ("+o.missing+")")
		}
	}
	return strings.Join(names, ", ")
}

// workFolder makes the folder that everything is in.
func workFolder(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "sluice-torture-")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// revision is the commit of the tree, with a mark if it was changed.
func revision() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// runCase runs one case in a folder of its own, which stays if it fails.
func runCase(ctx context.Context, s settings, c testCase, dir, binary string, out io.Writer) outcome {
	o := outcome{testCase: c, seed: s.seed}
	for _, m := range c.needs {
		if why := m(); why != "" {
			o.missing = why
			return o
		}
	}
	n := c.short
	if s.long {
		n = c.long
	}
	h := fnv.New64a()
	h.Write([]byte(c.name))
	t := &trial{
		ctx: ctx, dir: filepath.Join(dir, c.name), binary: binary, out: out,
		rand: rand.New(rand.NewPCG(s.seed, h.Sum64())),
		n:    max(1, int(math.Round(float64(n)*s.factor))),
	}
	begin := time.Now()
	err := os.MkdirAll(t.dir, 0o700)
	if err == nil {
		err = c.run(t)
	}
	t.clean()
	o.done, o.took = t.done, time.Since(begin)
	o.err = c.verdict(t, err)
	if o.err == nil {
		_ = os.RemoveAll(t.dir) // as above
	}
	return o
}

// verdict turns the error of a run into that of the case: a control must have
// been caught by the oracle, and nothing else counts as that.
func (c testCase) verdict(t *trial, err error) error {
	if t.ctx.Err() != nil && err == nil && t.done < t.n {
		return errInterrupted
	}
	if !c.control {
		return err
	}
	var caught *violationError
	switch {
	case err == nil:
		return fmt.Errorf("a protection was switched off and the oracle has noticed nothing in %d tries: the rig is blind", t.done)
	case errors.As(err, &caught):
		t.say("caught: %s", caught.wrong[0])
		return nil
	}
	return err
}

func report(out io.Writer, s settings, o *outcome) {
	switch {
	case o.missing != "":
		fmt.Fprintf(out, "LEFT OUT %-14s %s\n", o.name, o.missing)
	case o.err != nil:
		fmt.Fprintf(out, "FAILED   %-14s after %d of its iterations, %.1f s\n%v\nrepeat it: make %s ONLY=%s SEED=%d N=%g; data and journals are kept\n",
			o.name, o.done, o.took.Seconds(), o.err, s.target(), o.name, s.seed, s.factor)
	default:
		fmt.Fprintf(out, "ok       %-14s %4d iterations, %6.1f s  %s\n", o.name, o.done, o.took.Seconds(), o.what)
	}
}
