package handshake

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Rule is one handshake. It is immutable.
type Rule struct {
	id           plant.RecordID
	name         string
	protocol     protocol
	trigger, ack rule.Input
	// lost is the tag of the PLC's own count of lost records, slots the length of
	// a ring, 1 for everything else.
	lost  rule.Input
	slots int
	// refusal is written to errorTag, which may be the ack; without a tag a
	// record is never refused but acknowledged.
	errorTag rule.Input
	refusal  int64
	fields   []rule.Input
	// further are the fields of the slots of a ring behind the first.
	further [][]rule.Input
	// paths are where the config names a tag, for what a device says of it.
	paths map[plant.TagID]string
	// number is the field that numbers the records; -1 for none.
	number  int
	binding string
}

// Builder puts a Rule together, field by field, and collects what is wrong.
type Builder struct {
	r       *Rule
	resolve rule.Resolver
	errs    []error
}

// NewBuilder begins the Rule called name of a machine, for example "dosing[1]".
func NewBuilder(machine plant.MachineID, name string, o Options, resolve rule.Resolver) *Builder {
	b := &Builder{resolve: resolve, r: &Rule{
		id: plant.RecordID(string(machine) + "/" + name), name: name, protocol: protocols[o.Protocol],
		slots: max(o.Slots, 1), paths: map[plant.TagID]string{}, number: -1,
	}}
	if b.r.slots > 1 {
		b.r.further = make([][]rule.Input, b.r.slots-1)
	}
	b.trigger(o)
	return b
}

// NewFields begins a Builder of fields without a handshake: of a rule that takes
// them from elsewhere than from records.
func NewFields(machine plant.MachineID, name string, resolve rule.Resolver) *Builder {
	return &Builder{resolve: resolve, r: &Rule{
		id: plant.RecordID(string(machine) + "/" + name), name: name, slots: 1, paths: map[plant.TagID]string{}, number: -1,
	}}
}

func (b *Builder) fault(path, problem, remedy string) {
	b.errs = append(b.errs, config.Field(path, problem, remedy))
}

// Fault notes what the owner of the rule found wrong.
func (b *Builder) Fault(err error) {
	if err != nil {
		b.errs = append(b.errs, err)
	}
}

func (b *Builder) find(path, name string) (in rule.Input, ok bool) {
	in, err := b.resolve(path, name)
	if err != nil {
		b.errs = append(b.errs, err)
		return in, false
	}
	if _, named := b.r.paths[in.Ref.Tag]; !named {
		b.r.paths[in.Ref.Tag] = path
	}
	return in, true
}

func whole(t plant.Tag) bool { return t.Type.Bits() > 0 && !t.Scaled }

func (b *Builder) trigger(o Options) {
	r := b.r
	if o.Trigger == "" {
		return // Options.Validate says so
	}
	var ok bool
	if r.trigger, ok = b.find("trigger", o.Trigger); ok {
		b.offers(r.trigger)
	}
	if o.Ack != "" {
		var known bool
		if r.ack, known = b.find("ack", o.Ack); known && ok {
			b.answers("ack", r.ack)
			b.echoes("ack", r.ack)
		}
	}
	if o.Lost != "" {
		b.lost(o.Lost)
	}
	if o.Error != nil {
		b.refuses(*o.Error, ok)
	}
	if r.numbered() && ok {
		// The number and what it numbers come in one request.
		r.number = b.add(r.trigger)
	}
}

// offers checks the trigger.
func (b *Builder) offers(in rule.Input) {
	t, p := in.Tag, b.r.protocol
	switch {
	case t.Type == plant.TypeUnknown:
		b.untyped("trigger", in)
	case (b.r.numbered() || p == ring) && !whole(t):
		b.fault("trigger", fmt.Sprintf("tag %s is of type %s, which does not count records", in.Ref, t.Type), "name a tag of a whole-number type, or write protocol: level")
	case p == ring && t.Type.Signed():
		b.fault("trigger", fmt.Sprintf("tag %s is of type %s, and a position below 0 has no slot", in.Ref, t.Type), "let the PLC count in an unsigned type, such as UINT or UDINT")
	case p == ring && t.Type.Bits() < 16 && b.r.slots > 1<<(t.Type.Bits()-1):
		b.fault("slots", fmt.Sprintf("tag %s (%s) goes round too soon for %d slots", in.Ref, t.Type, b.r.slots), "let the PLC count in a wider type")
	case t.Type != plant.TypeBool && !whole(t):
		b.fault("trigger", fmt.Sprintf("tag %s is of type %s, which is neither high nor low", in.Ref, t.Type), "name a bit, or a tag of a whole-number type")
	}
}

