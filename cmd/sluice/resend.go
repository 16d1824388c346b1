package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluice-edge/sluice/internal/admin"
)

// pace is how a job is sent.
type pace struct {
	Rate  int  `help:"How many events a second." default:"100"`
	Force bool `help:"Also to a receiver that does not de-duplicate (deduplicates: false): it counts what it has had a second time."`
	JSON  bool `help:"Print the job as JSON."`
}

// report says what was begun.
func (p *pace) report(c *console, job *admin.Job) error {
	if p.JSON {
		return encodeJSON(c.Out, job)
	}
	text := "it is under way"
	if job.Waiting != "" {
		text = job.Waiting
	}
	_, err := fmt.Fprintf(c.Out, "job %d: %s; see: sluice events jobs\n", job.ID, text)
	return err
}

// eventsResendCmd sends stored events again.
type eventsResendCmd struct {
	storeFlag
	period
	pace
	Uplink  string   `help:"Which uplink." required:""`
	Machine []string `help:"Only this machine; may be given again." short:"m"`
}

// Run begins a job and returns.
func (e *eventsResendCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		from, to, err := e.times(a.plan.Config.Site.Location())
		if err != nil {
			return err
		}
		var job admin.Job
		in := map[string]any{"uplink": e.Uplink, "machines": e.Machine, "force": e.Force, "rate": e.Rate}
		if !from.IsZero() {
			in["from"] = from
		}
		if !to.IsZero() {
			in["to"] = to
		}
		if err := a.Post(ctx, "/resend", in, &job); err != nil {
			return err
		}
		return e.report(c, &job)
	})
}

// eventsJobsCmd lists jobs.
type eventsJobsCmd struct {
	storeFlag
	Cancel uint64 `help:"End this job; what was delivered stays delivered." placeholder:"NUMBER"`
	JSON   bool   `help:"Print one JSON document."`
}

// Run prints one line a job.
func (e *eventsJobsCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		jobs := []admin.Job{}
		if e.Cancel > 0 {
			var job admin.Job
			if err := a.Post(ctx, "/jobs/cancel", map[string]any{"id": e.Cancel}, &job); err != nil {
				return err
			}
			jobs = append(jobs, job)
		} else if err := a.Get(ctx, "/jobs", nil, &jobs); err != nil {
			return err
		}
		if e.JSON {
			return encodeJSON(c.Out, jobs)
		}
		w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "JOB\tWHAT\tUPLINK\tBY\tDELIVERED\tREFUSED\tSET ASIDE\tGONE\tSTATE\tLAST ERROR")
		for i := range jobs {
			j := &jobs[i]
			state := j.Outcome
			if state == "" {
				state = "under way"
				if j.Waiting != "" {
					state = "waits: " + j.Waiting
				}
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", j.ID, j.Kind, plain(j.Uplink), plain(j.By), j.Delivered, j.Refused, j.SetAside, j.Gone, plain(state), plain(j.LastError))
		}
		return w.Flush()
	})
}

// deadCmd works on dead letters.
type deadCmd struct {
	List  deadListCmd  `cmd:"" help:"List what receivers refused: the dead letters."`
	Show  deadShowCmd  `cmd:"" help:"One dead letter, with the event and the receiver's words."`
	Retry deadRetryCmd `cmd:"" help:"Send dead letters once more; what is taken is a dead letter no more."`
	Drop  deadDropCmd  `cmd:"" help:"Give dead letters up, with a reason for the audit log."`
}

// deadListCmd lists dead letters.
type deadListCmd struct {
	storeFlag
	Uplink  string `help:"Only of this uplink."`
	Machine string `help:"Only of this machine." short:"m"`
	JSON    bool   `help:"Print JSON, one a line."`
}

// Run prints one line each.
func (e *deadListCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		q := url.Values{}
		if e.Uplink != "" {
			q.Set("uplink", e.Uplink)
		}
		if e.Machine != "" {
			q.Set("machine", e.Machine)
		}
		zone := a.plan.Config.Site.Location()
		n, err := a.Lines(ctx, "/dead", q, func(line []byte) error { return e.print(c.Out, zone, line) })
		if err == nil {
			fmt.Fprintf(c.Err, "sluice: %s\n", count(int(n), "dead letter"))
		}
		return err
	})
}

