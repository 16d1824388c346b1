package derive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// theMachine is what tags are called that do not own the order.
const theMachine = "the machine"

// maxOthers bounds the sources whose word is remembered, and longestOrder the
// text of each field of an order that comes from outside, in bytes.
const (
	maxOthers    = 8
	longestOrder = 200
)

// otherOrder is what a source says that does not own the order.
type otherOrder struct {
	By     string `json:"by"`
	Number string `json:"n,omitempty"`
}

// acceptsOrder refuses what no owner can mean.
func (m *Model) acceptsOrder(in plant.OrderChange) error {
	switch {
	case in.Completed && in.Order.Number == "":
		return errors.New("the order is refused: completed says nothing without its number")
	case in.Order.Number == "" && in.Order != (plant.Order{}):
		return errors.New("the order is refused: it has no number")
	case in.Planned.Unscaled < 0:
		return errors.New("the order is refused: less than nothing is planned")
	case m.order != nil && !m.order.valid(in.Order.Number):
		return fmt.Errorf("the order is refused: %.60q is no number by the pattern of the machine", in.Order.Number)
	}
	for f := orderNumber; f < orderPlanned; f++ {
		if text := *f.of(&in.Order); len(text) > longestOrder {
			return fmt.Errorf("the order is refused: a text of %d bytes is longer than %d", len(text), longestOrder)
		}
	}
	if len(in.Order.Source) > longestOrder || len(in.By) > longestOrder {
		return fmt.Errorf("the order is refused: the name of its source is longer than %d bytes", longestOrder)
	}
	return nil
}

// orderChange takes what a source outside says. Only the owner changes anything.
func (r *run) orderChange(in plant.OrderChange) {
	s := &r.s.order
	if r.m.acceptsOrder(in) != nil {
		r.due()
		return
	}
	o := r.m.order
	owns := o == nil || o.owner == in.From
	next, planned := in.Order, in.Planned
	if in.Completed {
		if owns && s.Current.Number != in.Order.Number {
			r.due() // it was not the current one: what is made now goes on
			return
		}
		next, planned = plant.Order{}, plant.Decimal{}
	}
	switch {
	case !owns && in.Completed:
		r.silence(in.Speaker())
	case !owns:
		r.compare(in.Speaker(), in.Order.Number)
	case next != s.Current || planned != s.Planned:
		at := rule.Stamp{At: r.now}
		r.changed = true
		if next != s.Current {
			r.Mark(at)
			r.markWeighed(at)
		}
		r.changeOrder(next, planned, at, in.By)
	}
	r.due()
}

// compare notes what a source says that does not own the order.
func (r *run) compare(by, number string) {
	s := &r.s.order
	i := slices.IndexFunc(s.Others, func(other otherOrder) bool { return other.By == by })
	switch {
	case i >= 0 && s.Others[i].Number == number:
	case i >= 0:
		s.Others = slices.Clone(s.Others)
		s.Others[i].Number, r.changed = number, true
	case len(s.Others) < maxOthers:
		s.Others = append(slices.Clone(s.Others), otherOrder{By: by, Number: number})
		r.changed = true
	default:
		s.Others = append(slices.Clone(s.Others[1:]), otherOrder{By: by, Number: number})
		r.changed = true
	}
	r.mismatch()
}

// silence forgets what a source said: the order that it meant is completed.
func (r *run) silence(by string) {
	s := &r.s.order
	s.Others = slices.DeleteFunc(slices.Clone(s.Others), func(other otherOrder) bool { return other.By == by })
	r.changed = true
	r.mismatch()
}

// differing is the first source that says another order than the current one,
// once the owner has said any.
func (s *orderState) differing() (other otherOrder, ok bool) {
	if s.Since.IsZero() {
		return otherOrder{}, false
	}
	i := slices.IndexFunc(s.Others, func(other otherOrder) bool { return other.Number != s.Current.Number })
	if i < 0 {
		return otherOrder{}, false
	}
	return s.Others[i], true
}

// mismatch raises the alarm when sources begin to differ from the owner, and
// clears it when none does any more.
func (r *run) mismatch() {
	s := &r.s.order
	other, differs := s.differing()
	if differs == s.Mismatch {
		return
	}
	s.Mismatch, r.changed = differs, true
	a := rule.Alarm{Name: "order_mismatch", Text: "all sources name the same order again"}
	if differs {
		a.Raised = true
		a.Text = fmt.Sprintf("%s says order %q, %s says %q", r.m.order.speaker(), s.Current.Number, other.By, other.Number)
		a.Remedy = "what the owner of the order says is used; see which order is really made, and correct the other"
	}
	r.Alarm(a)
}

// speaker is what the owner is called.
func (o *order) speaker() string {
	if o.owner == ownerTags {
		return theMachine
	}
	return o.owner
}

