package line

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/plant"
)

// checkRecords says which records lines cannot give. All tags of a line come
// together, so what is left is how a record is offered.
func checkRecords(records []plant.Record, o *Options) error {
	var errs []error
	for i := range records {
		r := &records[i]
		if r.On != plant.OnChange {
			errs = append(errs, config.Field(string(r.Trigger), "a device that speaks in lines of text offers each line once",
				"name the tag of the field sequence as trigger:, and write protocol: counter"))
			continue
		}
		for _, tag := range r.Writes {
			if t, ok := o.Tags.Get(string(tag)); ok && t.Field != fieldTaken {
				errs = append(errs, config.Field(string(tag), fmt.Sprintf("nothing can be written to the field %s", t.Field),
					"add a tag such as kept: taken, and name that"))
			}
		}
	}
	return errors.Join(errs...)
}

// record is one record of the rules.
type record struct {
	plant.Record
	trigger int
	fields  []int
	// last is the trigger of the record that was given last in this session.
	last plant.Value
}

// newRecords binds the records to points. One that names a tag that the device
// does not have is left out; the rule's own check has refused it.
func newRecords(all []plant.Record, points []point) []record {
	find := func(tag plant.TagID) int {
		return slices.IndexFunc(points, func(p point) bool { return p.tag == tag })
	}
	var records []record
next:
	for _, r := range all {
		bound := record{Record: r, trigger: find(r.Trigger)}
		if bound.trigger < 0 || r.On != plant.OnChange {
			continue
		}
		for _, tag := range r.Fields {
			i := find(tag)
			if i < 0 {
				continue next
			}
			bound.fields = append(bound.fields, i)
		}
		records = append(records, bound)
	}
	return records
}

// offer appends the scans of the records whose trigger has changed. readings are
// those of all points.
func (d *driver) offer(scans []plant.Scan, readings []plant.Reading, head plant.Scan) []plant.Scan {
	for i := range d.records {
		r := &d.records[i]
		t := &readings[r.trigger]
		if t.Quality != plant.Good || t.Value == r.last {
			continue
		}
		r.last = t.Value
		scan := head
		scan.Snapshot, scan.Final, scan.Record, scan.Readings = false, true, r.ID, make([]plant.Reading, len(r.fields))
		for j, f := range r.fields {
			scan.Readings[j] = readings[f]
		}
		scans = append(scans, scan)
	}
	return scans
}
