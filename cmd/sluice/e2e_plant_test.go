//go:build e2e

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/internal/plantsim"
)

// plantRole is set in the process that plays the PLCs.
const plantRole = "SLUICE_E2E_PLANT"

// TestMain lets the test binary be the plant, too: the PLCs must live in
// another process than the oracle, and outlive every gateway.
func TestMain(m *testing.M) {
	if spec := os.Getenv(plantRole); spec != "" {
		if err := playPlant(spec, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "plant:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// plantSpec describes the PLCs of a plant process.
type plantSpec struct {
	Lines []plantsim.LineOptions
}

// plantCommand is one line on the plant's stdin.
type plantCommand struct {
	Do   string // start, stop, restart, off, on, made
	Line int    // -1: all
	Code uint16
}

// plantAnswer is one line on the plant's stdout: one for the greeting and one
// for each command.
type plantAnswer struct {
	Addrs []string        `json:",omitempty"`
	Made  []plantsim.Made `json:",omitempty"`
	Error string          `json:",omitempty"`
}

// playPlant runs the PLCs until stdin ends.
func playPlant(spec string, in io.Reader, out io.Writer) error {
	var s plantSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answer := json.NewEncoder(out)
	var lines []*plantsim.Line
	var hello plantAnswer
	for _, o := range s.Lines {
		l, err := plantsim.NewLine("127.0.0.1:0", o)
		if err != nil {
			return err
		}
		go l.Run(ctx)
		lines = append(lines, l)
		hello.Addrs = append(hello.Addrs, l.PLC().Addr())
	}
	if err := answer.Encode(hello); err != nil {
		return err
	}
	commands := json.NewDecoder(in)
	for {
		var c plantCommand
		if err := commands.Decode(&c); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := answer.Encode(obey(ctx, lines, c)); err != nil {
			return err
		}
	}
}

func obey(ctx context.Context, lines []*plantsim.Line, c plantCommand) (a plantAnswer) {
	for i, l := range lines {
		if c.Line >= 0 && c.Line != i {
			continue
		}
		var err error
		switch c.Do {
		case "start":
			l.Start()
		case "stop":
			l.Stop(c.Code)
		case "restart":
			err = l.Restart(ctx, 0)
		case "off": // its PLC answers nobody; the line goes on
			err = l.PLC().Stop()
		case "on":
			err = l.PLC().Start()
		}
		if err != nil {
			a.Error = err.Error()
		}
	}
	for _, l := range lines {
		a.Made = append(a.Made, l.Made())
	}
	return a
}

// plantProcess is the oracle's side of a plant process.
type plantProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
	addrs []string
}

// startPlant starts the PLCs in a process of their own; it ends with the test.
func startPlant(t *testing.T, s plantSpec) *plantProcess {
	t.Helper()
	spec, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	p := &plantProcess{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), plantRole+"="+string(spec))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.stdin.Close()
		_ = p.cmd.Wait()
	})
	p.addrs = p.read().Addrs
	return p
}

func (p *plantProcess) read() (a plantAnswer) {
	p.t.Helper()
	line, err := p.lines.ReadString('\n')
	if err == nil {
		err = json.NewDecoder(strings.NewReader(line)).Decode(&a)
	}
	if err == nil && a.Error != "" {
		err = fmt.Errorf("%s", a.Error)
	}
	if err != nil {
		p.t.Fatalf("the plant process: %v", err)
	}
	return a
}

// do sends a command for one line (-1: all) and returns what was made so far.
func (p *plantProcess) do(what string, line int, code uint16) []plantsim.Made {
	p.t.Helper()
	if err := json.NewEncoder(p.stdin).Encode(plantCommand{Do: what, Line: line, Code: code}); err != nil {
		p.t.Fatalf("the plant process: %v", err)
	}
	return p.read().Made
}
