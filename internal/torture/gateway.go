//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-edge/sluice/internal/torture/oracle"
)

// gateway is one run of the built binary.
type gateway struct {
	cmd    *exec.Cmd
	judge  *oracle.Oracle
	tapped atomic.Int64
	ended  chan struct{} // the process is gone and its tap is read to the end
	output string
	from   int64 // where its output begins
}

// launch is how a gateway is started.
type launch struct {
	binary, config string
	fail           []string // entries of SLUICE_FAIL
	env            []string
	output         string
	extra          []*os.File // fd 4 and on
}

// start starts the gateway. What it accepts goes to judge.
func (l launch) start(judge *oracle.Oracle) (*gateway, error) {
	out, err := os.OpenFile(l.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	fail := strings.Join(append([]string{"tap.fd3=on"}, l.fail...), ",")
	fmt.Fprintf(out, "=== %s SLUICE_FAIL=%s\n", time.Now().Format(time.StampMilli), fail)
	from, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	g := &gateway{judge: judge, ended: make(chan struct{}), output: l.output, from: from}
	g.cmd = exec.Command(l.binary, "--log-format", "json", "run", "--config", l.config)
	g.cmd.Env = append(append(os.Environ(), "SLUICE_FAIL="+fail), l.env...)
	g.cmd.Stdout, g.cmd.Stderr = out, out
	g.cmd.ExtraFiles = append([]*os.File{write}, l.extra...)
	// Whatever becomes of the rig, its gateway goes with it.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	judge.Started()
	if err := g.cmd.Start(); err != nil {
		return nil, errors.Join(err, read.Close())
	}
	go g.follow(read)
	return g, nil
}

// follow reads the tap until the process is gone.
func (g *gateway) follow(tap *os.File) {
	defer close(g.ended)
	lines := bufio.NewReaderSize(tap, 1<<16)
	for {
		text, err := lines.ReadString('\n')
		if err != nil {
			break // a line that the kill cut off was not told
		}
		e, err := oracle.ParseTap(strings.TrimSuffix(text, "\n"), time.Now())
		if err != nil {
			continue
		}
		g.judge.Accept(e)
		g.tapped.Add(1)
	}
	_ = tap.Close()
	_ = g.cmd.Wait() // how it ended is looked at by whoever asks
}

// over reports whether the process is gone.
func (g *gateway) over() bool {
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

// wait waits for the end and reports whether it came within d.
func (g *gateway) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-g.ended:
		return true
	case <-timer.C:
		return false
	}
}

// signal sends a signal to the process; one that is gone needs none.
func (g *gateway) signal(s syscall.Signal) { _ = g.cmd.Process.Signal(s) }

// kill ends the process by SIGKILL and waits for it.
func (g *gateway) kill() {
	g.signal(syscall.SIGKILL)
	<-g.ended
}

// stop ends the process in order; one that does not end within the time that it
// has is killed, which is an error.
func (g *gateway) stop() error {
	g.signal(syscall.SIGTERM)
	if !g.wait(60 * time.Second) {
		g.kill()
		return errors.New("SIGTERM did not end the gateway within 60 s")
	}
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("after SIGTERM the gateway ended with %v", g.cmd.ProcessState)
	}
	return nil
}

// killed reports whether the process ended by SIGKILL.
func (g *gateway) killed() bool {
	s, ok := g.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && s.Signaled() && s.Signal() == syscall.SIGKILL
}

// said returns what the process has printed.
func (g *gateway) said() string {
	f, err := os.Open(g.output)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, g.from, 1<<24))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// tail is the end of what the process has printed.
func (g *gateway) tail() string {
	text := g.said()
	return text[max(0, len(text)-4000):]
}

// buildGateway builds the binary with the tag chaos into dir.
func buildGateway(dir string, args ...string) (string, error) {
	path := filepath.Join(dir, "sluice")
	out, err := exec.Command("go", append(append([]string{"build", "-o", path}, args...), "github.com/sluice-edge/sluice/cmd/sluice")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	return path, nil
}

// pause waits between two looks, or for a random time.
func pause(d time.Duration) { <-time.After(d) }

// spends returns how much of a core the gateway uses over d (proc_pid_stat(5):
// fields 14 and 15, in hundredths of a second).
func (g *gateway) spends(d time.Duration) (cores float64, err error) {
	before, err := g.ticks()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	pause(d)
	after, err := g.ticks()
	return float64(after-before) / 100 / time.Since(begun).Seconds(), err
}

func (g *gateway) ticks() (n int64, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(g.cmd.Process.Pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("/proc/pid/stat is not as the manual has it")
	}
	for _, f := range fields[11:13] {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		n += v
	}
	return n, nil
}

// rss returns the gateway's memory in bytes.
func (g *gateway) rss() (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(g.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, err
	}
	for l := range strings.SplitSeq(string(text), "\n") {
		if kb, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("/proc/pid/status has no VmRSS")
}
