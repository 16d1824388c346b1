package derive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
	"github.com/sluice-edge/sluice/derive/attach"
	"github.com/sluice-edge/sluice/derive/dosing"
	"github.com/sluice-edge/sluice/derive/handshake"
	"github.com/sluice-edge/sluice/derive/operation"
	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/derive/serial"
	"github.com/sluice-edge/sluice/plant"
)

// shake is one handshake of a machine with what becomes of its records.
type shake struct {
	rule  *handshake.Rule
	state func(*State) *handshake.State
	// owner is made for one call.
	owner func(*run) handshake.Owner
}

// place is where a record belongs: a handshake, and of a ring the slot.
type place struct{ shake, slot int }

// recordRules are the rules of a machine that live of handshake records.
type recordRules struct {
	dosing []*dosing.Rule
	serial *serial.Rule
	attach *attach.Rule
	shakes []shake
	byID   map[plant.RecordID]place
}

// dosingState is what is remembered of one scale.
type dosingState struct {
	handshake.State
	// Flagged is set while an alarm says that a dose was booked with a doubt.
	Flagged bool `json:"fl,omitempty"`
	// Recalled is the newest dose of each scale that events tell, until the first
	// record since the state was lost: it may be offered still. It is never changed
	// in place.
	Recalled []doseKey `json:"rc,omitempty"`
}

func newRecordRules(id plant.MachineID, o *Options, op *operation.Rule, resolve rule.Resolver) (recordRules, error) {
	r := recordRules{byID: map[plant.RecordID]place{}}
	var errs []error
	for i := range o.Dosing {
		if o.Dosing[i].Live() {
			continue
		}
		name, place := scaleName(o.Dosing, i), len(r.dosing)
		d, err := dosing.New(id, name, o.Dosing[i], resolve)
		if err != nil {
			errs = append(errs, below(name, err))
			continue
		}
		r.dosing = append(r.dosing, d)
		r.add(d.Handshake(), func(s *State) *handshake.State { return &s.dosing[place].State },
			func(r *run) handshake.Owner { return doses{r, d, place} })
	}
	if o.Serial != nil {
		var err error
		r.serial, err = serial.New(id, "serial", *o.Serial, resolve)
		errs = append(errs, below("serial", err))
		if !faulty(err) && r.serial.Handshake() != nil {
			r.add(r.serial.Handshake(), func(s *State) *handshake.State { return &s.serial.State },
				func(r *run) handshake.Owner { return serials{r, r.m.records.serial} })
		}
	}
	if o.ItemAttach != nil {
		var err error
		if r.attach, err = attach.New(id, "item_attach", *o.ItemAttach, resolve); err != nil {
			errs = append(errs, below("item_attach", err))
		} else {
			r.add(r.attach.Handshake(), func(s *State) *handshake.State { return &s.attach.State },
				func(r *run) handshake.Owner { return attaches{r, r.m.records.attach} })
		}
	}
	if op != nil && op.Handshake() != nil {
		r.add(op.Handshake(), func(s *State) *handshake.State { return &s.operation.State },
			func(r *run) handshake.Owner { return operations{r, r.m.operation} })
	}
	errs = append(errs, r.oneWriter())
	return r, errors.Join(errs...)
}

// scaleName is what the rule of one scale is called.
func scaleName(all []dosing.Options, i int) string {
	if len(all) > 1 {
		return fmt.Sprintf("dosing[%d]", i)
	}
	return "dosing"
}

func (r *recordRules) add(h *handshake.Rule, state func(*State) *handshake.State, owner func(*run) handshake.Owner) {
	for slot, rec := range h.Records() {
		r.byID[rec.ID] = place{len(r.shakes), slot}
	}
	r.shakes = append(r.shakes, shake{h, state, owner})
}

// oneWriter refuses a tag that two handshakes answer with: neither would know
// whose record is meant.
func (r *recordRules) oneWriter() error {
	var errs []error
	by := map[plant.TagRef]string{}
	for _, s := range r.shakes {
		for _, ref := range s.rule.Answers() {
			if other, taken := by[ref]; taken {
				errs = append(errs, config.Field(s.rule.Name()+"."+s.rule.Path(ref.Tag), fmt.Sprintf("tag %s answers %s already", ref, other), "give each handshake a tag of its own"))
			}
			by[ref] = s.rule.Name()
		}
	}
	return errors.Join(errs...)
}

