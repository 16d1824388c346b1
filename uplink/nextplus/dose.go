package nextplus

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/internal/amount"
)

// Doses is what a config says of material that goes as attached items: as what
// was put into the order.
type Doses struct {
	// Components are those that are told, and no others, with the unit that the
	// receiver has each in: the form has a quantity and no unit.
	Components config.Table[Component] `yaml:"components,required"`
	// Kinds are the kinds of events that are told: either what was dosed, or what
	// was filled into the machine and taken out of it again.
	Kinds []plant.EventKind `yaml:"kinds"`
	// Aborted says what becomes of a dose that did not end well: skip or send.
	Aborted string `yaml:"aborted"`
}

// Component is the unit that the receiver has a material in.
type Component struct {
	Unit string `yaml:"unit,required"`
	// Factor is how many of Unit one Per is, where that is no unit of weight.
	Factor config.Number `yaml:"factor"`
	Per    string        `yaml:"per"`
}

// UnmarshalText reads the short form, the unit alone.
func (c *Component) UnmarshalText(b []byte) error {
	c.Unit = string(b)
	return nil
}

func (c *Component) unit() amount.Unit {
	return amount.Unit{Name: c.Unit, Factor: c.Factor.Decimal, Per: c.Per}
}

// Validate returns the faults of c as config.FieldErrors, nil if there are none.
func (c Component) Validate() error { return c.unit().Validate("unit", "the ERP") }

// The values of Aborted.
const (
	abortedSkip = "skip"
	abortedSend = "send"
)

// doseKinds are the kinds that may go as attached items, with the type of each.
var doseKinds = map[plant.EventKind]string{
	plant.KindDosing: plant.ActionAdd, plant.KindRefill: plant.ActionAdd, plant.KindRemoval: plant.ActionRemove,
}

// kinds are those that are told, none if d is nil.
func (d *Doses) kinds() []plant.EventKind {
	switch {
	case d == nil:
		return nil
	case d.Kinds == nil:
		return []plant.EventKind{plant.KindDosing}
	}
	return d.Kinds
}

// Validate returns the faults of d as config.FieldErrors, nil if there are none.
func (d Doses) Validate() error {
	var errs []error
	names := make([]string, 0, len(doseKinds))
	for _, k := range slices.Sorted(maps.Keys(doseKinds)) {
		names = append(names, string(k))
	}
	for i, k := range d.Kinds {
		if doseKinds[k] == "" {
			errs = append(errs, config.Unknown(fmt.Sprintf("kinds[%d]", i), "kind", string(k), names))
		}
	}
	if len(d.Kinds) > 1 && slices.Contains(d.Kinds, plant.KindDosing) {
		errs = append(errs, config.Field("kinds", "what is dosed was filled in before: the receiver would book it twice", "write either [dosing] or [refill, removal]"))
	}
	if d.Aborted != "" && d.Aborted != abortedSkip && d.Aborted != abortedSend {
		errs = append(errs, config.Unknown("aborted", "value", d.Aborted, []string{abortedSkip, abortedSend}))
	}
	return errors.Join(errs...)
}

// material is what an event says of a material that moved.
type material struct {
	order     *plant.Order
	component string
	quantity  plant.Decimal
	unit      string
	action    string
}

// materialOf reads an event, or says why it is no business of the receiver.
func (d *Doses) materialOf(e *plant.Event) (material, error) {
	if e.Kind != plant.KindDosing {
		var data plant.Movement
		if err := decode(e, &data); err != nil {
			return material{}, err
		}
		return material{data.Order, data.Component, data.Quantity, data.Unit, doseKinds[e.Kind]}, nil
	}
	var data plant.Dosing
	if err := decode(e, &data); err != nil {
		return material{}, err
	}
	switch {
	case data.Purpose != "" && data.Purpose != "production":
		return material{}, &passed{text: "a dose for " + data.Purpose + " goes into no order"}
	case data.Status == "aborted" && d.Aborted != abortedSend:
		return material{}, &passed{text: "the dose was aborted, and aborted is skip"}
	}
	return material{data.Order, data.Component, data.Quantity, data.Unit, doseKinds[e.Kind]}, nil
}

