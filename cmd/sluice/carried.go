package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// patterns warns of machines that an uplink names and that there are none of, which
// a misspelt code leads to.
func (k *checker) patterns() {
	machines := make([]plant.MachineID, len(k.plan.Config.Machines))
	for i, m := range k.plan.Config.Machines {
		machines[i] = plant.MachineID(m.Name)
	}
	for i := range k.plan.Uplinks {
		u := &k.plan.Uplinks[i]
		section := slices.IndexFunc(k.plan.Config.Uplinks, func(s *config.Section) bool { return s.Name == u.Name })
		for _, key := range slices.Sorted(maps.Keys(u.Plan.Names)) {
			if m := u.Plan.Names[key]; !slices.Contains(machines, m) {
				k.faults = append(k.faults, k.plan.Config.Uplinks[section].Faults(config.Warn(key,
					fmt.Sprintf("no machine is called %s, so it has no effect", m), nearestMachine(string(m), machines)))...)
			}
		}
		for _, at := range u.Plan.Options.Machines.Strangers(machines) {
			pattern := u.Plan.Options.Machines[at]
			k.faults = append(k.faults, k.plan.Config.Uplinks[section].Faults(config.Warn(fmt.Sprintf("machines[%d]", at),
				fmt.Sprintf("no machine fits %q, so it lets nothing through", pattern), nearestMachine(pattern, machines)))...)
		}
	}
}

// nearestMachine is the remedy for a pattern that no machine fits.
func nearestMachine(pattern string, machines []plant.MachineID) string {
	names := make([]string, len(machines))
	for i, m := range machines {
		names[i] = string(m)
	}
	if meant, ok := config.Nearest(pattern, names); ok {
		return "did you mean " + meant + "?"
	}
	return "write a machine's code as it stands under machines, or a pattern such as PRESS-*"
}

// carried warns of machines and of kinds of events that go nowhere, and of
// patterns that no machine fits. A kind is named once.
func (k *checker) carried() {
	k.patterns()
	seen := make(map[plant.EventKind]bool)
	for i, m := range k.plan.Machines {
		takes := func(u uplinkPlan) bool { return u.Plan.Options.Machines.Take(m.Machine()) }
		if len(k.plan.Uplinks) > 0 && !slices.ContainsFunc(k.plan.Uplinks, takes) {
			k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(config.Warn("",
				"no uplink carries its events: none names it under machines", "they stay on this computer until the buffer drops them; name it in an uplink's machines"))...)
			continue
		}
		for _, event := range m.Kinds() {
			carries := func(u uplinkPlan) bool { return takes(u) && u.Plan.Carries(event) }
			if seen[event] || slices.ContainsFunc(k.plan.Uplinks, carries) {
				continue
			}
			seen[event] = true
			k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(config.Warn("",
				"no uplink carries its events of the kind `"+string(event)+"`", "they stay on this computer until the buffer drops them; let an uplink carry them"))...)
		}
	}
}

// apart reports whether two lists of machines cannot have one in common: codes
// without a pattern, and none of them in both.
func apart(a, b uplink.Machines) bool {
	plain := func(m uplink.Machines) bool {
		return len(m) > 0 && !slices.ContainsFunc(m, func(p string) bool { return strings.ContainsAny(p, "*?") })
	}
	return plain(a) && plain(b) && !slices.ContainsFunc(a, func(p string) bool { return slices.Contains(b, p) })
}
