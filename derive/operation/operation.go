// Package operation is the rule for work that was done on an order: so many
// valid and invalid pieces of a routing operation at a work center. A PLC says
// it in a record, or it follows from the machine's counter.
package operation

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Options say where operations come from.
type Options struct {
	// Method is "handshake" (the default: the PLC hands over a record) or
	// "counter" (the pieces of the machine's counter, at each boundary).
	Method string `yaml:"method"`
	// Every reports the pieces of the counter also as soon as so many wait; 0
	// means at the boundaries only.
	Every int64 `yaml:"every"`

	handshake.Options `yaml:",inline"`

	// Action is add where it is not given.
	Action           handshake.Text `yaml:"action"`
	RoutingOperation handshake.Text `yaml:"routing_operation"`
	WorkCenter       handshake.Text `yaml:"work_center"`
	Position         handshake.Text `yaml:"position"`
	SKU              handshake.Text `yaml:"sku"`
	// Valid and Invalid are how many pieces are good and how many are not.
	Valid   handshake.Amount `yaml:"valid"`
	Invalid handshake.Amount `yaml:"invalid"`
	// Serial is the tag of the unit that was worked on.
	Serial string `yaml:"serial"`
	Number string `yaml:"number"`
	Order  string `yaml:"order"`
}

// The methods.
const (
	byHandshake = "handshake"
	byCounter   = "counter"
)

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	var errs []error
	switch o.Method {
	case byCounter:
		return o.validateCounter()
	case "", byHandshake:
	default:
		errs = append(errs, config.Unknown("method", "method", o.Method, []string{byHandshake, byCounter}))
	}
	errs = append(errs, o.Options.Validate(), o.Action.Allowed("action", plant.ActionAdd, plant.ActionRemove))
	if o.Every != 0 {
		errs = append(errs, config.Field("every", "is for pieces of the counter", "remove it, or write method: counter"))
	}
	if o.Valid.IsZero() && o.Invalid.IsZero() && o.Serial == "" {
		errs = append(errs, config.Field("", "the operation says neither how many nor what", "name the tag of valid, of invalid or of serial"))
	}
	return errors.Join(errs...)
}

func (o *Options) validateCounter() error {
	var errs []error
	fault := func(path string) {
		errs = append(errs, config.Field(path, "the machine's counter says it already", "remove it, or write method: handshake"))
	}
	if o.Given() {
		fault("")
	}
	for _, f := range []struct {
		path  string
		given bool
	}{
		{"valid", !o.Valid.IsZero()}, {"invalid", !o.Invalid.IsZero()}, {"serial", o.Serial != ""}, {"number", o.Number != ""},
		{"order", o.Order != ""}, {"action", !o.Action.IsZero()},
	} {
		if f.given {
			fault(f.path)
		}
	}
	for _, f := range []struct {
		path string
		text *handshake.Text
	}{{"routing_operation", &o.RoutingOperation}, {"work_center", &o.WorkCenter}, {"position", &o.Position}, {"sku", &o.SKU}} {
		if f.text.Tag != "" {
			errs = append(errs, config.Field(f.path, "is a tag, but no record is read of which it could be a field", "write the text itself, or leave it to the order"))
		}
	}
	if o.Every < 0 {
		errs = append(errs, config.Field("every", fmt.Sprintf("%d pieces are never reached", o.Every), "write a number above 0, or remove it"))
	}
	return errors.Join(errs...)
}

// Rule makes operations. It is immutable.
type Rule struct {
	// shake is nil where the counter says it.
	shake                             *handshake.Rule
	every                             int64
	action, routing, center, position handshake.TextSource
	sku, serial, order                handshake.TextSource
	valid, invalid                    handshake.AmountSource
}

// New makes the Rule called name of a machine; counts says that the machine has
// a counter. Its errors are config.FieldErrors, joined.
func New(machine plant.MachineID, name string, o Options, counts bool, resolve rule.Resolver) (*Rule, error) {
	b := handshake.NewFields(machine, name, resolve)
	if o.Method != byCounter {
		b = handshake.NewBuilder(machine, name, o.Options, resolve)
	} else if !counts {
		b.Fault(config.Field("method", "the machine has no counter", "add counter:, or write method: handshake"))
	}
	r := &Rule{every: o.Every}
	b.Number("number", o.Number)
	r.action, r.routing = b.Text("action", o.Action), b.Text("routing_operation", o.RoutingOperation)
	r.center, r.position = b.Text("work_center", o.WorkCenter), b.Text("position", o.Position)
	r.sku, r.serial, r.order = b.Text("sku", o.SKU), b.Tag("serial", o.Serial), b.Tag("order", o.Order)
	r.valid, r.invalid = b.Amount("valid", o.Valid), b.Amount("invalid", o.Invalid)
	shake, err := b.Rule()
	if err != nil {
		return nil, err
	}
	if o.Method != byCounter {
		r.shake = shake
	}
	return r, nil
}

// Handshake returns the handshake that brings the records, nil if the counter
// says it.
func (r *Rule) Handshake() *handshake.Rule { return r.shake }

