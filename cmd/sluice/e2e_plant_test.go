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
	// Scale and Packer are there if they are set; they hand over by handshakes.
	Scale  *plantsim.ScaleOptions     `json:",omitempty"`
	Packer *plantsim.PackagingOptions `json:",omitempty"`
}

// plantCommand is one line on the plant's stdin.
type plantCommand struct {
	Do   string // start, stop, restart, off, on, made, dose
	Line int    // -1: all
	Code uint16
}

// plantAnswer is one line on the plant's stdout: one for the greeting and one
// for each command.
type plantAnswer struct {
	Addrs  []string         `json:",omitempty"` // of the lines
	Scale  string           `json:",omitempty"`
	Packer string           `json:",omitempty"`
	Made   []plantsim.Made  `json:",omitempty"`
	Dosed  *plantsim.Dosed  `json:",omitempty"`
	Packed *plantsim.Packed `json:",omitempty"`
	Error  string           `json:",omitempty"`
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
	w, hello, err := buildPlant(ctx, s)
	if err != nil {
		return err
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
		if err := answer.Encode(w.obey(ctx, c)); err != nil {
			return err
		}
	}
}

// workshop is what a plant process plays.
type workshop struct {
	lines  []*plantsim.Line
	scale  *plantsim.Scale
	packer *plantsim.Packaging
}

func buildPlant(ctx context.Context, s plantSpec) (w *workshop, hello plantAnswer, err error) {
	w = &workshop{}
	for _, o := range s.Lines {
		l, err := plantsim.NewLine("127.0.0.1:0", o)
		if err != nil {
			return nil, hello, err
		}
		go l.Run(ctx)
		w.lines = append(w.lines, l)
		hello.Addrs = append(hello.Addrs, l.PLC().Addr())
	}
	if s.Scale != nil {
		if w.scale, err = plantsim.NewScale("127.0.0.1:0", *s.Scale); err != nil {
			return nil, hello, err
		}
		go w.scale.Serve(ctx)
		hello.Scale = w.scale.PLC().Addr()
	}
	if s.Packer != nil {
		if w.packer, err = plantsim.NewPackaging(*s.Packer); err != nil {
			return nil, hello, err
		}
		go w.packer.Run(ctx)
		hello.Packer = w.packer.PLC().Addr()
	}
	return w, hello, nil
}

func (w *workshop) obey(ctx context.Context, c plantCommand) (a plantAnswer) {
	for i, l := range w.lines {
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
	w.handovers(c)
	for _, l := range w.lines {
		a.Made = append(a.Made, l.Made())
	}
	if w.scale != nil {
		dosed := w.scale.Dosed()
		a.Dosed = &dosed
	}
	if w.packer != nil {
		packed := w.packer.Packed()
		a.Packed = &packed
	}
	return a
}

// handovers passes a command to the machines with handshakes.
func (w *workshop) handovers(c plantCommand) {
	if w.scale != nil && c.Do == "dose" {
		w.scale.Dose(plantsim.Dose{Component: "SUGAR", Lot: "L-7", Order: "ORD-1", Grams: 2017, Target: 2000})
	}
	if w.packer != nil && c.Do == "start" {
		w.packer.Start()
	}
	if w.packer != nil && c.Do == "stop" {
		w.packer.Stop(c.Code)
	}
}

// plantProcess is the oracle's side of a plant process.
type plantProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
	hello plantAnswer
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
	p.hello = p.read()
	p.addrs = p.hello.Addrs
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

// do sends a command for one line (-1: all) and returns what the lines have
// made so far.
func (p *plantProcess) do(what string, line int, code uint16) []plantsim.Made {
	p.t.Helper()
	return p.ask(what, line, code).Made
}

func (p *plantProcess) ask(what string, line int, code uint16) plantAnswer {
	p.t.Helper()
	if err := json.NewEncoder(p.stdin).Encode(plantCommand{Do: what, Line: line, Code: code}); err != nil {
		p.t.Fatalf("the plant process: %v", err)
	}
	return p.read()
}
