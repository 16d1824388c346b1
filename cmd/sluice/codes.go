package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// usedCodes returns the codes that the config names and this uplink sends, by kind
// and code.
func (p *plan) usedCodes(u *uplinkPlan) []uplink.UsedCode {
	type key struct {
		kind         plant.CodeKind
		code, theirs string
	}
	codes := uplink.NewCodes(u.Plan.Codes, nil)
	found := make(map[key]*uplink.UsedCode)
	for _, m := range p.Machines {
		if !u.Plan.Options.Machines.Take(m.Machine()) {
			continue
		}
		for _, c := range m.Codes() {
			if !slices.ContainsFunc(c.Events, func(k plant.EventKind) bool { return u.Plan.Carries(k) && slices.Contains(m.Kinds(), k) }) {
				continue
			}
			theirs, mapped := nameOf(codes, &c, u.Name)
			at := key{c.Kind, c.Code, theirs}
			if found[at] == nil {
				found[at] = &uplink.UsedCode{Kind: c.Kind, Code: c.Code, Theirs: theirs, Mapped: mapped}
			}
			if one := found[at]; !slices.Contains(one.Machines, m.Machine()) {
				one.Machines = append(one.Machines, m.Machine())
			}
		}
	}
	used := make([]uplink.UsedCode, 0, len(found))
	for _, one := range found {
		used = append(used, *one)
	}
	slices.SortFunc(used, func(a, b uplink.UsedCode) int {
		return cmp.Or(cmp.Compare(slices.Index(plant.CodeKinds(), a.Kind), slices.Index(plant.CodeKinds(), b.Kind)), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Theirs, b.Theirs))
	})
	return used
}

// nameOf returns what the system of an uplink calls a code.
func nameOf(codes *uplink.Codes, c *derive.Code, name string) (theirs string, mapped bool) {
	if own, has := c.Own[name]; has {
		return own, true
	}
	return codes.Lookup(c.Kind, c.Code)
}

// mapped warns of the codes that the config uses and an uplink's table does not
// have, one warning a table, and of names for uplinks that do not say them.
func (k *checker) mapped() {
	for i := range k.plan.Uplinks {
		u := &k.plan.Uplinks[i]
		missing := make(map[plant.CodeKind][]string)
		for _, c := range k.plan.usedCodes(u) {
			if !c.Mapped {
				missing[c.Kind] = append(missing[c.Kind], fmt.Sprintf("`%s` (%s)", c.Code, machines(c.Machines)))
			}
		}
		section := slices.IndexFunc(k.plan.Config.Uplinks, func(s *config.Section) bool { return s.Name == u.Name })
		for _, kind := range plant.CodeKinds() {
			if len(missing[kind]) == 0 {
				continue
			}
			remedy := "add a row for each; they are sent as they are until then"
			switch u.Plan.Translation(kind) {
			case uplink.Untranslated:
				continue // the table has no say, which is warned of
			case uplink.Demanded:
				remedy = "add a row for each; events with them are refused here until then, since a template asks for `mapped`"
			}
			k.faults = append(k.faults, k.plan.Config.Uplinks[section].Faults(config.Warn("codes."+string(kind),
				"the table has no "+some(missing[kind], 10), remedy))...)
		}
		k.unsaid(u)
	}
}

// unsaid warns of machines whose tables name downtime types for an uplink that says
// none.
func (k *checker) unsaid(u *uplinkPlan) {
	var why, remedy string
	switch {
	case !u.Plan.Carries(plant.KindStartStop) && !u.Plan.Carries(plant.KindReason):
		why, remedy = "carries neither startstop nor reason", "remove the name, or let the uplink carry these kinds"
	case u.Plan.Translation(plant.CodeDowntimeType) == uplink.Untranslated:
		why, remedy = "does not ask for it", "write {{downtime .}} in the template where the type of a stop goes, or remove the name"
	default:
		return
	}
	for i, m := range k.plan.Machines {
		if path := m.Names(u.Name); path != "" {
			k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(config.Warn(path, fmt.Sprintf("uplink %s %s, so it has no effect there", u.Name, why), remedy))...)
		}
	}
}

// machines names machines, the first few of them.
func machines(all []plant.MachineID) string {
	names := make([]string, len(all))
	for i, m := range all {
		names[i] = string(m)
	}
	return some(names, 3)
}

// some joins texts, and counts those behind the first few.
func some(texts []string, most int) string {
	if len(texts) <= most {
		return strings.Join(texts, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(texts[:most], ", "), len(texts)-most)
}
