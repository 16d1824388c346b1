package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// plan is a checked plant: everything that the gateway is built from.
type plan struct {
	Config   *config.Config
	Lines    []linePlan
	Devices  []devicePlan
	Machines []*derive.Model
	Uplinks  []uplinkPlan
	// Rereads are the orders and totals that their devices give in one request.
	Rereads []plant.Record
}

type devicePlan struct {
	Name plant.DeviceID
	Plan drivers.Plan
}

type uplinkPlan struct {
	Name string
	Plan uplink.Plan
}

// loadPlan reads and checks a config to the end: each section by the kind that
// owns it, then what one section says of another. It returns every fault there
// is; the plan is of use only if none of them is an error. It reads files and
// does no network I/O.
func loadPlan(path string, driverKinds kind.Registry[drivers.Plan], uplinkKinds kind.Registry[uplink.Plan]) (*plan, config.Faults) {
	c, faults := config.Load(path)
	k := &checker{plan: &plan{Config: c}, faults: faults, counted: make(map[place]counting), catalog: make(derive.Catalog), broken: make(map[plant.DeviceID]bool), brokenTags: make(map[plant.TagRef]bool)}
	k.populated(path)
	for _, s := range c.Lines {
		k.line(s)
	}
	for _, s := range c.Devices {
		k.device(s, driverKinds)
	}
	for _, s := range c.Machines {
		k.machine(s)
	}
	for _, s := range c.Uplinks {
		k.uplink(s, uplinkKinds)
	}
	if len(k.faults.Errors()) == 0 {
		k.records()
		k.rereads()
		k.answers()
		k.owners()
		k.named()
		k.carried()
		k.sources()
		k.mapped()
		k.wired()
		k.used()
	}
	// The text of the sections has said all that it has to say, and in a large
	// plant it would be most of what the gateway takes.
	c.Lines, c.Devices, c.Machines, c.Uplinks = nil, nil, nil, nil
	return k.plan, k.faults.Sort()
}

// checker builds a plan and collects the faults on the way.
type checker struct {
	plan    *plan
	faults  config.Faults
	catalog derive.Catalog
	// broken are the devices of whose tags only the names are known, brokenTags
	// the tags with faults on devices that could be read otherwise.
	broken     map[plant.DeviceID]bool
	brokenTags map[plant.TagRef]bool
	// brokenLines are lines with faults.
	brokenLines []string
	// counted is which machine was the first to count a tag, and where.
	counted map[place]counting
}

// place is where a tag really is: a device of the config that was copied is the
// same one until its address is changed.
type place struct {
	tag                                   plant.TagID
	driver, endpoint, bind, line, address string
	unit                                  int
}

type counting struct {
	machine string
	ref     plant.TagRef
	at      config.Position
}

// populated asks for one section of each sort, unless a fault of the envelope
// explains why there is none.
func (k *checker) populated(path string) {
	c, named := k.plan.Config, k.faults.Errors()
	for _, p := range []struct {
		name, remedy string
		sections     []*config.Section
	}{
		{"devices", "describe a PLC, for example devices: {press-plc: {driver: modbus, endpoint: 10.0.0.7:502, tags: …}}", c.Devices},
		{"machines", "describe a machine, for example machines: {PRESS-01: {device: press-plc, counter: …}}", c.Machines},
		{"uplinks", "say where events go, for example uplinks: {broker: {driver: mqtt, url: tls://mes.example:8883}}", c.Uplinks},
	} {
		explained := slices.ContainsFunc(named, func(f config.Fault) bool {
			return f.Path == "" || f.Path == p.name || strings.HasPrefix(f.Path, p.name+".")
		})
		if len(p.sections) == 0 && !explained {
			k.faults = append(k.faults, config.Fault{
				Position: config.Position{File: path, Line: 1, Column: 1},
				Problem:  "the config has no " + p.name, Remedy: p.remedy,
			})
		}
	}
}

// lookup finds the kind of a section. A section without a driver has been
// reported when it was read.
func lookup[P any](s *config.Section, kinds kind.Registry[P]) (found kind.Kind[P], faults config.Faults, ok bool) {
	if s.Driver == "" {
		return found, nil, false
	}
	if found, ok = kinds.Lookup(s.Driver); !ok {
		faults = s.Faults(config.Unknown("driver", "driver", s.Driver, kinds.Names()))
	}
	return found, faults, ok
}