func (r *recordRules) fit(s *State) {
	old := s.dosing
	if !r.bound(old) {
		s.dosing = make([]dosingState, len(r.dosing))
		for i, d := range r.dosing {
			for j := range old {
				if d.Handshake().Bound(&old[j].State) {
					s.dosing[i] = old[j]
				}
			}
		}
	}
	for _, h := range r.shakes {
		h.rule.Fit(h.state(s))
	}
	if r.serial != nil {
		r.serial.Bind(&s.serial)
	}
}

// bound reports whether the states are those of the rules, in their order.
func (r *recordRules) bound(all []dosingState) bool {
	return slices.EqualFunc(r.dosing, all, func(d *dosing.Rule, s dosingState) bool { return d.Handshake().Bound(&s.State) })
}

// load gives keyed values to the rules that put them, and returns the keys that
// belong to none.
func (r *recordRules) load(s *State, keyed []plant.KV) (stray []string) {
	for i := range keyed {
		k := keyed[i].Key
		if (r.serial == nil || !strings.HasPrefix(k, serial.Prefix)) && (r.attach == nil || !strings.HasPrefix(k, attach.Prefix)) {
			stray = append(stray, k)
		}
	}
	if r.serial != nil {
		stray = append(stray, r.serial.Load(&s.serial, keyed)...)
	}
	if r.attach != nil {
		stray = append(stray, r.attach.Load(&s.attach, keyed)...)
	}
	return stray
}

// wants reports whether a record is one of the machine's, and whether a driver
// reads it once only, so that one that is dropped is lost.
func (m *Model) wants(id plant.RecordID) (once, ok bool) {
	if m.reread != nil && id == m.reread.record.ID {
		return false, true // the next scan says the same, only later
	}
	at, ok := m.records.byID[id]
	return ok && m.records.shakes[at.shake].rule.ReadOnce(), ok
}

// Records returns the handshake records that the rules want of drivers.
func (m *Model) Records() []plant.Record {
	var all []plant.Record
	for i := range m.records.shakes {
		all = append(all, m.records.shakes[i].rule.Records()...)
	}
	return all
}

// RecordPath returns where the machine's config names a tag of a record, for
// what a driver has against it; the rule as a whole if it names none such.
func (m *Model) RecordPath(id plant.RecordID, tag plant.TagID) string {
	at, ok := m.records.byID[id]
	if !ok {
		return ""
	}
	h := m.records.shakes[at.shake].rule
	if path := h.Path(tag); path != "" {
		return h.Name() + "." + path
	}
	return h.Name()
}

// settle answers what a scan without a record has shown of handshakes.
func (r *run) settle() {
	for i := range r.m.records.shakes {
		h := &r.m.records.shakes[i]
		r.changed = h.rule.Settle(h.state(r.s), r) || r.changed
	}
	r.dueRecords()
}

func (r *run) dueRecords() {
	for i := range r.m.records.shakes {
		h := &r.m.records.shakes[i]
		r.changed = h.rule.Due(h.state(r.s), r.now, r) || r.changed
	}
}

// stopRecords tells of the records that do not wait for the next start.
func (r *run) stopRecords() {
	for i := range r.m.records.shakes {
		h := &r.m.records.shakes[i]
		r.changed = h.rule.Stop(h.state(r.s), r) || r.changed
	}
}

// record takes a record that a device was asked for.
func (r *run) record(in *plant.Scan) {
	at, ok := r.m.records.byID[in.Record]
	if !ok {
		return
	}
	r.dueHeld()
	if !r.hold(in, &r.m.records.shakes[at.shake]) {
		r.observe(in, at)
	}
}

func (r *run) observe(in *plant.Scan, at place) {
	h := &r.m.records.shakes[at.shake]
	r.changed = h.rule.Observe(h.state(r.s), in, at.slot, r.m.maxSkew, r.now, h.owner(r), r) || r.changed
}

var _ handshake.Sink = (*run)(nil)

// Write implements handshake.Sink. Of several writes to one tag in one commit
// only the last is of use.
func (r *run) Write(w plant.Write) {
	r.out.Writes = slices.DeleteFunc(r.out.Writes, func(o plant.Write) bool { return o.Device == w.Device && o.Tag == w.Tag })
	r.out.Writes = append(r.out.Writes, w)
}

// Put implements memory.Changes.
func (r *run) Put(kv plant.KV) {
	r.out.Delete = slices.DeleteFunc(r.out.Delete, func(k string) bool { return k == kv.Key })
	r.out.Put = slices.DeleteFunc(r.out.Put, func(o plant.KV) bool { return o.Key == kv.Key })
	r.out.Put = append(r.out.Put, kv)
}

