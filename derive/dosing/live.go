package dosing

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

const (
	defaultSettle  = time.Second
	defaultFor     = time.Second
	defaultPause   = 5 * time.Second
	defaultAborted = 90
	// standTime is how long a single weight must stand to be as good as two: a
	// subscription says a value once and is then silent.
	standTime = 5 * time.Second
	// maxInputs is how many tags one scale may have: a bit each in the state.
	maxInputs = 64
)

// role is what an input says.
type role uint8

const (
	roleGross role = iota
	roleNet
	roleTare
	roleTotal
	roleStable
	roleMoving
	roleUnusable
	roleRebase
	roleGate
	roleUnit
	roleText
	roleAmount
	roleFlow
)

// input is one tag of a Live rule. slot says which text or amount it is.
type input struct {
	rule.Input
	role   role
	slot   uint8
	values map[string]string
}

// Reading is what one input said. Input is the index in Live.Tags.
type Reading struct {
	Input int
	At    rule.Stamp
	Value plant.Value
	// Good is false for anything but good quality; Value then means nothing.
	Good bool
}

// Sink takes what a Live rule has to say.
type Sink interface {
	// Dose is a dose; its Head is missing.
	Dose(d *Dose)
	// Move is a refill or a removal; its Head is missing.
	Move(kind plant.EventKind, at rule.Stamp, m plant.Movement)
	Alarm(a rule.Alarm)
	// Urgent asks for a commit now, even without events.
	Urgent()
}

// Live finds the doses of one scale in what its tags show. It is immutable.
type Live struct {
	name, method string
	inputs       []input
	said         said
	// unit is what the terminal shows, places the digits of its ticks, event the
	// unit of the events.
	unit, event plant.MassUnit
	places      uint8
	// least is min_dose, noise what counts as no change, band and steady when a
	// weight stands where no bit says it.
	least, noise, band int64
	// grain is the power of ten to which what is worked out is rounded: a digit
	// that the scale shows.
	grain  int64
	steady int64
	byBit  bool
	// paired is set where net and tare make the weight.
	paired bool
	// silence is how long no other weight has come where the terminal's bit, which
	// came without one, is that of the last: longer than two looks at the weight.
	silence int64
	every   int64
	// total is set for the method totalizer.
	total *total
	// flowPer is the time of the unit of the flow tag, 0 without one; more than
	// most in mostPer no feeder feeds, 0 for no such limit.
	flowPer, most, mostPer int64
	settle, pause          int64
	aborted                int64
	binding, others        string
}