func (k *checker) device(s *config.Section, kinds kind.Registry[drivers.Plan]) {
	id := plant.DeviceID(s.Name)
	var p drivers.Plan
	found, faults, ok := lookup(s, kinds)
	if ok {
		p, faults = found.Check(s)
		p.Driver = s.Driver
		faults = append(faults, k.onLine(s, &p)...)
	}
	k.faults = append(k.faults, faults...)
	names := s.Keys("tags")
	switch errs := faults.Errors(); {
	case ok && len(errs) == 0:
		k.plan.Devices = append(k.plan.Devices, devicePlan{Name: id, Plan: p})
		k.catalog[id] = p.Tags
	case len(names) > 0 && len(p.Tags) >= len(names): // an array is more tags than names
		k.catalog[id] = p.Tags
		for _, name := range names {
			prefix := "devices." + s.Name + ".tags." + name
			k.brokenTags[plant.TagRef{Device: id, Tag: plant.TagID(name)}] = slices.ContainsFunc(errs, func(f config.Fault) bool {
				return f.Path == prefix || strings.HasPrefix(f.Path, prefix+".")
			})
		}
	default:
		k.broken[id] = true
		for _, name := range names {
			k.catalog[id] = append(k.catalog[id], plant.Tag{ID: plant.TagID(name)})
		}
	}
}

func (k *checker) machine(s *config.Section) {
	var o derive.Options
	faults := s.Decode(&o)
	k.faults = append(k.faults, faults...)
	o.Zone, o.SiteShifts = k.plan.Config.Site.Location(), k.plan.Config.Site.Shifts
	device := "machines." + s.Name + ".device"
	if slices.ContainsFunc(faults.Errors(), func(f config.Fault) bool { return f.Path == device }) {
		return // nobody knows which tags are meant
	}
	if len(k.plan.Config.Devices) == 0 {
		return // which has been named once, for all machines
	}
	if len(faults.Errors()) > 0 {
		// What refers to tags can still be checked; the model is of no use, and
		// half-read options may be more than it can stand.
		defer func() { _ = recover() }()
	}
	model, err := derive.NewModel(plant.MachineID(s.Name), o, k.catalog)
	for _, f := range s.Faults(err) {
		if !k.follows(s, f, plant.DeviceID(o.Device)) {
			k.faults = append(k.faults, f)
		}
	}
	if model != nil {
		k.countedOnce(s, o)
		k.plan.Machines = append(k.plan.Machines, model)
	}
}

// countedOnce warns of a tag that another machine counts as well, which happens
// when a machine is copied: each piece would be told twice.
func (k *checker) countedOnce(s *config.Section, o derive.Options) {
	if o.Counter == nil {
		return
	}
	paths := map[string]string{"counter.good": o.Counter.Good, "counter.total": o.Counter.Total, "counter.pulses": o.Counter.Pulses, "counter.rework": o.Counter.Rework}
	for _, row := range o.Counter.Scrap.Rows {
		paths["counter.scrap."+row.Name] = row.Value
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		isValue := slices.ContainsFunc(o.Values.Rows, func(r config.Row[derive.ValueOptions]) bool { return r.Name == paths[path] })
		if paths[path] == "" || isValue { // a value is the machine's own
			continue
		}
		ref := plant.ParseTagRef(paths[path], plant.DeviceID(o.Device))
		where := k.place(ref)
		first, twice := k.counted[where]
		switch {
		case !twice:
			k.counted[where] = counting{machine: s.Name, ref: ref, at: s.At(path)}
		case first.ref.Device != ref.Device:
			k.faults = append(k.faults, s.Faults(config.Warn(path, "the tag "+ref.String()+" is counted by "+first.machine+" already as "+first.ref.String()+", at "+first.at.String()+": both devices are "+where.String(),
				"give "+string(ref.Device)+" the endpoint of its own PLC; each piece would be told twice"))...)
		case first.machine != s.Name: // else it is a fault of the counter
			k.faults = append(k.faults, s.Faults(config.Warn(path, "the tag "+ref.String()+" is counted by "+first.machine+" already, at "+first.at.String(),
				"name the tag of this machine; each piece would be told twice"))...)
		}
	}
}

