// Package material is the rule for what is loaded where: which lot of which
// component lies in a hopper, feeder or reel. It says of a dose from there which
// lots it was made of, first in, first out. It is pure.
package material

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Hopper names the tags that say what is loaded onto one location. A config
// writes the tag of the lot alone, or a mapping.
type Hopper struct {
	Lot       string         `yaml:"lot,required"`
	Component handshake.Text `yaml:"component"`
	// Quantity is the tag of how much of the lot was loaded, in Unit.
	Quantity string `yaml:"quantity"`
	Unit     string `yaml:"unit"`
}

// UnmarshalText reads the short form.
func (h *Hopper) UnmarshalText(b []byte) error {
	h.Lot = string(b)
	return nil
}

// Options are the locations by their names.
type Options = config.Table[Hopper]

// reads is how many equal reads make a lot valid: a scanner's field flickers.
const reads = 2

// The bounds of what is remembered: of more locations the one loaded first is
// forgotten, of more lots in one the oldest counts as used up.
const (
	maxLocations = 256
	maxLots      = 32
)

type role uint8

const (
	roleLot role = iota
	roleComponent
	roleQuantity
)

type input struct {
	rule.Input
	hopper int
	role   role
	values map[string]string
}

// hopper is a location with tags.
type hopper struct{ location, component, unit, binding string }

// Rule is what tags say of the locations of one machine. It is immutable.
type Rule struct {
	hoppers []hopper
	inputs  []input
}