// orderAccount is what was done on the current order, besides pieces.
type orderAccount struct {
	// At is up to when Run and Stop are counted, never before the state was seen.
	// Running is the state since.
	At      rule.Stamp    `json:"t,omitzero"`
	Running bool          `json:"r,omitempty"`
	Run     time.Duration `json:"run,omitempty"`
	Stop    time.Duration `json:"stop,omitempty"`
	Stops   int64         `json:"n,omitempty"`
	// Doses are what went in, by component and unit; never changed in place.
	Doses []plant.DoseTotal `json:"d,omitempty"`
}

// state counts the time up to at in the state that ends there. Where it ended
// before the order began, nothing of it is the order's.
func (a *orderAccount) state(at rule.Stamp, running bool) {
	if a.At.IsZero() {
		a.At = at
	}
	a.upTo(at)
	if !running && at.At >= a.At.At {
		a.Stops++
	}
	a.Running = running
}

func (a *orderAccount) upTo(at rule.Stamp) {
	long := time.Duration(at.At - a.At.At)
	if a.At.IsZero() || long < 0 {
		return
	}
	if a.Running {
		a.Run += long
	} else {
		a.Stop += long
	}
	a.At = at
}

// maxDoses bounds the components of one order.
const maxDoses = 100

// dose adds what went in. What cannot be added exactly any more is left out, and
// drift is material but no dose.
func (a *orderAccount) dose(d *plant.Dosing) {
	i := slices.IndexFunc(a.Doses, func(t plant.DoseTotal) bool { return t.Component == d.Component && t.Unit == d.Unit })
	a.Doses = slices.Clone(a.Doses)
	if i < 0 {
		if i = len(a.Doses); i == maxDoses {
			return
		}
		a.Doses = append(a.Doses, plant.DoseTotal{Component: d.Component, Unit: d.Unit})
	}
	sum, err := a.Doses[i].Quantity.Add(d.Quantity)
	if err != nil {
		return
	}
	if a.Doses[i].Quantity = sum; !d.Drift {
		a.Doses[i].Doses++
	}
}

// changeOrder reports what belongs to the order that ended and begins the next.
// Where only what is planned changes, the order goes on.
func (r *run) changeOrder(next plant.Order, planned plant.Decimal, at rule.Stamp, by string) {
	s := &r.s.order
	if next == s.Current {
		s.Planned, r.changed = planned, true
		head := r.headAt(at)
		r.emitJSON(plant.KindOrder, at, plant.OrderEvent{Head: head, By: by, Previous: head.Order, Next: head.Order, Since: stampTime(s.Since), Planned: quantityOf(planned)})
		return
	}
	r.boundary(at, orderEnds)
	ended, since, was := s.Current, s.Since, s.Planned
	s.Account.upTo(at)
	account := s.Account
	s.Account = orderAccount{}
	if st := &r.s.startstop; r.m.startstop != nil && st.Known {
		s.Account.At, s.Account.Running = at, st.Running
	}
	s.Previous, s.Current, s.Since, s.Planned = s.Current, next, at, planned
	e := plant.OrderEvent{Head: r.headAt(at), By: by, Next: s.at(at), Planned: quantityOf(planned)}
	if ended != (plant.Order{}) {
		e.Previous, e.Since = &ended, stampTime(since)
		e.PreviousPlanned, e.Totals, e.Doses = quantityOf(was), r.orderTotals(), account.Doses
		if r.m.startstop != nil {
			e.RunSeconds, e.StopSeconds, e.Stops = plant.Seconds(account.Run), plant.Seconds(account.Stop), account.Stops
		}
	}
	if r.m.counter != nil {
		r.s.counter.Rebase()
	}
	r.emitJSON(plant.KindOrder, at, e)
	r.mismatch()
}

// orderTotals returns the pieces that were reported since the current order began.
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

// dosed adds a dose to what went in on the current order, if it is one of its
// production.
func (r *run) dosed(d *plant.Dosing) {
	current := currentOrder(&r.s.order)
	if d.Order == nil || current == nil || d.Order.Number != current.Number || d.Purpose != "" && d.Purpose != "production" {
		return
	}
	r.s.order.Account.dose(d)
}

// quantityOf is a quantity as payloads carry it: nil for none.
func quantityOf(d plant.Decimal) *plant.Decimal {
	if d.IsZero() {
		return nil
	}
	return &d
}

// ownerTags, ownerAPI, ownerWebhook and ownerUplink are who may own the order.
const (
	ownerTags    = "tags"
	ownerAPI     = "api"
	ownerWebhook = "webhook"
	ownerUplink  = "uplink"
)

// owner is Owner with its default.
func (o *OrderOptions) owner() string {
	if o.Owner == "" {
		return ownerTags
	}
	return strings.Join(strings.Fields(o.Owner), " ")
}
