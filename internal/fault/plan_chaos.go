//go:build chaos

package fault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ExitCode is what the action exit ends the process with: a code that no
// command of the gateway uses.
const ExitCode = 99

// Plan says what happens at which pass of which failpoint.
type Plan struct {
	mu       sync.Mutex
	points   map[string][]*rule
	hits     map[string]int
	switches map[string]bool
	random   *rand.Rand

	act func(name, action string) error
}

// rule is one entry of a plan.
type rule struct {
	at      int     // the pass that it is about
	onwards bool    // and all later ones
	p       float64 // or each with this probability
	action  string
}

// Parse reads a plan: entries parted by commas.
//
//	commit.before=3:kill    the third pass is killed by SIGKILL
//	commit.before=3+:eio    the third and all later ones fail with EIO
//	commit.before=p0.01:eio each pass does with that probability; see seed
//	seed=7                  the seed of what is drawn
//	sync.off=on             Enabled("sync.off") is true
//
// Actions: kill, stop (SIGSTOP, until SIGCONT), exit (with ExitCode), eio,
// enospc, and sleep with its length, as in sleep2s.
func Parse(text string) (*Plan, error) {
	p := &Plan{points: map[string][]*rule{}, hits: map[string]int{}, switches: map[string]bool{}, act: act}
	seed := uint64(1)
	for entry := range strings.SplitSeq(text, ",") {
		if entry == "" {
			continue
		}
		name, value, ok := strings.Cut(entry, "=")
		var err error
		switch {
		case !ok || name == "":
			err = errors.New("want name=N:action")
		case name == "seed":
			seed, err = strconv.ParseUint(value, 10, 64)
		case value == "on":
			p.switches[name] = true
		default:
			var r *rule
			r, err = parseRule(value)
			p.points[name] = append(p.points[name], r)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", entry, err)
		}
	}
	p.random = rand.New(rand.NewPCG(seed, seed))
	return p, nil
}

func parseRule(value string) (*rule, error) {
	when, action, ok := strings.Cut(value, ":")
	if !ok {
		return nil, errors.New("want name=N:action")
	}
	r := &rule{action: action}
	var err error
	if p, random := strings.CutPrefix(when, "p"); random {
		r.p, err = strconv.ParseFloat(p, 64)
	} else {
		when, r.onwards = strings.CutSuffix(when, "+")
		r.at, err = strconv.Atoi(when)
		if err == nil && r.at < 1 {
			err = errors.New("passes are counted from 1")
		}
	}
	if err != nil {
		return nil, err
	}
	switch action {
	case "kill", "stop", "exit", "eio", "enospc":
		return r, nil
	}
	if length, ok := strings.CutPrefix(action, "sleep"); ok {
		_, err := time.ParseDuration(length)
		return r, err
	}
	return nil, fmt.Errorf("unknown action %q", action)
}

// pass counts a pass and does what is planned for it.
func (p *Plan) pass(name string) error {
	if len(p.points) == 0 {
		return nil
	}
	action := p.draw(name)
	if action == "" {
		return nil
	}
	return p.act(name, action)
}

func (p *Plan) draw(name string) (action string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rules := p.points[name]
	if rules == nil {
		return ""
	}
	p.hits[name]++
	n := p.hits[name]
	for _, r := range rules {
		if r.at == n || r.onwards && n > r.at || r.p > 0 && p.random.Float64() < r.p {
			return r.action
		}
	}
	return ""
}

// act does it to this process. The line on stderr is what the rig knows it by.
func act(name, action string) error {
	fmt.Fprintf(os.Stderr, "%s: %s: %s\n", Env, name, action)
	switch action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal is there
	case "stop":
		stop()
		return nil
	case "exit":
		os.Exit(ExitCode)
	case "eio":
		return fmt.Errorf("failpoint %s: %w", name, syscall.EIO)
	case "enospc":
		return fmt.Errorf("failpoint %s: %w", name, syscall.ENOSPC)
	}
	length, _ := strings.CutPrefix(action, "sleep")
	d, err := time.ParseDuration(length)
	time.Sleep(d)
	return err
}

// stop stops the process before the caller's next step. A signal to the process
// may be taken by another thread, and this one would run on meanwhile; one to
// this very thread is taken before its system call returns.
func stop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, _, _ = syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(syscall.Gettid()), uintptr(syscall.SIGSTOP))
}