// Delete implements memory.Changes.
func (r *run) Delete(key string) {
	r.out.Put = slices.DeleteFunc(r.out.Put, func(o plant.KV) bool { return o.Key == key })
	r.out.Delete = append(r.out.Delete, key)
}

// Refused implements handshake.Sink.
func (r *run) Refused(name, problem string, fields []plant.Field) {
	at := rule.Stamp{At: r.now}
	r.emitJSON(plant.KindAlarm, at, plant.Alarm{
		Head: r.headAt(at), Alarm: "record_refused:" + name, Raised: true,
		Text:   "a record was refused: " + problem,
		Remedy: "enter it by hand from the fields of this alarm, and check " + r.m.records.suspects(name),
		Fields: fields,
	})
}

// suspects names what may be wrong where a record of a rule cannot be read.
func (r *recordRules) suspects(name string) string {
	for i := range r.shakes {
		if h := r.shakes[i].rule; h.Name() == name && h.OfLines() {
			return "what " + string(h.Trigger().Device) + " sends against the pattern and the fields of its tags in the config, and the device's own settings"
		}
	}
	return "the tags of " + name + " (address, type, word order) and the PLC's program"
}

// Readable implements handshake.Sink.
func (r *run) Readable(name string) {
	r.Alarm(rule.Alarm{Name: "record_refused:" + name, Text: "records can be read again"})
}

// Missing implements handshake.Sink.
func (r *run) Missing(device plant.DeviceID, count uint64, reason string) {
	at := rule.Stamp{At: r.now}
	r.emitJSON(plant.KindGap, at, plant.GapData{Head: r.headAt(at), Count: count, Device: device, Cause: plant.GapUnread, Reason: reason})
}

// recordHead is the head of a record's event: the order that the record names
// wins over the machine's.
func (r *run) recordHead(own string, at rule.Stamp) plant.Head {
	o := r.s.order.at(at)
	if own != "" && (o == nil || o.Number != own) {
		o = &plant.Order{Number: own}
	}
	return r.head(o)
}

// lostRecords tells the handshakes that a device is away.
func (r *run) lostRecords(d plant.DeviceID) {
	for i := range r.m.records.shakes {
		if h := &r.m.records.shakes[i]; h.rule.Trigger().Device == d {
			h.rule.Lost(h.state(r.s))
		}
	}
}

// copyRecords makes the states of s equal to those of o.
func (s *State) copyRecords(o *State) {
	s.dosing = append(s.dosing[:0], o.dosing...)
	s.serial, s.attach, s.operation = o.serial, o.attach, o.operation
}

func (s *State) shiftRecords(step time.Duration) {
	for i := range s.dosing {
		s.dosing[i].Shift(step)
	}
	s.serial.Shift(step)
	s.attach.Shift(step)
	s.operation.Shift(step)
}

// problemsOfRecords are what a person should look at.
func (m *Model) problemsOfRecords(s *State) (all []Problem) {
	if !s.ready {
		return nil
	}
	for i := range m.records.shakes {
		h := &m.records.shakes[i]
		if text := h.rule.Describe(h.state(s)); text != "" {
			all = append(all, Problem{Text: text, Remedy: "Enter the record by hand from the fields of the alarm. Then check " + m.records.suspects(h.rule.Name()) + "."})
		}
	}
	for i := range m.records.shakes {
		h := &m.records.shakes[i]
		if text := h.rule.Foreign(h.state(s)); text != "" {
			all = append(all, Problem{Text: text, Remedy: "Look whether trigger and ack are swapped in the config. If they are not: only the gateway may write the ack; the PLC reads it."})
		}
	}
	for i, d := range m.records.dosing {
		if s.dosing[i].Flagged {
			all = append(all, Problem{
				Text:   d.Handshake().Name() + ": something in the newest dose is in doubt; it was booked all the same",
				Remedy: "Correct the dose where it was sent to, and what the PLC says.",
			})
		}
	}
	if rule := m.records.serial; rule != nil {
		if text := rule.Describe(&s.serial); text != "" {
			all = append(all, Problem{Text: text, Remedy: "Look at the reader, at the tag of the serial number (address, type), and at its pattern in the config."})
		}
	}
	if n := s.serial.NoReads; s.serial.Unread {
		all = append(all, Problem{
			Text:   fmt.Sprintf("the newest label could not be read; so far %d could not, in a row those at %s", n, listed(s.serial.Recent)),
			Remedy: "Find the units behind the reader and enter them by hand; look at the reader and at the printer.",
		})
	}
	return all
}
