package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/sluice-edge/sluice/config"
)

// checkCmd validates a config, without connecting to anything unless it is asked
// to.
type checkCmd struct {
	configFlag
	Online bool `help:"Ask the devices and the central systems as well: each tag is read once, and the systems say whether they let the gateway in, which of the codes they have, and what ends soon. Nothing is changed there."`
	JSON   bool `help:"Print one JSON document instead of lines."`
}

// checkReport is what check prints with --json.
type checkReport struct {
	OK     bool          `json:"ok"`
	File   string        `json:"file"`
	Faults config.Faults `json:"faults"`
	// Online is what was found at the other ends; absent if nobody was asked.
	Online []probed `json:"online,omitempty"`
}

// Run prints every fault on stdout, one a line, and a summary on stderr. A
// config with errors ends with exit code 2; warnings alone do not. With Online a
// good config of which another end says something red ends with exit code 1.
func (c *checkCmd) Run(ctx context.Context, con *console) error {
	path, p, faults := c.load()
	var online []probed
	if c.Online && len(faults.Errors()) == 0 {
		online = probe(ctx, con, p)
	}
	if err := c.print(con.Out, path, faults, online); err != nil {
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
	if red := reds(online); red > 0 {
		fmt.Fprintf(con.Err, "%s must be mended before events arrive as they should\n", count(red, "finding"))
		return &exitError{code: exitFailed}
	}
	return nil
}

func (c *checkCmd) print(out io.Writer, path string, faults config.Faults, online []probed) error {
	if c.JSON {
		if faults == nil {
			faults = config.Faults{}
		}
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return e.Encode(checkReport{OK: len(faults.Errors()) == 0 && reds(online) == 0, File: path, Faults: faults, Online: online})
	}
	for _, f := range faults {
		if _, err := fmt.Fprintln(out, f); err != nil {
			return err
		}
	}
	return printProbed(out, online)
}

// count returns "1 fault" or "2 faults".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
