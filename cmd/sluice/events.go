package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluice-edge/sluice/internal/admin"
)

// eventsCmd looks at what is stored and sends it again.
type eventsCmd struct {
	Stats  eventsStatsCmd  `cmd:"" help:"What is stored, by machine and by uplink."`
	Tail   eventsTailCmd   `cmd:"" help:"The newest events, and those that come."`
	Show   eventsShowCmd   `cmd:"" help:"One event, by its id or as MACHINE/NUMBER."`
	Export eventsExportCmd `cmd:"" help:"Stored events as JSON lines (CloudEvents) or CSV."`
	Resend eventsResendCmd `cmd:"" help:"Send stored events to an uplink again, under the same ids."`
	Jobs   eventsJobsCmd   `cmd:"" help:"What became of resends and retries; --cancel ends one."`
	Dead   deadCmd         `cmd:"" help:"Dead letters: events that a receiver refused."`
}

// printJSON writes v as one JSON document.
func encodeJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// eventsStatsCmd shows what is stored.
type eventsStatsCmd struct {
	storeFlag
	JSON bool `help:"Print one JSON document."`
}

// Run prints two tables.
func (e *eventsStatsCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		var st admin.Stats
		if err := a.Get(ctx, "/stats", nil, &st); err != nil {
			return err
		}
		if e.JSON {
			return encodeJSON(c.Out, st)
		}
		w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "MACHINE\tEVENTS\tFIRST\tLAST\tBYTES")
		for _, m := range st.Machines {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\n", plain(m.Machine), m.Stored, m.First, m.Last, m.Bytes)
		}
		fmt.Fprintln(w, "\nUPLINK\tWAITING\tOLDEST\tREFUSED\t")
		for _, u := range st.Uplinks {
			oldest := ""
			switch {
			case u.Oldest == nil && u.Backlog > 0:
				oldest = "not known while the gateway is stopped"
			case u.Oldest != nil:
				oldest = u.Oldest.In(a.plan.Config.Site.Location()).Format("2006-01-02 15:04:05")
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\n", plain(u.Uplink), u.Backlog, oldest, u.DeadLetters, plain(u.Problem))
		}
		fmt.Fprintf(w, "\n%d bytes of events and states, %d on disk, %d free; %d damaged records\n", st.LiveBytes, st.DiskBytes, st.FreeBytes, st.Lost)
		return w.Flush()
	})
}

// choice says which events are meant.
type choice struct {
	Machine []string `help:"Only this machine; may be given again." short:"m"`
	Kind    []string `help:"Only this kind of event; may be given again." short:"k"`
}

func (f *choice) query() url.Values {
	return url.Values{"machine": f.Machine, "kind": f.Kind}
}

// eventsTailCmd follows the streams.
type eventsTailCmd struct {
	storeFlag
	choice
	Number uint64 `help:"How many of each machine to begin with." short:"n" default:"10"`
	Follow bool   `help:"Go on with those that come, until Ctrl-C." short:"f"`
	JSON   bool   `help:"Print CloudEvents, one a line."`
}

// Run prints one line an event.
func (e *eventsTailCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		q := e.query()
		// 0 would mean all of them.
		q.Set("newest", strconv.FormatUint(max(e.Number, 1), 10))
		q.Set("follow", strconv.FormatBool(e.Follow))
		_, err := a.Lines(ctx, "/events", q, func(line []byte) error { return e.print(c.Out, a, line) })
		if e.Follow && ctx.Err() != nil {
			return nil // Ctrl-C is how it ends
		}
		return err
	})
}

func (e *eventsTailCmd) print(out io.Writer, a *access, line []byte) error {
	if e.JSON {
		_, err := fmt.Fprintf(out, "%s\n", line)
		return err
	}
	ev, err := readCloudEvent(line)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s  %s %s  %s  %s\n", ev.Time.In(a.plan.Config.Site.Location()).Format("2006-01-02 15:04:05.000"),
		plain(ev.Subject), strings.TrimLeft(ev.Sequence, "0"), ev.kind(), plain(string(ev.Data)))
	return err
}

// cloudEvent is what the commands read of an event.
type cloudEvent struct {
	ID       string          `json:"id"`
	Source   string          `json:"source"`
	Type     string          `json:"type"`
	Time     time.Time       `json:"time"`
	Subject  string          `json:"subject"`
	Sequence string          `json:"sequence"`
	Epoch    string          `json:"epoch"`
	Data     json.RawMessage `json:"data"`
}

func readCloudEvent(line []byte) (e cloudEvent, err error) {
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("an event cannot be read: %w", err)
	}
	return e, nil
}

// kind is the kind of the event, without the prefix and the version of the type.
func (e *cloudEvent) kind() string {
	kind := strings.TrimPrefix(e.Type, "dev.sluice.")
	if i := strings.LastIndex(kind, ".v"); i > 0 {
		kind = kind[:i]
	}
	return plain(kind)
}

// eventsShowCmd shows one event.
type eventsShowCmd struct {
	storeFlag
	ID   string `arg:"" help:"The event's id, or MACHINE/NUMBER."`
	JSON bool   `help:"Print it on one line, as it is sent."`
}

