package derive

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/counter"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// orderStandsAgain is how long an order must stand unchallenged that was read
// again with the counters. A poll each second comes before it, and is the better
// word on whether the number only flickered.
const orderStandsAgain = 2 * time.Second

// reread is what is read again when the order changes: its tags and all totals of
// the machine, in one request that is sent then. Which pieces were made by the
// time of the change is so told by numbers of one moment, also where they are
// polled in several requests, or come one by one from a subscription.
type reread struct {
	record plant.Record
	// totals are those of the counter's inputs that are part of it: all but
	// signals, which say nothing between their rises.
	totals []int
}

// newReread returns nil where nothing can be read again: no order that comes from
// tags, or it or a total is an expression. Without totals on the order's device it is
// the order alone, which is sure the sooner: a subscription does not say it twice. The
// error is a warning: the pieces of a change may be counted to the wrong order.
func newReread(id plant.MachineID, o *order, c *counter.Rule) (*reread, error) {
	if o == nil || o.owner != ownerTags || o.inputs[orderNumber].Ref.Device == valuesDevice {
		return nil, nil
	}
	number := o.inputs[orderNumber].Ref
	r := &reread{record: plant.Record{
		ID: plant.RecordID(string(id) + "/order"), Device: number.Device, Trigger: number.Tag, On: plant.OnChange, Optional: true,
	}}
	for _, in := range o.inputs {
		if in != nil {
			r.add(in.Ref)
		}
	}
	if c == nil {
		return r, nil
	}
	alone, signals := *r, c.Edges()
	for i, ref := range c.Tags() {
		switch {
		case slices.Contains(signals, ref):
			continue
		case ref.Device == valuesDevice:
			return nil, nil
		case ref.Device != number.Device:
			return &alone, config.Warn("order", fmt.Sprintf("the order (%s) and what counts (%s) are on different devices, so no request reads both when the order changes", number, ref),
				"let one PLC hold both; as it is, pieces of one poll may be counted to the wrong order")
		}
		r.add(ref)
		r.totals = append(r.totals, i)
	}
	return r, nil
}

func (r *reread) add(ref plant.TagRef) {
	if !slices.Contains(r.record.Fields, ref.Tag) {
		r.record.Fields = append(r.record.Fields, ref.Tag)
	}
}

// lacks reports whether the readings of a scan are without one of the totals.
func (r *reread) lacks(readings []counter.Reading) bool {
	if r == nil {
		return false
	}
	return slices.ContainsFunc(r.totals, func(input int) bool {
		return !slices.ContainsFunc(readings, func(v counter.Reading) bool { return v.Input == input && v.Good })
	})
}

// OrderRecord returns the record of the order and the totals, which is read when
// the order changes; ok is false for a machine without. It may be left out where
// its device cannot give it.
func (m *Model) OrderRecord() (rec plant.Record, ok bool) {
	if m.reread == nil {
		return rec, false
	}
	return m.reread.record, true
}

// again takes order and totals that were read together. It is of use only while
// another order waits to be sure. One of which anything cannot be read is as
// good as none: the next scan comes anyway.
func (r *run) again(in *plant.Scan, uses map[plant.TagID]*use) {
	s := &r.s.order
	r.counts = r.counts[:0]
	var found tags
	good := true
	for i := range in.Readings {
		v := &in.Readings[i]
		u := uses[v.Tag]
		if u == nil {
			continue
		}
		at := rule.NewStamp(in.Received, v.Source, r.m.maxSkew).Asked(in.Asked)
		good = good && v.Quality == plant.Good
		r.count(u, v, at)
		for _, f := range u.order {
			found.order.note(f, v, at)
		}
	}
	good = good && !slices.ContainsFunc(r.counts, func(v counter.Reading) bool { return !v.Good })
	if good && found.order.any && r.m.order.waits(s) && !s.Unseen {
		r.together(&found)
	}
	r.due()
}

// together settles what was made by the change of the order. Where the scan that
// showed it first had the totals as well, they are the better word, and the order
// is only seen to stand. Else all that was counted up to now belongs to the order
// before: the mark of its end is set anew behind it.
func (r *run) together(found *tags) {
	m, s := r.m, &r.s.order
	read, planned, _ := m.order.said(s, &found.order)
	if next, planned := m.order.meant(read, planned); next != s.next() || planned != s.NextPlanned {
		r.pieces(found, false)
		return
	}
	c := &r.s.counter
	if s.Apart && !m.counter.EndsGap(c, r.counts, false) && c.Now.Flags&counter.Unseen == 0 {
		r.Unmark(s.At)
		r.unmarkWeighed(s.At)
		m.counter.Observe(c, r.counts, false, r.now, r)
		r.Mark(s.At)
		r.markWeighed(s.At)
	}
	s.Again, s.Apart, r.changed = found.order.at, false, true
}
