package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/journal"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/status"
)

// journalNotices says what is wrong with the integration log.
func (g *gateway) journalNotices() []status.Problem {
	s := g.journal.Stats()
	if s.Problem == "" {
		return nil
	}
	return []status.Problem{{
		Severity: status.Doubtful, What: "The integration log is not written", Cause: s.Problem, Since: s.Since,
		Do: "Recording and delivery go on. Make room on the disk, or look at the folder log beside the store; the log goes on by itself.",
	}}
}

// logPoll is how often --follow looks for new lines.
const logPoll = 500 * time.Millisecond

// uplinkLogCmd reads the integration log. It needs no gateway: it only reads
// files.
type uplinkLogCmd struct {
	storeFlag
	period
	Uplink  string `help:"Only this uplink." short:"u"`
	Machine string `help:"Only this machine." short:"m"`
	Kind    string `help:"Only this kind of event." short:"k"`
	Outcome string `help:"Only this outcome: delivered, refused, retry, held, dropped, asked, test or lost."`
	Status  string `help:"Only this answer of the receiver: 503, or 5xx." placeholder:"NUMBER"`
	ID      string `name:"id" help:"Only what is about this event (its id, or MACHINE/NUMBER), or has this id, ours or the receiver's."`
	Search  string `help:"Only lines that hold this text, in any case." short:"s" placeholder:"TEXT"`
	Number  int    `help:"Only the newest so many; 0 for all." short:"n" default:"0"`
	Follow  bool   `help:"Go on with those that come, until Ctrl-C." short:"f"`
	Format  string `help:"text, jsonl or csv." enum:"text,jsonl,csv" default:"text"`
	Output  string `help:"Write to this file instead of stdout; it is there only once it is whole." short:"o" placeholder:"FILE"`
}

// filter is what the flags mean.
func (u *uplinkLogCmd) filter(zone *time.Location) (f journal.Filter, err error) {
	if f, err = journal.ParseFilter(url.Values{
		"uplink": {u.Uplink}, "machine": {u.Machine}, "kind": {u.Kind}, "outcome": {u.Outcome}, "status": {u.Status}, "id": {u.ID}, "q": {u.Search},
	}, zone); err != nil {
		return f, &exitError{code: exitUsage, cause: err}
	}
	if kinds := plant.EventKinds(); u.Kind != "" && !slices.Contains(kinds, f.Kind) {
		names := make([]string, len(kinds))
		for i, k := range kinds {
			names[i] = string(k)
		}
		return f, &exitError{code: exitUsage, cause: config.Unknown("--kind", "kind of event", u.Kind, names)}
	}
	f.From, f.To, err = u.times(zone)
	return f, err
}

// Run prints one line an entry, oldest first.
func (u *uplinkLogCmd) Run(ctx context.Context, c *console) error {
	p, err := u.load(c)
	if err != nil {
		return err
	}
	zone := p.Config.Site.Location()
	f, err := u.filter(zone)
	if err != nil {
		return err
	}
	if u.Follow && u.Output != "" {
		return &exitError{code: exitUsage, cause: errors.New("--follow does not end, so there is no whole file for --output")}
	}
	r := journal.NewReader(string(p.Config.Buffer.Path))
	if _, err := os.Stat(r.Folder()); errors.Is(err, os.ErrNotExist) {
		fmt.Fprintf(c.Err, "sluice: there is no integration log in %s yet\n", r.Folder())
	}
	if u.Output == "" {
		return u.print(ctx, c, &r, f, p, c.Out)
	}
	return writeWhole(u.Output, func(out io.Writer) error { return u.print(ctx, c, &r, f, p, out) })
}

