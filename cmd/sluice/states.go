package main

import (
	"github.com/sluice-edge/sluice/uplink"
)

// statesFor returns what tells an uplink how the machines are that it gets.
func (g *gateway) statesFor(machines uplink.Machines) func() []uplink.State {
	return func() (all []uplink.State) {
		for _, w := range g.workers {
			s := w.Stats()
			if !machines.Take(s.Machine) {
				continue
			}
			all = append(all, uplink.State{
				Machine: s.Machine, Running: s.Running, Since: s.StateSince, Reason: s.Reason, Good: s.Good, Scrap: s.Scrap,
				Order: s.Order, Shift: s.Shift, Mode: string(s.Mode), Last: s.LastSequence, Kind: s.LastEvent, Time: s.LastEventTime,
			})
		}
		return all
	}
}
