package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// sources warns of machines whose orders are from another source than an uplink
// takes: it passes their events over.
func (k *checker) sources() {
	for i := range k.plan.Uplinks {
		u := &k.plan.Uplinks[i]
		wanted := u.Plan.Orders
		if wanted.Name == "" {
			continue
		}
		var others []string
		fit := false
		for _, m := range k.plan.Machines {
			carried := func(event plant.EventKind) bool { return u.Plan.Carries(event) }
			if !u.Plan.Options.Machines.Take(m.Machine()) || !slices.ContainsFunc(m.Kinds(), carried) {
				continue
			}
			switch source, known := m.OrderSource(); {
			case known && source == "":
				others = append(others, fmt.Sprintf("%s says no `source:`", m.Machine()))
			case known && source != wanted.Name:
				others = append(others, fmt.Sprintf("%s says `%s`", m.Machine(), source))
			case !known && m.OrderOwner() == "":
				others = append(others, fmt.Sprintf("%s has no `order:`", m.Machine()))
			default:
				fit = true
			}
		}
		if len(others) == 0 {
			continue
		}
		problem := some(others, 5) + ": their events are passed over until their order is from `" + wanted.Name + "`"
		if !fit {
			problem = "no machine's order has the source `" + wanted.Name + "`; " + problem
		}
		section := slices.IndexFunc(k.plan.Config.Uplinks, func(s *config.Section) bool { return s.Name == u.Name })
		k.faults = append(k.faults, k.plan.Config.Uplinks[section].Faults(config.Warn(wanted.Key, problem,
			strings.Join([]string{
				"write the same at `order: source:`, to the letter", "`owner: api` where somebody else hands the order and its source",
				"or leave these machines out of the uplink's `machines`",
			}, ", ")))...)
	}
}