// print writes what there is, then what comes if that is asked for.
func (u *uplinkLogCmd) print(ctx context.Context, c *console, r *journal.Reader, f journal.Filter, p *plan, out io.Writer) error {
	zone := p.Config.Site.Location()
	table := journal.NewCSV(out)
	put := func(e *journal.Entry) error {
		switch u.Format {
		case "csv":
			return table.Put(e)
		case "jsonl":
			text, err := journal.AppendJSON(nil, e)
			if err == nil {
				_, err = out.Write(text)
			}
			return err
		default:
			_, err := fmt.Fprintln(out, logLine(e, zone))
			return err
		}
	}
	after, err := u.beginAt(ctx, r, f)
	shown, bad := 0, 0
	for err == nil {
		var damaged int
		after, damaged, err = r.Each(ctx, f, after, func(e *journal.Entry) error { shown++; return put(e) })
		if bad += damaged; err != nil || !u.Follow {
			break
		}
		if u.Format == "csv" {
			err = table.Flush()
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(logPoll):
		}
	}
	if u.Follow && ctx.Err() != nil {
		return nil // Ctrl-C is how it ends
	}
	if err == nil && u.Format == "csv" {
		err = table.Close()
	}
	if err != nil {
		return err
	}
	if bad > 0 {
		fmt.Fprintf(c.Err, "sluice: %s of the log could not be read and were left out: the disk is failing, or somebody changed the files\n", count(bad, "line"))
	}
	if u.Format != "text" || u.Output != "" || shown == 0 {
		fmt.Fprintf(c.Err, "sluice: %s%s\n", entries(uint64(shown)), u.stranger(p))
	}
	return nil
}

// stranger says that the config does not know whom the flags name, which is why
// nothing may be found; the log may still know him from before.
func (u *uplinkLogCmd) stranger(p *plan) string {
	uplinks, machines := p.uplinkNames(), p.machineNames()
	switch {
	case u.Uplink != "" && !slices.Contains(uplinks, u.Uplink):
		return "; the config has no uplink " + plain(u.Uplink) + ", it has " + strings.Join(uplinks, ", ")
	case u.Machine != "" && !slices.Contains(machines, u.Machine):
		return "; the config has no machine " + plain(u.Machine) + ", it has " + strings.Join(machines, ", ")
	default:
		return ""
	}
}

// beginAt returns the number of the entry before the first that is wanted.
func (u *uplinkLogCmd) beginAt(ctx context.Context, r *journal.Reader, f journal.Filter) (uint64, error) {
	if u.Number <= 0 {
		return 0, nil
	}
	found, err := r.Search(ctx, f, 0, u.Number, time.Minute)
	if err != nil || len(found.Entries) == 0 {
		return 0, err
	}
	return found.Entries[len(found.Entries)-1].Number - 1, nil
}

// logLine is an entry for people, on one line.
func logLine(e *journal.Entry, zone *time.Location) string {
	parts := []string{e.Time.In(zone).Format("2006-01-02 15:04:05.000"), string(e.Outcome)}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if e.Uplink != "" {
		add("%s", e.Uplink)
	}
	if about := aboutEvents(e); about != "" {
		add("%s", about)
	}
	if e.Method != "" || e.Where != "" {
		add("%s", strings.TrimSpace(e.Method+" "+e.Where))
	}
	if e.Status != 0 {
		add("%d", e.Status)
	}
	if e.Duration > 0 {
		add("%s", e.Duration.Round(100*time.Microsecond))
	}
	if e.RequestID != "" {
		add("id %s", e.RequestID)
	}
	if e.ReceiverID != "" {
		add("theirs %s", e.ReceiverID)
	}
	if e.Words != "" {
		add("%s", e.Words)
	}
	return plain(strings.Join(parts, "  "))
}

// aboutEvents says which events an entry is about, empty for none.
func aboutEvents(e *journal.Entry) string {
	text := string(e.Machine)
	switch e.First {
	case 0:
	case e.Last:
		text += fmt.Sprintf("/%d", uint64(e.First))
	default:
		text += fmt.Sprintf("/%d–%d", uint64(e.First), uint64(e.Last))
	}
	switch {
	case e.Events > 1 && e.Kind != "":
		text += fmt.Sprintf(" %d %s", e.Events, e.Kind)
	case e.Events > 1:
		text += " " + count(e.Events, "event")
	case e.Kind != "":
		text += " " + string(e.Kind)
	}
	for _, m := range e.Merged {
		text += fmt.Sprintf(", %d %s from %d sent as %d", m.Count, m.Kind, uint64(m.First), uint64(m.Into))
	}
	if e.Sends > 1 {
		text += fmt.Sprintf(" in %d sends", e.Sends)
	}
	return text
}