// lost finds the PLC's own count of lost records.
func (b *Builder) lost(name string) {
	in, ok := b.find("lost", name)
	switch {
	case !ok:
		return
	case in.Tag.Type == plant.TypeUnknown:
		b.typeMissing("lost", in, "uint32")
	case !whole(in.Tag) || in.Tag.Type == plant.TypeBool:
		b.fault("lost", fmt.Sprintf("tag %s is of type %s, which counts nothing", in.Ref, in.Tag.Type), "name a tag of a whole-number type")
	}
	b.beside("lost", in)
	b.r.lost = in
}

// refuses finds where records that cannot be read are refused; ok says that the
// trigger is known.
func (b *Builder) refuses(o ErrorAnswer, ok bool) {
	r := b.r
	var known bool
	if r.errorTag, known = b.find("error", o.Tag); known && ok {
		b.answers("error", r.errorTag)
		if r.protocol != toggle {
			b.echoes("error", r.errorTag)
		}
		if r.protocol != level && r.errorTag.Ref == r.ack.Ref {
			b.fault("error", "is the tag of ack, which repeats the trigger", "give the error value a tag of its own")
		}
	}
	if r.protocol != level && r.protocol != toggle && o.Value != 0 {
		b.fault("error.value", "in this protocol the number of the refused record is written", "remove it: error names the tag alone")
	}
	if r.refusal = o.Value; r.refusal == 0 {
		r.refusal = 1
	}
}

// answers checks a tag that is written.
func (b *Builder) answers(path string, in rule.Input) {
	switch t := in.Tag; {
	case t.Type == plant.TypeUnknown:
		b.untyped(path, in)
	case t.Type != plant.TypeBool && !whole(t):
		b.fault(path, fmt.Sprintf("tag %s is of type %s, which holds no answer", in.Ref, t.Type), "name a bit, or a tag of a whole-number type")
	}
	b.beside(path, in)
}

// untyped refuses a tag of a trigger or an answer whose device does not say what
// is there.
func (b *Builder) untyped(path string, in rule.Input) {
	example := "bool"
	if b.r.protocol != level && b.r.protocol != toggle {
		example = "uint32"
	}
	b.typeMissing(path, in, example)
}

func (b *Builder) typeMissing(path string, in rule.Input, example string) {
	b.fault(path, fmt.Sprintf("nothing says what is in tag %s", in.Ref), "write its type at the device, for example type: "+example)
}

// echoes checks a tag that repeats what the trigger shows: it holds each
// number, and writing it touches nothing beside it.
func (b *Builder) echoes(path string, in rule.Input) {
	t, of := in.Tag.Type, b.r.trigger.Tag.Type
	if b.r.protocol == level || t == plant.TypeUnknown || of == plant.TypeUnknown {
		return
	}
	switch {
	case t == plant.TypeBool && of == plant.TypeBool:
	case !whole(in.Tag), t.Bits() < of.Bits(), t.Signed() && !of.Signed() && t.Bits() == of.Bits():
		b.fault(path, fmt.Sprintf("tag %s (%s) cannot hold every number of %s (%s)", in.Ref, t, b.r.trigger.Ref, of), "give it the type of the trigger")
	case t.Bits() > of.Bits():
		b.fault(path, fmt.Sprintf("tag %s (%s) is wider than %s (%s), so an answer would overwrite what is beside it", in.Ref, t, b.r.trigger.Ref, of), "give it the type of the trigger")
	}
}