// Run prints the CloudEvent.
func (e *eventsShowCmd) Run(ctx context.Context, c *console) error {
	q, err := parseEventID(e.ID)
	if err != nil {
		return &exitError{code: exitUsage, cause: err}
	}
	return e.use(ctx, c, func(a *access) error {
		var event json.RawMessage
		if err := a.Get(ctx, "/event", q, &event); err != nil {
			return err
		}
		var pretty bytes.Buffer
		if e.JSON {
			pretty.Write(event)
		} else if err := json.Indent(&pretty, event, "", "  "); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.Out, pretty.String())
		return err
	})
}

// parseEventID takes "gateway/machine/epoch-number" or "machine/number" apart.
func parseEventID(id string) (url.Values, error) {
	parts := strings.Split(id, "/")
	q := url.Values{}
	last := parts[len(parts)-1]
	switch len(parts) {
	case 2:
		q.Set("machine", parts[0])
	case 3:
		epoch, number, ok := strings.Cut(last, "-")
		if !ok || len(epoch) != 16 {
			return nil, fmt.Errorf("%q is no id: it reads gateway/machine/epoch-number", id)
		}
		q.Set("machine", parts[1])
		q.Set("epoch", epoch)
		last = number
	default:
		return nil, fmt.Errorf("%q is no id: write gateway/machine/epoch-number, or machine/number", id)
	}
	if n, err := strconv.ParseUint(last, 10, 64); err != nil || n == 0 || q.Get("machine") == "" {
		return nil, fmt.Errorf("%q is no id: %q is no number from 1", id, last)
	}
	q.Set("sequence", last)
	return q, nil
}

// period bounds the times of events.
type period struct {
	From when `help:"Not before this moment: 2026-07-27, 2026-07-27T14:00 (the plant's time), or how long ago: 2h, 3d."`
	To   when `help:"Before this moment, written as --from."`
}

func (p *period) times(zone *time.Location) (from, to time.Time, err error) {
	now := time.Now()
	if from, err = p.From.at(now, zone); err == nil {
		to, err = p.To.at(now, zone)
	}
	if err == nil && !from.IsZero() && !to.IsZero() && !from.Before(to) {
		err = fmt.Errorf("--from %s is not before --to %s", p.From.text, p.To.text)
	}
	if err != nil {
		err = &exitError{code: exitUsage, cause: err}
	}
	return from, to, err
}

// eventsExportCmd writes stored events.
type eventsExportCmd struct {
	storeFlag
	choice
	period
	Format string `help:"jsonl or csv." enum:"jsonl,csv" default:"jsonl"`
	Output string `help:"Write to this file instead of stdout; it is there only once it is whole." short:"o" placeholder:"FILE"`
}

// Run streams the events in bounded memory.
func (e *eventsExportCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		from, to, err := e.times(a.plan.Config.Site.Location())
		if err != nil {
			return err
		}
		q := e.query()
		if !from.IsZero() {
			q.Set("from", from.UTC().Format(time.RFC3339Nano))
		}
		if !to.IsZero() {
			q.Set("to", to.UTC().Format(time.RFC3339Nano))
		}
		var n uint64
		write := func(out io.Writer) error {
			n, err = e.export(ctx, c, a, q, out)
			return err
		}
		if e.Output != "" {
			err = writeWhole(e.Output, write)
		} else {
			err = write(c.Out)
		}
		if err == nil {
			fmt.Fprintf(c.Err, "sluice: %s\n", count(int(n), "event"))
		}
		return err
	})
}

func (e *eventsExportCmd) export(ctx context.Context, c *console, a *access, q url.Values, out io.Writer) (uint64, error) {
	p := newProgress(c.Err, "events")
	defer p.end()
	w := csv.NewWriter(out)
	if e.Format == "csv" {
		if err := w.Write([]string{"time", "machine", "sequence", "kind", "id", "source", "data"}); err != nil {
			return 0, err
		}
	}
	seen := uint64(0)
	n, err := a.Lines(ctx, "/events", q, func(line []byte) error {
		seen++
		p.step(seen)
		if e.Format == "jsonl" {
			_, err := out.Write(append(line[:len(line):len(line)], '\n'))
			return err
		}
		ev, err := readCloudEvent(line)
		if err != nil {
			return err
		}
		return w.Write([]string{ev.Time.UTC().Format("2006-01-02T15:04:05.000Z"), ev.Subject, strings.TrimLeft(ev.Sequence, "0"), ev.kind(), ev.ID, ev.Source, string(ev.Data)})
	})
	if err != nil {
		return n, err
	}
	w.Flush()
	return n, w.Error()
}

// partSuffix is added to the name of a file that is not whole yet.
const partSuffix = ".part"

// writeWhole makes a file that is there only if write has succeeded and the disk
// has it.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	part := path + partSuffix
	f, err := createFile(part)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		// What is there is not whole; the first error is the one to know.
		_ = os.Remove(part)
	}
	return err
}
