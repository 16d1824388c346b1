package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/plant"
)

// modeCmd lists or sets what machines are used for.
type modeCmd struct {
	storeFlag
	Machine string `arg:"" optional:"" help:"The machine; without it all of them are listed."`
	Mode    string `arg:"" optional:"" help:"production, setup, maintenance, commissioning, out_of_service, or config: as the config says."`
	Until   string `help:"When it ends by itself: a time of the plant (15:00, 2026-07-27T15:00) or a length (90m, 2h, 1d)." placeholder:"TIME"`
	JSON    bool   `help:"Print JSON."`
}

// Run asks the running gateway: only its rules know and keep the mode.
func (m *modeCmd) Run(ctx context.Context, c *console) error {
	p, err := m.load(c)
	if err != nil {
		return err
	}
	zone := p.Config.Site.Location()
	if m.Until != "" && m.Mode == "" {
		return &exitError{code: exitUsage, cause: errors.New("--until needs a mode: sluice mode MACHINE MODE --until 2h")}
	}
	now := time.Now()
	until, err := end(m.Until, now, zone)
	if err != nil {
		return &exitError{code: exitUsage, cause: err}
	}
	client, err := admin.Dial(ctx, string(p.Config.Buffer.Path))
	if errors.Is(err, admin.ErrNotRunning) {
		return errors.New("the gateway is not running, and only its rules know and keep what a machine is used for: start it first, or write mode: into the config")
	}
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // closing connections that are idle
	if m.Mode == "" {
		return usage(m.list(ctx, c, client, zone))
	}
	var set admin.MachineMode
	in := map[string]any{"machine": m.Machine, "mode": m.Mode}
	if !until.IsZero() {
		in["until"] = until
	}
	if err := client.Post(ctx, "/mode", in, &set); err != nil {
		return usage(err)
	}
	if m.JSON {
		return encodeJSON(c.Out, set)
	}
	_, err = fmt.Fprintf(c.Out, "%s: %s\n", plain(string(set.Machine)), words(&set, zone))
	return err
}

// list prints what all machines, or the one that was named, are used for.
func (m *modeCmd) list(ctx context.Context, c *console, client *admin.Client, zone *time.Location) error {
	var all []admin.MachineMode
	if err := client.Get(ctx, "/modes", nil, &all); err != nil {
		return err
	}
	if m.Machine != "" {
		var one []admin.MachineMode
		var names []string
		for i := range all {
			names = append(names, string(all[i].Machine))
			if all[i].Machine == plant.MachineID(m.Machine) {
				one = all[i : i+1]
			}
		}
		if one == nil {
			return &exitError{code: exitUsage, cause: config.Unknown("", "machine", m.Machine, names)}
		}
		all = one
	}
	if m.JSON {
		return encodeJSON(c.Out, all)
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MACHINE\tMODE\tSINCE\tUNTIL\tBY\tCONFIG")
	for i := range all {
		s := &all[i]
		by := s.By
		if by == "" {
			by = "config"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", plain(string(s.Machine)), s.Mode, local(s.Since, zone), local(s.Until, zone), plain(by), s.Configured)
	}
	return w.Flush()
}

func words(s *admin.MachineMode, zone *time.Location) string {
	if s.Until == nil {
		return string(s.Mode)
	}
	return string(s.Mode) + " until " + local(s.Until, zone)
}

func local(t *time.Time, zone *time.Location) string {
	if t == nil {
		return ""
	}
	return t.In(zone).Format("2006-01-02 15:04:05")
}

// end reads when something ends: a time of day, the next that comes in the
// plant's time zone; a moment; or a length from now. Zero for no text.
func end(text string, now time.Time, zone *time.Location) (time.Time, error) {
	refused := fmt.Errorf("%q is no end: write 15:00 or 2026-07-27T15:00 (the plant's time), 2026-07-27T13:00:00Z, or how long: 90m, 2h, 1d", text)
	if text == "" {
		return time.Time{}, nil
	}
	if clock, err := time.Parse("15:04", text); err == nil {
		day := now.In(zone)
		for range 2 {
			if t := time.Date(day.Year(), day.Month(), day.Day(), clock.Hour(), clock.Minute(), 0, 0, zone); t.After(now) {
				return t, nil
			}
			day = day.AddDate(0, 0, 1)
		}
		return time.Time{}, refused
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, nil
		}
	}
	if t, err := afterwards(now.In(zone), text, +1); err == nil && t.After(now) {
		return t.Truncate(time.Second), nil
	}
	return time.Time{}, refused
}
