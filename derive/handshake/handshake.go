package handshake

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

const (
	// badReads is how often, or badFor how long, a record must be unreadable
	// before it is refused: a busy device gives it the next time. One that is not
	// read again (plant.Scan.Final) is refused at once.
	badReads = 3
	badFor   = 5 * time.Second
	// changedReads is how often another record must be read behind a trigger
	// that was not seen low: a PLC that has its answer may lower the trigger and
	// prepare the next record just while this one is read once more.
	changedReads = 2
)

// Owner takes the records of one handshake.
type Owner interface {
	// Problem says why a record cannot be read, empty if it can.
	Problem(rec *Record) string
	// Take makes events of a record.
	Take(rec *Record)
}

// Sink takes what else a handshake leads to.
type Sink interface {
	Write(w plant.Write)
	// Refused reports a record that cannot be read, and Missing records that the
	// PLC numbered but that nobody saw.
	Refused(name, problem string, fields []plant.Field)
	Readable(name string)
	Missing(device plant.DeviceID, count uint64, reason string)
}

// Fit forgets what was learned from other tags.
func (r *Rule) Fit(s *State) {
	if s.Binding != r.binding {
		*s = State{Binding: r.binding, Alarmed: s.Alarmed, Why: s.Why, Taken: s.Taken, Unreadable: s.Unreadable}
	}
}

// Bound reports whether s was learned from the tags of r.
func (r *Rule) Bound(s *State) bool { return s.Binding == r.binding }

// Lost notes that the device is away: what its tags show has to be read again.
func (r *Rule) Lost(s *State) {
	s.begin(0)
}

// Seen takes a reading of one of the handshake's own tags, outside of a record;
// Settle is called once all of a scan were seen. It reports whether the state
// changed.
func (r *Rule) Seen(s *State, session uint64, v *plant.Reading) (changed bool) {
	s.begin(session)
	if r.counted() && v.Tag == r.lost.Ref.Tag {
		s.Lost.note(v)
	}
	if r.acknowledges() && v.Tag == r.ack.Ref.Tag {
		before := s.Ack
		s.Ack.note(v)
		s.suspect(before)
	}
	if r.refusal != 0 && v.Tag == r.errorTag.Ref.Tag {
		s.Bad.note(v)
	}
	if v.Tag != r.trigger.Ref.Tag {
		return false
	}
	s.Trigger.note(v)
	if !r.falls() || !s.Trigger.Known || s.Trigger.Value != 0 {
		return false
	}
	changed = s.Content != "" || s.Wait != nil || s.Told != ""
	if s.Content != "" {
		_, _, a := r.answered(s, 0)
		a.owed = true
	}
	s.leave()
	s.Content, s.Refused, s.Wait, s.Told, s.offered = "", false, nil, "", false
	return changed
}

const (
	// foreignChange and foreignHeld weigh an ack that changes to what was not
	// written here, and one that stands again after it was cleared, which a read
	// that was on its way shows as well; foreignSure is when people are told.
	foreignChange = 7
	foreignHeld   = 1
	foreignSure   = 20
)

// Foreign says that the PLC seems to write the ack, empty if not: a program, or
// trigger and ack are swapped, which no check of the config can see.
func (r *Rule) Foreign(s *State) string {
	if s.foreign < foreignSure {
		return ""
	}
	return fmt.Sprintf("%s: %s shows values that the gateway has not written there", r.name, r.ack.Ref)
}

// Withdrawn reports whether a reading takes back what the trigger offers: a PLC
// that waits for its answer waits no more. By counter and ring none waits. It is
// called before Seen has the reading.
func (r *Rule) Withdrawn(s *State, v *plant.Reading) bool {
	if v.Tag != r.trigger.Ref.Tag || v.Quality != plant.Good || r.protocol == counting || r.protocol == ring || !s.Trigger.Known {
		return false
	}
	n, ok := v.Value.Int()
	return ok && n != s.Trigger.Value
}

