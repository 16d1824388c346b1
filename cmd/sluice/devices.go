package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// lookFor is how long check waits for what a device says by itself.
const lookFor = 5 * time.Second

// atOnce is how many devices are asked side by side: those that are away cost
// their time-outs.
const atOnce = 8

// probeDevices asks every device.
func probeDevices(ctx context.Context, p *plan) []probed {
	l := newLooker(ctx, p)
	all, places := make([]probed, len(p.Devices)), make(chan struct{}, atOnce)
	var asking sync.WaitGroup
	for i := range p.Devices {
		asking.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			d := &p.Devices[i]
			all[i] = probed{What: "device " + string(d.Name), Endpoint: d.Plan.Endpoint, Findings: probeDevice(ctx, l, p, d)}
		})
	}
	asking.Wait()
	return all
}

// probeDevice reads each tag of a device once and says what is wrong. Nothing is
// written.
func probeDevice(ctx context.Context, l *looker, p *plan, d *devicePlan) (found []uplink.Finding) {
	written := writtenBy(p, d.Name)
	got, in, err := l.look(ctx, d, lookFor, tagsOf(written))
	switch {
	case errors.Is(err, errTaken):
		return []uplink.Finding{{Level: uplink.Amber, What: "connection", Words: "not asked: the gateway is running and has this device", Remedy: "look at the gateway's page, or check while it is stopped"}}
	case err != nil:
		f := uplink.Finding{Level: uplink.Red, What: "connection", Words: plain(err.Error()), Remedy: help(err)}
		if f.Remedy == "" {
			f.Remedy = "mend that first"
		}
		if l.running {
			f.Remedy += "; the running gateway may have the only connection that the device allows"
		}
		found = append(found, f)
		if len(got) == 0 {
			return found
		}
	default:
		found = append(found, uplink.Finding{Level: uplink.OK, What: "connection", Words: "the device answers"})
	}
	for _, t := range d.Plan.Tags {
		found = append(found, judge(d, t, got))
	}
	for _, n := range in.Doubts {
		found = append(found, uplink.Finding{Level: uplink.Amber, What: "address", Words: n.Text, Remedy: n.Do})
	}
	found = append(found, answerable(written, d, in, err == nil)...)
	return append(found, clock(in, p.maxSkew(d.Name))...)
}

// judge says what is to be said of one tag.
func judge(d *devicePlan, t plant.Tag, got map[plant.TagID]looked) uplink.Finding {
	v, read := got[t.ID]
	f := uplink.Finding{Level: uplink.OK, What: "tag", Code: string(t.ID), Words: "is " + valueWords(v.Value, t)}
	switch {
	case !read:
		f.Level, f.Words = uplink.Amber, fmt.Sprintf("the device has said nothing of it (%s) in %s", t.Address, lookFor)
		f.Remedy = "let it change at the device, and look with sluice read --watch " + string(d.Name) + "/" + string(t.ID)
	case v.Quality == plant.Uncertain:
		f.Level, f.Words = uplink.Amber, fmt.Sprintf("%s, but uncertain (%s): %s", f.Words, t.Address, v.Cause)
		f.Remedy = "rules count nothing that is uncertain: mend it at the device"
	case v.Quality != plant.Good:
		f.Level, f.Words = uplink.Red, fmt.Sprintf("cannot be read (%s): %s", t.Address, v.Cause)
		f.Remedy = "compare address and type with the device's list; sluice browse " + string(d.Name) + " shows what there is"
	}
	return f
}

// valueWords is a value with what a person compares it by.
func valueWords(v plant.Value, t plant.Tag) string {
	text := v.Text()
	if v.Type() == plant.Text {
		text = fmt.Sprintf("%q", text)
	}
	if t.Unit != "" {
		text += " " + t.Unit
	}
	kind := ""
	if t.Type != plant.TypeUnknown {
		kind = t.Type.String() + ", "
	}
	return fmt.Sprintf("%s (%s%s)", text, kind, t.Address)
}

// writtenBy returns which tags of a device the rules write, and for which
// machines.
func writtenBy(p *plan, device plant.DeviceID) map[plant.TagID][]string {
	by := make(map[plant.TagID][]string)
	for _, r := range p.records(device) {
		machine, _, _ := strings.Cut(string(r.ID), "/")
		for _, tag := range r.Writes {
			if !slices.Contains(by[tag], machine) {
				by[tag] = append(by[tag], machine)
			}
		}
	}
	return by
}

func tagsOf(written map[plant.TagID][]string) (tags []plant.TagID) {
	for tag := range written {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return tags
}

// answerable says whether the answers of handshakes can be written.
func answerable(written map[plant.TagID][]string, d *devicePlan, in drivers.Inspection, asked bool) (found []uplink.Finding) {
	if !asked || d.Plan.Once {
		return nil // a line's answer is the driver's own number
	}
	for _, tag := range tagsOf(written) {
		f := uplink.Finding{Level: uplink.OK, What: "write", Code: string(tag), Words: "may be written, for " + some(written[tag], 5)}
		switch why, refused := in.Refused[tag]; {
		case in.Refused == nil:
			f.Level, f.Words = uplink.Amber, "is written for "+some(written[tag], 5)+", and this protocol cannot tell whether it may be without writing it"
			f.Remedy = "watch the first record: sluice read --watch " + string(d.Name) + "/" + string(tag)
		case refused:
			f.Level, f.Words, f.Remedy = uplink.Red, "cannot be written for "+some(written[tag], 5)+": "+why, "without it no record is answered, and the PLC waits for ever"
		}
		found = append(found, f)
	}
	return found
}

// clock compares the device's clock with ours.
func clock(in drivers.Inspection, most time.Duration) []uplink.Finding {
	if in.Clock.IsZero() {
		return nil
	}
	// It was asked at a moment between Asked and Received.
	offset := in.Clock.Sub(in.Asked.Add(in.Received.Sub(in.Asked) / 2)).Round(time.Millisecond)
	f := uplink.Finding{Level: uplink.OK, What: "clock", Words: fmt.Sprintf("differs by %s from this computer's", offset.Abs())}
	if most == 0 {
		most = 5 * time.Second
	}
	if offset.Abs() > most {
		way := "ahead of"
		if offset < 0 {
			way = "behind"
		}
		f.Level, f.Words = uplink.Amber, fmt.Sprintf("the device's clock is %s %s this computer's: its times are not used", offset.Abs().Round(time.Second), way)
		f.Remedy = "let both ask the same time server (NTP)"
	}
	return []uplink.Finding{f}
}
