package derive

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/formula"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// ValueOptions are a value that no device has: an expression over tags. A config
// writes the expression alone, or a mapping.
type ValueOptions struct {
	Value string `yaml:"value,required"`
	Unit  string `yaml:"unit"`
}

// UnmarshalText reads the short form.
func (o *ValueOptions) UnmarshalText(b []byte) error {
	o.Value = string(b)
	return nil
}

// ValuesOptions are the values under their names.
type ValuesOptions = config.Table[ValueOptions]

// valuesDevice is what a tag that is a value names as its device.
const valuesDevice = plant.OwnValues

// values are the expressions of a machine. Their results are readings like those
// of a device, made with each answer that holds one of their tags.
type values struct {
	list   []value
	inputs []rule.Input
	// bindings are those of inputs.
	bindings []string
	devices  []plant.DeviceID
}

type value struct {
	name    plant.TagID
	tag     plant.Tag
	formula *formula.Formula
	// inputs are the places of the formula's tags in values.inputs.
	inputs []int
	// causes say why it has no value; noInput, by the place in inputs, whose tag is
	// bad.
	causes  [formula.Failures]string
	noInput []string
	// use is what the rules use it for; nil for nothing.
	use *use
}

// newValues compiles the expressions. Its errors are config.FieldErrors, joined,
// with paths relative to values:.
func newValues(o ValuesOptions, find rule.Resolver, own func(name string) bool) (*values, error) {
	vs := &values{}
	var errs []error
	for _, row := range o.Rows {
		switch {
		case strings.Contains(row.Name, "/"):
			errs = append(errs, config.Field(row.Name, "a value belongs to no device", "give it a name without /"))
			continue
		case own(row.Name):
			errs = append(errs, config.Field(row.Name, "the device has a tag of that name", "give the value another name"))
			continue
		}
		f, err := formula.Compile(row.Name+".value", row.Value.Value, find)
		if err != nil {
			errs = append(errs, err)
			// Rules that use it have no fault of their own.
			vs.list = append(vs.list, value{name: plant.TagID(row.Name), tag: plant.Tag{ID: plant.TagID(row.Name), Type: plant.TypeInt64}})
			continue
		}
		vs.add(plant.TagID(row.Name), row.Value.Unit, f)
	}
	if len(vs.list) == 0 {
		vs = nil
	}
	return vs, errors.Join(errs...)
}

func (vs *values) add(name plant.TagID, unit string, f *formula.Formula) {
	v := value{name: name, formula: f, tag: f.Tag(name, unit)}
	for _, in := range f.Inputs() {
		i := slices.IndexFunc(vs.inputs, func(o rule.Input) bool { return o.Ref == in.Ref })
		if i < 0 {
			i = len(vs.inputs)
			vs.inputs, vs.bindings = append(vs.inputs, in), append(vs.bindings, in.Binding())
			if !slices.Contains(vs.devices, in.Ref.Device) {
				vs.devices = append(vs.devices, in.Ref.Device)
			}
		}
		v.inputs = append(v.inputs, i)
		v.noInput = append(v.noInput, fmt.Sprintf("%s of %s cannot be used", in.Ref, name))
	}
	for i := range v.causes {
		v.causes[i] = fmt.Sprintf("%s: %s", name, formula.Failure(i))
	}
	vs.list = append(vs.list, v)
}

// find makes the values tags beside those that next finds.
func (vs *values) find(next rule.Resolver) rule.Resolver {
	if vs == nil {
		return next
	}
	return func(path, name string) (rule.Input, error) {
		for i := range vs.list {
			if v := &vs.list[i]; string(v.name) == name {
				return rule.Input{Ref: plant.TagRef{Device: valuesDevice, Tag: v.name}, Tag: v.tag}, nil
			}
		}
		return next(path, name)
	}
}

