// Package attach is the rule for genealogy: which component was built into
// which unit, and which was taken out again.
package attach

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/memory"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Item are the fields of the component.
type Item struct {
	SKU      handshake.Text   `yaml:"sku,required"`
	Quantity handshake.Amount `yaml:"quantity"`
	Unit     handshake.Text   `yaml:"unit"`
	Serial   string           `yaml:"serial"`
	Order    string           `yaml:"order"`
	Lot      string           `yaml:"lot"`
}

// Options say where attaches come from.
type Options struct {
	handshake.Options `yaml:",inline"`

	// Serial is the tag of the unit's serial number.
	Serial string         `yaml:"serial,required"`
	SKU    handshake.Text `yaml:"sku"`
	Item   Item           `yaml:"item,required"`
	// Action is add where it is not given.
	Action handshake.Text `yaml:"action"`
	Number string         `yaml:"number"`
	Order  string         `yaml:"order"`
	// Memory is how many attaches are remembered; 0 means 10 000.
	Memory int `yaml:"memory"`
}

const (
	defaultMemory = 10_000
	mostMemory    = 1_000_000
)

// Validate checks what can be checked without the tags.
func (o *Options) Validate() error {
	errs := []error{o.Options.Validate(), o.Action.Allowed("action", plant.ActionAdd, plant.ActionRemove)}
	if o.Memory < 0 || o.Memory > mostMemory {
		errs = append(errs, config.Field("memory", fmt.Sprintf("%d attaches cannot be remembered", o.Memory), fmt.Sprintf("write 1 to %d; %d is the default", mostMemory, defaultMemory)))
	}
	return errors.Join(errs...)
}

// Rule makes attaches. It is immutable.
type Rule struct {
	shake  *handshake.Rule
	serial handshake.TextSource
	sku    handshake.TextSource
	action handshake.TextSource
	order  handshake.TextSource
	item   struct {
		sku, unit, serial, order, lot handshake.TextSource
		quantity                      handshake.AmountSource
	}
	bound int
}

// New makes the Rule called name of a machine. Its errors are
// config.FieldErrors, joined.
func New(machine plant.MachineID, name string, o Options, resolve rule.Resolver) (*Rule, error) {
	b := handshake.NewBuilder(machine, name, o.Options, resolve)
	r := &Rule{bound: o.Memory}
	if r.bound == 0 {
		r.bound = defaultMemory
	}
	b.Number("number", o.Number)
	r.serial, r.sku = b.Tag("serial", o.Serial), b.Text("sku", o.SKU)
	r.action, r.order = b.Text("action", o.Action), b.Tag("order", o.Order)
	i := &r.item
	i.sku, i.quantity = b.Text("item.sku", o.Item.SKU), b.Amount("item.quantity", o.Item.Quantity)
	i.unit, i.serial = b.Text("item.unit", o.Item.Unit), b.Tag("item.serial", o.Item.Serial)
	i.order, i.lot = b.Tag("item.order", o.Item.Order), b.Tag("item.lot", o.Item.Lot)
	var err error
	if r.shake, err = b.Rule(); err != nil {
		return nil, err
	}
	return r, nil
}

// Handshake returns the handshake that brings the records.
func (r *Rule) Handshake() *handshake.Rule { return r.shake }

// attached is what is remembered of an attach.
type attached struct {
	ID uint64 `json:"id"`
	// Parent is the unit, as its key.
	Parent string `json:"p"`
	// Lot is the component's, also where it is known from what was loaded.
	Lot string `json:"l,omitempty"`
}

// AppendJSON implements memory.Appender.
func (a *attached) AppendJSON(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, `{"id":`...), a.ID, 10)
	dst = plant.AppendJSONString(append(dst, `,"p":`...), a.Parent)
	if a.Lot != "" {
		dst = plant.AppendJSONString(append(dst, `,"l":`...), a.Lot)
	}
	return append(dst, '}')
}

// State is what the rule remembers.
type State struct {
	handshake.State
	// LastID is the number of the newest attach.
	LastID uint64 `json:"id,omitempty"`
	// Twice counts components with a serial number that were offered again for
	// the unit that they are in.
	Twice uint64 `json:"tw,omitempty"`

	items memory.Memory[attached]
}

// Prefix begins the keys of the attaches in the machine's keyed state.
const Prefix = "attach/"

// Load takes the attaches that were put and returns the keys of no use.
func (r *Rule) Load(s *State, keyed []plant.KV) (stray []string) {
	return s.items.Load(keyed, Prefix, r.bound)
}

// Sink takes what the rule makes.
type Sink interface {
	memory.Changes
	// Attach takes an event; own is the order that the record names.
	Attach(at rule.Stamp, e plant.ItemAttach, own string)
	// LoadedLot is the lot that a component without one comes from; sure is false
	// if it comes from several.
	LoadedLot(item *plant.AttachedItem) (lot string, sure bool)
}