// beside wants a tag on the device of the trigger.
func (b *Builder) beside(path string, in rule.Input) {
	if d := b.r.trigger.Ref.Device; d != "" && in.Ref.Device != d {
		b.fault(path, fmt.Sprintf("tag %s is on another device than the trigger, %s", in.Ref, b.r.trigger.Ref), "a record and its answer belong to one device")
	}
}

func (b *Builder) add(in rule.Input) int {
	r := b.r
	if i := slices.IndexFunc(r.fields, func(f rule.Input) bool { return f.Ref == in.Ref }); i >= 0 {
		return i
	}
	r.fields = append(r.fields, in)
	return len(r.fields) - 1
}

// Field adds the tag called name to the record and returns its number in
// Record.Readings, -1 for no name. ok is false if there is no such tag.
func (b *Builder) Field(path, name string) (i int, in rule.Input, ok bool) {
	if name == "" {
		return -1, in, false
	}
	if b.r.protocol == ring {
		return b.slotted(path, name)
	}
	if in, ok = b.find(path, name); !ok {
		return -1, in, false
	}
	b.beside(path, in)
	return b.add(in), in, true
}

// slotted adds a field of a ring, whose name holds a # for the slot.
func (b *Builder) slotted(path, name string) (i int, in rule.Input, ok bool) {
	if !strings.Contains(name, "#") {
		b.fault(path, fmt.Sprintf("tag `%s` is one tag, but a ring has one in each slot", name), "write # where the number of the slot stands, for example rec#_"+name)
		return -1, in, false
	}
	all := make([]rule.Input, b.r.slots)
	for slot := range all {
		if all[slot], ok = b.find(path, strings.ReplaceAll(name, "#", strconv.Itoa(slot))); !ok {
			return -1, in, false
		}
		b.beside(path, all[slot])
		if t := all[slot].Tag; t.Type != all[0].Tag.Type || t.Scaled != all[0].Tag.Scaled || t.Unit != all[0].Tag.Unit {
			b.fault(path, fmt.Sprintf("tag %s is of another type or unit than %s", all[slot].Ref, all[0].Ref), "give the field of each slot the same type and unit")
			return -1, in, false
		}
	}
	if i = slices.IndexFunc(b.r.fields, func(f rule.Input) bool { return f.Ref == all[0].Ref }); i >= 0 {
		return i, all[0], true
	}
	b.r.fields = append(b.r.fields, all[0])
	for slot := range b.r.further {
		b.r.further[slot] = append(b.r.further[slot], all[slot+1])
	}
	return len(b.r.fields) - 1, all[0], true
}

// Number adds the tag that numbers the records of a level handshake.
func (b *Builder) Number(path, name string) {
	i, in, ok := b.Field(path, name)
	switch {
	case !ok:
	case b.r.numbered() && in.Ref != b.r.trigger.Ref:
		b.fault(path, "the trigger numbers the records already", "remove "+path+", or write protocol: level")
	case in.Tag.Type == plant.TypeBool || in.Tag.Type == plant.TypeFloat32 || in.Tag.Type == plant.TypeFloat64:
		b.fault(path, fmt.Sprintf("tag %s is of type %s, which numbers nothing", in.Ref, in.Tag.Type), "name a tag of a whole-number or string type")
	default:
		b.r.number = i
	}
}

// TextSource is a Text made ready.
type TextSource struct {
	constant string
	field    int
	values   map[string]string
}

// Text adds t to the record.
func (b *Builder) Text(path string, t Text) TextSource {
	i, _, _ := b.Field(path, t.Tag)
	return TextSource{constant: t.constant, field: i, values: t.Values}
}

// Tag adds a tag that is text by itself.
func (b *Builder) Tag(path, name string) TextSource { return b.Text(path, Text{Tag: name}) }

// FirstField reads the first field of a record that is no device's.
func FirstField() TextSource { return TextSource{} }

// AmountSource is an Amount made ready.
type AmountSource struct {
	constant *plant.Decimal
	field    int
	unit     string
}

