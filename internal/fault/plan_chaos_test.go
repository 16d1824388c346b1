//go:build chaos

package fault

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recorded parses a plan whose actions are noted instead of done.
func recorded(t *testing.T, text string) (*Plan, *[]string) {
	t.Helper()
	p, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var done []string
	p.act = func(name, action string) error {
		done = append(done, name+":"+action)
		return nil
	}
	return p, &done
}

func TestPlanPicksThePass(t *testing.T) {
	p, done := recorded(t, "a=2:kill,b=1:eio,b=3+:enospc,sync.off=on")
	for _, name := range []string{"a", "b", "a", "b", "a", "b", "b", "c"} {
		_ = p.pass(name)
	}
	if want := []string{"b:eio", "a:kill", "b:enospc", "b:enospc"}; !slices.Equal(*done, want) {
		t.Errorf("done %v, want %v", *done, want)
	}
	if !p.switches["sync.off"] || p.switches["a"] {
		t.Errorf("switches %v", p.switches)
	}
}

func TestProbabilityFollowsTheSeed(t *testing.T) {
	hits := func(seed string) (n []int) {
		p, done := recorded(t, "a=p0.1:eio,seed="+seed)
		for i := range 1000 {
			before := len(*done)
			_ = p.pass("a")
			if len(*done) > before {
				n = append(n, i)
			}
		}
		return n
	}
	first, again, other := hits("7"), hits("7"), hits("8")
	if !slices.Equal(first, again) || slices.Equal(first, other) {
		t.Error("the same seed must give the same passes, another one others")
	}
	if len(first) < 50 || len(first) > 200 {
		t.Errorf("%d of 1000 passes with probability 0.1", len(first))
	}
}

func TestPlanRefusesWhatItCannotRead(t *testing.T) {
	for _, text := range []string{"a", "=1:kill", "a=kill", "a=0:kill", "a=x:kill", "a=1:explode", "a=1:sleep", "seed=x", "a=p:eio"} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestErrorsAreWhatTheDiskWouldSay(t *testing.T) {
	p, err := Parse("a=1:eio,b=1:enospc,c=1:sleep1ms")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.pass("a"); !errors.Is(err, syscall.EIO) {
		t.Errorf("eio gives %v", err)
	}
	if err := p.pass("b"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("enospc gives %v", err)
	}
	begin := time.Now()
	if err := p.pass("c"); err != nil || time.Since(begin) < time.Millisecond {
		t.Errorf("sleep1ms gives %v after %v", err, time.Since(begin))
	}
}

// TestActionsOnAProcess lets a process of its own be killed, stopped and ended.
func TestActionsOnAProcess(t *testing.T) {
	if os.Getenv("FAULT_TEST_CHILD") != "" {
		err := Hit("child.point")
		if Enabled("child.switch") {
			os.Exit(7)
		}
		if err != nil {
			os.Exit(8)
		}
		os.Exit(0)
	}
	for _, c := range []struct {
		plan string
		ok   func(syscall.WaitStatus) bool
	}{
		{"child.point=1:kill", func(s syscall.WaitStatus) bool { return s.Signaled() && s.Signal() == syscall.SIGKILL }},
		{"child.point=1:exit", func(s syscall.WaitStatus) bool { return s.ExitStatus() == ExitCode }},
		{"child.point=1:eio", func(s syscall.WaitStatus) bool { return s.ExitStatus() == 8 }},
		{"child.switch=on", func(s syscall.WaitStatus) bool { return s.ExitStatus() == 7 }},
		{"child.point=2:kill", func(s syscall.WaitStatus) bool { return s.Exited() && s.ExitStatus() == 0 }},
		{"child.point=1:nonsense", func(s syscall.WaitStatus) bool { return s.ExitStatus() == 2 }},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestActionsOnAProcess$")
		cmd.Env = append(os.Environ(), "FAULT_TEST_CHILD=1", Env+"="+c.plan)
		out, _ := cmd.CombinedOutput() // how it ended is what is looked at
		if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !c.ok(s) {
			t.Errorf("%s: %v\n%s", c.plan, cmd.ProcessState, out)
		}
		if strings.Contains(c.plan, "=1:") && !strings.Contains(string(out), Env) {
			t.Errorf("%s: stderr does not say what was done: %s", c.plan, out)
		}
	}
}

func TestStopWaitsForContinue(t *testing.T) {
	if os.Getenv("FAULT_TEST_STOP") != "" {
		Pass("child.point")
		os.Exit(5)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestStopWaitsForContinue$")
	cmd.Env = append(os.Environ(), "FAULT_TEST_STOP=1", Env+"=child.point=1:stop")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var s syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &s, syscall.WUNTRACED, nil); err != nil || !s.Stopped() {
		t.Fatalf("not stopped: %v %v", s, err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("after SIGCONT: %v", cmd.ProcessState)
	}
}
