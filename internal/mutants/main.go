// Command mutants breaks the rules of derive in a thousand small ways, one at a
// time, and plays the scenarios against each: what no scenario notices is a
// sentence that nobody tests, and a scenario that alone notices something earns
// its place. All mutants are compiled into one test binary, behind a switch that
// an environment variable sets, by an overlay: no file of the tree is touched.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// switchVar names the mutant that is on, by its number from 1.
const switchVar = "SLUICE_MUTANT"

// reachedVar names the file to which a run without a mutant writes the numbers of
// those that it came by.
const reachedVar = "SLUICE_REACHED"

// patience is how long a mutant may take; one that loops for ever is noticed. The
// processor's time is bounded as well, since that is what a loop costs.
const (
	patience = 2 * time.Minute
	cpuTime  = 3 // seconds
)

func main() {
	most := flag.Int("n", 0, "try about so many mutants, evenly spread; 0 means all")
	narrow := flag.Int("narrow", 0, "try as well all mutants that no more than so many scenarios come by: each costs little, and shows best what a scenario is for")
	only := flag.String("only", "", "try only mutants of files whose path has this in it")
	out := flag.String("out", "", "write the table there")
	flag.Parse()
	if err := run(*most, *narrow, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(most, narrow int, only, out string) error {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	return errors.Join(pass(dir, most, narrow, only, out), os.RemoveAll(dir))
}

func pass(dir string, most, narrow int, only, out string) error {
	bench, err := prepare(dir, only)
	if err != nil {
		return err
	}
	whole, err := bench.play(0, "")
	if err != nil {
		return err
	}
	if len(whole.failed) > 0 || !whole.passed {
		return fmt.Errorf("the scenarios fail without any mutant: %v", whole.failed)
	}
	if err := bench.reach(whole.all); err != nil {
		return err
	}
	chosen := bench.choose(most, narrow)
	fmt.Printf("%d mutants, %d of them tried\n", len(bench.mutants), len(chosen))
	results := bench.all(chosen)
	r := newReport(len(bench.mutants), results, whole.all)
	r.narrow = narrow
	fmt.Print(r.text(false))
	if out == "" {
		return nil
	}
	return os.WriteFile(out, []byte(r.text(true)), 0o644)
}

// bench is the test binary with all mutants in it.
type bench struct {
	binary  string
	folder  string
	mutants []mutant
	// reached are the scenarios that come by each mutant: no other can notice it.
	reached map[int][]string
}

// prepare writes the changed copies of the sources and builds the binary.
func prepare(dir, only string) (*bench, error) {
	root, err := filepath.Abs(".")
	if err != nil {
		return nil, err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	add := func(path string, text []byte) error {
		to := filepath.Join(dir, strconv.Itoa(len(overlay.Replace))+".go")
		overlay.Replace[filepath.Join(root, path)] = to
		return os.WriteFile(to, text, 0o600)
	}
	b := &bench{binary: filepath.Join(dir, "derive.test"), folder: filepath.Join(root, "derive")}
	err = filepath.WalkDir("derive", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			!strings.Contains(path, only) || skipped.MatchString(path) {
			return err
		}
		text, found, err := mutate(path, len(b.mutants))
		if err != nil || len(found) == 0 {
			return err
		}
		b.mutants = append(b.mutants, found...)
		return add(path, text)
	})
	if err != nil {
		return nil, err
	}
	if len(b.mutants) == 0 {
		return nil, errors.New("there is nothing to mutate: run it from the root of the repository")
	}
	if err := add(filepath.Join("derive", "mutant", "mutant.go"), []byte(theSwitch)); err != nil {
		return nil, err
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", file, "-o", b.binary, "./derive")
	if said, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the mutants do not build: %w\n%s", err, said)
	}
	return b, nil
}

// skipped are files whose mutants say nothing of the rules: what runs them, and
// what reads the config.
var skipped = regexp.MustCompile(`worker|mailbox|clock|options|stats|ledger/|build\.go|_linux|_other|_windows`)

// result is what became of the scenarios with one mutant on.
type result struct {
	mutant mutant
	// failed are the scenarios that noticed it; all of them if it ended the run.
	failed, all []string
	passed      bool
	ended       bool
}

var verdict = regexp.MustCompile(`--- (PASS|FAIL): TestScenarios/(\S+)`)

// reach plays each scenario by itself, without a mutant, and notes by which it
// comes.
func (b *bench) reach(scenarios []string) error {
	b.reached = map[int][]string{}
	file := b.binary + ".reached"
	for _, s := range scenarios {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			return err
		}
		r, err := b.play(0, only([]string{s}), reachedVar+"="+file)
		if err != nil || !r.passed {
			return fmt.Errorf("scenario %s by itself: %w", s, cmp.Or(err, errors.New("it fails")))
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, n := range strings.Fields(string(text)) {
			if id, err := strconv.Atoi(n); err == nil {
				b.reached[id] = append(b.reached[id], s)
			}
		}
	}
	return nil
}

// only is a pattern of these scenarios, each FOLDER/NAME, and a few more.
func only(scenarios []string) string {
	var folders, names []string
	for _, s := range scenarios {
		folder, name, _ := strings.Cut(s, "/")
		folders, names = append(folders, regexp.QuoteMeta(folder)), append(names, regexp.QuoteMeta(name))
	}
	slices.Sort(folders)
	return "/^(" + strings.Join(slices.Compact(folders), "|") + ")$/^(" + strings.Join(names, "|") + ")$"
}

// play runs the scenarios of a pattern with one mutant on.
func (b *bench) play(id int, pattern string, env ...string) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf(`ulimit -t %d; exec "$0" "$@"`, cpuTime), b.binary, "-test.run", "^TestScenarios$"+pattern, "-test.v")
	cmd.Dir = b.folder
	cmd.Env = append(append(os.Environ(), fmt.Sprint(switchVar, "=", id)), env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		return result{}, err
	}
	r := result{passed: err == nil}
	for _, m := range verdict.FindAllStringSubmatch(said.String(), -1) {
		r.all = append(r.all, m[2])
		if m[1] == "FAIL" {
			r.failed = append(r.failed, m[2])
		}
	}
	// A panic or a loop ends the run; who met it is not told from the others.
	r.ended = !r.passed && (ctx.Err() != nil || exit != nil && !exit.Exited() || bytes.Contains(said.Bytes(), []byte("\npanic: ")))
	return r, nil
}