// Amount adds a to the record.
func (b *Builder) Amount(path string, a Amount) AmountSource {
	if a.Negative() {
		b.fault(path, "is below 0", "write how much, without a sign")
	}
	i, in, ok := b.Field(path, a.Tag)
	switch t := in.Tag.Type; {
	case !ok || t.Numeric():
	case t == plant.TypeUnknown:
		b.typeMissing(path, in, "float32")
	default:
		b.fault(path, fmt.Sprintf("tag %s is of type %s, which is no amount", in.Ref, t), "name a tag of a number type")
	}
	return AmountSource{constant: a.constant, field: i, unit: in.Tag.Unit}
}

// Rule returns what was put together. Its errors are config.FieldErrors, joined.
func (b *Builder) Rule() (*Rule, error) {
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	r := b.r
	parts := []string{r.trigger.Binding()}
	if r.acknowledges() {
		parts = append(parts, r.ack.Binding())
	}
	for i := range r.fields {
		parts = append(parts, r.fields[i].Binding())
	}
	switch r.protocol {
	case sequence:
		parts = append(parts, "sequence")
	case counting:
		parts = append(parts, "counter")
	case toggle:
		parts = append(parts, "toggle")
	case ring:
		parts = append(parts, "ring "+strconv.Itoa(r.slots))
	}
	r.binding = strings.Join(parts, ", ")
	return r, nil
}

// Name is the handshake's place in the machine's config, for example
// "dosing[1]".
func (r *Rule) Name() string { return r.name }

// ReadOnce reports whether the trigger is a number whose record a driver reads
// once, so that one that is dropped on its way is lost.
func (r *Rule) ReadOnce() bool { return r.numbered() }

// OfLines reports whether the records are lines of text that a device sends, and
// not of a PLC's memory.
func (r *Rule) OfLines() bool { return r.trigger.Tag.Line }

// Trigger returns the tag that offers a record.
func (r *Rule) Trigger() plant.TagRef { return r.trigger.Ref }

// Fields returns the tags of the record, in the order in which they were added.
func (r *Rule) Fields() []rule.Input { return r.fields }

// Binding identifies the tags that a State was learned from.
func (r *Rule) Binding() string { return r.binding }

// Answers returns the tags that are written.
func (r *Rule) Answers() (refs []plant.TagRef) {
	if r.acknowledges() {
		refs = append(refs, r.ack.Ref)
	}
	if r.split() {
		refs = append(refs, r.errorTag.Ref)
	}
	return refs
}

// Polled returns the handshake's own tags: trigger, answers, and the count of
// lost records.
func (r *Rule) Polled() []plant.TagRef {
	refs := append([]plant.TagRef{r.trigger.Ref}, r.Answers()...)
	if r.counted() {
		refs = append(refs, r.lost.Ref)
	}
	return refs
}

// Path returns where the config names a tag of the record, relative to the
// rule; empty for a tag that it does not name.
func (r *Rule) Path(tag plant.TagID) string { return r.paths[tag] }

// Records are what a driver is asked for: one, or one for each slot of a ring.
func (r *Rule) Records() []plant.Record {
	all := make([]plant.Record, r.slots)
	for slot := range all {
		rec := &all[slot]
		*rec = plant.Record{ID: r.id, Device: r.trigger.Ref.Device, Trigger: r.trigger.Ref.Tag, On: plant.WhileHigh}
		switch {
		case r.numbered():
			rec.On = plant.OnChange
		case r.protocol == toggle || r.protocol == ring:
			rec.On, rec.Answer = plant.WhileUnanswered, r.ack.Ref.Tag
		}
		if r.protocol == ring {
			rec.ID = plant.RecordID(fmt.Sprintf("%s#%d", r.id, slot))
			rec.Slot, rec.Slots = slot, r.slots
		}
		for _, in := range r.slot(slot) {
			rec.Fields = append(rec.Fields, in.Ref.Tag)
		}
		for _, ref := range r.Answers() {
			rec.Writes = append(rec.Writes, ref.Tag)
		}
	}
	return all
}
