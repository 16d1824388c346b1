package modbus

import (
	"fmt"
	"time"

	"github.com/sluice-edge/sluice/drivers"
)

// spell is a time in which something happens now and then: it begins with the
// first time, and is over when that has not happened again for as long as was
// said.
type spell struct{ began, until time.Time }

// again notes that it happened; first says that this begins a spell.
func (s *spell) again(now time.Time, lasts time.Duration) (first bool) {
	if first = !now.Before(s.until); first {
		s.began = now
	}
	s.until = now.Add(lasts)
	return first
}

// since returns when the spell began, zero if it is over.
func (s *spell) since(now time.Time) time.Time {
	if !now.Before(s.until) {
		return time.Time{}
	}
	return s.began
}

// Notices implements drivers.Noticer: a device that answers twice, and a unit of a
// line that answers wrongly now and then.
func (d *driver) Notices() []drivers.Notice {
	if d.unit == nil {
		return d.repeatsAnswers()
	}
	return append(d.answersTwice(), d.answersWrongly()...)
}

// repeatsAnswers is about a device with a connection of its own.
func (d *driver) repeatsAnswers() []drivers.Notice {
	since := d.own.repeatsSince()
	if since.IsZero() {
		return nil
	}
	return []drivers.Notice{{
		Text:  "it answers twice; what it repeats is dropped, and no value is wrong by it",
		Do:    "Restart the device, or the gateway box before it, and update its firmware; look whether two boxes pass the requests on.",
		Since: since,
	}}
}

func (d *driver) answersWrongly() []drivers.Notice {
	since, whole := d.unit.wrongSince()
	if since.IsZero() {
		return nil
	}
	text, do := "what came is no answer (its check sum is wrong, or bytes are missing)", "Look at the same baud and parity everywhere, the termination at both ends, each unit id once, and at the device itself"
	if whole {
		text, do = "what came is whole, but no answer to this request", "Two devices may have one unit id, another master may be on the line, or the device is faulty"
	}
	return []drivers.Notice{{
		Text: fmt.Sprintf("unit %d answers wrongly now and then: %s; it is asked again each time, which takes the line's time", d.unit.unit, text),
		Do:   do + "; unplug devices one by one until it is gone.",
	}}
}

func (d *driver) answersTwice() []drivers.Notice {
	since, late := d.unit.warySince()
	if since.IsZero() {
		return nil
	}
	text, do := fmt.Sprintf("unit %d answers twice", d.unit.unit), "Give each device of the line a unit id of its own. If it has one, its answers come too late: raise timeout of this device."
	if late > 0 {
		text = fmt.Sprintf("unit %d answers twice, or too late: one answer came after %v, and timeout is %v", d.unit.unit, late.Round(time.Millisecond), d.unit.timeout)
		do = "Raise timeout of this device above that. If it answers twice all the same, give each device of the line a unit id of its own."
	}
	if d.unit.line.rtu {
		text += "; it is asked more slowly until it has not done so for a minute"
	}
	return []drivers.Notice{{Text: text, Do: do, Since: since}}
}