// place returns where a tag is.
func (k *checker) place(ref plant.TagRef) place {
	for i := range k.plan.Devices {
		d := &k.plan.Devices[i]
		if d.Name != ref.Device {
			continue
		}
		for j := range d.Plan.Tags {
			if t := &d.Plan.Tags[j]; t.ID == ref.Tag {
				return place{tag: ref.Tag, driver: d.Plan.Driver, endpoint: d.Plan.Endpoint, bind: d.Plan.Bind, line: d.Plan.Line, unit: d.Plan.Unit, address: t.Address}
			}
		}
	}
	return place{tag: ref.Tag, endpoint: string(ref.Device)}
}

// String says which device it is.
func (p place) String() string {
	if p.line != "" {
		return fmt.Sprintf("unit %d of the line %s", p.unit, p.line)
	}
	if p.unit != 0 {
		return fmt.Sprintf("unit %d at %s", p.unit, p.endpoint)
	}
	return p.endpoint
}

// follows reports whether a fault of a machine is about a tag that exists, on a
// device that has faults itself: what is said of such a tag may be wrong. So may
// what is said of a device that is not there while a file could not be read.
func (k *checker) follows(s *config.Section, f config.Fault, device plant.DeviceID) bool {
	unread := slices.ContainsFunc(k.faults, func(f config.Fault) bool { return f.Unread })
	if len(k.broken) == 0 && len(k.brokenTags) == 0 && !unread {
		return false
	}
	if text, ok := s.Text("device"); ok && unread && f.Path == "machines."+s.Name+".device" && k.catalog[plant.DeviceID(text)] == nil {
		return true // it may be in what could not be read
	}
	for path := strings.TrimPrefix(f.Path, "machines."+s.Name+"."); path != ""; path = path[:max(0, strings.LastIndexAny(path, ".["))] {
		for _, at := range []string{path, path + ".tag"} {
			text, ok := s.Text(at)
			if !ok {
				continue
			}
			ref := plant.ParseTagRef(text, device)
			if unread && k.catalog[ref.Device] == nil {
				return true
			}
			named := slices.ContainsFunc(k.catalog[ref.Device], func(t plant.Tag) bool { return t.ID == ref.Tag })
			if k.brokenTags[ref] || k.broken[ref.Device] && (named || len(k.catalog[ref.Device]) == 0) {
				return true
			}
		}
	}
	return false
}

func (k *checker) uplink(s *config.Section, kinds kind.Registry[uplink.Plan]) {
	found, faults, ok := lookup(s, kinds)
	if ok {
		var p uplink.Plan
		if p, faults = found.Check(s); strings.HasPrefix(s.Name, "_") {
			faults = append(faults, s.Faults(config.Field("", "names that begin with _ are those of the gateway's own readers", "give the uplink another name"))...)
		}
		if len(faults.Errors()) == 0 {
			faults = append(append(faults, k.toldTwice(s, p)...), k.ownedTwice(s, p)...)
			k.plan.Uplinks = append(k.plan.Uplinks, uplinkPlan{Name: s.Name, Plan: p})
		}
	}
	k.faults = append(k.faults, faults...)
}

// toldTwice warns of an uplink that goes where another one goes already, which
// happens when one is copied.
func (k *checker) toldTwice(s *config.Section, p uplink.Plan) config.Faults {
	for _, other := range k.plan.Uplinks {
		if apart(p.Options.Machines, other.Plan.Options.Machines) {
			continue
		}
		both := slices.ContainsFunc(plant.EventKinds(), func(e plant.EventKind) bool {
			return e != plant.KindGap && p.Carries(e) && other.Plan.Carries(e) // each uplink carries gaps
		})
		if p.Target != "" && p.Target == other.Plan.Target && p.Bind == other.Plan.Bind && both {
			return s.Faults(config.Warn("", "it goes where uplink "+other.Name+" goes already, so each event is told there twice", "remove one of the two, or give each its own kinds"))
		}
	}
	return nil
}

