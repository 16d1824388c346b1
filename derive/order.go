package derive

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/dosing"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// orderReads is how many equal reads make an order valid: numbers flicker and
// go empty between orders.
const orderReads = 2

// orderStands is how long one read must stand unchallenged to be as good as
// two: a subscription says a value once and is then silent.
const orderStands = 30 * time.Second

// orderField is what a tag says of an order.
type orderField uint8

const (
	orderNumber orderField = iota
	orderSKU
	orderExternalID
	orderOperation
	orderOperationID
	orderWorkCenter
	orderPosition
	orderPlanned
	orderFields
)

// order is who knows what the machine works on, and how its tags say it.
type order struct {
	// owner is one of the owners of OrderOptions. source is where its numbers are
	// from, as the config says.
	owner, source string
	pattern       *regexp.Regexp
	// inputs are the tags; the number is there if any is.
	inputs [orderFields]*rule.Input
}

func newOrder(o OrderOptions, resolve rule.Resolver) (*order, error) {
	r := &order{owner: o.owner(), source: o.Source}
	if o.Pattern != "" {
		var err error
		if r.pattern, err = regexp.Compile(`^(?:` + o.Pattern + `)$`); err != nil {
			return nil, config.Field("pattern", "is no regular expression: "+err.Error(), `write one for the whole number, for example '\d{7}'`)
		}
	}
	for f, name := range o.tags() {
		if name.tag == "" {
			continue
		}
		in, err := resolve(name.key, name.tag)
		if err != nil {
			return nil, err
		}
		switch t := in.Tag.Type; {
		case orderField(f) == orderPlanned && t != plant.TypeUnknown && !t.Numeric():
			return nil, config.Field(name.key, fmt.Sprintf("tag %s is of type %s, which is no quantity", in.Ref, t), "name a tag of a numeric type")
		case orderField(f) != orderPlanned && (t == plant.TypeBool || t == plant.TypeFloat32 || t == plant.TypeFloat64):
			what := "holds no order number"
			if orderField(f) != orderNumber {
				what = "names nothing"
			}
			return nil, config.Field(name.key, fmt.Sprintf("tag %s is of type %s, which %s", in.Ref, t, what), "name a tag of a string or whole-number type")
		}
		if number := r.inputs[orderNumber]; number != nil && number.Ref.Device != in.Ref.Device && number.Ref.Device != valuesDevice && in.Ref.Device != valuesDevice {
			return nil, config.Field(name.key, fmt.Sprintf("tag %s is of another device than the number", in.Ref), "name a tag of "+string(number.Ref.Device)+": only what comes in one answer belongs together")
		}
		r.inputs[f] = &in
	}
	return r, nil
}

// binding says where the order is from: another owner or tag knows nothing of
// what the one before was about to say.
func (o *order) binding() string {
	switch {
	case o == nil:
		return ""
	case o.owner != ownerTags:
		return "owner " + o.owner
	default:
		return o.inputs[orderNumber].Binding()
	}
}

// fit forgets what another owner or tag was about to say.
func (o *order) fit(s *orderState) {
	if s.Other != "" { // of a version that remembered one source
		s.Others, s.Other = []otherOrder{{By: s.Other}}, ""
	}
	if s.Binding == o.binding() {
		if s.Read == (plant.Order{}) {
			s.Read = s.Current
		}
		return
	}
	s.Binding, s.Others = o.binding(), nil
	s.clear()
	s.Read, s.ReadPlanned = plant.Order{}, plant.Decimal{}
}

// orderState is what is known of the order.
type orderState struct {
	// Binding says which tag owns the order; empty if anybody does.
	Binding string `json:"b,omitempty"`
	// Current is what the machine works on since Since; Previous what it worked
	// on before. A zero Order is none. Planned is how many are to be made, 0 if
	// nobody said.
	Current  plant.Order   `json:"cur,omitzero"`
	Planned  plant.Decimal `json:"plan,omitzero"`
	Since    rule.Stamp    `json:"since,omitzero"`
	Previous plant.Order   `json:"prev,omitzero"`
	// Read and ReadPlanned are what the tags said last, each for itself.
	Read        plant.Order   `json:"read,omitzero"`
	ReadPlanned plant.Decimal `json:"rplan,omitzero"`
	// Next, with Details and NextPlanned, was read Reads times, for the first time
	// at At; 0 waits for nothing.
	Next        string        `json:"next,omitempty"`
	Details     plant.Order   `json:"more,omitzero"`
	NextPlanned plant.Decimal `json:"nplan,omitzero"`
	Reads       int           `json:"n,omitempty"`
	At          rule.Stamp    `json:"t,omitzero"`
	// Unseen is set while nobody sees whether Next still stands.
	Unseen bool `json:"uns,omitempty"`
	// Apart is set if Next was read without all counters, until both were read
	// together. Again is when they were and said the same; never until then.
	Apart bool       `json:"apart,omitempty"`
	Again rule.Stamp `json:"again,omitzero"`
	// Others are what sources say that do not own the order; Mismatch is set while
	// one of them differs. Others is never changed in place.
	Others   []otherOrder `json:"others,omitempty"`
	Mismatch bool         `json:"mis,omitempty"`
	// Other is of an older version.
	Other string `json:"other,omitempty"`
	// Account is what was done on the current order.
	Account orderAccount `json:"acc,omitzero"`
}

