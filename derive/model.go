package derive

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/calendar"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/dosing"
	"github.com/sluice-edge/sluice/derive/material"
	"github.com/sluice-edge/sluice/derive/operation"
	"github.com/sluice-edge/sluice/derive/parameters"
	"github.com/sluice-edge/sluice/derive/startstop"
	"github.com/sluice-edge/sluice/plant"
)

// Model is the rules of one machine. It is immutable and may be used from
// several goroutines.
type Model struct {
	machine     plant.MachineID
	mode        plant.Mode
	maxSkew     time.Duration
	unobserved  time.Duration
	commitEvery time.Duration

	calendar   *calendar.Calendar
	order      *order
	counter    *counter.Rule
	startstop  *startstop.Rule
	parameters *parameters.Rule
	// valuesKept is set if process values of the device of startstop are told with a
	// start or stop.
	valuesKept bool
	operation  *operation.Rule
	heartbeat  *heartbeat
	records    recordRules
	reread     *reread
	weighed    []*dosing.Live
	material   *material.Rule
	values     *values
	codes      []Code
	// devices says what each tag is used for.
	devices map[plant.DeviceID]map[plant.TagID]*use
	// tags are all of them; edges says where each change counts (a state, a
	// reason code), not only the newest value (a total, a process value).
	tags  []plant.TagRef
	edges []bool
}

// use is what one tag means to the rules.
type use struct {
	counters, parameters []int
	// states are the roles of the tag in the start/stop rule.
	states []startstop.Role
	order  []orderField
	// signal is set if each change counts pieces.
	signal bool
	// shakes are the handshakes whose trigger or answer it is.
	shakes []int
	// weighed are the scales that it is an input of.
	weighed []weighedUse
	// material are the inputs that it is of what is loaded.
	material []int
	// values are its places among the tags of expressions.
	values []int
	// polled is set if it is of use outside of handshake records, trigger if it offers
	// them.
	polled, trigger bool
	// index is the tag's place in Model.tags.
	index int
}

// NewModel makes the rules of a machine from checked Options. Its errors are
// config.FieldErrors, joined, with paths relative to the machine; some may be
// warnings, and only then is the Model of use as well.
func NewModel(id plant.MachineID, o Options, tags Catalog) (*Model, error) {
	m := &Model{
		machine: id, mode: o.Mode, maxSkew: o.MaxSkew.Std(), unobserved: o.UnobservedAfter.Std(), commitEvery: o.CommitEvery.Std(),
		devices: make(map[plant.DeviceID]map[plant.TagID]*use), codes: codesOf(id, &o),
	}
	if m.mode == "" {
		m.mode = plant.Production
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&m.maxSkew, defaultMaxSkew}, {&m.unobserved, defaultUnobservedAfter}, {&m.commitEvery, defaultCommitEvery}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	var errs []error
	r := resolver{catalog: tags, fallback: plant.DeviceID(o.Device)}
	if _, ok := tags[r.fallback]; !ok && r.fallback != "" {
		return nil, config.Unknown("device", "device", o.Device, tags.devices())
	}
	m.calendar = calendar.New(o.Zone, o.Shifts)
	if m.calendar == nil {
		m.calendar = calendar.New(o.Zone, o.SiteShifts)
	}
	var err error
	m.values, err = newValues(o.Values, r.find, r.has)
	errs = append(errs, below("values", err))
	find := m.values.find(r.find)
	if o.Order != nil {
		m.order, err = newOrder(*o.Order, find)
		errs = append(errs, below("order", err))
	}
	if o.Counter != nil {
		m.counter, err = counter.New(*o.Counter, find)
		errs = append(errs, below("counter", err))
	}
	if o.StartStop != nil {
		m.startstop, err = startstop.New(*o.StartStop, countedBy(o.Counter), find)
		errs = append(errs, below("startstop", err))
	}
	if len(o.Parameters.Rows) > 0 {
		m.parameters, err = parameters.New(o.Parameters, find)
		errs = append(errs, below("parameters", err))
		m.valuesKept = m.startstop != nil && m.parameters != nil && m.parameters.Keeps(m.startstop.Device())
	}
	if o.Operation != nil {
		m.operation, err = operation.New(id, "operation", *o.Operation, m.counter != nil || o.Counter != nil, r.find)
		errs = append(errs, below("operation", err))
	}
	if !faulty(errors.Join(errs...)) {
		m.reread, err = newReread(id, m.order, m.counter)
		errs = append(errs, err)
	}
	m.records, err = newRecordRules(id, &o, m.operation, r.find)
	errs = append(errs, err)
	if o.Heartbeat != nil {
		m.heartbeat, err = newHeartbeat(*o.Heartbeat, &m.records, r.find)
		errs = append(errs, below("heartbeat", err))
	}
	if len(o.Material.Rows) > 0 {
		m.material, err = material.New(o.Material, find)
		errs = append(errs, below("material", err))
	}
	scales, faults := newWeighed(o.Dosing, func(i int) string { return scaleName(o.Dosing, i) }, find)
	m.weighed, errs = scales, append(errs, faults...)
	if err = errors.Join(errs...); faulty(err) {
		return nil, err
	}
	m.bind()
	return m, errors.Join(append(m.values.unused(), err)...)
}

// faulty reports whether anything in err is more than a warning.
func faulty(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return slices.ContainsFunc(joined.Unwrap(), faulty)
	}
	f, ok := err.(*config.FieldError)
	return err != nil && !(ok && f.Warning)
}

