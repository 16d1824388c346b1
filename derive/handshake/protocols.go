package handshake

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/derive/rule"
	"github.com/sluice-edge/sluice/plant"
)

// protocol is how a PLC says that a record is there, and how it is answered.
type protocol uint8

const (
	// level: trigger high, ack high, trigger low, ack low.
	level protocol = iota
	// sequence: the trigger numbers the records, the ack repeats the number, and
	// the PLC waits for it.
	sequence
	// counting: the trigger numbers the records and the PLC waits for nobody.
	counting
	// toggle: each change of the trigger offers a record, the ack copies it.
	toggle
	// ring: records stand in slots; the trigger counts those ever put there, the
	// ack those that are kept.
	ring
)

var protocols = map[string]protocol{"": level, "level": level, "sequence": sequence, "counter": counting, "toggle": toggle, "ring": ring}

// falls reports whether a trigger of 0 offers nothing, so that an answer is taken
// back then.
func (r *Rule) falls() bool { return r.protocol == level || r.protocol == sequence }

// numbered reports whether the trigger numbers the records and is one of their
// fields.
func (r *Rule) numbered() bool { return r.protocol == sequence || r.protocol == counting }

// acknowledges reports whether the PLC is answered at all.
func (r *Rule) acknowledges() bool { return r.ack.Ref != plant.TagRef{} }

// counted reports whether the PLC counts the records that it has lost.
func (r *Rule) counted() bool { return r.lost.Ref != plant.TagRef{} }

// nothing is what identify says of a number that offers nothing yet.
const nothing = "nothing is offered"

// identify returns what tells a record from others, the number that it is
// answered with, and why it cannot be read, empty if it can.
func (r *Rule) identify(s *State, rec *Record) (content string, n int64, problem string) {
	without := -1
	if r.protocol == counting {
		without = r.number // the PLC may prepare the next record behind the number
	}
	content, problem = rec.content(without), rec.Bad()
	switch r.protocol {
	case level:
		return content, 1, problem
	case toggle:
		n = s.Trigger.Value
		if !s.Trigger.Known || s.Ack.Known && s.Ack.Value == n {
			return content, n, nothing
		}
		return content + " " + strconv.FormatInt(n, 10), n, problem
	case ring:
		n = r.signed(s.Next + 1)
		return content + " " + strconv.FormatUint(s.Next, 10), n, problem
	}
	v := &rec.Readings[r.number]
	n, ok := v.Value.Int()
	if v.Quality != plant.Good || !ok {
		n = s.Trigger.Value
		problem = cmp.Or(problem, "its number cannot be read")
	}
	if n == 0 && (r.protocol == sequence || r.atStart(s)) {
		return content, n, nothing
	}
	rec.Number = strconv.FormatInt(n, 10)
	return content + " " + rec.Number, n, problem
}

// atStart reports whether a counter at 0 has counted nothing yet: it was never
// seen before, or it has begun again.
func (r *Rule) atStart(s *State) bool {
	last, err := strconv.ParseInt(s.Number, 10, 64)
	if err != nil {
		return true
	}
	_, again := ahead(last, 0, r.trigger.Tag.Type)
	return again
}

// baseline notes a record that is none: behind a counter that stands at 0 the
// next record is known to be the first.
func (r *Rule) baseline(s *State, content string, out Sink) (changed bool) {
	if r.protocol != counting {
		return false
	}
	if s.unread() {
		r.refuse(s, out)
	}
	s.Number, s.Content, s.Wait = "0", content+" 0", nil
	return true
}

// repeated reports whether a new record has the number of the one before.
func (r *Rule) repeated(s *State, rec *Record) bool {
	return rec.Number != "" && rec.Number == s.Number
}

// advance notes that the record with the number and the answer n is done with.
func (r *Rule) advance(s *State, number string, n int64) {
	s.Number = number
	switch r.protocol {
	case toggle:
		s.Phase = n
	case ring:
		s.Next = (s.Next + 1) & r.mask()
	}
}