// next is the order that waits to be read again.
func (s *orderState) next() plant.Order {
	o := s.Details
	o.Number = s.Next
	return o
}

// at returns the order at a time, nil for none.
func (s *orderState) at(t rule.Stamp) *plant.Order {
	o := &s.Current
	if !t.IsZero() && t.Time().Before(s.Since.Time()) {
		o = &s.Previous
	}
	if *o == (plant.Order{}) {
		return nil
	}
	return o
}

// code returns an order number or a reason code as it is compared: without the
// padding of PLC strings, and empty for none, which a number says with 0. known
// is what was there before; it is returned where nothing changed, so that an
// unchanged reading costs no memory.
func code(v plant.Value, known string) string {
	var buffer [24]byte
	text := buffer[:0]
	if v.Type() == plant.Text {
		trimmed := strings.Trim(v.Text(), " \t\r\n\x00")
		if trimmed == known {
			return known
		}
		return strings.Clone(trimmed)
	}
	text = v.Append(text)
	switch {
	case string(text) == "0":
		return ""
	case string(text) == known:
		return known
	default:
		return string(text)
	}
}

// of is the place of a field in an order; nil for what is none of its texts.
func (f orderField) of(o *plant.Order) *string {
	switch f {
	case orderNumber:
		return &o.Number
	case orderSKU:
		return &o.SKU
	case orderExternalID:
		return &o.ExternalID
	case orderOperation:
		return &o.Operation
	case orderOperationID:
		return &o.OperationExternalID
	case orderWorkCenter:
		return &o.WorkCenter
	case orderPosition:
		return &o.Position
	default:
		return nil
	}
}

// orderTags are the readings of a scan that say something of the order.
type orderTags struct {
	any      bool
	readings [orderFields]*plant.Reading
	at       rule.Stamp
}

func (t *orderTags) note(f orderField, v *plant.Reading, at rule.Stamp) {
	t.any, t.readings[f] = true, v
	if t.at.IsZero() || f == orderNumber {
		t.at = at
	}
}

// said is what the tags say of the order, with what a scan has of them; ok is
// false if the number cannot be read. What cannot be read of the rest is none of
// another order's, and stays of the same.
func (o *order) said(s *orderState, t *orderTags) (read plant.Order, planned plant.Decimal, ok bool) {
	read, planned = s.Read, s.ReadPlanned
	if v := t.readings[orderNumber]; v != nil {
		if v.Quality != plant.Good {
			return read, planned, false
		}
		read.Number = code(v.Value, read.Number)
	}
	same := read.Number == s.Current.Number
	for f := orderSKU; f < orderFields; f++ {
		v := t.readings[f]
		if v == nil {
			continue
		}
		text := f.of(&read)
		switch {
		case f == orderPlanned && v.Quality == plant.Good:
			planned = quantity(v.Value)
		case f == orderPlanned && same:
			planned = s.Planned
		case f == orderPlanned:
			planned = plant.Decimal{}
		case v.Quality == plant.Good:
			*text = code(v.Value, *text)
		case same:
			*text = *f.of(&s.Current)
		default:
			*text = ""
		}
	}
	return read, planned, true
}

// meant is the order that the tags mean: without a number none, whatever the
// others still say of the one before.
func (o *order) meant(read plant.Order, planned plant.Decimal) (plant.Order, plant.Decimal) {
	if read.Number == "" {
		return plant.Order{}, plant.Decimal{}
	}
	read.Source = o.source
	return read, planned
}

// quantity is a value as an exact number, 0 for none.
func quantity(v plant.Value) plant.Decimal {
	d, ok := v.Decimal()
	if !ok {
		if f, is := v.Float(); is {
			d, _ = plant.DecimalOf(f, 64)
		}
	}
	if d = d.Normal(); d.Unscaled < 0 {
		return plant.Decimal{}
	}
	return d
}

