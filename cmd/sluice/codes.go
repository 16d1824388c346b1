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
// have, one warning a table.
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
			k.faults = append(k.faults, k.plan.Config.Uplinks[section].Faults(config.Warn("codes."+string(kind),
				"the table has no "+some(missing[kind], 10), "add a row for each; they are sent as they are until then"))...)
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
