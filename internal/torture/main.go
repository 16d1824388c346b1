//go:build linux

// Command torture kills, cuts, fills and damages a gateway under load, and
// judges by what the PLCs served, what the gateway accepted and what arrived,
// whether anything was lost without a word. "make torture" runs it; it needs
// root, /dev/fuse and loop devices for the faults of disks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	seed         uint64
	factor       float64
	only         string
	long         bool
	allowMissing bool
	dir          string
	ledger       string
	budget       time.Duration
	list         bool
	table        string
	faults       bool
}

// target is the target of the Makefile that runs the same.
func (s *settings) target() string {
	if s.faults {
		return "faults"
	}
	return "torture"
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(code)
}

// run returns the exit code: 0 all held, 1 a violation or a broken rig, 2 wrong
// usage, 3 a means was missing.
func run(ctx context.Context, args []string, out io.Writer) int {
	var s settings
	f := flag.NewFlagSet("torture", flag.ContinueOnError)
	f.SetOutput(out)
	f.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "what is drawn at random follows from it")
	f.Float64Var(&s.factor, "n", 1, "factor for the number of iterations")
	f.StringVar(&s.only, "only", "", "only these cases, parted by commas")
	f.BoolVar(&s.long, "long", false, "the long lane: more iterations, and a line for each case in the ledger")
	f.BoolVar(&s.allowMissing, "allow-missing", false, "leave out what this machine has no means for without failing")
	f.StringVar(&s.dir, "dir", "", "where to work (default: a new temporary folder)")
	f.StringVar(&s.ledger, "ledger", "docs/reliability-ledger.json", "the ledger that the long lane appends to")
	f.DurationVar(&s.budget, "budget", 0, "end after this time at most (default: 8 min, 6 h for the long lane)")
	f.BoolVar(&s.list, "list", false, "list the cases and end")
	f.BoolVar(&s.faults, "faults", false, "the faults of the network and of the receivers instead, in a network namespace of its own")
	f.StringVar(&s.table, "table", "", "bring the table of this page up to date with the ledger and end")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if s.table != "" {
		if err := rewriteTable(s.table, s.ledger); err != nil {
			fmt.Fprintln(out, err)
			return 1
		}
		return 0
	}
	if s.budget == 0 {
		s.budget = 8 * time.Minute
		if s.long {
			s.budget = 6 * time.Hour
		}
	}
	list := cases()
	if s.faults {
		list = faultCases()
		if !s.list {
			if err := enterNamespace(); err != nil {
				fmt.Fprintln(out, err)
				return 1
			}
		}
	}
	picked, err := pick(list, s.only, s.long || s.list)
	if err != nil {
		fmt.Fprintln(out, err)
		return 2
	}
	if s.list {
		for _, c := range picked {
			fmt.Fprintf(out, "%-16s %4d %5d  %s\n", c.name, c.short, c.long, c.what)
		}
		return 0
	}
	code, err := lane(ctx, s, picked, out)
	if err != nil {
		fmt.Fprintln(out, err)
	}
	return code
}

// pick returns the cases of those names; without names all, or those of the
// short lane.
func pick(list []testCase, only string, all bool) ([]testCase, error) {
	var picked []testCase
	if only == "" {
		for _, c := range list {
			if all || c.inShort {
				picked = append(picked, c)
			}
		}
		return picked, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		found := false
		for _, c := range list {
			if c.name == name {
				picked, found = append(picked, c), true
			}
		}
		if !found {
			return nil, errors.New("torture: there is no case " + name + "; -list shows them")
		}
	}
	return picked, nil
}
