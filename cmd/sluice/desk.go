package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/internal/audit"
	"github.com/sluice-edge/sluice/internal/journal"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/status"
	"github.com/sluice-edge/sluice/uplink"
)

// desk is what the pages about the central systems ask the gateway for.
type desk gateway

var (
	_ status.Desk  = (*desk)(nil)
	_ status.Stops = (*desk)(nil)
)

// MissedStops implements status.Stops.
func (d *desk) MissedStops() ([]uplink.MissedStop, error) {
	if !d.built.Load() {
		return nil, status.ErrNotYet
	}
	var all []uplink.MissedStop
	for i, sender := range d.senders {
		misser, ok := sender.(uplink.Misser)
		if !ok {
			continue
		}
		for _, m := range d.plan.Machines {
			for _, stop := range misser.MissedStops(m.Machine()) {
				stop.Uplink = d.plan.Uplinks[i].Name
				all = append(all, stop)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b uplink.MissedStop) int { return a.From.Compare(b.From) })
	return all, nil
}

// Journal implements status.Desk.
func (d *desk) Journal() *journal.Log { return d.journal }

// DeadLetters implements status.Desk.
func (d *desk) DeadLetters(ctx context.Context, uplink string, m plant.MachineID) (iter.Seq2[buffer.DeadLetter, error], error) {
	switch {
	case !d.built.Load():
		return nil, status.ErrNotYet
	case m != "":
		return d.buffer.DeadLettersOf(ctx, uplink, m, 0), nil
	default:
		return d.buffer.DeadLetters(ctx, uplink), nil
	}
}

// byPage is who the audit log names for what was asked for on the page, which has
// no login.
const byPage = "status page"

// TestUplink implements status.Desk.
func (d *desk) TestUplink(ctx context.Context, name string) (uplink.Tested, error) {
	if !d.built.Load() {
		return uplink.Tested{}, status.ErrNotYet
	}
	entry := audit.Entry{By: byPage, Action: "uplink.test", Object: name, Outcome: audit.Begun}
	if _, err := d.audit.Append(entry); err != nil {
		return uplink.Tested{}, fmt.Errorf("nothing was tried, since the audit log cannot be written: %w", err)
	}
	t, ok := (*gateway)(d).testUplink(ctx, name)
	if !ok {
		return t, errors.New("the config has no such uplink: load the page again")
	}
	if entry.Outcome = audit.Done; !t.OK {
		entry.Outcome, entry.Detail = audit.Failed, t.Error
	}
	if _, err := d.audit.Append(entry); err != nil {
		d.log.Error("the audit log has no word of how a test ended", zap.String("uplink", name), zap.Error(err))
	}
	return t, nil
}