// Settle writes what the tags of a scan call for: an answer to a record that is
// not offered any more is taken back, and so is one that was left from before;
// the answer to a number that stays is given again where it is not there, since
// a driver reads the record of a number once. It reports whether the state
// changed.
func (r *Rule) Settle(s *State, out Sink) (changed bool) {
	r.tellLeft(s, out)
	changed = r.countLost(s, out)
	t := &s.Trigger
	if !t.Known {
		return changed
	}
	switch r.protocol {
	case ring:
		return r.follow(s, out) || changed
	case toggle:
		changed = r.level(s) || changed
		r.tellLeft(s, out)
		return changed
	case counting:
		if r.acknowledges() && s.Content != "" && s.offered && strconv.FormatInt(t.Value, 10) == s.Number {
			r.answerAgain(s, t.Value, out)
		}
		return changed
	}
	switch {
	case t.Value == 0:
		r.clear(s, &s.Ack, r.ack, out)
		if r.split() {
			r.clear(s, &s.Bad, r.errorTag, out)
		}
	case r.protocol == sequence && s.Content != "" && s.offered && strconv.FormatInt(t.Value, 10) == s.Number:
		r.answerAgain(s, t.Value, out)
	}
	return changed
}

// split reports whether a refusal has a tag of its own.
func (r *Rule) split() bool { return r.refusal != 0 && r.errorTag.Ref != r.ack.Ref }

func (r *Rule) clear(s *State, a *answer, in rule.Input, out Sink) {
	if !a.owed && (a.Known && a.Value == 0 || !a.Known && a.written) {
		return
	}
	*a = answer{written: true}
	out.Write(r.write(s, in, 0))
}

func (r *Rule) write(s *State, in rule.Input, n int64) plant.Write {
	if in.Ref == r.ack.Ref {
		s.wrote = n
	}
	v := plant.IntValue(n)
	if in.Tag.Type == plant.TypeBool {
		v = plant.BoolValue(n != 0)
	}
	return plant.Write{Device: in.Ref.Device, Session: s.Session, Tag: in.Ref.Tag, Value: v}
}

// answer says to the PLC what became of the record that it offers. n is the
// trigger's number in a sequence.
func (r *Rule) answer(s *State, n int64, out Sink) {
	if !r.falls() {
		r.answerOnward(s, n, out)
		return
	}
	in, value, a := r.answered(s, n)
	*a = answer{} // what was read of it before is out of date
	out.Write(r.write(s, in, value))
}

// answerAgain does so where the answer is not there.
func (r *Rule) answerAgain(s *State, n int64, out Sink) {
	if !r.falls() {
		if r.acknowledges() && (!s.Ack.Known || s.Ack.Value != n) {
			r.answerOnward(s, n, out)
		}
		return
	}
	if _, value, a := r.answered(s, n); !a.Known || a.Value != value {
		r.answer(s, n, out)
	}
}

func (r *Rule) answered(s *State, n int64) (in rule.Input, value int64, a *answer) {
	switch {
	case s.Refused && r.protocol == sequence && r.split():
		return r.errorTag, n, &s.Bad
	case s.Refused && r.split():
		return r.errorTag, r.refusal, &s.Bad
	case s.Refused && r.refusal != 0:
		return r.ack, r.refusal, &s.Ack
	case r.protocol == sequence:
		return r.ack, n, &s.Ack
	default:
		return r.ack, 1, &s.Ack
	}
}

// Observe takes a record that was read behind its trigger, from one of the slots
// of a ring, else 0. It reports whether the state changed.
func (r *Rule) Observe(s *State, in *plant.Scan, slot int, maxSkew time.Duration, now int64, owner Owner, out Sink) (changed bool) {
	s.begin(in.Session)
	if r.protocol == ring && !r.next(s, slot) {
		return false
	}
	rec := r.record(in, slot, maxSkew)
	content, n, problem := r.identify(s, rec)
	if problem == nothing {
		return r.baseline(s, content, out)
	}
	if problem == "" {
		problem = owner.Problem(rec)
	}
	switch {
	case s.Content == content:
		changed = s.Wait != nil
		s.leave()
		r.tellLeft(s, out)
		s.Wait, s.offered = nil, true
		r.answerAgain(s, n, out)
		return changed
	case r.protocol == counting && s.Number == strconv.FormatInt(n, 10):
		return r.changedBehind(s, content, now, out)
	}
	r.gone(s, n, out)
	switch {
	case problem != "":
		w := &Waiting{Content: content, Since: now, Problem: problem, Fields: rec.Fields(), Number: rec.Number, Value: n}
		return r.unreadable(s, w, in.Final, now, out)
	case r.unsettled(s, rec, content, n, now):
		return true
	}
	r.overtaken(s, content, out)
	r.missing(s, n, out)
	rec.Repeated = r.repeated(s, rec)
	s.Content, s.Refused, s.Wait, s.offered = content, false, nil, true
	r.advance(s, rec.Number, n)
	s.Taken++
	s.foreign = 0
	if s.Alarmed {
		s.Alarmed, s.Why = false, ""
		out.Readable(r.name)
	}
	rec.Told, s.Told = s.Told, ""
	owner.Take(rec)
	r.answer(s, n, out)
	return true
}

