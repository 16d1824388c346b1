package modbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// record is what belongs together: its fields are one request, sent after a Read
// has shown its trigger.
type record struct {
	plant.Record
	trigger *point
	// answer is what the trigger is compared with for WhileUnanswered.
	answer *point
	// span is the request. Where the trigger lies near enough it is part of it,
	// so that one answer says both what is offered and that it is.
	span *block
	// behind asks for the trigger by itself where it is not part of span: a
	// trigger that is gone by then may have gone before the fields were read.
	behind *block
	// fields are the places of the fields in span.readings, in the order asked
	// for; within is the trigger's, -1 for none.
	fields   []int
	within   int
	readings []plant.Reading

	// last is the trigger of the last record that was read in this session; kept
	// is the answer as the blocks have shown it.
	last, kept plant.Value
}

// newRecord plans a record that checkRecord has nothing against.
func newRecord(r plant.Record, points map[plant.TagID]*point, o Options) *record {
	rec := &record{
		Record: r, trigger: points[r.Trigger], answer: points[r.Answer],
		within: -1, readings: make([]plant.Reading, len(r.Fields)),
	}
	asked := []*point{rec.trigger}
	for _, tag := range r.Fields {
		asked = append(asked, points[tag])
	}
	all := distinct(asked)
	if blocks := join(all, o.MaxRegisters, o.MaxGap); len(blocks) > 1 && !slices.Contains(r.Fields, r.Trigger) {
		all = distinct(asked[1:])
		rec.behind = newBlock(asked[:1])
	}
	rec.span = newBlock(sorted(all))
	for _, tag := range r.Fields {
		rec.fields = append(rec.fields, slices.Index(rec.span.points, points[tag]))
	}
	if rec.behind == nil {
		rec.within = slices.Index(rec.span.points, rec.trigger)
	}
	return rec
}