// shared are the keys of what an uplink owns and another one has, too, with its name.
func (p *plan) shared(u *uplinkPlan) map[string]string {
	all := make(map[string]string)
	for _, own := range u.Plan.Owns {
		for i := range p.Uplinks {
			other := &p.Uplinks[i]
			if other.Name != u.Name && slices.ContainsFunc(other.Plan.Owns, func(o uplink.Own) bool { return o.Key == own.Key && o.Thing == own.Thing }) {
				all[own.Key] = other.Name
				break
			}
		}
	}
	return all
}

// ownedTwice warns of what only one uplink may have, and another one has already.
func (k *checker) ownedTwice(s *config.Section, p uplink.Plan) (faults config.Faults) {
	for _, own := range p.Owns {
		for _, other := range k.plan.Uplinks {
			if p.Bind == other.Plan.Bind && slices.ContainsFunc(other.Plan.Owns, func(o uplink.Own) bool { return o.Key == own.Key && o.Thing == own.Thing }) {
				faults = append(faults, s.Faults(config.Warn(own.Key, "uplink "+other.Name+" has the same at that broker: "+own.Harm, own.Remedy))...)
				break
			}
		}
	}
	return faults
}

// records returns what the machines want of a device.
func (p *plan) records(device plant.DeviceID) (all []plant.Record) {
	for _, m := range p.Machines {
		for _, r := range m.Records() {
			if r.Device == device {
				all = append(all, r)
			}
		}
	}
	for _, r := range p.Rereads {
		if r.Device == device {
			all = append(all, r)
		}
	}
	return all
}

// downtimes are what the machines' own tables call the downtime types of stops for
// one uplink.
type downtimes struct {
	machines map[plant.MachineID]*derive.Model
	uplink   string
	own      bool
}

var _ uplink.Downtimes = (*downtimes)(nil)

func (p *plan) downtimes(uplink string) *downtimes {
	d := &downtimes{machines: make(map[plant.MachineID]*derive.Model), uplink: uplink}
	for _, m := range p.Machines {
		d.machines[m.Machine()] = m
		d.own = d.own || m.Names(uplink) != ""
	}
	return d
}

// DowntimeType implements uplink.Downtimes.
func (d *downtimes) DowntimeType(m plant.MachineID, reason string) (name string, own bool) {
	model := d.machines[m]
	if model == nil {
		return "", false
	}
	return model.DowntimeType(d.uplink, reason)
}

// Own implements uplink.Downtimes.
func (d *downtimes) Own() bool { return d.own }

// maxSkew returns how far the clock of a device may be off: as the strictest of
// its machines says, 0 if it has none.
func (p *plan) maxSkew(device plant.DeviceID) (least time.Duration) {
	for _, m := range p.Machines {
		if !slices.ContainsFunc(m.Tags(), func(r plant.TagRef) bool { return r.Device == device }) {
			continue
		}
		if skew := m.MaxSkew(); least == 0 || skew < least {
			least = skew
		}
	}
	return least
}

// owners refuses an order that comes from an uplink that is not there.
func (k *checker) owners() {
	names := make([]string, len(k.plan.Uplinks))
	for i, u := range k.plan.Uplinks {
		names[i] = u.Name
	}
	for i, m := range k.plan.Machines {
		if name, ok := strings.CutPrefix(m.OrderOwner(), "uplink "); ok && !slices.Contains(names, name) {
			k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(config.Unknown("order.owner", "uplink", name, names))...)
		}
	}
}

// used warns of the devices that are polled for nobody.
func (k *checker) used() {
	for i, d := range k.plan.Devices {
		used := slices.ContainsFunc(k.plan.Machines, func(m *derive.Model) bool {
			return slices.ContainsFunc(m.Tags(), func(r plant.TagRef) bool { return r.Device == d.Name })
		})
		if !used {
			k.faults = append(k.faults, k.plan.Config.Devices[i].Faults(config.Warn("",
				"no machine uses a tag of it", "name its tags in a machine, or remove the device"))...)
		}
	}
}

// named refuses tables with names for uplinks that are none.
func (k *checker) named() {
	names := make([]string, len(k.plan.Config.Uplinks))
	for i, u := range k.plan.Config.Uplinks {
		names[i] = u.Name
	}
	for i, m := range k.plan.Machines {
		for _, err := range m.CheckUplinks(names) {
			k.faults = append(k.faults, k.plan.Config.Machines[i].Faults(err)...)
		}
	}
}
