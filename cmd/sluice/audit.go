package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluice-edge/sluice/internal/audit"
)

// auditCmd reads the audit log. It needs no gateway: it only reads files.
type auditCmd struct {
	Show   auditShowCmd   `cmd:"" help:"Who changed what, oldest first."`
	Verify auditVerifyCmd `cmd:"" help:"Follow the chain and name the first line that does not fit."`
}

// auditShowCmd lists entries.
type auditShowCmd struct {
	storeFlag
	Number int  `help:"Only the newest so many." short:"n"`
	JSON   bool `help:"Print JSON, one entry a line."`
}

// Run prints one line an entry.
func (a *auditShowCmd) Run(c *console) error {
	p, err := a.load(c)
	if err != nil {
		return err
	}
	var newest []string
	broken := 0
	put := func(line string) error {
		if a.Number <= 0 {
			_, err := fmt.Fprintln(c.Out, line)
			return err
		}
		if newest = append(newest, line); len(newest) > a.Number {
			newest = newest[1:]
		}
		return nil
	}
	zone := p.Config.Site.Location()
	err = audit.Read(string(p.Config.Buffer.Path), func(r audit.Record, unreadable error) error {
		if unreadable != nil {
			broken++
			fmt.Fprintln(c.Err, "sluice: audit:", plain(unreadable.Error()))
			return nil
		}
		if a.JSON {
			return put(string(r.JSON()))
		}
		return put(fmt.Sprintf("%d  %s  %s  %s  %s  %s  %s", r.Number, r.Time.In(zone).Format(time.DateTime), plain(r.By), plain(r.Action), plain(r.Object), r.Outcome, plain(r.Detail)))
	})
	for _, line := range newest {
		fmt.Fprintln(c.Out, line)
	}
	if err == nil && broken > 0 {
		err = errors.New(count(broken, "line") + " of the audit log cannot be read: sluice audit verify says more")
	}
	return err
}

// auditVerifyCmd verifies the chain.
type auditVerifyCmd struct {
	storeFlag
	JSON bool `help:"Print one JSON document, with the hash of the newest entry."`
}

// Run exits with 1 if the chain is broken.
func (a *auditVerifyCmd) Run(c *console) error {
	p, err := a.load(c)
	if err != nil {
		return err
	}
	r, err := audit.Verify(string(p.Config.Buffer.Path))
	if err != nil {
		return err
	}
	if a.JSON {
		if err := encodeJSON(c.Out, r); err != nil {
			return err
		}
	}
	if r.Broken != "" {
		return errors.New("the audit log is broken: " + plain(r.Broken))
	}
	if !a.JSON {
		_, err = fmt.Fprintf(c.Out, "the audit log holds: %s, %d to %d; newest hash %s\n", entries(r.Entries), r.First, r.Last, r.Head)
	}
	return err
}

func entries(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