// distinct returns the points without repetition.
func distinct(points []*point) (all []*point) {
	for _, p := range points {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

func sorted(points []*point) []*point {
	slices.SortStableFunc(points, func(a, b *point) int { return a.start - b.start })
	return points
}

// checkRecords says which records the device cannot give in one request, and
// which answers it cannot take. The paths are the tags.
func checkRecords(records []plant.Record, o Options) error {
	tags := make(map[plant.TagID]Tag, len(o.Tags.Rows))
	for _, row := range o.Tags.Rows {
		tags[plant.TagID(row.Name)] = row.Value
	}
	var errs []error
	for _, r := range records {
		errs = append(errs, checkRecord(r, tags, o))
	}
	return errors.Join(errs...)
}

func checkRecord(r plant.Record, tags map[plant.TagID]Tag, o Options) error {
	var errs []error
	fault := func(tag plant.TagID, problem, remedy string) {
		errs = append(errs, config.Field(string(tag), problem, remedy))
	}
	for _, name := range slices.Concat([]plant.TagID{r.Trigger}, r.Fields, r.Writes) {
		if _, ok := tags[name]; !ok {
			fault(name, fmt.Sprintf("the device has no tag `%s`", name), "name one of its tags")
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, name := range r.Writes {
		t := tags[name]
		t.Writable = true
		_, bit := t.bit()
		var field *config.FieldError
		if err := t.validateWritable(t.kind(), bit); errors.As(err, &field) {
			fault(name, fmt.Sprintf("tag %s cannot be written as an answer: %s", name, field.Problem), field.Remedy)
		}
	}
	if len(r.Fields) > 0 {
		first := tags[r.Fields[0]]
		low, high := int(first.Address.Number), 0
		for _, name := range r.Fields {
			t := tags[name]
			if t.Address.Table != first.Address.Table {
				fault(name, fmt.Sprintf("tag %s is in the %s table, but %s of the same record in the %s table: they cannot be read in one request", name, t.Address.Table, r.Fields[0], first.Address.Table),
					"let the PLC put all fields of the record into one table, side by side")
				return errors.Join(errs...)
			}
			low, high = min(low, int(t.Address.Number)), max(high, int(t.Address.Number)+t.registers())
			limit := o.MaxRegisters
			if t.Address.Table.bits() {
				limit = min(16*limit, maxReadBits)
			}
			if high-low > limit {
				fault(name, fmt.Sprintf("with tag %s the record is %d registers long, one request may ask for %d", name, high-low, limit),
					"let the PLC put the fields of the record side by side, or raise max_registers if the device allows it")
				return errors.Join(errs...)
			}
		}
		if r.Optional && len(errs) == 0 {
			errs = append(errs, checkHoles(r, tags, o))
		}
	}
	return errors.Join(errs...)
}

// checkHoles refuses an optional record that reads over more registers than the
// config allows: there may be none.
func checkHoles(r plant.Record, tags map[plant.TagID]Tag, o Options) error {
	asked := make([]*point, len(r.Fields))
	for i, name := range r.Fields {
		t := tags[name]
		t.Every = 0 // a record has the pace of its trigger
		asked[i] = newPoint(string(name), t, o.WordOrder)
	}
	blocks := join(distinct(asked), o.MaxRegisters, o.MaxGap)
	if len(blocks) < 2 {
		return nil
	}
	before, behind := blocks[0].points[len(blocks[0].points)-1], blocks[1].points[0]
	return config.Field(string(behind.tag), fmt.Sprintf("between tag %s and tag %s are %d registers that nobody asked for, max_gap allows %d", before.tag, behind.tag, behind.start-before.end(), o.MaxGap),
		fmt.Sprintf("let the PLC put them side by side, or write max_gap: %d if the device has all of these registers", behind.start-before.end()))
}

// readRecords asks for the records whose trigger the blocks have just shown.
func (d *driver) readRecords(ctx context.Context) error {
	for _, r := range d.records {
		offered, ok := d.offered(r)
		if !ok {
			continue
		}
		if err := d.readRecord(ctx, r, offered); err != nil {
			return d.unread(fmt.Sprintf("record %s (%s)", r.ID, r.span), err)
		}
	}
	return nil
}

// offered returns the trigger as the blocks have shown it; ok is false if it
// offers nothing that was not read yet.
func (d *driver) offered(r *record) (v plant.Value, ok bool) {
	trigger, ok := d.shown(r.trigger)
	if !ok {
		return v, false
	}
	if r.On == plant.WhileUnanswered {
		if r.kept, ok = d.shown(r.answer); !ok {
			return v, false
		}
	}
	return trigger, r.offers(trigger)
}

// shown returns what a point said in the blocks of this Read; ok is false if it
// said nothing good.
func (d *driver) shown(p *point) (v plant.Value, ok bool) {
	for _, b := range d.blocks {
		if i := slices.Index(b.points, p); i >= 0 {
			return b.readings[i].Value, b.readings[i].Quality == plant.Good
		}
	}
	return v, false
}

// offers reports whether the trigger's value asks for a Read.
func (r *record) offers(v plant.Value) bool {
	switch r.On {
	case plant.OnChange:
		return v != r.last
	case plant.WhileUnanswered:
		return r.Unanswered(v, r.kept)
	default:
		high, _ := v.Bool()
		return high
	}
}

// moved reports whether the trigger says behind the fields that they may be of
// another record. A ring goes on behind its head, and one slot stays.
func (r *record) moved(offered, still plant.Value) bool {
	if r.Slots > 1 || r.behind == nil && r.On != plant.WhileUnanswered {
		return false
	}
	return still != offered
}

// readRecord reads what is offered and hands it over if it still is, read
// behind the fields. A record that the device refuses is handed over as it is,
// all bad, and asked for again by the next Read.
func (d *driver) readRecord(ctx context.Context, r *record, offered plant.Value) error {
	if err := d.readBlock(ctx, r.span); err != nil {
		return err
	}
	received := time.Now()
	refused := r.span.refusal != 0
	still := offered
	switch {
	case refused:
	case r.behind != nil:
		if err := d.readBlock(ctx, r.behind); err != nil {
			return err
		}
		still = r.behind.readings[0].Value
	case r.within >= 0:
		still = r.span.readings[r.within].Value
	}
	if !refused && (!r.offers(still) || r.moved(offered, still)) {
		return nil // the PLC has moved on; the next Read sees where to
	}
	whole := !refused && r.complete()
	if r.Optional || whole {
		r.last = still
	}
	for i, at := range r.fields {
		r.readings[i] = r.span.readings[at]
	}
	d.scans = append(d.scans, plant.Scan{Device: d.device, Session: d.session, Record: r.ID, Final: whole && r.On == plant.OnChange, Asked: r.span.askedAt, Received: received, Readings: r.readings})
	return nil
}

// complete reports whether every field could be read.
func (r *record) complete() bool {
	return !slices.ContainsFunc(r.fields, func(at int) bool { return r.span.readings[at].Quality != plant.Good })
}

// newSession forgets what was read in the last one.
func (r *record) newSession() {
	r.last, r.kept = plant.Value{}, plant.Value{}
	r.span = newBlock(r.span.points)
	if r.behind != nil {
		r.behind = newBlock(r.behind.points)
	}
}

// planRecords prepares the driver for what the machines want of it.
func (d *driver) planRecords(env drivers.Env, o Options) {
	for _, r := range env.Records {
		d.records = append(d.records, newRecord(r, d.points, o))
		for _, tag := range r.Writes {
			d.points[tag].writable = true
		}
	}
}
