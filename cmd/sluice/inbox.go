package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/admin"
	"github.com/sluice-edge/sluice/plant"
)

// inbox is the gateway as those see it who tell machines what no device says.
type inbox gateway

var (
	_ plant.Inbox = (*inbox)(nil)
	_ admin.Rules = (*inbox)(nil)
)

// Submit implements plant.Inbox.
func (g *inbox) Submit(ctx context.Context, m plant.MachineID, in plant.Input) error {
	i := slices.IndexFunc(g.plan.Machines, func(model *derive.Model) bool { return model.Machine() == m })
	if i < 0 {
		return fmt.Errorf("gateway: the config has no machine %q", m)
	}
	return g.workers[i].Submit(ctx, in)
}

// Modes implements admin.Rules.
func (g *inbox) Modes() []admin.MachineMode {
	all := make([]admin.MachineMode, len(g.workers))
	for i, w := range g.workers {
		s := w.Stats()
		all[i] = admin.MachineMode{
			Machine: s.Machine, Mode: s.Mode, Since: moment(s.ModeSince), By: s.ModeBy, Until: moment(s.ModeUntil),
			Configured: g.plan.Machines[i].Mode(),
		}
	}
	return all
}

// Now implements admin.Rules.
func (g *inbox) Now() time.Time { return g.clock.Now() }

// moment is nil for no time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
