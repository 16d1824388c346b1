package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// probed is what was found at one other end.
type probed struct {
	// What it is: "uplink erp", "device press-plc".
	What     string           `json:"what"`
	Endpoint string           `json:"endpoint"`
	Findings []uplink.Finding `json:"findings"`
}

// probeFor bounds the questions to one other end: a system that wants a request
// every half second is asked for two hundred codes.
const probeFor = 2 * time.Minute

// probe asks every other end of a good config, one after the other, and changes
// nothing there.
func probe(ctx context.Context, con *console, p *plan) (all []probed) {
	all = probeDevices(ctx, p)
	for i := range p.Uplinks {
		u := &p.Uplinks[i]
		asked, cancel := context.WithTimeout(ctx, probeFor)
		all = append(all, probed{What: "uplink " + u.Name, Endpoint: u.Plan.Endpoint, Findings: probeUplink(asked, con, p, u)})
		cancel()
	}
	return all
}

// probeUplink asks one system: for access, for codes, and for what ends.
func probeUplink(ctx context.Context, con *console, p *plan, u *uplinkPlan) []uplink.Finding {
	used := p.usedCodes(u)
	expiries := uplink.NewExpiries(u.Plan.Expires...)
	site := p.Config.Site
	s := u.Plan.Open(uplink.Env{
		Name: u.Name, Gateway: site.Gateway, Path: site.Path(), Log: con.Log,
		Codes: uplink.NewCodes(u.Plan.Codes, p.downtimes(u.Name)), Expiries: expiries, Shared: p.shared(u),
		Memory: func(string) ([]byte, error) { return nil, nil },
	})
	found := []uplink.Finding{letsIn(ctx, con, p, u)}
	if asks, ok := s.(uplink.Preflighter); ok {
		found = append(found, asks.Preflight(ctx, used)...)
	} else {
		found = append(found, unasked(p, u, used)...)
		if tries, ok := s.(uplink.Tester); ok {
			// What came of it is told already; this one shows when the other side's
			// certificate ends.
			_ = tries.Test(ctx)
		}
	}
	if err := s.Close(); err != nil {
		fmt.Fprintln(con.Err, "sluice:", plain(err.Error()))
	}
	for _, c := range used {
		if f, missing := unmapped(u, &c); missing {
			found = append(found, f)
		}
	}
	return append(found, ends(expiries, time.Now())...)
}

// unmapped says of a code that the table of an uplink does not have what becomes of
// it.
func unmapped(u *uplinkPlan, c *uplink.UsedCode) (f uplink.Finding, missing bool) {
	f = uplink.Finding{Level: uplink.Amber, What: string(c.Kind), Code: c.Code,
		Words: "the table of this uplink does not have it, so it is sent as it is", Remedy: "add a row to codes: " + string(c.Kind) + ":"}
	translation := u.Plan.Translation(c.Kind)
	if translation == uplink.Demanded {
		f.Level, f.Words = uplink.Red, "the table of this uplink does not have it, and a template asks for `mapped`: events with it are refused here"
	}
	return f, !c.Mapped && translation != uplink.Untranslated
}

// letsIn tries whether the system lets the gateway in.
func letsIn(ctx context.Context, con *console, p *plan, u *uplinkPlan) uplink.Finding {
	f := uplink.Finding{Level: uplink.OK, What: "access", Words: "the system answers as it should"}
	t, err := tryUplink(ctx, con, p, u)
	switch {
	case err != nil:
		f.Level, f.Words, f.Remedy = uplink.Amber, "could not be tried: "+err.Error(), "try sluice uplink test "+u.Name
	case t.Error == uplink.ErrNoTest.Error():
		f.Level, f.Words, f.Remedy = uplink.Amber, "cannot be tried without sending an event", "look at its first deliveries: sluice uplink log"
	case !t.OK:
		f.Level, f.Words, f.Remedy = uplink.Red, t.Error, "mend that first; what is said of codes may only follow from it"
	}
	return f
}

// unasked says of which codes nobody can be asked.
func unasked(p *plan, u *uplinkPlan, used []uplink.UsedCode) (found []uplink.Finding) {
	for _, kind := range plant.CodeKinds() {
		codes := sentCodes(p, u, kind, used)
		if len(codes) > 0 {
			found = append(found, uplink.Finding{Level: uplink.Amber, What: string(kind),
				Words: "cannot be checked, since this system has no list to ask for: " + some(codes, 10), Remedy: "compare them with the system's own"})
		}
	}
	return found
}

// sentCodes are the codes of a kind that a system is sent, as it calls them: those
// that the config names, those of the uplink's table, for what only a device says,
// and each machine, which every event names.
func sentCodes(p *plan, u *uplinkPlan, kind plant.CodeKind, used []uplink.UsedCode) (codes []string) {
	add := func(code string) {
		if !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	table := uplink.NewCodes(u.Plan.Codes, nil)
	if kind == plant.CodeMachine {
		for _, m := range p.Machines {
			if u.Plan.Options.Machines.Take(m.Machine()) {
				theirs, _ := table.Lookup(kind, string(m.Machine()))
				add(theirs)
			}
		}
		return codes
	}
	for _, c := range used {
		if c.Kind == kind {
			add(c.Theirs)
		}
	}
	if u.Plan.Translation(kind) != uplink.Untranslated {
		for _, row := range u.Plan.Codes.Table(kind).Rows {
			add(row.Value.Theirs)
		}
	}
	return codes
}

// The page warns at the same distances.
const (
	endsSoon     = 14 * 24 * time.Hour
	endsTomorrow = 24 * time.Hour
)

// ends says what ends when.
func ends(expiries *uplink.Expiries, now time.Time) (found []uplink.Finding) {
	for _, e := range expiries.List() {
		f := uplink.Finding{Level: uplink.OK, What: "expiry", Words: e.What + " ends at " + e.At.UTC().Format("2006-01-02 15:04 UTC")}
		switch left := e.At.Sub(now); {
		case left <= 0:
			f.Level, f.Words, f.Remedy = uplink.Red, e.What+" ended at "+e.At.UTC().Format("2006-01-02 15:04 UTC"), "put a new one in its place"
		case left <= endsTomorrow:
			f.Level, f.Remedy = uplink.Red, "put a new one in its place today"
		case left <= endsSoon:
			f.Level, f.Remedy = uplink.Amber, "order a new one"
		}
		found = append(found, f)
	}
	return found
}

// reds counts what must be mended.
func reds(all []probed) (n int) {
	for _, p := range all {
		for _, f := range p.Findings {
			if f.Level == uplink.Red {
				n++
			}
		}
	}
	return n
}

// printProbed prints what was found, one finding a line, the worst in capitals.
func printProbed(out io.Writer, all []probed) error {
	for _, p := range all {
		if _, err := fmt.Fprintf(out, "%s: %s\n", plain(p.What), plain(p.Endpoint)); err != nil {
			return err
		}
		for _, f := range p.Findings {
			level := string(f.Level)
			if f.Level == uplink.Red {
				level = strings.ToUpper(level)
			}
			line := strings.ReplaceAll(f.What, "_", " ")
			if f.Code != "" {
				line += " " + f.Code
			}
			line += ": " + f.Words
			if f.Remedy != "" {
				line += " — " + f.Remedy
			}
			if _, err := fmt.Fprintf(out, "  %-6s %s\n", level, plain(line)); err != nil {
				return err
			}
		}
	}
	return nil
}
