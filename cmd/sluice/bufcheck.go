package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"text/tabwriter"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/plant"
)

// bufferCmd is the maintenance of the store's files.
type bufferCmd struct {
	Check bufferCheckCmd `cmd:"" help:"Read every file of a stopped gateway's store and name what is damaged; --repair salvages what can be read."`
}

// bufferCheckCmd checks the files, and repairs.
type bufferCheckCmd struct {
	storeFlag
	Repair bool `help:"Make a new store of all that can be read; the broken one is moved aside, nothing of it is removed."`
	JSON   bool `help:"Print one JSON document."`
}

// bufferReport is what the command prints with --json.
type bufferReport struct {
	buffer.StoreCheck
	// Repaired is set if a new store was made; Gaps is then what is missing.
	Repaired *repairReport `json:"repaired,omitempty"`
}

type repairReport struct {
	Kept   uint64      `json:"kept"`
	Broken string      `json:"broken"`
	Epoch  string      `json:"epoch"`
	Gaps   []gapReport `json:"gaps"`
}

// gapReport is one gap event of the opening after a repair.
type gapReport struct {
	Machine string `json:"machine"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Count   uint64 `json:"count"`
	Cause   string `json:"cause"`
	Reason  string `json:"reason"`
}

// Run exits with 1 while there is damage that was not repaired.
func (b *bufferCheckCmd) Run(ctx context.Context, c *console) error {
	p, err := b.load(c)
	if err != nil {
		return err
	}
	settings, err := storeOptions(p)
	if err != nil {
		return err
	}
	check, err := buffer.Check(ctx, settings)
	if err != nil {
		return err
	}
	report := bufferReport{StoreCheck: check}
	if check.Problems > 0 && b.Repair {
		if report.Repaired, err = b.repair(ctx, c, settings); err != nil {
			return err
		}
	}
	if b.JSON {
		err = encodeJSON(c.Out, report)
	} else {
		err = b.print(c, &report)
	}
	if err == nil && check.Problems > 0 && report.Repaired == nil {
		err = errors.New(count(check.Problems, "file") + " of the store with damage; keep a copy of the folder, then: sluice buffer check --repair")
	}
	return err
}

// repair makes the new store, opens it once so that what is missing becomes gap
// events, and reads those.
func (b *bufferCheckCmd) repair(ctx context.Context, c *console, settings buffer.Options) (r *repairReport, err error) {
	log := audit.New(settings.Path, audit.Options{})
	defer func() { err = errors.Join(err, log.Close()) }()
	e := audit.Entry{By: admin.Me(), Action: "buffer.repair", Object: settings.Path}
	begun := false
	done, err := buffer.Repair(ctx, settings, func() error {
		e.Outcome = audit.Begun
		_, err := log.Append(e)
		begun = err == nil
		return err
	}, c.Log.Named("buffer"))
	if err == nil {
		r = &repairReport{Kept: done.Kept, Broken: done.Broken, Gaps: []gapReport{}}
		err = r.open(ctx, c, settings)
	}
	if begun {
		e.Outcome, e.Detail = audit.Done, fmt.Sprintf("%d records kept of %d, the broken store is %s", done.Kept, done.Records, done.Broken)
		if err != nil {
			e.Outcome, e.Detail = audit.Failed, err.Error()
		}
		if _, auditErr := log.Append(e); auditErr != nil {
			fmt.Fprintln(c.Err, "sluice: the audit log has no word of how this ended:", auditErr)
		}
	}
	return r, err
}

func (r *repairReport) open(ctx context.Context, c *console, settings buffer.Options) (err error) {
	store, err := buffer.Open(ctx, settings, c.Log.Named("buffer"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	r.Epoch = store.Epoch().String()
	for _, m := range store.Machines() {
		for e, err := range store.Events(ctx, m, 0, math.MaxInt) {
			if err != nil {
				return err
			}
			if e.Kind != plant.KindGap || e.Epoch != store.Epoch() {
				continue
			}
			var g plant.GapData
			if err := json.Unmarshal(e.Data, &g); err != nil {
				return fmt.Errorf("read gap event %s: %w", e.ID(), err)
			}
			r.Gaps = append(r.Gaps, gapReport{Machine: string(m), First: uint64(g.First), Last: uint64(g.Last), Count: g.Count, Cause: string(g.Cause), Reason: g.Reason})
		}
	}
	return nil
}

func (b *bufferCheckCmd) print(c *console, r *bufferReport) error {
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tBYTES\tRECORDS\tEVENTS\tDAMAGED\t")
	for _, f := range r.Files {
		text := f.Note
		if f.Problem != "" {
			text = "BROKEN: " + f.Problem
			if f.Note != "" {
				text += "; " + f.Note
			}
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\n", plain(f.Name), f.Size, f.Records, f.Events, f.Damaged, plain(text))
	}
	fmt.Fprintf(w, "\n%s: %d records, %d of them events, %d damaged; %s with damage\n", r.Path, r.Records, r.Events, r.Damaged, count(r.Problems, "file"))
	if r.Repaired != nil {
		fmt.Fprintf(w, "repaired: %d records kept; the broken store is %s; new epoch %s\n", r.Repaired.Kept, r.Repaired.Broken, r.Repaired.Epoch)
		for _, g := range r.Repaired.Gaps {
			fmt.Fprintf(w, "missing of %s: %d events, %d to %d (%s): %s\n", plain(g.Machine), g.Count, g.First, g.Last, g.Cause, plain(g.Reason))
		}
		if len(r.Repaired.Gaps) == 0 {
			fmt.Fprintln(w, "no event is missing")
		}
	}
	return w.Flush()
}
