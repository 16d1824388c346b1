package serial

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Watched are the tags that are looked at where no handshake brings records, the
// serial number first; none otherwise.
func (r *Rule) Watched() []rule.Input {
	if r.fields == nil {
		return nil
	}
	return r.fields.Fields()
}

// Bind forgets what was learned from other tags.
func (r *Rule) Bind(s *State) {
	binding := ""
	if r.fields != nil {
		binding = r.fields.Binding()
	}
	if s.Watching != binding {
		s.Watching, s.Last, s.Shown = binding, "", nil
	}
}

// Watch takes a scan where no handshake brings records: a serial number that is
// another one than before is a unit at the station. Empty is the time between
// two; what was read of the other fields last belongs to the unit. It reports
// whether the state changed.
func (r *Rule) Watch(s *State, in *plant.Scan, maxSkew time.Duration, order func(rule.Stamp) string, out Sink) (changed bool) {
	fields := r.fields.Fields()
	var next *plant.Reading
	for f := range fields {
		v := find(in, fields[f].Ref)
		if v == nil || v.Quality != plant.Good {
			continue
		}
		if f == 0 {
			if !same(v.Value, s.Last) {
				next = v
			}
			continue
		}
		if len(s.Shown) != len(fields) || !same(v.Value, s.Shown[f]) {
			// The array may be shared with a copy.
			s.Shown = append(make([]string, 0, len(fields)), s.Shown...)[:len(fields)]
			s.Shown[f] = handshake.Trim(v.Value.Text())
			changed = true
		}
	}
	if next == nil {
		return changed
	}
	if s.Last = handshake.Trim(next.Value.Text()); s.Last == "" {
		return true
	}
	rec := &handshake.Record{At: rule.NewStamp(in.Received, next.Source, maxSkew), Readings: make([]plant.Reading, len(fields)), MaxSkew: maxSkew}
	for f := range fields {
		rec.Readings[f] = plant.Reading{Tag: fields[f].Ref.Tag, Cause: "it was never read"}
		if v := find(in, fields[f].Ref); v != nil {
			rec.Readings[f] = *v
		} else if len(s.Shown) == len(fields) {
			rec.Readings[f] = plant.Reading{Tag: fields[f].Ref.Tag, Quality: plant.Good, Value: plant.TextValue(s.Shown[f])}
		}
	}
	r.book(s, rec, order, out)
	return true
}

// Scanned takes a line that a scanner read. It reports whether the line was of
// this rule's scanner.
func (r *Rule) Scanned(s *State, in plant.Scanned, order func(rule.Stamp) string, out Sink) bool {
	if r.scanner == "" || in.Scanner != r.scanner {
		return false
	}
	r.book(s, &handshake.Record{
		At: rule.Stamp{At: in.At.UnixNano()}, Readings: []plant.Reading{{Tag: "scanner", Quality: plant.Good, Value: plant.TextValue(in.Text)}},
	}, order, out)
	return true
}

// book makes an event of a record that nobody waits to see answered: one that
// makes no sense is shown, and the unit goes on all the same.
func (r *Rule) book(s *State, rec *handshake.Record, order func(rule.Stamp) string, out Sink) {
	if problem := r.Problem(rec); problem != "" {
		s.Unreadable++
		s.Alarmed, s.Why = true, problem
		out.Refused(r.name, problem, rec.Fields())
		return
	}
	s.Taken++
	if s.Alarmed {
		s.Alarmed, s.Why = false, ""
		out.Readable(r.name)
	}
	r.Take(s, rec, order(rec.At), out)
}

// Describe says in plain words what is wrong with the numbers that were read
// without a handshake, empty if nothing.
func (r *Rule) Describe(s *State) string {
	if r.fields == nil || !s.Alarmed {
		return ""
	}
	return r.name + ": the newest serial number was refused, " + strconv.FormatUint(s.Unreadable, 10) + " so far: " + cmp.Or(s.Why, "it could not be read")
}

func find(in *plant.Scan, ref plant.TagRef) *plant.Reading {
	if in.Device != ref.Device {
		return nil
	}
	i := slices.IndexFunc(in.Readings, func(v plant.Reading) bool { return v.Tag == ref.Tag })
	if i < 0 {
		return nil
	}
	return &in.Readings[i]
}

// same reports whether v says known, without memory.
func same(v plant.Value, known string) bool {
	if v.Type() == plant.Text {
		return handshake.Trim(v.Text()) == known
	}
	var buffer [32]byte
	return string(v.Append(buffer[:0])) == known
}