// errQuantity says why a quantity cannot be told, for good.
type errQuantity struct{ err error }

// Error says what to do.
func (q *errQuantity) Error() string {
	return fmt.Sprintf("nextplus: the quantity cannot be told: %v; %s", q.err, q.Remedy())
}

// Remedy implements uplink.Unsent.
func (q *errQuantity) Remedy() string { return "see doses: components:" }

// Unwrap returns the cause.
func (q *errQuantity) Unwrap() error { return q.err }

// Sort makes all quantities one of a sort.
func (q *errQuantity) Sort() string { return "quantity" }

// buildDose tells material as an item of what the order makes: the form knows no
// unit of measure and no lot, and no serial number is known of what is dosed into.
func (s *Sender) buildDose(v *view, e *plant.Event) (*call, error) {
	m, err := s.options.Doses.materialOf(e)
	if err != nil {
		return nil, err
	}
	if m.component == "" {
		return nil, &passed{text: "the event names no component"}
	}
	component, told := s.options.Doses.Components.Get(m.component)
	if !told {
		return nil, &passed{text: fmt.Sprintf("doses: components: does not name %q", m.component)}
	}
	o, err := s.order(m.order)
	if err != nil {
		return nil, err
	}
	sku, err := article("", o)
	if err != nil {
		return nil, err
	}
	quantity, err := component.unit().Convert(m.quantity, m.unit)
	if err != nil {
		return nil, &errQuantity{fmt.Errorf("%s %s of %s: %w", m.quantity, m.unit, m.component, err)}
	}
	if quantity.IsZero() {
		return nil, &passed{text: "nothing was dosed"}
	}
	if quantity.Unscaled < 0 { // drift that came back
		quantity, m.action = quantity.Neg(), opposite(m.action)
	}
	return s.renderDose(v, e, o, &attachForm{
		Type: m.action, WorkorderNumber: o.Number, SKU: sku,
		Item:   itemForm{SKU: m.component, Quantity: quantity.Normal()},
		system: systemOf(e, o, id("stock", sku, o.Number)),
	})
}

func opposite(action string) string {
	if action == plant.ActionAdd {
		return plant.ActionRemove
	}
	return plant.ActionAdd
}

// renderDose completes the form, which has our codes, by what is remembered: a
// remove goes by the id of the newest add of the same component to the order, of
// the same quantity if there is one.
func (s *Sender) renderDose(v *view, e *plant.Event, o *plant.Order, form *attachForm) (*call, error) {
	c := &call{form: form, key: "dose/" + id("dose", string(e.Machine), o.Number, form.SKU, form.Item.SKU), add: form.Type == plant.ActionAdd}
	form.SKU, form.Item.SKU = s.code(e, plant.CodeArticle, form.SKU, &c.marks), s.code(e, plant.CodeComponent, form.Item.SKU, &c.marks)
	var before reported
	found, err := v.get(c.key, &before)
	if err != nil {
		return nil, err
	}
	quantity := form.Item.Quantity.String()
	if c.add {
		c.accepted = func(v *view, externalID string) error {
			return v.keep(c.key, before.with(report{ExternalID: externalID, Valid: quantity}))
		}
		return c, nil
	}
	if !found {
		if err := v.behind(c.key); err != nil {
			return nil, err
		}
		if err := v.refused(c.key, "what was put in before"); err != nil {
			return nil, err
		}
	}
	which, rest := before.without(quantity, "")
	if form.Item.ExternalID = which.ExternalID; form.Item.ExternalID == "" {
		c.marks = append(c.marks, "without item.externalId, since none is known")
	}
	c.accepted = func(v *view, _ string) error {
		if len(rest.Reports) == 0 {
			v.forget(c.key)
			return nil
		}
		return v.keep(c.key, rest)
	}
	return c, nil
}
