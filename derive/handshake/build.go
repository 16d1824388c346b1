package handshake

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Rule is one handshake. It is immutable.
type Rule struct {
	id           plant.RecordID
	name         string
	sequence     bool
	trigger, ack rule.Input
	// refusal is written to errorTag, which may be the ack; without a tag a
	// record is never refused but acknowledged.
	errorTag rule.Input
	refusal  int64
	fields   []rule.Input
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
		id: plant.RecordID(string(machine) + "/" + name), name: name, sequence: o.Protocol == "sequence",
		paths: map[plant.TagID]string{}, number: -1,
	}}
	b.trigger(o)
	return b
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
	var ok, known bool
	if r.trigger, ok = b.find("trigger", o.Trigger); ok {
		t := r.trigger.Tag
		switch {
		case t.Type == plant.TypeUnknown:
			b.untyped("trigger", r.trigger)
		case r.sequence && !whole(t):
			b.fault("trigger", fmt.Sprintf("tag %s is of type %s, which does not count records", r.trigger.Ref, t.Type), "name a tag of a whole-number type, or write protocol: level")
		case t.Type != plant.TypeBool && !whole(t):
			b.fault("trigger", fmt.Sprintf("tag %s is of type %s, which is neither high nor low", r.trigger.Ref, t.Type), "name a bit, or a tag of a whole-number type")
		}
	}
	if r.ack, known = b.find("ack", o.Ack); known && ok {
		b.answers("ack", r.ack)
		b.echoes("ack", r.ack)
	}
	if o.Error != nil {
		if r.errorTag, known = b.find("error", o.Error.Tag); known && ok {
			b.answers("error", r.errorTag)
			b.echoes("error", r.errorTag)
			if r.sequence && r.errorTag.Ref == r.ack.Ref {
				b.fault("error", "is the tag of ack, which repeats the number", "give the error value a tag of its own")
			}
		}
		if r.sequence && o.Error.Value != 0 {
			b.fault("error.value", "in a sequence the number of the refused record is written", "remove it: error names the tag alone")
		}
		if r.refusal = o.Error.Value; r.refusal == 0 {
			r.refusal = 1
		}
	}
	if r.sequence && ok {
		// The number and what it numbers come in one request.
		r.number = b.add(r.trigger)
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
	if b.r.sequence {
		example = "uint32"
	}
	b.typeMissing(path, in, example)
}

func (b *Builder) typeMissing(path string, in rule.Input, example string) {
	b.fault(path, fmt.Sprintf("nothing says what is in tag %s", in.Ref), "write its type at the device, for example type: "+example)
}

// echoes checks a tag that repeats the number of a sequence: it holds each
// number, and writing it touches nothing beside it.
func (b *Builder) echoes(path string, in rule.Input) {
	t, of := in.Tag.Type, b.r.trigger.Tag.Type
	if !b.r.sequence || t == plant.TypeUnknown || of == plant.TypeUnknown {
		return
	}
	switch {
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
	if in, ok = b.find(path, name); !ok {
		return -1, in, false
	}
	b.beside(path, in)
	return b.add(in), in, true
}

// Number adds the tag that numbers the records of a level handshake.
func (b *Builder) Number(path, name string) {
	i, in, ok := b.Field(path, name)
	switch {
	case !ok:
	case b.r.sequence && in.Ref != b.r.trigger.Ref:
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
	parts := []string{r.trigger.Binding(), r.ack.Binding()}
	for i := range r.fields {
		parts = append(parts, r.fields[i].Binding())
	}
	if r.sequence {
		parts = append(parts, "sequence")
	}
	r.binding = strings.Join(parts, ", ")
	return r, nil
}

// Name is the handshake's place in the machine's config, for example
// "dosing[1]".
func (r *Rule) Name() string { return r.name }

// Sequence reports whether the trigger is a number, whose record a driver reads
// once.
func (r *Rule) Sequence() bool { return r.sequence }

// Trigger returns the tag that offers a record.
func (r *Rule) Trigger() plant.TagRef { return r.trigger.Ref }

// Answers returns the tags that are written.
func (r *Rule) Answers() []plant.TagRef {
	refs := []plant.TagRef{r.ack.Ref}
	if r.refusal != 0 && r.errorTag.Ref != r.ack.Ref {
		refs = append(refs, r.errorTag.Ref)
	}
	return refs
}

// Path returns where the config names a tag of the record, relative to the
// rule; empty for a tag that it does not name.
func (r *Rule) Path(tag plant.TagID) string { return r.paths[tag] }

// Record is what a driver is asked for.
func (r *Rule) Record() plant.Record {
	rec := plant.Record{ID: r.id, Device: r.trigger.Ref.Device, Trigger: r.trigger.Ref.Tag, On: plant.WhileHigh}
	if r.sequence {
		rec.On = plant.OnChange
	}
	for i := range r.fields {
		rec.Fields = append(rec.Fields, r.fields[i].Ref.Tag)
	}
	for _, ref := range r.Answers() {
		rec.Writes = append(rec.Writes, ref.Tag)
	}
	return rec
}