// Problem says why a record is no attach: nobody can say what was built into
// what.
func (r *Rule) Problem(rec *handshake.Record) string {
	if serial, ok := r.serial.Read(rec); !ok || serial == "" {
		return "the serial number of the unit cannot be read"
	}
	if action, ok := r.read(rec); !ok {
		return fmt.Sprintf("its action %q is neither add nor remove", action)
	}
	sku, _ := r.item.sku.Read(rec)
	serial, _ := r.item.serial.Read(rec)
	if lot, _ := r.item.lot.Read(rec); sku == "" && serial == "" && lot == "" {
		return "neither article, serial number nor lot of the component can be read"
	}
	return ""
}

func (r *Rule) read(rec *handshake.Record) (action string, ok bool) {
	return r.action.Action(rec, plant.ActionAdd, plant.ActionRemove)
}

// Take makes an event of a record that Problem has nothing against.
func (r *Rule) Take(s *State, rec *handshake.Record, out Sink) {
	var e plant.ItemAttach
	flag := func(what string) { e.Flagged = append(e.Flagged, what) }
	text := func(what string, source *handshake.TextSource) string {
		v, ok := source.Read(rec)
		if !ok {
			flag(what)
		}
		return v
	}
	e.Action, _ = r.read(rec)
	e.Serial, e.SKU = text("serial", &r.serial), text("sku", &r.sku)
	own := text("order", &r.order)
	i := &r.item
	e.Item = plant.AttachedItem{
		SKU: text("item.sku", &i.sku), Unit: text("item.unit", &i.unit), Serial: text("item.serial", &i.serial),
		Order: text("item.order", &i.order), Lot: text("item.lot", &i.lot),
	}
	if i.quantity.Given() {
		if q, ok := i.quantity.Read(rec, r.shake); ok {
			e.Item.Quantity = &q
		} else {
			flag("item.quantity")
		}
	}
	if rec.Told != "" && rec.Told == Told(&e) {
		if e.Item.Serial != "" {
			return // its event is there; only the state had lost it
		}
		flag(handshake.Repeat)
	}
	if r.apply(s, &e, out) {
		out.Attach(rec.At, e, own)
	}
}

// Told is what an event says of its record, for one whose record may be offered
// still: handshake.State.Told. Of components without a serial number several equal
// ones go into a unit, so nobody can tell; the lot may be that of what was loaded.
func Told(e *plant.ItemAttach) string {
	if e.Item.Serial == "" {
		quantity := ""
		if e.Item.Quantity != nil {
			quantity = e.Item.Quantity.Normal().String()
		}
		return handshake.Maybe + key(e.Action, e.SKU, e.Serial, e.Item.SKU, quantity, e.Item.Unit)
	}
	return key(e.Action, e.SKU, e.Serial, e.Item.SKU, e.Item.Serial)
}

// Recall notes the newest event where the state is gone that it came from: its
// number, and what it says.
func (r *Rule) Recall(s *State, e *plant.ItemAttach) {
	s.Told, s.LastID = Told(e), max(s.LastID, e.AttachID)
}

// apply numbers the event; it reports whether anything changed.
func (r *Rule) apply(s *State, e *plant.ItemAttach, out Sink) bool {
	parent := key(e.SKU, e.Serial)
	name := key("item", e.Item.SKU, e.Item.Serial)
	if e.Item.Serial == "" {
		name = key("lot", parent, e.Item.SKU, e.Item.Lot)
	}
	known, seen := s.items.Get(name, r.bound)
	elsewhere := seen && known.Parent != parent
	if e.Action == plant.ActionRemove {
		switch {
		case !seen:
			e.Flagged = append(e.Flagged, "attach")
			return true
		case elsewhere:
			e.Flagged = append(e.Flagged, "item")
		}
		e.AttachID = known.ID
		e.Item.Lot = cmp.Or(e.Item.Lot, known.Lot)
		s.items.Remove(name, r.bound, Prefix, out)
		return true
	}
	if seen && !elsewhere && e.Item.Serial != "" {
		s.Twice++
		return false
	}
	if elsewhere {
		e.Flagged = append(e.Flagged, "item")
	}
	if e.Item.Lot == "" {
		lot, sure := out.LoadedLot(&e.Item)
		if e.Item.Lot = lot; !sure {
			e.Flagged = append(e.Flagged, "item.lot")
		}
	}
	s.LastID++
	e.AttachID = s.LastID
	s.items.Set(name, attached{ID: s.LastID, Parent: parent, Lot: e.Item.Lot}, r.bound, Prefix, out)
	return true
}

// key joins parts that hold no NUL.
func key(parts ...string) string { return strings.Join(parts, "\x00") }
