package main

import (
	"context"
	"fmt"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/ledger"
	"github.com/sluice-edge/sluice/internal/admin"
)

// uplinkCmd is what is done to uplinks by hand.
type uplinkCmd struct {
	Log    uplinkLogCmd    `cmd:"" help:"The integration log: what was sent, merged, refused and tried again, and what the receivers said."`
	Test   uplinkTestCmd   `cmd:"" help:"Try an uplink: reach the system, log in, and say what it answers."`
	Forget uplinkForgetCmd `cmd:"" help:"Give up the events, dead letters and cursors of an uplink that is not in the config any more."`
}

// uplinkForgetCmd gives up what is kept for an uplink that is gone.
type uplinkForgetCmd struct {
	storeFlag
	Name   string `arg:"" help:"The name that the uplink had in the config."`
	Reason string `help:"Why; it is kept in the audit log." required:""`
	JSON   bool   `help:"Print one JSON document."`
}

// Run forgets it, in the running gateway or in the store of a stopped one.
func (e *uplinkForgetCmd) Run(ctx context.Context, c *console) error {
	return e.use(ctx, c, func(a *access) error {
		var f admin.Forgotten
		if err := a.Post(ctx, "/uplink/forget", map[string]string{"uplink": e.Name, "reason": e.Reason}, &f); err != nil {
			return err
		}
		if e.JSON {
			return encodeJSON(c.Out, f)
		}
		if f.Uplink == ledger.Name {
			_, err := fmt.Fprintln(c.Out, "forgot the books of material: they begin anew with the oldest event that is kept, and what was booked before is not in them any more; enter a stocktaking where the stock matters")
			return err
		}
		_, err := fmt.Fprintf(c.Out, "forgot uplink %s: %d events (%s) and %d dead letters were kept for it\n",
			f.Uplink, f.Events, config.Size(f.Bytes), f.DeadLetters)
		return err
	})
}