// unsettled reports whether a record that took the place of another one behind
// the same trigger may still be the PLC's preparation of the next.
func (r *Rule) unsettled(s *State, rec *Record, content string, n int64, now int64) bool {
	if s.Content == "" {
		return false
	}
	switch r.protocol {
	case counting, ring:
		return false // another number is another record
	case toggle:
		if s.Phase != n {
			return false // another level is another record
		}
	case sequence:
		// Behind a number that has its answer the PLC may write what it likes.
		return rec.Number == s.Number && s.Ack.Known && s.Ack.Value == n
	}
	return r.wait(s, &Waiting{Content: content, Since: now}) < changedReads
}

// wait counts how often one record was read in a row.
func (r *Rule) wait(s *State, w *Waiting) (reads int) {
	w.Reads = 1
	if old := s.Wait; old != nil && old.Content == w.Content {
		w.Reads, w.Since = old.Reads+1, old.Since
	}
	s.Wait = w
	return w.Reads
}

// unreadable holds a record that cannot be read until that is certain, which it
// is where it is the final word.
func (r *Rule) unreadable(s *State, w *Waiting, final bool, now int64, out Sink) bool {
	s.offered = true
	if r.wait(s, w) >= badReads || final || now >= w.Since+int64(badFor) {
		r.refuse(s, out)
	}
	return true
}

// refuse answers the record that waits, so that the PLC goes on, and shows it.
func (r *Rule) refuse(s *State, out Sink) {
	w := s.Wait
	if r.numbered() {
		r.missing(s, w.Value, out)
	}
	s.Content, s.Refused, s.Wait = w.Content, true, nil
	r.advance(s, cmp.Or(w.Number, s.Number), w.Value)
	r.tell(s, w, w.Problem, out)
	if s.offered {
		r.answer(s, w.Value, out)
	}
}

func (r *Rule) tell(s *State, w *Waiting, why string, out Sink) {
	s.Unreadable++
	s.Alarmed, s.Why = true, why
	out.Refused(r.name, why, w.Fields)
}

// gone refuses a record that could not be read yet when the next number came: it
// is not shown again.
func (r *Rule) gone(s *State, n int64, out Sink) {
	if w := s.Wait; r.numbered() && s.unread() && w.Value != n {
		r.refuse(s, out)
	}
}

func (r *Rule) tellLeft(s *State, out Sink) {
	if w := s.left; w != nil {
		s.left = nil
		r.tell(s, w, w.Problem+"; the PLC took it back before it was answered", out)
	}
}

// Stop refuses what cannot be read of a PLC that waits for nobody: at the next
// start it may be gone. What a PLC waits with is offered again then. It reports
// whether the state changed.
func (r *Rule) Stop(s *State, out Sink) (changed bool) {
	if r.protocol != counting || !s.unread() {
		return false
	}
	r.refuse(s, out)
	return true
}

// Wake returns when a record that waits is due, 0 for none.
func (r *Rule) Wake(s *State) int64 {
	if !s.unread() {
		return 0
	}
	return s.Wait.Since + int64(badFor)
}

// Due refuses a record that could not be read for long enough.
func (r *Rule) Due(s *State, now int64, out Sink) (changed bool) {
	at := r.Wake(s)
	if at == 0 || at > now {
		return false
	}
	r.refuse(s, out)
	return true
}

// Describe says in plain words what is wrong with the records, empty if nothing.
func (r *Rule) Describe(s *State) string {
	switch {
	case s.Alarmed:
		return fmt.Sprintf("%s: the newest record of %s was refused, %d so far: %s", r.name, r.trigger.Ref.Device, s.Unreadable, cmp.Or(s.Why, "it could not be read"))
	case s.unread():
		return fmt.Sprintf("%s: a record of %s cannot be read: %s", r.name, r.trigger.Ref.Device, s.Wait.Problem)
	default:
		return ""
	}
}