// differs reports whether a scan shows a valid order that is not the current
// one.
func (o *order) differs(s *orderState, t *orderTags) bool {
	if o == nil || !t.any || o.owner != ownerTags {
		return false
	}
	read, _, ok := o.said(s, t)
	return ok && read.Number != s.Current.Number && o.valid(read.Number)
}

func (o *order) valid(number string) bool {
	return number == "" || o.pattern == nil || o.pattern.MatchString(number)
}

// read takes what a scan says of the order.
func (o *order) read(r *run, t *orderTags) {
	s := &r.s.order
	read, planned, ok := o.said(s, t)
	if !ok {
		o.forget(r)
		return
	}
	if read != s.Read || planned != s.ReadPlanned {
		s.Read, s.ReadPlanned, r.changed = read, planned, true
	}
	if s.Unseen {
		if t.readings[orderNumber] == nil {
			return
		}
		s.Unseen, r.changed = false, true
	}
	next, planned := o.meant(read, planned)
	switch {
	case o.knows(s, &next, planned) || !o.valid(next.Number):
		o.forget(r)
		return
	case s.Reads > 0 && next == s.next() && planned == s.NextPlanned:
		s.Reads++
	case s.Reads > 0 && next.Number == s.Next:
		// The rest of an order may follow its number: it began with that.
		s.Details, s.NextPlanned, s.Reads, s.Again = next, planned, 1, rule.Stamp{}
	default:
		o.forget(r)
		s.Next, s.Details, s.NextPlanned, s.Reads, s.At = next.Number, next, planned, 1, t.at
		s.Apart = r.m.reread.lacks(r.counts)
		if o.owner == ownerTags {
			r.Mark(t.at)
			r.markWeighed(t.at)
		}
	}
	s.Details.Number = ""
	r.changed = true
	if s.Reads >= orderReads {
		o.confirm(r)
	}
}

// knows reports whether the tags say nothing new: the current order, or, where
// they only compare, what they said before.
func (o *order) knows(s *orderState, next *plant.Order, planned plant.Decimal) bool {
	if o.owner == ownerTags {
		return *next == s.Current && planned == s.Planned
	}
	i := slices.IndexFunc(s.Others, func(other otherOrder) bool { return other.By == theMachine })
	return i >= 0 && s.Others[i].Number == next.Number
}

// confirm makes the order that waits the current one, from when it was read
// first.
func (o *order) confirm(r *run) {
	s := &r.s.order
	next, planned, at := s.next(), s.NextPlanned, s.At
	s.clear()
	if o.owner != ownerTags {
		r.compare(theMachine, next.Number)
		return
	}
	r.changeOrder(next, planned, at, "")
}

// wake returns when an order that waits has stood for long enough, 0 for none.
func (o *order) wake(s *orderState) int64 {
	if o == nil || s.Reads == 0 || s.Unseen {
		return 0
	}
	at := s.At.At + int64(orderStands)
	if !s.Again.IsZero() {
		at = min(at, s.Again.At+int64(orderStandsAgain))
	}
	return at
}

func (o *order) due(r *run) {
	if at := o.wake(&r.s.order); at != 0 && at <= r.now {
		o.confirm(r)
	}
}

// forget drops an order that waits: it was not read again, or cannot be.
func (o *order) forget(r *run) {
	s := &r.s.order
	if s.Reads == 0 {
		return
	}
	mark := s.At
	s.clear()
	if o.owner == ownerTags {
		r.Unmark(mark)
		r.unmarkWeighed(mark)
	}
	r.changed = true
}

// unseen stops the wait of an order by time: its device is lost, or the gateway
// stood. It goes on with the next reading, but where counts come from elsewhere
// meanwhile, they cannot wait for it.
func (o *order) unseen(r *run, of func(rule.Input) bool) {
	s := &r.s.order
	in := o.inputs[orderNumber]
	switch {
	case s.Reads == 0 || in == nil || !of(*in):
	case r.m.countsFrom(of):
		s.Unseen, r.changed = true, true
	default:
		o.forget(r)
	}
}

// countsFrom reports whether all counters and scales are among the inputs of.
func (m *Model) countsFrom(of func(rule.Input) bool) bool {
	other := func(ref plant.TagRef) bool { return !of(rule.Input{Ref: ref}) }
	if m.counter != nil && slices.ContainsFunc(m.counter.Tags(), other) {
		return false
	}
	return !slices.ContainsFunc(m.weighed, func(d *dosing.Live) bool { return slices.ContainsFunc(d.Tags(), other) })
}

// clear takes away the order that waits.
func (s *orderState) clear() {
	s.Next, s.Details, s.NextPlanned, s.Reads, s.At = "", plant.Order{}, plant.Decimal{}, 0, rule.Stamp{}
	s.Unseen, s.Apart, s.Again = false, false, rule.Stamp{}
}