// choose returns about so many mutants, evenly spread, or all for 0, and all that
// no more than narrow scenarios come by.
func (b *bench) choose(most, narrow int) (chosen []mutant) {
	step := 1
	if most > 0 {
		step = max(len(b.mutants)/most, 1)
	}
	for i, m := range b.mutants {
		by := len(b.reached[m.id])
		if i%step == step/2 || by > 0 && by <= narrow {
			chosen = append(chosen, m)
		}
	}
	return chosen
}

// all plays the mutants, as many at once as there are processors.
func (b *bench) all(chosen []mutant) []result {
	results := make([]result, len(chosen))
	next := make(chan int)
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for i := range next {
				r, err := result{passed: true}, error(nil)
				if by := b.reached[chosen[i].id]; len(by) > 0 {
					r, err = b.play(chosen[i].id, only(by))
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, "mutants:", err)
				}
				r.mutant = chosen[i]
				results[i] = r
			}
		})
	}
	for i := range chosen {
		if i%100 == 99 {
			fmt.Fprintf(os.Stderr, "%d of %d\n", i+1, len(chosen))
		}
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

// report says what the pass has shown.
type report struct {
	there, tried, ended int
	narrow              int
	unnoticed           []mutant
	scenarios           []string
	noticed, alone      map[string]int
}

func newReport(there int, results []result, scenarios []string) *report {
	r := &report{there: there, tried: len(results), scenarios: slices.Sorted(slices.Values(scenarios)), noticed: map[string]int{}, alone: map[string]int{}}
	for i := range results {
		switch one := &results[i]; {
		case one.passed:
			r.unnoticed = append(r.unnoticed, one.mutant)
		case one.ended:
			r.ended++
		default:
			for _, s := range one.failed {
				r.noticed[s]++
			}
			if len(one.failed) == 1 {
				r.alone[one.failed[0]]++
			}
		}
	}
	return r
}

func (r *report) text(page bool) string {
	var b strings.Builder
	if page {
		b.WriteString("# What the scenarios notice\n\nMade by `make mutants`: the rules are broken in small ways, one at a time, and the scenarios under `derive/testdata/` are played against each. Do not edit.\n\n")
	}
	killed := r.tried - len(r.unnoticed)
	fmt.Fprintf(&b, "%d mutants of %d tried: %d noticed (%.1f %%), %d of them by a panic or an endless loop; %d scenarios, %d of which notice a mutant that no other notices.\n",
		r.tried, r.there, killed, 100*float64(killed)/float64(max(r.tried, 1)), r.ended, len(r.scenarios), len(r.alone))
	if r.narrow > 0 {
		fmt.Fprintf(&b, "Tried were some, evenly spread, and all that no more than %d scenarios come by: so the share that was noticed is not that of all.\n", r.narrow)
	}
	if !page {
		for _, m := range r.unnoticed {
			fmt.Fprintf(&b, "unnoticed: %s\n", m)
		}
		return b.String()
	}
	b.WriteString("\n| scenario | mutants noticed | by it alone |\n|---|---|---|\n")
	for _, s := range r.scenarios {
		fmt.Fprintf(&b, "| %s | %d | %d |\n", s, r.noticed[s], r.alone[s])
	}
	b.WriteString("\n## Not noticed\n\n")
	for _, m := range r.unnoticed {
		fmt.Fprintf(&b, "- `%s` in `%s`: %s\n", filepath.ToSlash(m.file), m.function, m.what)
	}
	return b.String()
}
