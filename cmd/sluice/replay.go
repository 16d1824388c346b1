package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/recording"
	"github.com/sluice-edge/sluice/plant"
)

// replayCmd runs rules over recordings.
type replayCmd struct {
	File     []string `arg:"" optional:"" help:"Recordings, or folders of them; by default those of the config." name:"file"`
	Config   string   `help:"The config whose rules run (default: /etc/sluice/sluice.yaml, else ./sluice.yaml)." short:"c" placeholder:"FILE"`
	Against  string   `help:"Print how the events differ from those that this config gives." placeholder:"FILE"`
	Recorded bool     `help:"Print how the events differ from those that were recorded then."`
	Machine  []string `help:"Only this machine; may be given again." short:"m"`
	Damaged  bool     `help:"Replay what can be read of files that are damaged or cut off."`
	JSON     bool     `help:"Print JSON, one object a line."`
}

// Validate refuses two differences at once.
func (r *replayCmd) Validate() error {
	if r.Against != "" && r.Recorded {
		return errors.New("give --against or --recorded, not both")
	}
	return nil
}

// exitDiffers is the exit code of a replay that gives other events, or cannot give
// those of this config.
const exitDiffers = exitFailed

// Run replays the files in their order. What it prints on stdout is the same,
// byte for byte, each time.
func (r *replayCmd) Run(ctx context.Context, c *console) error {
	now, err := (&storeFlag{Config: r.Config}).load(c)
	if err != nil {
		return err
	}
	files, err := r.files(c, now)
	if err != nil {
		return err
	}
	then := now
	if r.Against != "" {
		if then, err = (&storeFlag{Config: r.Against}).load(c); err != nil {
			return err
		}
	}
	p := &replayed{cmd: r, c: c, now: now, then: then, progress: newProgress(c.Err, "inputs")}
	begun := time.Now()
	err = p.all(ctx, files)
	p.progress.end()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Err, "sluice: %s, %d readings, %s in %s\n", count(int(p.inputs), "input"), p.readings, count(int(p.events), "event"), time.Since(begun).Round(time.Millisecond))
	differs := false
	if r.Against != "" || r.Recorded {
		if differs, err = p.diff.report(c.Out, now.Config.Site.Location(), r.JSON); err != nil {
			return err
		}
	}
	unlike, err := p.unlike.report(c, r.JSON)
	if err == nil && (differs || unlike) {
		return &exitError{code: exitDiffers}
	}
	return err
}

// recorded is a file that is to be replayed.
type recorded struct {
	path string
	head recording.Head
}

// files returns the recordings that are meant, by machine and in the order in
// which they were made.
func (r *replayCmd) files(c *console, p *plan) ([]recorded, error) {
	named := r.File
	if len(named) == 0 {
		named = []string{filepath.Join(string(p.Config.Buffer.Path), recordingsFolder)}
	}
	var all []recorded
	for _, name := range named {
		paths, err := recordingsIn(name)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			head, err := readHead(path)
			if err != nil && r.Damaged && !errors.Is(err, recording.ErrForeign) && damaged(err) != nil {
				fmt.Fprintf(c.Err, "sluice: %s: %v; nothing of it can be replayed\n", path, err)
				continue
			}
			if err != nil {
				return nil, explain(path, err)
			}
			if len(r.Machine) == 0 || slices.Contains(r.Machine, string(head.Machine)) {
				all = append(all, recorded{path, head})
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no recording of such a machine in %s: make one with sluice record", strings.Join(named, ", "))
	}
	slices.SortStableFunc(all, func(a, b recorded) int {
		return cmp.Or(cmp.Compare(a.head.Machine, b.head.Machine), a.head.Begun.Compare(b.head.Begun), cmp.Compare(a.head.Run, b.head.Run), cmp.Compare(a.head.Part, b.head.Part))
	})
	return all, nil
}

// recordingsIn returns the files of a folder, or the file itself.
func recordingsIn(name string) ([]string, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there: name a recording, or make one with sluice record", name)
	}
	if err != nil || !info.IsDir() {
		return []string{name}, err
	}
	return filepath.Glob(filepath.Join(escapeGlob(name), "*"+recording.Suffix))
}

