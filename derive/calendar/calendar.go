// Package calendar says which shift a moment belongs to. It turns local times
// into moments: a day on which the clocks change has 23 or 25 hours, and so has
// the shift that goes over the change an hour less or more. It is pure: a
// Calendar is what the config says, and the time is asked of it.
package calendar

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/config"
)

// Span is a shift on one day, or the time between two shifts.
type Span struct {
	// Name is the shift's; empty for the time between two.
	Name string
	// Begin and End are in nanoseconds since 1970; End is after the span.
	Begin, End int64
}

// Calendar is the shifts of a machine. It is immutable; a nil *Calendar has no
// shifts.
type Calendar struct {
	zone    *time.Location
	shifts  config.Shifts
	binding string
}

// New returns the Calendar of shifts in a time zone, nil if there are none. The
// shifts do not overlap (config.CheckShifts); a nil zone is UTC.
func New(zone *time.Location, shifts config.Shifts) *Calendar {
	if len(shifts.Rows) == 0 {
		return nil
	}
	if zone == nil {
		zone = time.UTC
	}
	var b strings.Builder
	b.WriteString(zone.String())
	for _, row := range shifts.Rows {
		fmt.Fprintf(&b, " %s=%s/%s", row.Name, row.Value.Time, row.Value.Days)
	}
	return &Calendar{zone: zone, shifts: shifts, binding: b.String()}
}

// Binding says what a span was worked out from: another zone or other shifts
// make other spans.
func (c *Calendar) Binding() string {
	if c == nil {
		return ""
	}
	return c.binding
}

// At returns the span that a moment, in nanoseconds since 1970, belongs to. Each
// moment belongs to one: Begin ≤ now < End.
func (c *Calendar) At(now int64) Span {
	// A shift may be worked once a week, and may reach into the day after.
	today := time.Unix(0, now).In(c.zone)
	year, month, day := today.Date()
	between := Span{}
	for offset := -8; offset <= 8; offset++ {
		midnight := time.Date(year, month, day+offset, 0, 0, 0, 0, time.UTC)
		for i := range c.shifts.Rows {
			row := &c.shifts.Rows[i]
			if !row.Value.Days.Has(midnight.Weekday()) {
				continue
			}
			s := Span{Name: row.Name, Begin: c.moment(midnight, row.Value.Time.From), End: c.moment(midnight, row.Value.Time.To)}
			switch {
			case s.Begin <= now && now < s.End:
				return s
			case s.End <= now && s.Begin < s.End && s.End > between.Begin:
				between.Begin = s.End
			case s.Begin > now && s.Begin < s.End && (between.End == 0 || s.Begin < between.End):
				between.End = s.Begin
			}
		}
	}
	// The one shift of a week may fall into the hour that the clocks skip.
	if between.End == 0 {
		between.End = now + int64(24*time.Hour)
	}
	if between.Begin == 0 {
		between.Begin = now - int64(24*time.Hour)
	}
	return between
}

// moment is when the clocks show so many minutes after a midnight, which is
// given in UTC. A time that they show twice is the first of the two; one that
// they skip is the moment at which they skip it.
func (c *Calendar) moment(midnight time.Time, minutes int) int64 {
	shown := midnight.Unix() + int64(minutes)*60
	offset := func(at int64) int64 {
		_, seconds := time.Unix(at, 0).In(c.zone).Zone()
		return int64(seconds)
	}
	const day = 24 * 60 * 60
	// What the clocks were ahead of UTC by before and after: they change once in
	// two days at most.
	before, after := offset(shown-day), offset(shown+day)
	early, late := shown-max(before, after), shown-min(before, after)
	switch {
	case offset(early) == max(before, after):
		return early * int64(time.Second)
	case offset(late) == min(before, after):
		return late * int64(time.Second)
	default:
		skipped, _ := time.Unix(late, 0).In(c.zone).ZoneBounds()
		return skipped.UnixNano()
	}
}
