package handshake

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// Record is what a PLC offered, once.
type Record struct {
	// At is when the gateway had it.
	At rule.Stamp
	// Number is the PLC's number of it, empty for none.
	Number string
	// Told is what the newest event says, if it may be of this record: see State.Told.
	Told string
	// Repeated says that the record before had the same number.
	Repeated bool
	// Readings are the fields in the order in which they were added.
	Readings []plant.Reading
	// MaxSkew is how far the PLC's clock may be off to be believed.
	MaxSkew time.Duration
}

// record puts the readings of a scan in order; what the device left out is bad.
func (r *Rule) record(in *plant.Scan, slot int, maxSkew time.Duration) *Record {
	fields := r.slot(slot)
	rec := &Record{At: rule.Stamp{At: in.Received.UnixNano()}, Readings: make([]plant.Reading, len(r.fields)), MaxSkew: maxSkew}
	for i := range fields {
		tag := fields[i].Ref.Tag
		at := slices.IndexFunc(in.Readings, func(v plant.Reading) bool { return v.Tag == tag })
		if at < 0 {
			rec.Readings[i] = plant.Reading{Tag: tag, Cause: "the device did not send it"}
			continue
		}
		rec.Readings[i] = in.Readings[at]
		if s := rec.Readings[i].Source; !s.IsZero() {
			// The newest of them is when the record was complete.
			if stamp := rule.NewStamp(in.Received, s, maxSkew); rec.At.Offset == 0 || stamp.Offset > rec.At.Offset {
				rec.At = stamp
			}
		}
	}
	if r.number >= 0 && rec.Readings[r.number].Quality == plant.Good {
		rec.Number = number(rec.Readings[r.number].Value)
	}
	return rec
}

// number returns the number of a record as it is compared; 0 and empty are none.
func number(v plant.Value) string {
	if text := Trim(v.Text()); text != "0" {
		return text
	}
	return ""
}

// Trim cuts the padding of PLC strings.
func Trim(s string) string { return strings.Trim(s, " \t\r\n\x00") }

// content identifies the record by all that it says but the field without, also
// by what of it cannot be read.
func (rec *Record) content(without int) string {
	var room [512]byte
	all := room[:0]
	for i := range rec.Readings {
		if i == without {
			continue
		}
		v := &rec.Readings[i]
		all = append(append(all, v.Tag...), 0, byte(v.Quality), byte(v.Value.Type()))
		all = append(v.Value.Append(all), 0)
	}
	sum := sha256.Sum256(all)
	return hex.EncodeToString(sum[:16])
}

// Fields are the readings as an alarm carries them.
func (rec *Record) Fields() []plant.Field {
	all := make([]plant.Field, len(rec.Readings))
	for i := range rec.Readings {
		v := &rec.Readings[i]
		all[i] = plant.Field{Tag: v.Tag, Value: v.Value.Text(), Quality: v.Quality.String(), Cause: v.Cause}
	}
	return all
}

// Bad says why the first field that cannot be read cannot, if all are so: the
// device refused the record as a whole. Empty otherwise.
func (rec *Record) Bad() string {
	for i := range rec.Readings {
		if rec.Readings[i].Quality == plant.Good {
			return ""
		}
	}
	if len(rec.Readings) == 0 {
		return ""
	}
	return cmp.Or(rec.Readings[0].Cause, "the device gives it no good quality")
}

// Constant returns the text that the config itself says, empty for none.
func (s *TextSource) Constant() string { return s.constant }

// Given reports whether the config says where the text is from.
func (s *TextSource) Given() bool { return s.constant != "" || s.field >= 0 }

// Action returns which of some actions a record asks for; without a source it is
// to add. ok is false for anything else, which is returned as it is.
func (s *TextSource) Action(rec *Record, known ...string) (action string, ok bool) {
	if !s.Given() {
		return plant.ActionAdd, true
	}
	action, ok = s.Read(rec)
	return action, ok && slices.Contains(known, action)
}

// Read returns the text without padding; ok is false if the tag cannot be read
// or has a code that the table does not know, which is returned as it is.
func (s *TextSource) Read(rec *Record) (text string, ok bool) {
	if s.field < 0 {
		return s.constant, true
	}
	v := &rec.Readings[s.field]
	if v.Quality != plant.Good {
		return "", false
	}
	text = Trim(v.Value.Text())
	if len(s.values) == 0 {
		return text, true
	}
	meaning, ok := s.values[text]
	if !ok {
		return text, false
	}
	return meaning, true
}

// Given reports whether the config says where the amount is from.
func (s *AmountSource) Given() bool { return s.constant != nil || s.field >= 0 }

// Unit is the unit that the device's config gives the tag; empty for none.
func (s *AmountSource) Unit() string { return s.unit }

// Read returns the amount exactly; ok is false if the tag cannot be read or its
// number does not fit. A 32-bit float gives the shortest decimal that is the
// same 32-bit float: 12.6, not 12.6000003814697.
func (s *AmountSource) Read(rec *Record, r *Rule) (d plant.Decimal, ok bool) {
	if s.constant != nil {
		return *s.constant, true
	}
	if s.field < 0 {
		return d, false
	}
	v := &rec.Readings[s.field]
	if v.Quality != plant.Good {
		return d, false
	}
	if f, float := v.Value.Float(); float && v.Value.Type() == plant.Float && r.fields[s.field].Tag.Type == plant.TypeFloat32 {
		d, err := plant.DecimalOf(f, 32)
		return d, err == nil
	}
	return v.Value.Decimal()
}

// Problem says why Read gives no amount of rec: the tag has no good value, or one
// that is no amount, such as the NaN or the 10^23 of a wrong word order. Empty if
// there is one.
func (s *AmountSource) Problem(rec *Record, r *Rule) string {
	if _, ok := s.Read(rec, r); ok || s.field < 0 {
		return ""
	}
	if v := &rec.Readings[s.field]; v.Quality == plant.Good {
		return "is " + v.Value.Text() + ", which is no amount"
	}
	return "cannot be read"
}

// Time reads a field as a time: a number is seconds since 1970 UTC, from 10^11
// on milliseconds; text is RFC 3339. The zero time is no time, and ok then.
func (s *TextSource) Time(rec *Record) (t time.Time, ok bool) {
	if s.field < 0 {
		return t, true
	}
	v := &rec.Readings[s.field]
	if v.Quality != plant.Good {
		return t, false
	}
	if v.Value.Type() == plant.Text {
		text := Trim(v.Value.Text())
		if text == "" {
			return t, true
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		return t.UTC(), err == nil
	}
	n, ok := v.Value.Int()
	switch {
	case !ok || n < 0 || n > 4e12:
		return t, false
	case n == 0:
		return t, true
	case n >= 1e11:
		return time.UnixMilli(n).UTC(), true
	default:
		return time.Unix(n, 0).UTC(), true
	}
}

// Tagged reports whether a tag says the text, not the config.
func (s *TextSource) Tagged() bool { return s.field >= 0 }
