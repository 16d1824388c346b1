package derive

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// orderReads is how many equal reads make an order valid: numbers flicker and
// go empty between orders.
const orderReads = 2

// orderStands is how long one read must stand unchallenged to be as good as
// two: a subscription says a value once and is then silent.
const orderStands = 30 * time.Second

// order finds the current order in a tag.
type order struct {
	input   rule.Input
	pattern *regexp.Regexp
}

func newOrder(o OrderOptions, resolve rule.Resolver) (*order, error) {
	in, err := resolve("tag", o.Tag)
	if err != nil {
		return nil, err
	}
	switch in.Tag.Type {
	case plant.TypeBool, plant.TypeFloat32, plant.TypeFloat64:
		return nil, config.Field("tag", fmt.Sprintf("tag %s is of type %s, which holds no order number", in.Ref, in.Tag.Type), "name a tag of a string or whole-number type")
	}
	r := &order{input: in}
	if o.Pattern != "" {
		if r.pattern, err = regexp.Compile(`^(?:` + o.Pattern + `)$`); err != nil {
			return nil, config.Field("pattern", "is no regular expression: "+err.Error(), `write one for the whole number, for example '\d{7}'`)
		}
	}
	return r, nil
}

// fit forgets an order that was read from another tag.
func (o *order) fit(s *orderState) {
	binding := ""
	if o != nil {
		binding = o.input.Binding()
	}
	if s.Binding == binding {
		return
	}
	s.Binding, s.Other = binding, ""
	s.Next, s.Reads, s.At = "", 0, rule.Stamp{}
}

// orderState is what is known of the order.
type orderState struct {
	// Binding says which tag owns the order; empty for an owner outside.
	Binding string `json:"b,omitempty"`
	// Current is what the machine works on since Since; Previous what it worked
	// on before. A zero Order is none.
	Current  plant.Order `json:"cur,omitzero"`
	Since    rule.Stamp  `json:"since,omitzero"`
	Previous plant.Order `json:"prev,omitzero"`
	// Next was read Reads times, for the first time at At; 0 waits for nothing.
	Next  string     `json:"next,omitempty"`
	Reads int        `json:"n,omitempty"`
	At    rule.Stamp `json:"t,omitzero"`
	// Other is what a source that does not own the order said, where it differs.
	Other string `json:"other,omitempty"`
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

// differs reports whether a scan shows a valid order that is not the current
// one.
func (o *order) differs(s *orderState, v *plant.Reading) bool {
	if o == nil || v == nil || v.Quality != plant.Good {
		return false
	}
	number := code(v.Value, s.Current.Number)
	return number != s.Current.Number && o.valid(number)
}

func (o *order) valid(number string) bool {
	return number == "" || o.pattern == nil || o.pattern.MatchString(number)
}

// read takes a good reading of the order tag.
func (o *order) read(r *run, v plant.Value, at rule.Stamp) {
	s := &r.s.order
	number := code(v, s.Current.Number)
	switch {
	case number == s.Current.Number || !o.valid(number):
		o.forget(r)
		return
	case s.Reads > 0 && number == s.Next:
		s.Reads++
	default:
		o.forget(r)
		s.Next, s.Reads, s.At = number, 1, at
		r.Mark(at)
	}
	r.changed = true
	if s.Reads >= orderReads {
		o.confirm(r)
	}
}

// confirm makes the order that waits the current one, from when it was read
// first.
func (o *order) confirm(r *run) {
	s := &r.s.order
	next := plant.Order{}
	if s.Next != "" {
		next = plant.Order{Number: s.Next}
	}
	at := s.At
	s.Next, s.Reads, s.At = "", 0, rule.Stamp{}
	r.changeOrder(next, at, "")
}

// wake returns when an order that waits has stood for long enough, 0 for none.
func (o *order) wake(s *orderState) int64 {
	if o == nil || s.Reads == 0 {
		return 0
	}
	return s.At.At + int64(orderStands)
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
	s.Next, s.Reads, s.At = "", 0, rule.Stamp{}
	r.Unmark(mark)
	r.changed = true
}

// compare notes what a source that does not own the order says.
func (o *order) compare(r *run, in plant.OrderChange) {
	s := &r.s.order
	differs := in.Order.Number != s.Current.Number
	if differs == (s.Other != "") {
		return
	}
	s.Other = ""
	a := rule.Alarm{Name: "order_mismatch", Text: "all sources name the same order again"}
	if differs {
		s.Other = in.By
		if s.Other == "" {
			s.Other = "another source"
		}
		a.Raised = true
		a.Text = fmt.Sprintf("the machine says order %q, %s says %q", s.Current.Number, s.Other, in.Order.Number)
		a.Remedy = "the machine's own number is used; correct the other source, or the number at the machine"
	}
	r.Alarm(a)
}

// changeOrder reports the pieces of the order that ended and begins the next.
func (r *run) changeOrder(next plant.Order, at rule.Stamp, by string) {
	s := &r.s.order
	r.boundary(at, orderEnds)
	ended := s.Current
	since := s.Since
	s.Previous, s.Current, s.Since = s.Current, next, at
	e := plant.OrderEvent{Head: r.headAt(at), By: by, Next: s.at(at)}
	if ended != (plant.Order{}) {
		e.Previous, e.Since = &ended, stampTime(since)
		e.Totals = r.orderTotals()
	}
	if r.m.counter != nil {
		r.s.counter.Rebase()
	}
	r.emitJSON(plant.KindOrder, at, e)
}

// orderTotals returns what was reported since the current order began.
func (r *run) orderTotals() *plant.Totals {
	if r.m.counter == nil {
		return nil
	}
	now, base := &r.s.counter.Reported, &r.s.counter.Base
	t := &plant.Totals{Good: now.Good - base.Good, Rework: now.Rework - base.Rework}
	for i, code := range r.m.counter.Codes() {
		t.Scrap = append(t.Scrap, plant.ScrapTotal{Code: code, Quantity: now.Scrap[i] - base.Scrap[i]})
	}
	return t
}
