package derive

import (
	"cmp"

	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/operation"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// operations is the owner of the records of a station that reports work.
type operations struct {
	*run
	rule *operation.Rule
}

func (o operations) Problem(rec *handshake.Record) string { return o.rule.Problem(rec) }

func (o operations) Take(rec *handshake.Record) { o.rule.Take(rec, o.run) }

// Operation implements operation.Sink. What the rule does not say the order does.
func (r *run) Operation(at rule.Stamp, e plant.Operation, own string) {
	e.Head = r.recordHead(own, at)
	r.operation(at, e)
}

func (r *run) operation(at rule.Stamp, e plant.Operation) {
	if o := e.Order; o != nil {
		e.RoutingOperation = cmp.Or(e.RoutingOperation, o.Operation)
		e.WorkCenter = cmp.Or(e.WorkCenter, o.WorkCenter)
		e.Position = cmp.Or(e.Position, o.Position)
		e.SKU = cmp.Or(e.SKU, o.SKU)
	}
	r.emitJSON(plant.KindOperation, at, e)
}

// counted makes operations of the pieces of a counter event.
type counted struct {
	*run
	head         plant.Head
	unattributed bool
}

// Operation implements operation.Sink.
func (c counted) Operation(at rule.Stamp, e plant.Operation, _ string) {
	e.Head, e.Unattributed = c.head, c.unattributed
	c.operation(at, e)
}

// countedOperation takes a counter event that was made of c.
func (r *run) countedOperation(c *counter.Report, p *plant.Counter, at rule.Stamp) {
	o := r.m.operation
	if o == nil || o.Handshake() != nil {
		return
	}
	apart := p.Unattributed || p.Order != currentOrder(&r.s.order)
	o.Counted(&r.s.operation, worked(c.Reported), worked(c.Totals), apart, at, counted{r, p.Head, p.Unattributed})
}

// flushOperation reports the pieces up to a boundary, behind the counter.
func (r *run) flushOperation(at rule.Stamp) {
	if o := r.m.operation; o != nil && o.Handshake() == nil {
		head := r.headAt(at)
		head.Order = currentOrder(&r.s.order)
		o.Flush(&r.s.operation, worked(&r.s.counter.Reported), at, counted{run: r, head: head})
	}
}

// worked are the totals of a counter as operations tell them.
func worked(t *counter.Totals) operation.Totals {
	all := operation.Totals{Valid: t.Good}
	for _, n := range t.Scrap {
		all.Invalid += n
	}
	return all
}