// bindValues notes what the values are used for, and which tags they need. Where
// each change of a value counts, each change of its tags does.
func (m *Model) bindValues() {
	if m.values == nil {
		return
	}
	results := m.devices[valuesDevice]
	delete(m.devices, valuesDevice)
	for i := range m.values.list {
		v := &m.values.list[i]
		v.use = results[v.name]
		for _, at := range v.inputs {
			u := m.use(m.values.inputs[at].Ref)
			u.polled = true
			u.values = appendNew(u.values, at)
			m.edges[u.index] = m.edges[u.index] || v.use != nil && m.edges[v.use.index]
		}
	}
}

func appendNew(to []int, i int) []int {
	if slices.Contains(to, i) {
		return to
	}
	return append(to, i)
}

// unused warns of the expressions that no rule uses.
func (vs *values) unused() (errs []error) {
	if vs == nil {
		return nil
	}
	for i := range vs.list {
		if v := &vs.list[i]; v.use == nil {
			errs = append(errs, config.Warn("values."+string(v.name), "no rule uses it", "name it in counter:, startstop:, parameters: or order:, or remove it"))
		}
	}
	return errs
}

// problems names the expressions that cannot be worked out from what was read
// last. A tag that is bad is named by its device.
func (vs *values) problems(s *valuesState) (all []Problem) {
	if vs == nil || len(s.Inputs) != len(vs.inputs) {
		return nil
	}
	for i := range vs.list {
		v := &vs.list[i]
		var operands []plant.Value
		for _, at := range v.inputs {
			if in := &s.Inputs[at]; in.Seen && in.Quality != plant.Bad {
				operands = append(operands, in.value())
			}
		}
		if v.use == nil || len(operands) < len(v.inputs) {
			continue
		}
		if _, why := v.formula.Eval(operands); why != formula.None {
			all = append(all, Problem{
				Text:   "the value " + string(v.name) + " cannot be worked out: " + why.String(),
				Remedy: "Look at its tags and at its expression in the config; until then it is like a tag that cannot be read.",
			})
		}
	}
	return all
}

// covers reports whether an input is, or is made of, something of a device.
func (m *Model) covers(d plant.DeviceID) func(rule.Input) bool {
	return func(in rule.Input) bool {
		if in.Ref.Device != valuesDevice || m.values == nil {
			return in.Ref.Device == d
		}
		i := slices.IndexFunc(m.values.list, func(v value) bool { return v.name == in.Ref.Tag })
		return i >= 0 && slices.ContainsFunc(m.values.list[i].inputs, func(at int) bool { return m.values.inputs[at].Ref.Device == d })
	}
}

// valuesState is what was read last of the tags of expressions.
type valuesState struct {
	Inputs  []valueInput  `json:"in,omitempty"`
	Devices []valueDevice `json:"dev,omitempty"`
}

// valueInput is one tag. Quality is 0 while it was not read.
type valueInput struct {
	Binding string          `json:"b"`
	Seen    bool            `json:"seen,omitempty"`
	Quality plant.Quality   `json:"q,omitempty"`
	Type    plant.ValueType `json:"t,omitempty"`
	Scale   uint8           `json:"s,omitempty"`
	Bits    uint64          `json:"n,omitempty"`
	Text    string          `json:"x,omitempty"`
}

// value is what was read.
func (in *valueInput) value() plant.Value {
	// fit and feed let nothing in that is none.
	v, _ := plant.Parts{Type: in.Type, Scale: in.Scale, Bits: in.Bits, Text: in.Text}.Value()
	return v
}

// valueDevice is one device: what is known of its tags is of one session.
type valueDevice struct {
	Device   plant.DeviceID `json:"d"`
	Session  uint64         `json:"s,omitempty"`
	Snapshot bool           `json:"first,omitempty"`
}

func (s *valuesState) copyFrom(o *valuesState) {
	s.Inputs = append(s.Inputs[:0], o.Inputs...)
	s.Devices = append(s.Devices[:0], o.Devices...)
}