// changedBehind notes content that changed behind a number that was taken
// already. A PLC that waits for nobody writes its next record before it counts
// on: if that is what comes, nothing was missed.
func (r *Rule) changedBehind(s *State, content string, now int64, out Sink) (changed bool) {
	if s.Wait != nil && s.Wait.Content == content {
		return false
	}
	s.leave()
	r.tellLeft(s, out)
	s.Wait = &Waiting{Content: content, Since: now, Reads: 1}
	return true
}

// overtaken tells of a record that stood behind the number of another one and is
// not the one that the next number brings: it never had a number of its own.
func (r *Rule) overtaken(s *State, content string, out Sink) {
	if r.protocol != counting || s.Wait == nil || s.unread() {
		return
	}
	was, _, _ := strings.Cut(s.Wait.Content, " ")
	is, _, _ := strings.Cut(content, " ")
	if was != is {
		out.Missing(r.trigger.Ref.Device, 1, fmt.Sprintf("record %s of the PLC was overwritten by another one without a number of its own", s.Number))
	}
}

// answerOnward answers in a protocol that takes no answer back: a refused record
// has its error beside the ack, and the next good one clears it.
func (r *Rule) answerOnward(s *State, n int64, out Sink) {
	if r.split() {
		value := int64(0)
		if s.Refused {
			if value = n; r.protocol == toggle {
				value = r.refusal
			}
		}
		if s.Refused || r.protocol == toggle && (!s.Bad.Known || s.Bad.Value != 0) {
			s.Bad = answer{}
			out.Write(r.write(s, r.errorTag, value))
		}
	}
	if r.acknowledges() {
		s.Ack = answer{}
		out.Write(r.write(s, r.ack, n))
	}
}

// level follows a PLC that shows trigger and ack equal at another level than that
// of the newest record: it began again, so what it offers next is new, whatever
// it says.
func (r *Rule) level(s *State) (changed bool) {
	if !s.Ack.Known || s.Ack.Value != s.Trigger.Value || s.Phase == s.Trigger.Value {
		return false
	}
	s.Phase = s.Trigger.Value
	s.leave()
	s.Content, s.Refused, s.Wait, s.offered = "", false, nil, false
	return true
}

// countLost tells of records that the PLC itself says it has lost: its queue was
// full.
func (r *Rule) countLost(s *State, out Sink) (changed bool) {
	if !r.counted() || !s.Lost.Known {
		return false
	}
	now := s.Lost.Value
	if !s.LostKnown {
		s.LostKnown, s.LostCount = true, now
		return true
	}
	if now == s.LostCount {
		return false
	}
	steps, again := ahead(s.LostCount, now, r.lost.Tag.Type)
	if again {
		steps = uint64(max(now, 0)) // a PLC that began again has lost these since
	}
	s.LostCount = now
	if steps > 0 {
		out.Missing(r.trigger.Ref.Device, steps, fmt.Sprintf("the PLC has lost %d records: its queue was full", steps))
	}
	return true
}

// ahead returns how many steps a count of type t went from last to n, round its
// end where that is near. again says that it went back instead: it began again.
func ahead(last, n int64, t plant.TagType) (steps uint64, again bool) {
	mask := ^uint64(0) >> (64 - min(max(t.Bits(), 1), 64))
	steps = (uint64(n) - uint64(last)) & mask
	return steps, n < last && steps > mask/16
}