func (e *deadListCmd) print(out io.Writer, zone *time.Location, line []byte) error {
	if e.JSON {
		_, err := fmt.Fprintf(out, "%s\n", line)
		return err
	}
	var d admin.DeadLetter
	if err := json.Unmarshal(line, &d); err != nil {
		return fmt.Errorf("a dead letter cannot be read: %w", err)
	}
	text := d.Refused.In(zone).Format("2006-01-02 15:04:05") + "  " + d.Kind + "  " + d.Cause
	if d.Damaged != "" {
		text = "damaged: " + d.Damaged
	}
	_, err := fmt.Fprintf(out, "%s  %s/%d  %s\n", plain(d.Uplink), plain(d.Machine), d.Sequence, plain(text))
	return err
}

// letters names dead letters on the command line.
type letters struct {
	Uplink  string   `help:"Of which uplink." required:""`
	Machine string   `help:"All of this machine." short:"m" xor:"which"`
	All     bool     `help:"All of the uplink." xor:"which"`
	Events  []string `arg:"" optional:"" help:"Single ones, as MACHINE/NUMBER, of one machine."`
}

// query returns what is asked for.
func (l *letters) query() (map[string]any, error) {
	q := map[string]any{"uplink": l.Uplink}
	if len(l.Events) == 0 {
		q["all"] = l.All
		if l.Machine != "" {
			q["machine"] = l.Machine
		} else if !l.All {
			return nil, &exitError{code: exitUsage, cause: errors.New("name dead letters as MACHINE/NUMBER, a machine with --machine, or --all")}
		}
		return q, nil
	}
	if l.Machine != "" || l.All {
		return nil, &exitError{code: exitUsage, cause: errors.New("name single dead letters, or a machine, or --all, not two of them")}
	}
	var numbers []uint64
	machine := ""
	for _, name := range l.Events {
		v, err := parseEventID(name)
		if err == nil && machine != "" && v.Get("machine") != machine {
			err = errors.New("single dead letters are of one machine: use the command for each machine")
		}
		if err != nil {
			return nil, &exitError{code: exitUsage, cause: err}
		}
		machine = v.Get("machine")
		n, err := strconv.ParseUint(v.Get("sequence"), 10, 64)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	q["machine"], q["sequences"] = machine, numbers
	return q, nil
}

// deadShowCmd shows one dead letter.
type deadShowCmd struct {
	storeFlag
	Uplink string `help:"Of which uplink." required:""`
	Event  string `arg:"" help:"Which, as MACHINE/NUMBER."`
}

// Run prints it as JSON.
func (e *deadShowCmd) Run(ctx context.Context, c *console) error {
	v, err := parseEventID(e.Event)
	if err != nil {
		return &exitError{code: exitUsage, cause: err}
	}
	return e.use(ctx, c, func(a *access) error {
		found := false
		_, err := a.Lines(ctx, "/dead", url.Values{"uplink": {e.Uplink}, "machine": v["machine"]}, func(line []byte) error {
			var d admin.DeadLetter
			if err := json.Unmarshal(line, &d); err != nil {
				return err
			}
			if strconv.FormatUint(d.Sequence, 10) != strings.TrimLeft(v.Get("sequence"), "0") {
				return nil
			}
			found = true
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, line, "", "  "); err != nil {
				return err
			}
			_, err := fmt.Fprintln(c.Out, pretty.String())
			return err
		})
		if err == nil && !found {
			err = fmt.Errorf("%s is no dead letter of uplink %s", e.Event, e.Uplink)
		}
		return err
	})
}

// deadRetryCmd sends dead letters once more.
type deadRetryCmd struct {
	storeFlag
	letters
	pace
}

// Run begins a job and returns.
func (e *deadRetryCmd) Run(ctx context.Context, c *console) error {
	q, err := e.query()
	if err != nil {
		return err
	}
	q["force"], q["rate"] = e.Force, e.Rate
	return e.use(ctx, c, func(a *access) error {
		var job admin.Job
		if err := a.Post(ctx, "/dead/retry", q, &job); err != nil {
			return err
		}
		return e.report(c, &job)
	})
}

// deadDropCmd gives dead letters up.
type deadDropCmd struct {
	storeFlag
	letters
	Reason string `help:"Why; it is kept in the audit log." required:""`
	JSON   bool   `help:"Print one JSON document."`
}

// Run drops them at once.
func (e *deadDropCmd) Run(ctx context.Context, c *console) error {
	q, err := e.query()
	if err != nil {
		return err
	}
	q["reason"] = e.Reason
	return e.use(ctx, c, func(a *access) error {
		var n admin.Dropped
		if err := a.Post(ctx, "/dead/drop", q, &n); err != nil {
			return err
		}
		if e.JSON {
			return encodeJSON(c.Out, n)
		}
		_, err := fmt.Fprintf(c.Out, "dropped %s\n", count(int(n.Dropped), "dead letter"))
		return err
	})
}