// NewLive makes the Live rule called name of a machine, for example "dosing[1]".
// Its errors are config.FieldErrors, joined; with warnings alone the rule is of
// use as well.
func NewLive(name string, o Options, resolve rule.Resolver) (*Live, error) {
	b := liveBuilder{r: &Live{name: name, method: o.Method}, resolve: resolve}
	b.scale(&o)
	b.words(&o)
	if o.While != "" {
		b.bit("while", o.While, roleGate)
	}
	r := b.r
	b.flow(&o)
	if len(r.inputs) > maxInputs {
		b.fault("", fmt.Sprintf("names %d tags", len(r.inputs)), fmt.Sprintf("name at most %d", maxInputs))
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	b.limits(&o)
	if r.method == byTotalizer {
		b.total(&o)
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	r.binding, r.others = r.method, ""
	for i := range r.inputs {
		if in := &r.inputs[i]; in.role <= roleTotal {
			r.binding += ", " + in.Binding()
		} else {
			r.others += fmt.Sprintf("%d/%d %s, ", in.role, in.slot, in.Binding())
		}
	}
	r.binding += ", " + string(r.unit)
	return r, errors.Join(b.warnings...)
}

// liveBuilder puts a Live together and collects what is wrong.
type liveBuilder struct {
	r       *Live
	resolve rule.Resolver
	errs    []error
	// warnings do not keep the rule from being of use.
	warnings []error
}

func (b *liveBuilder) fault(path, problem, remedy string) {
	b.errs = append(b.errs, config.Field(path, problem, remedy))
}

func (b *liveBuilder) add(path, name string, role role) (in *input) {
	found, err := b.resolve(path, name)
	if err != nil {
		b.errs = append(b.errs, err)
		return nil
	}
	b.r.inputs = append(b.r.inputs, input{Input: found, role: role})
	return &b.r.inputs[len(b.r.inputs)-1]
}

// bit adds a tag that is true or not.
func (b *liveBuilder) bit(path, name string, role role) {
	if in := b.add(path, name, role); in != nil {
		switch t := in.Tag.Type; t {
		case plant.TypeString, plant.TypeFloat32, plant.TypeFloat64:
			b.fault(path, fmt.Sprintf("tag %s is of type %s, which is neither on nor off", in.Ref, t), "name a bit, or a tag of a whole-number type")
		}
	}
}

// number adds a tag that is an amount.
func (b *liveBuilder) number(path, name string, role role) (in *input) {
	if in = b.add(path, name, role); in == nil {
		return nil
	}
	switch t := in.Tag.Type; {
	case t == plant.TypeUnknown:
		b.fault(path, fmt.Sprintf("nothing says what is in tag %s", in.Ref), "write its type at the device, for example type: float32")
	case !t.Numeric():
		b.fault(path, fmt.Sprintf("tag %s is of type %s, which is no weight", in.Ref, t), "name a tag of a number type")
	}
	return in
}

// scale adds the weight and what says whether it is of use.
func (b *liveBuilder) scale(o *Options) {
	var units []*input
	for _, w := range []struct {
		path, name string
		role       role
	}{{"weight", o.Weight.Gross, roleGross}, {"weight.net", o.Weight.Net, roleNet}, {"weight.tare", o.Weight.Tare, roleTare}, {"total", o.Total, roleTotal}} {
		if w.name == "" {
			continue
		}
		if in := b.number(w.path, w.name, w.role); in != nil {
			found := *in
			units = append(units, &found)
		}
	}
	if len(units) == 2 && units[0].Ref.Device != units[1].Ref.Device {
		b.fault("weight.tare", fmt.Sprintf("tag %s is on another device than the net weight, %s", units[1].Ref, units[0].Ref), "net and tare must be read in one request")
	}
	for i, name := range o.Unusable {
		b.bit(fmt.Sprintf("unusable[%d]", i), name, roleUnusable)
	}
	for i, name := range o.Rebase {
		b.bit(fmt.Sprintf("rebase[%d]", i), name, roleRebase)
	}
	if o.Stable.Tag != "" {
		b.bit("stable", o.Stable.Tag, roleStable)
	}
	if o.Stable.Not != "" {
		b.bit("stable.not", o.Stable.Not, roleMoving)
	}
	b.units(o, units)
}

// units finds out what the terminal shows and what the events say.
func (b *liveBuilder) units(o *Options, weights []*input) {
	r := b.r
	said := o.WeightUnit.Constant()
	for _, in := range weights {
		switch {
		case in.Tag.Unit == "":
		case said == "":
			said = in.Tag.Unit
		case !sameUnit(said, in.Tag.Unit):
			b.fault("weight_unit", fmt.Sprintf("is %s, but tag %s is in %s by the device's config", said, in.Ref, in.Tag.Unit), "correct one of the two")
		}
	}
	var ok bool
	switch r.unit, ok = plant.ParseMassUnit(said); {
	case said == "" && len(weights) > 0:
		b.fault("weight_unit", fmt.Sprintf("nothing says in which unit tag %s is", weights[0].Ref), "write what the terminal shows, for example weight_unit: kg, or unit: kg at the device's tag")
	case !ok && said != "":
		b.fault("weight_unit", fmt.Sprintf("%q is no unit of weight", said), "write mg, g, kg, t, oz or lb")
	}
	r.places, r.event = digits(r.unit), r.unit
	if tag := o.WeightUnit.Tag; tag != "" {
		if in := b.add("weight_unit", tag, roleUnit); in != nil {
			in.values = o.WeightUnit.Values
			for code, unit := range in.values {
				if _, ok := plant.ParseMassUnit(unit); !ok {
					b.fault("weight_unit.values."+code, fmt.Sprintf("%q is no unit of weight", unit), "write mg, g, kg, t, oz or lb")
				}
			}
		}
	}
	if o.Unit.Tag != "" {
		b.fault("unit", "is a tag", "write the unit that the events shall have, for example unit: kg; the terminal's own unit is weight_unit")
		return
	}
	if text := o.Unit.Constant(); text != "" {
		if r.event, ok = plant.ParseMassUnit(text); !ok {
			b.fault("unit", fmt.Sprintf("%q is no unit of weight", text), "write mg, g, kg, t, oz or lb")
		} else if r.unit != "" && !r.unit.Exact(r.event) {
			b.fault("unit", fmt.Sprintf("a weight in %s is no exact number of %s", r.unit, r.event), fmt.Sprintf("write unit: %s; the central system converts it", r.unit))
		}
	}
}

func sameUnit(a, b string) bool {
	u, ok := plant.ParseMassUnit(a)
	v, known := plant.ParseMassUnit(b)
	return ok && known && u == v
}

// ticks is a setting in ticks of the terminal's unit.
func (b *liveBuilder) ticks(path string, m plant.Mass) int64 {
	if m.IsZero() {
		return 0
	}
	d, err := m.In(b.r.unit)
	n, ok := decimalTicks(d, b.r.places)
	if err != nil || !ok {
		b.fault(path, fmt.Sprintf("%s is no exact number of %s, which the scale shows", m, b.r.unit), "write it in "+string(b.r.unit))
	}
	return n
}

// limits sets what is a dose, what is noise and what stands.
func (b *liveBuilder) limits(o *Options) {
	r := b.r
	r.least = b.ticks("min_dose", o.MinDose)
	r.paired = o.Weight.Net != ""
	r.byBit = o.Stable.Tag != "" || o.Stable.Not != ""
	r.band = b.ticks("stable.band", o.Stable.Band)
	r.noise = r.band
	division := b.ticks("division", o.Division)
	if r.band == 0 {
		r.band = max(r.least/4, 1)
		r.noise = r.band
		if division > 0 && r.byBit {
			r.noise = division
		}
	}
	length := func(d config.Duration, standard time.Duration) int64 {
		if d == 0 {
			return int64(standard)
		}
		return int64(d.Std())
	}
	r.steady = length(o.Stable.For, defaultFor)
	r.silence = r.steady
	for i := range r.inputs {
		if in := &r.inputs[i]; in.weighs() {
			r.silence = max(r.silence, 2*int64(in.Tag.Every))
		}
	}
	r.settle, r.pause = length(o.Settle, defaultSettle), length(o.Pause, defaultPause)
	r.every = int64(o.Every.Std())
	if r.method == byContinuous {
		r.every = length(o.Every, defaultEvery)
		r.most, r.mostPer = b.ticks("max_rate", o.MaxRate.Mass), int64(o.MaxRate.Per)
		if division > 0 {
			r.noise = division
		}
	}
	fine := division
	if fine == 0 {
		fine = r.noise / 10
	}
	for r.grain = 1; r.grain <= fine/10; {
		r.grain *= 10
	}
	r.aborted = int64(o.AbortedBelow)
	if r.aborted == 0 {
		r.aborted = defaultAborted
	}
}

// words adds what is said about doses besides their weight.
func (b *liveBuilder) words(o *Options) {
	b.r.said.location = o.Location
	for slot, t := range [...]handshake.Text{
		slotComponent: o.Component, slotPurpose: o.Purpose, slotStatus: o.Status, slotRecipe: o.Recipe, slotProcessUnit: o.ProcessUnit,
		slotPhase: o.Phase, slotScale: o.Scale, slotBatch: {Tag: o.Batch}, slotOrder: {Tag: o.Order}, slotLot: {Tag: o.Lot},
	} {
		b.r.said.constants[slot] = t.Constant()
		if t.Tag == "" {
			continue
		}
		if in := b.add(slotNames[slot], t.Tag, roleText); in != nil {
			in.slot, in.values = uint8(slot), t.Values
		}
	}
	for slot, a := range [...]handshake.Amount{slotTarget: o.Target, slotMinus: o.ToleranceMinus, slotPlus: o.TolerancePlus} {
		if a.Negative() {
			b.fault(amountNames[slot], "is below 0", "write how much, without a sign")
		}
		b.r.said.amounts[slot] = a.Constant()
		if a.Tag == "" {
			continue
		}
		if in := b.number(amountNames[slot], a.Tag, roleAmount); in != nil {
			in.slot = uint8(slot)
		}
	}
}

// Name is the rule's place in the machine's config, for example "dosing[1]".
func (r *Live) Name() string { return r.name }

// Tags returns the tags that the rule reads, in the order of Reading.Input.
func (r *Live) Tags() []plant.TagRef {
	refs := make([]plant.TagRef, len(r.inputs))
	for i := range r.inputs {
		refs[i] = r.inputs[i].Ref
	}
	return refs
}

// Edge reports whether each change of an input counts, not only the newest value.
func (r *Live) Edge(i int) bool {
	switch r.inputs[i].role {
	case roleGate, roleRebase, roleUnusable:
		return true
	case roleText:
		return r.inputs[i].slot == slotComponent
	default:
		return false
	}
}

// Kinds are the kinds of events that the rule makes.
func (r *Live) Kinds() []plant.EventKind {
	if r.method == byTotalizer || r.method == byGain {
		return []plant.EventKind{plant.KindDosing}
	}
	return []plant.EventKind{plant.KindDosing, plant.KindRefill, plant.KindRemoval}
}

// text returns what a tag says as it is compared: without the padding of PLC
// strings, by the table where there is one. known is what was there before; it
// is returned where nothing changed, so that this costs no memory.
func (in *input) text(v plant.Value, known string) (text string, ok bool) {
	var buffer [40]byte
	raw := buffer[:0]
	if v.Type() == plant.Text {
		trimmed := strings.Trim(v.Text(), " \t\r\n\x00")
		if len(in.values) == 0 {
			if trimmed == known {
				return known, true
			}
			return strings.Clone(trimmed), true
		}
		meaning, ok := in.values[trimmed]
		if !ok && trimmed != known {
			return strings.Clone(trimmed), false
		}
		if !ok {
			return known, false
		}
		return meaning, true
	}
	raw = v.Append(raw)
	if meaning, ok := in.values[string(raw)]; ok {
		return meaning, true
	}
	if string(raw) == known {
		return known, len(in.values) == 0
	}
	return string(raw), len(in.values) == 0
}

// decimal returns ticks in the unit of the events: exactly, or, where that has
// too many digits (a REAL in pounds has six behind the point), to the last digit
// that fits. ok is false for what does not fit at all, which no scale shows: then
// there is no amount to be told.
func (r *Live) decimal(ticks int64) (d plant.Decimal, ok bool) {
	d = plant.Decimal{Unscaled: ticks, Scale: r.places}.Normal()
	for {
		converted, err := r.unit.Convert(d, r.event)
		if err == nil {
			return converted.Normal(), true
		}
		if d.Scale == 0 {
			return plant.Decimal{}, false
		}
		d.Unscaled, d.Scale = wholes(d.Unscaled, 10), d.Scale-1
	}
}