// missing tells of numbers that were never seen. A number that is lower is a
// PLC that began again.
func (r *Rule) missing(s *State, n int64, out Sink) {
	last, err := strconv.ParseInt(s.Number, 10, 64)
	older := s.Older
	s.Older = false
	if !r.numbered() || err != nil || n == last {
		return
	}
	steps, again := ahead(last, n, r.trigger.Tag.Type)
	switch {
	case r.protocol == sequence && n < last:
		return // the PLC waits for each answer, so nothing was between
	case again && n > 1:
		out.Missing(r.trigger.Ref.Device, uint64(n-1), r.say("the PLC's count began again and went from %d to %d: the records between were never seen",
			"the lines are numbered anew behind %d, and %d is the first that came: those before had no place in the queue (queue, max_rate)", last, n))
	case again:
	case steps > 1 && older:
		out.Missing(r.trigger.Ref.Device, 0, r.say("the PLC went from record %d to %d since the newest that the store still knows: it had some of the ones between and has lost them, or they were never offered while the gateway looked",
			"line %d is the newest that the store still knows, and %d came: it had some of the ones between and has lost them, or they had no place in the queue (queue, max_rate)", last, n))
	case steps > 1:
		out.Missing(r.trigger.Ref.Device, steps-1, r.say("the PLC went from record %d to %d: the ones between were never offered while the gateway looked",
			"behind line %d came line %d: the ones between had no place in the queue (queue, max_rate), or waited when the session ended", last, n))
	}
}

// say words what happened between two numbers of a PLC's memory, or of lines.
func (r *Rule) say(plc, lines string, last, n int64) string {
	if r.OfLines() {
		return fmt.Sprintf(lines, last, n)
	}
	return fmt.Sprintf(plc, last, n)
}

// The positions of a ring are those of its trigger, which goes round at the end
// of its type.
func (r *Rule) mask() uint64 { return ^uint64(0) >> (64 - min(max(r.trigger.Tag.Type.Bits(), 1), 64)) }

// signed returns a position as the tag of the ack holds it.
func (r *Rule) signed(position uint64) int64 { return int64(position & r.mask()) }

// next reports whether the record in slot is the one that is taken next.
func (r *Rule) next(s *State, slot int) bool {
	head := uint64(s.Trigger.Value) & r.mask()
	return s.Synced && s.Trigger.Known && head != s.Next && uint64(slot) == s.Next%uint64(r.slots)
}

// follow brings the gateway's place in a ring and the PLC's together. While the
// head fits, the ring goes on: a tail that is behind, or was lost with the PLC's
// power, is written again. A tail that is ahead was moved by somebody else, and a
// head that does not fit is a ring that began again.
func (r *Rule) follow(s *State, out Sink) (changed bool) {
	if !s.Ack.Known {
		return false
	}
	mask, slots := r.mask(), uint64(r.slots)
	head, tail := uint64(s.Trigger.Value)&mask, uint64(s.Ack.Value)&mask
	held, on := (head-tail)&mask, (tail-s.Next)&mask
	device := r.trigger.Ref.Device
	switch left := (head - s.Next) & mask; {
	case !s.Synced:
		s.Synced, s.Next, changed = true, tail, true
		if held > slots {
			s.Next = head
		}
	case left <= slots && on > 0 && on <= left:
		s.Next, s.Wait, changed = tail, nil, true
		out.Missing(device, on, fmt.Sprintf("the tail of the ring of %s was moved on by %d: somebody else has taken these records", device, on))
	case left <= slots:
	case held <= slots:
		reason := fmt.Sprintf("the ring of %s began again: its tail is %d, the gateway was at %d; how many records are missing is not known", device, tail, s.Next)
		s.Next, s.Wait, changed = tail, nil, true
		out.Missing(device, 0, reason)
	default:
		s.Next, s.Wait, changed = head, nil, true
		out.Missing(device, held, fmt.Sprintf("the ring of %s holds %d records in %d slots: the PLC has overwritten what was not taken", device, held, slots))
	}
	if tail != s.Next {
		s.Ack = answer{}
		out.Write(r.write(s, r.ack, r.signed(s.Next)))
	}
	return changed
}

// slot returns the fields of one slot of a ring, those of the record for
// everything else.
func (r *Rule) slot(i int) []rule.Input {
	if i == 0 {
		return r.fields
	}
	return r.further[i-1]
}
