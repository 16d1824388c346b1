package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/sluice-edge/sluice/config"
)

// checkCmd validates a config without connecting to anything.
type checkCmd struct {
	configFlag
	JSON bool `help:"Print one JSON document instead of lines."`
}

// checkReport is what check prints with --json.
type checkReport struct {
	OK     bool          `json:"ok"`
	File   string        `json:"file"`
	Faults config.Faults `json:"faults"`
}

// Run prints every fault on stdout, one a line, and a summary on stderr. A
// config with errors ends with exit code 2; warnings alone do not.
func (c *checkCmd) Run(con *console) error {
	path, p, faults := c.load()
	if err := c.print(con.Out, path, faults); err != nil {
		return fmt.Errorf("check: write the faults: %w", err)
	}
	wrong := len(faults.Errors())
	summary := count(wrong, "fault") + ", " + count(len(faults)-wrong, "warning")
	if wrong > 0 {
		for _, f := range faults {
			if f.Unread {
				summary += "; the rest of " + f.File + " was not read: mend this first"
			}
		}
		fmt.Fprintf(con.Err, "%s: %s\n", path, summary)
		return &exitError{code: exitUsage}
	}
	tags := 0
	for _, d := range p.Devices {
		tags += len(d.Plan.Tags)
	}
	fmt.Fprintf(con.Err, "%s is good: %s with %s, %s, %s; %s\n", path, count(len(p.Devices), "device"), count(tags, "tag"),
		count(len(p.Machines), "machine"), count(len(p.Uplinks), "uplink"), summary)
	return nil
}

func (c *checkCmd) print(out io.Writer, path string, faults config.Faults) error {
	if c.JSON {
		if faults == nil {
			faults = config.Faults{}
		}
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return e.Encode(checkReport{OK: len(faults.Errors()) == 0, File: path, Faults: faults})
	}
	for _, f := range faults {
		if _, err := fmt.Fprintln(out, f); err != nil {
			return err
		}
	}
	return nil
}

// count returns "1 fault" or "2 faults".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