// fit makes the state that of the expressions: what was read of another address
// is not known.
func (vs *values) fit(s *valuesState) {
	if vs == nil {
		*s = valuesState{}
		return
	}
	inputs := make([]valueInput, len(vs.inputs))
	for i, b := range vs.bindings {
		inputs[i].Binding = b
		if at := slices.IndexFunc(s.Inputs, func(in valueInput) bool { return in.Binding == b }); at >= 0 {
			inputs[i] = s.Inputs[at]
		}
		p := plant.Parts{Type: inputs[i].Type, Scale: inputs[i].Scale, Bits: inputs[i].Bits, Text: inputs[i].Text}
		if _, ok := p.Value(); !ok || inputs[i].Quality > plant.Good {
			inputs[i] = valueInput{Binding: b} // damaged: it is read again
		}
	}
	devices := make([]valueDevice, len(vs.devices))
	for i, d := range vs.devices {
		devices[i].Device = d
		if at := slices.IndexFunc(s.Devices, func(o valueDevice) bool { return o.Device == d }); at >= 0 {
			devices[i] = s.Devices[at]
		}
	}
	s.Inputs, s.Devices = inputs, devices
}

// forget drops what is known of a device: after a silence its tags are of
// another time than those that are read next.
func (vs *values) forget(s *valuesState, d plant.DeviceID) {
	if vs == nil {
		return
	}
	for i := range vs.inputs {
		if vs.inputs[i].Ref.Device == d {
			s.Inputs[i] = valueInput{Binding: vs.bindings[i]}
		}
	}
}

// answered takes note of an answer before its readings: with the first of a
// session nothing from before counts.
func (r *run) answered(in *plant.Scan) {
	vs, s := r.m.values, &r.s.values
	if len(r.fed) != len(vs.inputs) {
		r.fed, r.results = make([]*plant.Reading, len(vs.inputs)), make([]plant.Reading, len(vs.list))
	}
	i := slices.Index(vs.devices, in.Device)
	if i < 0 {
		return
	}
	d := &s.Devices[i]
	if d.Session != in.Session || in.Snapshot && !d.Snapshot {
		vs.forget(s, in.Device)
	}
	d.Session, d.Snapshot = in.Session, in.Snapshot
}

// feed takes a reading of a tag of expressions.
func (r *run) feed(at int, v *plant.Reading) {
	p := v.Value.Parts()
	in := &r.s.values.Inputs[at]
	if p.Text != "" {
		p.Text = strings.ToValidUTF8(p.Text, "\uFFFD") // as it comes back from the disk
	}
	in.Seen, in.Quality, in.Type, in.Scale, in.Bits, in.Text = true, v.Quality, p.Type, p.Scale, p.Bits, p.Text
	r.fed[at] = v
}

// evaluate makes readings of the expressions that a tag of this answer belongs
// to, and takes them like those of the device.
func (r *run) evaluate(in *plant.Scan, found *tags) {
	vs := r.m.values
	for i := range vs.list {
		v := &vs.list[i]
		if v.use == nil || !r.told(v) {
			continue
		}
		r.results[i] = plant.Reading{Tag: v.name, Quality: plant.Good}
		if r.value(v, &r.results[i]) {
			r.reading(in, v.use, &r.results[i], found)
		}
	}
	clear(r.fed)
}

// told reports whether this answer holds one of the tags of an expression.
func (r *run) told(v *value) bool {
	for _, at := range v.inputs {
		if r.fed[at] != nil {
			return true
		}
	}
	return false
}

// value works out one expression; ok is false while one of its tags was not read.
// Its quality is the worst of its tags', its time the newest that the device gave
// with this answer.
func (r *run) value(v *value, reading *plant.Reading) (ok bool) {
	r.operands = r.operands[:0]
	worst := -1
	for k, at := range v.inputs {
		in := &r.s.values.Inputs[at]
		if !in.Seen {
			return false
		}
		if in.Quality < reading.Quality {
			reading.Quality, worst = in.Quality, k
		}
		r.operands = append(r.operands, in.value())
		if fed := r.fed[at]; fed != nil && fed.Source.After(reading.Source) {
			reading.Source = fed.Source
		}
	}
	if worst >= 0 {
		reading.Cause = v.noInput[worst]
	}
	if reading.Quality == plant.Bad {
		return true
	}
	result, why := v.formula.Eval(r.operands)
	if why != formula.None {
		reading.Quality, reading.Cause = plant.Bad, v.causes[why]
		return true
	}
	reading.Value = result
	return true
}
