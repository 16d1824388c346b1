package opcua

import (
	"context"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/plant"
)

// retryRecord bounds the wait between two reads of a record that could not be
// read whole.
const retryRecord = 5 * time.Second

// record is a record in one session.
type record struct {
	plant.Record
	trigger *item
	// answer is what the trigger is compared with for WhileUnanswered.
	answer *item
	fields []*item

	// offered is the newest word of the subscription, or of the poll, on the
	// trigger: while it stands the record is read again at repeatAt. What a read
	// of the record says of the trigger decides on that read only, since a
	// trigger that falls and rises between two samples is never reported.
	offered bool
	// due says that the offer is new: the record is read at once.
	due      bool
	repeatAt time.Time
	// wait is how long the next failed read is waited for, doubled each time.
	wait time.Duration
	// last is the trigger of the last record that was read whole; OnChange offers
	// what differs from it.
	last plant.Value
	// seen and kept are the newest good words on trigger and answer.
	seen, kept plant.Value
}

// newRecords binds the records to the session's items. One that names a tag that
// the device does not have is left out; the rule's own check has refused it.
func (s *session) newRecords(all []plant.Record) []*record {
	find := func(tag plant.TagID) *item {
		if i, ok := s.d.byTag[tag]; ok {
			return s.items[i]
		}
		return nil
	}
	var records []*record
next:
	for _, r := range all {
		bound := &record{Record: r, trigger: find(r.Trigger)}
		if bound.answer = find(r.Answer); bound.trigger == nil || bound.answer == nil && r.On == plant.WhileUnanswered {
			continue
		}
		for _, tag := range r.Fields {
			it := find(tag)
			if it == nil {
				continue next
			}
			bound.fields = append(bound.fields, it)
		}
		records = append(records, bound)
	}
	return records
}

// observe looks for triggers in what a tag said.
func (s *session) observe(it *item, r plant.Reading) {
	for _, rec := range s.records {
		switch it {
		case rec.trigger:
			rec.seen = word(r)
			rec.observe(r)
		case rec.answer:
			rec.kept = word(r)
			rec.compare()
		}
	}
}

// word is what a reading says, the zero Value if it is not good.
func word(r plant.Reading) plant.Value {
	if r.Quality != plant.Good {
		return plant.Value{}
	}
	return r.Value
}

// compare looks again whether the record is offered when its answer has changed.
func (r *record) compare() {
	before := r.offered
	r.offered = r.offers(r.seen)
	r.due = r.due && r.offered || r.offered && !before
}

func (r *record) observe(reading plant.Reading) {
	// A trigger of bad quality says nothing; it comes again when it is good.
	r.offered = reading.Quality == plant.Good && r.offers(reading.Value)
	r.due = r.offered
}

// offers reports whether the trigger's value asks for a Read.
func (r *record) offers(v plant.Value) bool {
	switch r.On {
	case plant.OnChange:
		return v != r.last
	case plant.WhileUnanswered:
		return r.Unanswered(v, r.kept)
	}
	high, _ := v.Bool()
	return high
}

// due appends the records whose trigger was seen, each read in one request. A
// failure ends the session at the next Read; what was read before is kept.
func (s *session) due(ctx context.Context, scans []plant.Scan) []plant.Scan {
	for _, r := range s.records {
		if !r.due && (!r.offered || time.Now().Before(r.repeatAt)) {
			continue
		}
		scan, got, err := s.readRecord(ctx, r)
		if err != nil {
			if ctx.Err() == nil {
				s.fail(fmt.Errorf("read record %s: %w", r.ID, err))
			}
			return scans
		}
		r.due = false
		r.again(got, s.d.o.Publishing.Std())
		if scan.Final = got == whole && r.On == plant.OnChange; got != withdrawn {
			scans = append(scans, scan)
		}
	}
	return scans
}

// outcome is what became of the read of a record.
type outcome uint8

const (
	// whole: all fields are good, and the trigger still offered them behind.
	whole outcome = iota
	// partly: at least one field is not good.
	partly
	// withdrawn: the trigger offers it no longer, so the fields may be half of
	// the next record.
	withdrawn
)

// again says when the record is read again while its trigger stands. A level
// that nobody answers is offered again with each publish; a number that was read
// whole is done; anything else is tried again, less and less often.
func (r *record) again(got outcome, publishing time.Duration) {
	if got != whole && !(got == partly && r.Optional) {
		r.wait = min(max(2*r.wait, publishing), max(retryRecord, publishing))
		r.repeatAt = time.Now().Add(r.wait)
		return
	}
	r.wait, r.repeatAt = 0, time.Now().Add(publishing)
	if r.On == plant.OnChange {
		r.offered = false
	}
}

// readRecord reads all fields in one request, which is sent now, after the
// trigger was seen, and the trigger behind them: in the same request where the
// server takes one node more, else in a second one.
func (s *session) readRecord(ctx context.Context, r *record) (scan plant.Scan, got outcome, err error) {
	scan = plant.Scan{Device: s.d.device, Session: s.number, Record: r.ID, Readings: make([]plant.Reading, len(r.fields))}
	nodes, at := make([]*ua.ReadValueID, 0, len(r.fields)+1), make([]int, 0, len(r.fields))
	for i, it := range r.fields {
		scan.Readings[i] = plant.Reading{Tag: it.tag, Cause: it.refused}
		if it.node() != nil {
			nodes, at = append(nodes, value(it.node())), append(at, i)
		}
	}
	if len(nodes) > s.perRead() {
		for i := range scan.Readings {
			scan.Readings[i].Cause = fmt.Sprintf("the record has %d fields, the server reads %d at once at most", len(nodes), s.perRead())
		}
		scan.Received = time.Now()
		return scan, partly, nil
	}
	scan.Asked = time.Now()
	answers, behind, err := s.readBehind(ctx, nodes, value(r.trigger.node()))
	if err != nil {
		return scan, withdrawn, err
	}
	scan.Received = time.Now()
	for i, field := range at {
		scan.Readings[field] = r.fields[field].reading(answers[i])
	}
	return scan, r.judge(scan.Readings, r.trigger.reading(behind)), nil
}

// readBehind reads nodes and, not before them, one more.
func (s *session) readBehind(ctx context.Context, nodes []*ua.ReadValueID, last *ua.ReadValueID) (answers []*ua.DataValue, behind *ua.DataValue, err error) {
	if len(nodes) < s.perRead() {
		if answers, err = s.read(ctx, append(nodes, last)); err != nil {
			return nil, nil, err
		}
		return answers[:len(nodes)], answers[len(nodes)], nil
	}
	if answers, err = s.read(ctx, nodes); err != nil {
		return nil, nil, err
	}
	second, err := s.read(ctx, []*ua.ReadValueID{last})
	if err != nil {
		return nil, nil, err
	}
	return answers, second[0], nil
}

// judge says what the fields are worth, with the trigger as it was behind them.
// A number that is a field too must be the same in both places: a server may
// read one node after the other while the PLC goes on.
func (r *record) judge(fields []plant.Reading, behind plant.Reading) outcome {
	if behind.Quality != plant.Good || !r.offers(behind.Value) {
		return withdrawn
	}
	if r.On == plant.WhileUnanswered && r.Slots <= 1 && behind.Value != r.seen {
		return withdrawn
	}
	got := whole
	for i, f := range fields {
		switch {
		case f.Quality != plant.Good:
			got = partly
		case r.On == plant.OnChange && r.fields[i] == r.trigger && f.Value != behind.Value:
			return withdrawn
		}
	}
	if got == whole || r.Optional {
		r.last = behind.Value
	}
	return got
}
