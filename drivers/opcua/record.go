package opcua

import (
	"context"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/sluice-edge/sluice/plant"
)

// record is a handshake record in one session.
type record struct {
	plant.Record
	trigger *item
	fields  []*item

	// due says that the trigger was seen, high that a WhileHigh trigger still is;
	// the record is then read again at repeatAt.
	due      bool
	high     bool
	repeatAt time.Time
	// last is the trigger's value if known; OnChange compares with it.
	last  plant.Value
	known bool
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
		if bound.trigger == nil {
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
		if rec.trigger == it {
			rec.observe(r)
		}
	}
}

func (r *record) observe(reading plant.Reading) {
	if reading.Quality != plant.Good {
		r.high = false // nobody knows; a record whose trigger is there comes again
		return
	}
	switch r.On {
	case plant.OnChange:
		r.due = r.due || !r.known || reading.Value != r.last
		r.last, r.known = reading.Value, true
	default:
		r.high, _ = reading.Value.Bool()
		r.due = r.due || r.high // also if it fell again within the same publish
	}
}

// due appends the records whose trigger was seen, each read in one request. A
// failure ends the session at the next Read; what was read before is kept.
func (s *session) due(ctx context.Context, scans []plant.Scan) []plant.Scan {
	for _, r := range s.records {
		repeat := !r.due && r.high && !time.Now().Before(r.repeatAt)
		if !r.due && !repeat {
			continue
		}
		scan, ok, err := s.readRecord(ctx, r, repeat)
		if err != nil {
			if ctx.Err() == nil {
				s.fail(fmt.Errorf("read record %s: %w", r.ID, err))
			}
			return scans
		}
		r.due, r.repeatAt = false, time.Now().Add(s.d.o.Publishing.Std())
		if ok {
			scans = append(scans, scan)
		}
	}
	return scans
}

// readRecord reads all fields in one request, which is sent now, after the
// trigger was seen, and with them the trigger: when it is down by the time that
// the record is read again, the record has been answered.
func (s *session) readRecord(ctx context.Context, r *record, repeat bool) (scan plant.Scan, ok bool, err error) {
	scan = plant.Scan{Device: s.d.device, Session: s.number, Record: r.ID, Readings: make([]plant.Reading, len(r.fields))}
	nodes, at := make([]*ua.ReadValueID, 0, len(r.fields)+1), make([]int, 0, len(r.fields))
	for i, it := range r.fields {
		scan.Readings[i] = plant.Reading{Tag: it.tag, Cause: it.refused}
		if it.node() != nil {
			nodes, at = append(nodes, value(it.node())), append(at, i)
		}
	}
	withTrigger := r.On == plant.WhileHigh && r.trigger.node() != nil && len(nodes) < s.maxRead
	if withTrigger {
		nodes = append(nodes, value(r.trigger.node()))
	}
	if len(nodes) > s.maxRead {
		for i := range scan.Readings {
			scan.Readings[i].Cause = fmt.Sprintf("the record has %d fields, the server reads %d at once at most", len(nodes), s.maxRead)
		}
		scan.Received = time.Now()
		return scan, true, nil
	}
	got, err := s.read(ctx, nodes)
	if err != nil {
		return scan, false, err
	}
	scan.Received = time.Now()
	if withTrigger {
		r.observe(r.trigger.reading(got[len(got)-1]))
		if repeat && !r.high {
			return scan, false, nil
		}
	}
	for i, field := range at {
		scan.Readings[field] = r.fields[field].reading(got[i])
	}
	return scan, true, nil
}
