package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/internal/recording"
	"github.com/sluice-edge/sluice/plant"
)

// reads words for each tag of a machine's rules, as "device/tag", what makes its
// value of what the device says.
func (p *plan) reads(m *derive.Model) map[string]string {
	all, devices := make(map[string]string), make(map[plant.DeviceID]map[plant.TagID]string)
	for _, d := range p.Devices {
		if d.Plan.Reads != nil && slices.ContainsFunc(m.Tags(), func(r plant.TagRef) bool { return r.Device == d.Name }) {
			devices[d.Name] = d.Plan.Reads()
		}
	}
	for _, ref := range m.Tags() {
		if words, ok := devices[ref.Device][ref.Tag]; ok {
			all[ref.String()] = words
		}
	}
	return all
}

// unlikeTag is a tag whose values the config would read otherwise than those that
// are played.
type unlikeTag struct {
	Machine plant.MachineID `json:"machine"`
	Tag     string          `json:"tag"`
	// Before is how it was read, empty if it was not; Against says that this is from
	// the config of --against and not from the recording.
	Before  string `json:"before"`
	Now     string `json:"now"`
	Against bool   `json:"against,omitempty"`
}

// unlike collects them. A recording holds values by the names of their tags, as they
// were read then, so what such a config would do cannot be seen in it.
type unlike struct{ tags []unlikeTag }

// recorded compares how a config reads with what the head of a file says.
func (u *unlike) recorded(h recording.Head, now map[string]string) {
	if len(h.Tags) == 0 {
		return // of a program that did not note them
	}
	for tag, words := range now {
		if h.Tags[tag] != words {
			u.add(unlikeTag{Machine: h.Machine, Tag: tag, Before: h.Tags[tag], Now: words})
		}
	}
}

// against compares how two configs read the tags that both of them use.
func (u *unlike) against(m plant.MachineID, now, then map[string]string) {
	for tag, words := range now {
		if before, ok := then[tag]; ok && before != words {
			u.add(unlikeTag{Machine: m, Tag: tag, Before: before, Now: words, Against: true})
		}
	}
}

// add takes a tag once, however many files and whatever it is compared with.
func (u *unlike) add(t unlikeTag) {
	if !slices.ContainsFunc(u.tags, func(o unlikeTag) bool { return o.Machine == t.Machine && o.Tag == t.Tag }) {
		u.tags = append(u.tags, t)
	}
}

// report names them, and says whether there are any.
func (u *unlike) report(c *console, asJSON bool) (bool, error) {
	slices.SortFunc(u.tags, func(a, b unlikeTag) int {
		return cmp.Or(cmp.Compare(a.Machine, b.Machine), cmp.Compare(a.Tag, b.Tag))
	})
	for _, t := range u.tags {
		if asJSON {
			if err := encodeJSON(c.Out, t); err != nil {
				return true, err
			}
		}
		why := fmt.Sprintf("was read as %q when it was recorded, and is %q now", plain(t.Before), plain(t.Now))
		switch {
		case t.Against:
			why = fmt.Sprintf("is read as %q by --against, and as %q now", plain(t.Before), plain(t.Now))
		case t.Before == "":
			why = "was used by no rule when it was recorded"
		}
		fmt.Fprintf(c.Err, "sluice: %s: the tag %s %s: this cannot be replayed, since the recording holds the values as they were read then — look at it with sluice read, and record anew\n", plain(string(t.Machine)), plain(t.Tag), why)
	}
	return len(u.tags) > 0, nil
}