// escapeGlob makes a path mean itself in a pattern.
func escapeGlob(path string) string {
	if filepath.Separator == '\\' {
		return path // Windows has no escapes, and no such characters in names but [
	}
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func readHead(path string) (h recording.Head, err error) {
	f, err := os.Open(path)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	rd, err := recording.NewReader(f)
	if err != nil {
		return h, err
	}
	return rd.Head(), nil
}

// damaged returns the error of a file that can be read in part, else nil.
func damaged(err error) *recording.DamageError {
	var d *recording.DamageError
	errors.As(err, &d)
	return d
}

// explain names the file and the remedy.
func explain(path string, err error) error {
	if damaged(err) != nil {
		return fmt.Errorf("%s: %w; --damaged replays what is before that", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// replayed is a replay under way.
type replayed struct {
	cmd       *replayCmd
	c         *console
	now, then *plan
	progress  *progress
	diff      difference
	unlike    unlike
	line      []byte

	inputs, readings, events uint64
}

// all replays files one after the other. A file that goes on where the one
// before ended goes on with its rules; any other begins with its own state.
func (p *replayed) all(ctx context.Context, files []recorded) error {
	var before recording.Head
	var rules pair
	for _, f := range files {
		if !f.head.Follows(before) {
			rules = pair{}
		}
		err := p.file(ctx, f, &rules)
		before = f.head
		if d := damaged(err); d != nil && p.cmd.Damaged {
			fmt.Fprintf(p.c.Err, "sluice: %s: %v; what is before that was replayed\n", f.path, d)
			before = recording.Head{} // what comes next does not go on from here
			continue
		}
		if err != nil {
			return explain(f.path, err)
		}
	}
	return nil
}

// pair are the rules of both sides.
type pair struct{ now, then *derive.Replay }

func (p *replayed) file(ctx context.Context, f recorded, rules *pair) (err error) {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r, err := recording.NewReader(file)
	if err != nil {
		return err
	}
	if rules.now == nil {
		if err := p.begin(r, rules); err != nil {
			return err
		}
	}
	var e recording.Entry
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.Next(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if err := p.entry(&e, rules); err != nil {
			return err
		}
	}
	if _, ok := r.Ended(); !ok {
		fmt.Fprintf(p.c.Err, "sluice: %s was not closed: the gateway was killed, or records still\n", f.path)
	}
	return nil
}

// begin makes the rules of both sides from the state of a file.
func (p *replayed) begin(r *recording.Reader, rules *pair) (err error) {
	head := r.Head()
	now, err := modelOf(p.now, head.Machine)
	if err != nil {
		return err
	}
	p.unlike.recorded(head, p.now.reads(now))
	if rules.now, err = now.NewReplay(r.State()); err != nil || p.cmd.Against == "" {
		return err
	}
	then, err := modelOf(p.then, head.Machine)
	if err != nil {
		return err
	}
	p.unlike.against(head.Machine, p.now.reads(now), p.then.reads(then))
	rules.then, err = then.NewReplay(r.State())
	return err
}

func modelOf(p *plan, machine plant.MachineID) (*derive.Model, error) {
	i := slices.IndexFunc(p.Machines, func(m *derive.Model) bool { return m.Machine() == machine })
	if i < 0 {
		return nil, config.Unknown("", "machine", string(machine), p.machineNames())
	}
	return p.Machines[i], nil
}

func (p *replayed) entry(e *recording.Entry, rules *pair) error {
	if e.Step.In == nil {
		if p.cmd.Recorded {
			p.diff.then(e.Events)
		}
		return nil
	}
	p.inputs++
	p.progress.step(p.inputs)
	if s, ok := e.Step.In.(*plant.Scan); ok {
		p.readings += uint64(len(s.Readings))
	}
	events := p.step(rules.now, e.Step)
	p.events += uint64(len(events))
	switch {
	case rules.then != nil:
		p.diff.now(events)
		p.diff.then(p.step(rules.then, e.Step))
		return nil
	case p.cmd.Recorded:
		p.diff.now(events)
		return nil
	}
	for i := range events {
		p.line = appendEvent(p.line[:0], &events[i], p.now.Config.Site.Location(), p.cmd.JSON)
		if _, err := p.c.Out.Write(append(p.line, '\n')); err != nil {
			return err
		}
	}
	return nil
}

// step has the rules of two configs that are compared wake by their own deadlines. One
// alone is what the gateway did: it comes to the recorded ones.
func (p *replayed) step(rules *derive.Replay, st derive.Step) []plant.Event {
	if p.cmd.Against == "" {
		return rules.Step(st)
	}
	return rules.Play(st)
}
