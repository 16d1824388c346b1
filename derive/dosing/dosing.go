// Package dosing is the rule for doses. Rule turns a record that a PLC hands over
// into a dose with exact amounts, and flags what a person should look at without
// refusing it, since the material is in the product already. Live finds doses in
// what a scale or a totalizer shows. Both are pure: time comes with the readings.
package dosing

import (
	"time"

	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Rule makes doses of records. It is immutable.
type Rule struct {
	shake    *handshake.Rule
	location string
	quantity, target, minus, plus,
	before, after handshake.AmountSource
	component, unit, lot, order, recipe, batch,
	processUnit, phase, scale, status, purpose,
	started, ended handshake.TextSource
}

// New makes the Rule called name of a machine. Its errors are
// config.FieldErrors, joined.
func New(machine plant.MachineID, name string, o Options, resolve rule.Resolver) (*Rule, error) {
	b := handshake.NewBuilder(machine, name, o.Options, resolve)
	r := &Rule{location: o.Location}
	b.Number("number", o.Number)
	r.component = b.Text("component", o.Component)
	r.quantity = b.Amount("quantity", handshake.Amount{Tag: o.Quantity})
	r.unit = b.Text("unit", o.Unit)
	r.target = b.Amount("target", o.Target)
	r.minus, r.plus = b.Amount("tolerance_minus", o.ToleranceMinus), b.Amount("tolerance_plus", o.TolerancePlus)
	r.lot, r.order = b.Tag("lot", o.Lot), b.Tag("order", o.Order)
	r.recipe, r.batch = b.Text("recipe", o.Recipe), b.Tag("batch", o.Batch)
	r.processUnit, r.phase = b.Text("process_unit", o.ProcessUnit), b.Text("phase", o.Phase)
	r.scale, r.status, r.purpose = b.Text("scale", o.Scale), b.Text("status", o.Status), b.Text("purpose", o.Purpose)
	r.started, r.ended = b.Tag("started", o.Started), b.Tag("ended", o.Ended)
	r.before, r.after = b.Amount("weight_before", handshake.Amount{Tag: o.WeightBefore}), b.Amount("weight_after", handshake.Amount{Tag: o.WeightAfter})
	var err error
	if r.shake, err = b.Rule(); err != nil {
		return nil, err
	}
	return r, nil
}

// Handshake returns the handshake that brings the records.
func (r *Rule) Handshake() *handshake.Rule { return r.shake }

// Problem says why a record is no dose: nobody can say how much it is.
func (r *Rule) Problem(rec *handshake.Record) string {
	if problem := r.quantity.Problem(rec, r.shake); problem != "" {
		return "its quantity " + problem
	}
	if q, _ := r.quantity.Read(rec, r.shake); q.Unscaled < 0 {
		return "its quantity is below 0: " + q.String()
	}
	unit, ok := r.unit.Read(rec)
	switch device := r.quantity.Unit(); {
	case !ok && unit != "":
		return "its unit " + unit + " is not in the table of units"
	case !ok || unit == "" && r.unit.Tagged():
		return "its unit cannot be read"
	case r.unit.Tagged() && device != "" && unit != device:
		return "its unit is " + unit + ", but the tag of the quantity is in " + device
	}
	return ""
}

// Dose is a dose with what else the machine has to know of it.
type Dose struct {
	plant.Dosing
	// At is the time of the event.
	At rule.Stamp
	// Begun is when the dose began, which says for which order it was; never for
	// At.
	Begun rule.Stamp
	// OwnOrder is the order that the record names; empty for the machine's.
	OwnOrder string
}

// Dose makes a dose of a record that Problem has nothing against.
func (r *Rule) Dose(rec *handshake.Record) Dose {
	d := Dose{At: rec.At}
	d.Location = r.location
	d.Method, d.Dose = "handshake", rec.Number
	d.Status, d.Purpose = "complete", "production"
	d.Quantity, _ = r.quantity.Read(rec, r.shake)
	flag := func(what string) { d.Flagged = append(d.Flagged, what) }
	text := func(what string, s *handshake.TextSource, into *string) {
		v, ok := s.Read(rec)
		if !ok {
			flag(what)
		}
		*into = v
	}
	if rec.Repeated {
		flag("dose")
	}
	var ok bool
	if d.Component, ok = r.component.Read(rec); !ok || d.Component == "" {
		flag("component")
	}
	text("unit", &r.unit, &d.Unit)
	if d.Unit == "" {
		d.Unit = r.quantity.Unit()
	}
	var lot string
	if text("lot", &r.lot, &lot); lot != "" {
		d.Lots = []plant.DosedLot{{Lot: lot, Quantity: d.Quantity}}
	}
	text("order", &r.order, &d.OwnOrder)
	text("recipe", &r.recipe, &d.Recipe)
	text("batch", &r.batch, &d.Batch)
	text("process_unit", &r.processUnit, &d.ProcessUnit)
	text("phase", &r.phase, &d.Phase)
	text("scale", &r.scale, &d.Scale)
	choice := func(what string, s *handshake.TextSource, into *string, allowed ...string) {
		v, ok := s.Read(rec)
		for _, a := range allowed {
			if ok && v == a {
				*into = v
				return
			}
		}
		if !ok || v != "" {
			flag(what)
		}
	}
	choice("status", &r.status, &d.Status, "complete", "aborted")
	choice("purpose", &r.purpose, &d.Purpose, "production", "purge", "calibration", "manual")
	r.measure(rec, &d, flag)
	r.times(rec, &d, flag)
	return d
}

// measure compares the dose with what was asked for.
func (r *Rule) measure(rec *handshake.Record, d *Dose, flag func(string)) {
	amount := func(what string, s *handshake.AmountSource) *plant.Decimal {
		if !s.Given() {
			return nil
		}
		v, ok := s.Read(rec, r.shake)
		if !ok {
			flag(what)
			return nil
		}
		return &v
	}
	before, after := amount("weights", &r.before), amount("weights", &r.after)
	if before != nil && after != nil {
		d.Weights = &plant.Weights{Before: *before, After: *after}
	}
	if d.Target = amount("target", &r.target); d.Target == nil {
		return
	}
	deviation, err := d.Quantity.Sub(*d.Target)
	if err != nil {
		flag("target")
		return
	}
	d.Deviation = &deviation
	minus, plus := amount("tolerance", &r.minus), amount("tolerance", &r.plus)
	if minus == nil || plus == nil {
		return
	}
	if minus.Unscaled < 0 || plus.Unscaled < 0 {
		flag("tolerance")
		return
	}
	d.Tolerance = &plant.Tolerance{Minus: *minus, Plus: *plus, Unit: d.Unit}
	within := deviation.Cmp(*plus) <= 0 && minus.Cmp(deviation.Neg()) >= 0
	d.InTolerance = &within
}

// times takes the PLC's own times. The end is the time of the event where the
// PLC's clock may be believed and the gateway did not come late.
func (r *Rule) times(rec *handshake.Record, d *Dose, flag func(string)) {
	var ok bool
	if d.Started, ok = r.started.Time(rec); !ok {
		flag("started")
	}
	if d.Ended, ok = r.ended.Time(rec); !ok {
		flag("ended")
	}
	if !d.Ended.IsZero() && d.Ended.Before(d.Started) {
		flag("started")
	}
	d.Started, d.Ended = d.Started.Truncate(time.Millisecond), d.Ended.Truncate(time.Millisecond)
	if !d.Ended.IsZero() && !rec.At.Device {
		if at := rule.NewStamp(time.Unix(0, rec.At.At), d.Ended, rec.MaxSkew); at.Device {
			d.At = at
		}
	}
}
