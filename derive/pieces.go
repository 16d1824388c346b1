package derive

import (
	"errors"

	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// pieces gives the counter a scan and then looks at the scan's order: what was
// counted in one request with a new order was made before it. It is the other way
// round where the pieces of a gap go to the next order, or where that order was
// read before the gap already.
func (r *run) pieces(found *tags, snapshot bool) {
	m, s := r.m, r.s
	if m.counter == nil {
		r.readOrder(found)
		return
	}
	r.changed = m.counter.Confirm(&s.counter, r.counts, snapshot, r.now, r) || r.changed
	r.elsewhere = m.order.differs(&s.order, &found.order)
	if r.elsewhere && m.order.again(&s.order, &found.order) && m.counter.EndsGap(&s.counter, r.counts, snapshot) {
		r.readOrder(found)
		r.elsewhere = m.order.differs(&s.order, &found.order)
		r.changed = m.counter.Observe(&s.counter, r.counts, snapshot, r.now, r) || r.changed
		r.elsewhere = false
		return
	}
	if (r.elsewhere || m.order.waits(&s.order)) && m.counter.GapTo() == "next" && m.counter.EndsGap(&s.counter, r.counts, snapshot) {
		r.elsewhere = false
		r.readOrder(found)
		r.changed = m.counter.ObserveAfter(&s.counter, r.counts, snapshot, r.now, r) || r.changed
		return
	}
	r.changed = m.counter.Observe(&s.counter, r.counts, snapshot, r.now, r) || r.changed
	r.elsewhere = false
	r.readOrder(found)
}

// again reports whether a scan shows the order that waits to be read again.
func (o *order) again(s *orderState, t *orderTags) bool {
	read, _, ok := o.said(s, t)
	return ok && s.Reads > 0 && read.Number == s.Next
}

// waits reports whether the machine has shown another order that is not sure yet.
func (o *order) waits(s *orderState) bool {
	return o != nil && o.owner == ownerTags && s.Reads > 0
}

// waitForOrder reports whether pieces of a gap wait behind an order that is not
// sure yet: no start or stop may take them out from there.
func (r *run) waitForOrder() bool {
	s := r.s
	return r.m.counter.GapTo() == "next" && r.m.order.waits(&s.order) && s.counter.Mark == s.order.At && s.counter.Now.Flags&counter.Unseen != 0
}

func (r *run) readOrder(found *tags) {
	if found.order.any {
		r.m.order.read(r, &found.order)
	}
}

// attribute says whose the pieces are that were made while nobody looked, if the
// order changed meanwhile: at the end of the gap, as its scan shows or a request
// just before it has shown, or somewhere within, as another source has said.
func (r *run) attribute(c *counter.Report, p *plant.Counter) {
	s := &r.s.order
	within := c.From.At < s.Since.At
	shown := r.elsewhere || r.m.order.waits(s) && c.From.At < s.At.At
	if !shown && !within {
		return
	}
	switch r.m.counter.GapTo() {
	case "previous":
		if within {
			p.Order = known(&s.Previous)
			r.s.counter.Exclude(c)
		}
	case "next":
	default:
		p.Order, p.Unattributed = nil, true
		r.s.counter.Exclude(c)
	}
}

// known is an order as payloads carry it: nil for none.
func known(o *plant.Order) *plant.Order {
	if *o == (plant.Order{}) {
		return nil
	}
	return o
}

// atPanel is who corrects at the panel of a machine.
const atPanel = "panel"

// Correct implements counter.Sink: somebody corrected at the machine's panel.
func (r *run) Correct(c counter.Correction) {
	from, to := c.From, c.To
	if to.Time().Before(from.Time()) {
		from = to
	}
	r.emitJSON(plant.KindCorrection, to, plant.CorrectionEvent{
		Head: r.headAt(to), Good: c.Good, Scrap: c.Scrap, Rework: c.Rework,
		From: stampTime(from), To: stampTime(to), Code: c.Code, By: atPanel,
	})
}

// accepts refuses an entry that makes no sense.
func (m *Model) accepts(in plant.Input) error {
	switch in := in.(type) {
	case plant.OrderChange:
		return m.acceptsOrder(in)
	case plant.ModeChange:
		return acceptsMode(in)
	case plant.Correction:
		if m.counter == nil && in.Material == nil {
			return errors.New("the correction is refused: the machine has no counter to correct")
		}
		return in.Validate()
	case plant.MaterialEntry:
		return acceptsMaterial(&in)
	default:
		return nil
	}
}

// correction takes what somebody has entered. What was counted so far is
// reported first, unless a boundary is in doubt.
func (r *run) correction(in plant.Correction) {
	r.due()
	if r.m.accepts(in) != nil {
		return
	}
	if s := &r.s.counter; r.m.counter != nil && s.Mark.IsZero() {
		r.m.counter.Flush(s, r.now, r)
	}
	head := r.headAt(rule.Stamp{At: in.To.UnixNano()})
	if in.Order != nil {
		head.Order = known(in.Order)
	}
	r.emitJSON(plant.KindCorrection, rule.Stamp{At: r.now}, plant.CorrectionEvent{
		Head: head, Good: in.Good, Scrap: in.Scrap, Rework: in.Rework, Pieces: in.Pieces, Material: in.Material,
		From: stampTime(rule.Stamp{At: in.From.UnixNano()}), To: stampTime(rule.Stamp{At: in.To.UnixNano()}),
		Code: in.Code, Reason: in.Reason, By: in.By,
	})
}