// bind notes what each tag is used for.
func (m *Model) bind() {
	if m.parameters != nil {
		for i, ref := range m.parameters.Tags() {
			u := m.use(ref)
			u.parameters = append(u.parameters, i)
		}
	}
	if m.counter != nil {
		for i, ref := range m.counter.Tags() {
			u := m.use(ref)
			u.counters = append(u.counters, i)
		}
		for _, ref := range m.counter.Edges() {
			m.use(ref).signal = true
		}
	}
	if m.order != nil {
		for f, in := range m.order.inputs {
			if in != nil {
				u := m.use(in.Ref)
				u.order = append(u.order, orderField(f))
			}
		}
	}
	if m.startstop != nil {
		for _, tag := range m.startstop.Tags() {
			u := m.use(tag.Ref)
			u.states = append(u.states, tag.Role)
		}
	}
	for _, tags := range m.devices {
		for _, u := range tags {
			m.edges[u.index] = slices.ContainsFunc(u.states, m.startstop.Edge) || u.signal
			u.polled = true
		}
	}
	m.bindWeighed()
	m.bindMaterial()
	m.bindValues()
	m.bindRecords()
}

// bindRecords notes the tags of handshakes. Each change of a trigger counts;
// the fields of a record say nothing while nobody offers it.
func (m *Model) bindRecords() {
	for i, h := range m.records.shakes {
		for _, ref := range h.rule.Polled() {
			u := m.use(ref)
			u.shakes, u.polled = append(u.shakes, i), true
		}
		u := m.use(h.rule.Trigger())
		m.edges[u.index], u.trigger = true, true
		for _, rec := range h.rule.Records() {
			for _, tag := range rec.Fields {
				m.use(plant.TagRef{Device: rec.Device, Tag: tag})
			}
		}
	}
	if m.heartbeat != nil {
		m.use(m.heartbeat.input.Ref).polled = true
	}
	if m.records.serial != nil {
		for i, in := range m.records.serial.Watched() {
			u := m.use(in.Ref)
			u.polled = true
			m.edges[u.index] = m.edges[u.index] || i == 0 // each number is a unit
		}
	}
}

func (m *Model) use(ref plant.TagRef) *use {
	tags := m.devices[ref.Device]
	if tags == nil {
		tags = make(map[plant.TagID]*use)
		m.devices[ref.Device] = tags
	}
	u := tags[ref.Tag]
	if u == nil {
		u = &use{index: len(m.tags)}
		tags[ref.Tag] = u
		m.tags = append(m.tags, ref)
		m.edges = append(m.edges, false)
	}
	return u
}

// Machine returns the machine's code.
func (m *Model) Machine() plant.MachineID { return m.machine }

// OrderOwner returns who owns the order, as OrderOptions.Owner has it: "tags",
// "api", "webhook" or "uplink NAME"; empty if whoever says something sets it.
func (m *Model) OrderOwner() string {
	if m.order == nil {
		return ""
	}
	return m.order.owner
}

// OrderSource returns which system the numbers of the machine's orders are from.
// known is false where whoever hands the order says it.
func (m *Model) OrderSource() (source string, known bool) {
	if m.order == nil || m.order.owner != ownerTags {
		return "", false
	}
	return m.order.source, true
}

// Mode returns what the machine is used for by the config.
func (m *Model) Mode() plant.Mode { return m.mode }

// MaxSkew returns how far a device's clock may be off and still give events
// their time.
func (m *Model) MaxSkew() time.Duration { return m.maxSkew }

// Tags returns the tags that the rules read, each once.
func (m *Model) Tags() []plant.TagRef {
	return slices.DeleteFunc(slices.Clone(m.tags), func(r plant.TagRef) bool { return r.Device == valuesDevice })
}

// RawCounts names what the number raw of counter events counts, as counter.Rule's
// Raw; empty for a machine without a counter.
func (m *Model) RawCounts() string {
	if m.counter == nil {
		return ""
	}
	return m.counter.Raw()
}

// Shift returns the shift in which t is, or the time between two, with an empty
// name; ok is false for a machine without shifts.
func (m *Model) Shift(t time.Time) (span calendar.Span, ok bool) {
	if m.calendar == nil {
		return span, false
	}
	return m.calendar.At(t.UnixNano()), true
}

// Kinds returns the kinds of events that the rules can make, so that a config
// whose uplinks carry none of them can be named.
func (m *Model) Kinds() []plant.EventKind {
	kinds := []plant.EventKind{plant.KindAlarm, plant.KindGap, plant.KindMode, plant.KindObserved, plant.KindOrder}
	if m.counter != nil {
		kinds = append(kinds, plant.KindCounter, plant.KindCorrection)
	}
	if m.startstop != nil {
		kinds = append(kinds, plant.KindStartStop)
		if m.startstop.Explains() {
			kinds = append(kinds, plant.KindReason)
		}
	}
	if m.parameters != nil {
		kinds = append(kinds, plant.KindParameters)
	}
	if len(m.records.dosing) > 0 {
		kinds = append(kinds, plant.KindDosing)
	}
	if m.records.serial != nil {
		kinds = append(kinds, plant.KindSerial)
	}
	if m.records.attach != nil {
		kinds = append(kinds, plant.KindItemAttach)
	}
	if m.operation != nil {
		kinds = append(kinds, plant.KindOperation)
	}
	if m.material != nil {
		kinds = append(kinds, plant.KindMaterial)
	}
	for _, d := range m.weighed {
		kinds = append(kinds, d.Kinds()...)
	}
	slices.Sort(kinds)
	kinds = slices.Compact(kinds)
	return kinds
}

// below puts the FieldErrors in err under base.
func below(base string, err error) error {
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var errs []error
		for _, inner := range e.Unwrap() {
			errs = append(errs, below(base, inner))
		}
		return errors.Join(errs...)
	case *config.FieldError:
		moved := *e
		moved.Path = strings.TrimSuffix(base+"."+e.Path, ".")
		return &moved
	default:
		return err
	}
}