// State is what the rule remembers.
type State struct {
	handshake.State
	// Valid and Invalid are the counter's totals up to which operations have said
	// it, once Known.
	Valid   int64 `json:"v,omitempty"`
	Invalid int64 `json:"i,omitempty"`
	Known   bool  `json:"k,omitempty"`
}

// Sink takes what the rule makes.
type Sink interface {
	// Operation takes an event; own is the order that a record names.
	Operation(at rule.Stamp, e plant.Operation, own string)
}

// Problem says why a record is no operation.
func (r *Rule) Problem(rec *handshake.Record) string {
	if action, ok := r.read(rec); !ok {
		return fmt.Sprintf("its action %q is neither add nor remove", action)
	}
	said := false
	for _, a := range []struct {
		name   string
		source *handshake.AmountSource
	}{{"valid", &r.valid}, {"invalid", &r.invalid}} {
		if !a.source.Given() {
			continue
		}
		switch d, ok := a.source.Read(rec, r.shake); {
		case !ok:
			return "its " + a.name + " " + a.source.Problem(rec, r.shake)
		case d.Unscaled < 0:
			return fmt.Sprintf("its %s is %s, which is below 0", a.name, d)
		}
		said = true
	}
	if serial, ok := r.serial.Read(rec); !said && (!ok || serial == "") {
		return "the serial number of the unit cannot be read"
	}
	return ""
}

func (r *Rule) read(rec *handshake.Record) (action string, ok bool) {
	return r.action.Action(rec, plant.ActionAdd, plant.ActionRemove)
}

// Take makes an event of a record that Problem has nothing against.
func (r *Rule) Take(rec *handshake.Record, out Sink) {
	var e plant.Operation
	text := func(what string, source *handshake.TextSource) string {
		v, ok := source.Read(rec)
		if !ok {
			e.Flagged = append(e.Flagged, what)
		}
		return v
	}
	e.Action, _ = r.read(rec)
	e.RoutingOperation, e.WorkCenter = text("routing_operation", &r.routing), text("work_center", &r.center)
	e.Position, e.SKU = text("position", &r.position), text("sku", &r.sku)
	e.Serial = text("serial", &r.serial)
	own := text("order", &r.order)
	if d, ok := r.valid.Read(rec, r.shake); ok {
		e.Valid = &d
	}
	if d, ok := r.invalid.Read(rec, r.shake); ok {
		e.Invalid = &d
	}
	if rec.Told != "" && rec.Told == Told(&e) {
		if e.Serial != "" {
			return // its event is there; only the state had lost it
		}
		e.Flagged = append(e.Flagged, handshake.Repeat)
	}
	out.Operation(rec.At, e, own)
}

// Told is what an event says of its record, for one whose record may be offered
// still: handshake.State.Told. One without a serial number may be followed by an
// equal one, so nobody can tell.
func Told(e *plant.Operation) string {
	text := func(d *plant.Decimal) string {
		if d == nil {
			return ""
		}
		return d.Normal().String()
	}
	told := strings.Join([]string{e.Action, e.Serial, text(e.Valid), text(e.Invalid)}, "\x00")
	if e.Serial == "" {
		return handshake.Maybe + told
	}
	return told
}

// Totals are the counter's: what is good, and what is scrap of all codes.
type Totals struct{ Valid, Invalid int64 }

// Counted takes a report of the counter, from before to now. apart says that its
// pieces do not belong to the order that the machine works on: they are reported
// at once and by themselves.
func (r *Rule) Counted(s *State, before, now Totals, apart bool, at rule.Stamp, out Sink) {
	if !s.Known {
		s.Valid, s.Invalid, s.Known = before.Valid, before.Invalid, true
	}
	if apart {
		valid, invalid := now.Valid-before.Valid, now.Invalid-before.Invalid
		s.Valid, s.Invalid = s.Valid+valid, s.Invalid+invalid
		r.tell(valid, invalid, at, out)
		return
	}
	if r.every > 0 && now.Valid-s.Valid+now.Invalid-s.Invalid >= r.every {
		r.Flush(s, now, at, out)
	}
}

// Flush reports the pieces that no operation has mentioned, if there are any.
func (r *Rule) Flush(s *State, now Totals, at rule.Stamp, out Sink) {
	if !s.Known {
		return
	}
	valid, invalid := now.Valid-s.Valid, now.Invalid-s.Invalid
	s.Valid, s.Invalid = now.Valid, now.Invalid
	r.tell(valid, invalid, at, out)
}

func (r *Rule) tell(valid, invalid int64, at rule.Stamp, out Sink) {
	if valid == 0 && invalid == 0 {
		return
	}
	v, i := plant.WholeDecimal(valid), plant.WholeDecimal(invalid)
	e := plant.Operation{Action: plant.ActionAdd, Valid: &v, Invalid: &i}
	e.RoutingOperation, e.WorkCenter = r.routing.Constant(), r.center.Constant()
	e.Position, e.SKU = r.position.Constant(), r.sku.Constant()
	out.Operation(at, e, "")
}