// New makes a Rule. Its errors are config.FieldErrors, joined.
func New(o Options, resolve rule.Resolver) (*Rule, error) {
	r := &Rule{}
	var errs []error
	add := func(path, name string, hopper int, role role, values map[string]string) *input {
		if name == "" {
			return nil
		}
		in, err := resolve(path, name)
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		r.inputs = append(r.inputs, input{Input: in, hopper: hopper, role: role, values: values})
		return &r.inputs[len(r.inputs)-1]
	}
	for i, row := range o.Rows {
		h := hopper{location: row.Name, component: row.Value.Component.Constant(), unit: row.Value.Unit}
		if in := add(row.Name+".lot", row.Value.Lot, i, roleLot, nil); in != nil {
			h.binding = in.Binding()
		}
		add(row.Name+".component", row.Value.Component.Tag, i, roleComponent, row.Value.Component.Values)
		if in := add(row.Name+".quantity", row.Value.Quantity, i, roleQuantity, nil); in != nil {
			if t := in.Tag.Type; t != plant.TypeUnknown && !t.Numeric() {
				errs = append(errs, config.Field(row.Name+".quantity", fmt.Sprintf("tag %s is of type %s, which is no amount", in.Ref, t), "name a tag of a number type"))
			}
			if h.unit == "" {
				h.unit = in.Tag.Unit
			}
			if h.unit == "" {
				errs = append(errs, config.Field(row.Name+".unit", "nothing says in which unit the quantity is", "write it, for example unit: kg"))
			}
		}
		r.hoppers = append(r.hoppers, h)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

// Tags returns the tags that the rule reads, in the order of Observe's input.
func (r *Rule) Tags() []plant.TagRef {
	refs := make([]plant.TagRef, len(r.inputs))
	for i := range r.inputs {
		refs[i] = r.inputs[i].Ref
	}
	return refs
}

// said is what the tags of a location say.
type said struct {
	Binding   string `json:"b,omitempty"`
	Lot       string `json:"l,omitempty"`
	Component string `json:"c,omitempty"`
	// Quantity is how much, if Known.
	Quantity plant.Decimal `json:"q,omitzero"`
	Known    bool          `json:"k,omitempty"`
	// Next was read Reads times and is not believed yet.
	Next  string `json:"n,omitempty"`
	Reads int    `json:"r,omitempty"`
}

// Lot is what is left of a lot at a location.
type Lot struct {
	Component string `json:"c,omitempty"`
	Lot       string `json:"l,omitempty"`
	// Left is in Unit, and not below 0; without Known nobody said how much it was.
	Left  plant.Decimal `json:"q,omitzero"`
	Unit  string        `json:"u,omitempty"`
	Known bool          `json:"k,omitempty"`
}

// place is a location with its lots, the oldest first.
type place struct {
	Location string `json:"at"`
	Lots     []Lot  `json:"lots,omitempty"`
}

// State is what is loaded where. Its fields are exported for the encoder; only
// this package changes them.
type State struct {
	Places []place `json:"p,omitempty"`
	Said   []said  `json:"s,omitempty"`
}

// CopyFrom makes s equal to o without sharing memory with it, reusing its own.
func (s *State) CopyFrom(o *State) {
	s.Said = append(s.Said[:0], o.Said...)
	s.Places = slices.Grow(s.Places[:0], len(o.Places))[:len(o.Places)]
	for i := range o.Places {
		s.Places[i].Location = o.Places[i].Location
		s.Places[i].Lots = append(s.Places[i].Lots[:0], o.Places[i].Lots...)
	}
}

// Fit prepares a decoded or zero State for the rule, which may be nil.
func (r *Rule) Fit(s *State) {
	if r == nil {
		s.Said = nil
		return
	}
	old := s.Said
	s.Said = make([]said, len(r.hoppers))
	for i, h := range r.hoppers {
		s.Said[i].Binding = h.binding
		if j := slices.IndexFunc(old, func(o said) bool { return o.Binding == h.binding }); j >= 0 {
			s.Said[i] = old[j]
		}
	}
}

// Observe takes a good reading of an input. loaded is the location onto which
// something new is loaded by it, -1 for none.
func (r *Rule) Observe(s *State, i int, v plant.Value) (loaded int, changed bool) {
	in := &r.inputs[i]
	now := &s.Said[in.hopper]
	switch in.role {
	case roleComponent:
		text := in.text(v, now.Component)
		changed = text != now.Component
		now.Component = text
	case roleQuantity:
		d, ok := v.Decimal()
		if f, float := v.Float(); float && v.Type() == plant.Float && in.Tag.Type == plant.TypeFloat32 {
			var err error
			d, err = plant.DecimalOf(f, 32)
			ok = err == nil
		}
		changed = d != now.Quantity || ok != now.Known
		now.Quantity, now.Known = d, ok && d.Unscaled > 0
	case roleLot:
		text := in.text(v, now.Lot)
		switch {
		case text == now.Lot:
			changed = now.Reads > 0
			now.Next, now.Reads = "", 0
			return -1, changed
		case text == now.Next && now.Reads > 0:
			now.Reads++
		default:
			now.Next, now.Reads = text, 1
		}
		changed = true
		if now.Reads >= reads {
			now.Lot, now.Next, now.Reads = text, "", 0
			if text != "" {
				return in.hopper, true
			}
		}
	}
	return -1, changed
}

// text is what a tag says, without the padding of PLC strings; 0 is none.
func (in *input) text(v plant.Value, known string) string {
	if v.Type() == plant.Text {
		trimmed := strings.Trim(v.Text(), " \t\r\n\x00")
		if meaning, ok := in.values[trimmed]; ok {
			return meaning
		}
		if trimmed == known {
			return known
		}
		return strings.Clone(trimmed)
	}
	var buffer [24]byte
	raw := v.Append(buffer[:0])
	if meaning, ok := in.values[string(raw)]; ok {
		return meaning
	}
	switch {
	case string(raw) == "0":
		return ""
	case string(raw) == known:
		return known
	default:
		return string(raw)
	}
}

// Loaded is the event of what tags say was loaded.
func (r *Rule) Loaded(s *State, hopper int) plant.Material {
	h, now := &r.hoppers[hopper], &s.Said[hopper]
	m := plant.Material{Component: h.component, Lot: now.Lot, Location: h.location}
	if now.Component != "" {
		m.Component = now.Component
	}
	if now.Known {
		q := now.Quantity
		m.Quantity, m.Unit = &q, h.unit
	}
	return m
}

// Load notes what was loaded. Another component than what lies there takes its
// place; a lot of which nobody says how much takes the place of others of which
// nobody did.
func (s *State) Load(m *plant.Material) {
	p := s.place(m.Location)
	p.Lots = slices.DeleteFunc(p.Lots, func(l Lot) bool {
		return l.Component != m.Component || !l.Known && m.Quantity == nil || !l.Known && l.Lot != m.Lot
	})
	in := Lot{Component: m.Component, Lot: m.Lot, Unit: m.Unit, Known: m.Quantity != nil}
	if m.Quantity != nil {
		in.Left = *m.Quantity
	}
	p.Lots = append(p.Lots, in)
	if n := len(p.Lots); n > maxLots {
		p.Lots = slices.Delete(p.Lots, 0, n-maxLots)
	}
}

func (s *State) place(location string) *place {
	if i := slices.IndexFunc(s.Places, func(p place) bool { return p.Location == location }); i >= 0 {
		return &s.Places[i]
	}
	if len(s.Places) >= maxLocations {
		s.Places = slices.Delete(s.Places, 0, 1)
	}
	s.Places = append(s.Places, place{Location: location})
	return &s.Places[len(s.Places)-1]
}

// Newest is the lot that was loaded last onto a location; empty for none.
func (s *State) Newest(location, component string) string {
	for i := range s.Places {
		p := &s.Places[i]
		if n := len(p.Lots); p.Location == location && n > 0 && (p.Lots[n-1].Component == component || p.Lots[n-1].Component == "") {
			return p.Lots[n-1].Lot
		}
	}
	return ""
}

// Holds returns the one location that a component is loaded onto; empty if there
// is none, or more than one.
func (s *State) Holds(component string) (location string) {
	for i := range s.Places {
		p := &s.Places[i]
		if !slices.ContainsFunc(p.Lots, func(l Lot) bool { return l.Component == component }) {
			continue
		}
		if location != "" {
			return ""
		}
		location = p.Location
	}
	return location
}

// Take says of which lots a quantity of a component was, and takes it from what
// is left of them, the oldest first. The last lot has all that the others do not
// cover: it was loaded with more than somebody said. It returns nil where nobody
// said what is loaded there.
func (s *State) Take(location, component string, quantity plant.Decimal, unit string) (lots []plant.DosedLot) {
	i := slices.IndexFunc(s.Places, func(p place) bool { return p.Location == location })
	if i < 0 || quantity.Unscaled <= 0 {
		return nil
	}
	p := &s.Places[i]
	for len(p.Lots) > 0 && quantity.Unscaled > 0 {
		l := &p.Lots[0]
		if l.Component != "" && l.Component != component {
			return nil
		}
		part, all := l.take(quantity, unit, len(p.Lots) == 1)
		if part.Unscaled > 0 && l.Lot != "" {
			lots = append(lots, plant.DosedLot{Lot: l.Lot, Quantity: part})
		}
		rest, err := quantity.Sub(part)
		if err != nil {
			return lots
		}
		quantity = rest
		if !all {
			break
		}
		p.Lots = slices.Delete(p.Lots, 0, 1)
	}
	return lots
}

// take takes a quantity from a lot and returns which part of it the lot had; all
// says that nothing of it is left and another lot is behind it.
func (l *Lot) take(quantity plant.Decimal, unit string, last bool) (part plant.Decimal, all bool) {
	if !l.Known {
		return quantity, false
	}
	left, err := between(l.Left, l.Unit, unit)
	if err != nil {
		return quantity, false // the two cannot be compared: it lasts
	}
	if left.Cmp(quantity) > 0 {
		if rest, err := left.Sub(quantity); err == nil {
			l.Left, l.Unit = rest, unit
		}
		return quantity, false
	}
	if last {
		l.Left, l.Unit = plant.Decimal{}, unit
		return quantity, false
	}
	return left, true
}

// between converts a quantity where its unit is another.
func between(d plant.Decimal, from, to string) (plant.Decimal, error) {
	if from == to {
		return d, nil
	}
	u, ok := plant.ParseMassUnit(from)
	v, known := plant.ParseMassUnit(to)
	if !ok || !known {
		return d, plant.ErrRange
	}
	return u.Convert(d, v)
}
