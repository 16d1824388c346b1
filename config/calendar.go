package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Shifts are the shifts of a site or a machine under their names.
type Shifts = Table[Shift]

// Shift is when a shift is worked, in local time. A config writes the times
// alone, "06:00-14:00", or {time: "22:00-06:00", days: mon-fri}.
type Shift struct {
	Time Hours `yaml:"time,required"`
	// Days are those on which the shift begins; every day if none is set.
	Days Days `yaml:"days"`
}

// UnmarshalText reads the short form.
func (s *Shift) UnmarshalText(b []byte) error { return s.Time.UnmarshalText(b) }

// Hours are from one time of day to another, in minutes since midnight. To is
// after From and may lie on the next day.
type Hours struct{ From, To int }

const minutesOfDay = 24 * 60

// String returns the hours as a config writes them.
func (h Hours) String() string {
	at := func(m int) string { return fmt.Sprintf("%02d:%02d", m/60, m%60) }
	if h.To == minutesOfDay {
		return at(h.From) + "-24:00"
	}
	return at(h.From) + "-" + at(h.To%minutesOfDay)
}

// UnmarshalText reads "06:00-14:00". A shift may go over midnight; "06:00-06:00"
// are 24 hours.
func (h *Hours) UnmarshalText(b []byte) error {
	from, to, ok := strings.Cut(string(b), "-")
	begin, ok1 := minutes(from)
	end, ok2 := minutes(to)
	if !ok || !ok1 || !ok2 || begin == minutesOfDay {
		return Field("", fmt.Sprintf("`%s` is no time of a shift", shorten(string(b))), "write from when to when in local time, for example 06:00-14:00 or 22:00-06:00")
	}
	if end <= begin {
		end += minutesOfDay
	}
	h.From, h.To = begin, end
	return nil
}

// minutes reads a time of day, up to 24:00.
func minutes(text string) (n int, ok bool) {
	hour, minute, ok := strings.Cut(strings.TrimSpace(text), ":")
	h, err1 := strconv.ParseUint(hour, 10, 8)
	m, err2 := strconv.ParseUint(minute, 10, 8)
	if !ok || err1 != nil || err2 != nil || len(hour) > 2 || len(minute) != 2 || h > 24 || m > 59 || h == 24 && m > 0 {
		return 0, false
	}
	return int(h*60 + m), true
}

// Days are days of the week; the zero Days are all of them.
type Days struct{ bits uint8 }

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Has reports whether d is one of them.
func (d Days) Has(day time.Weekday) bool { return d.bits == 0 || d.bits&(1<<day) != 0 }

// String returns the days as a config writes them.
func (d Days) String() string {
	var names []string
	for i := range 7 {
		if day := time.Weekday((i + 1) % 7); d.Has(day) {
			names = append(names, dayNames[day])
		}
	}
	return strings.Join(names, " ")
}

// UnmarshalText reads "mon-fri", "sat sun" or "mon-thu, sat".
func (d *Days) UnmarshalText(b []byte) error {
	const remedy = "write mon, tue, wed, thu, fri, sat or sun, for example mon-fri, or sat sun"
	d.bits = 0
	for _, part := range strings.FieldsFunc(strings.ToLower(string(b)), func(r rune) bool { return r == ',' || r == ' ' }) {
		first, last, span := strings.Cut(part, "-")
		if !span {
			last = first
		}
		begin, end := slices.Index(dayNames, first), slices.Index(dayNames, last)
		if begin < 0 || end < 0 {
			return Field("", fmt.Sprintf("`%s` are no days", shorten(part)), remedy)
		}
		for day := begin; ; day = (day + 1) % 7 {
			d.bits |= 1 << day
			if day == end {
				break
			}
		}
	}
	if d.bits == 0 {
		return Field("", "no day is named", remedy)
	}
	return nil
}

// maxShifts bounds the shifts of one calendar.
const maxShifts = 50

// CheckShifts refuses shifts that overlap: a piece is of one of them. The paths
// of its errors begin with path.
func CheckShifts(path string, shifts Shifts) error {
	type span struct {
		name     string
		from, to int // minutes of the week
	}
	if len(shifts.Rows) > maxShifts {
		return Field(path, fmt.Sprintf("%d shifts are more than a week holds", len(shifts.Rows)), fmt.Sprintf("write at most %d", maxShifts))
	}
	var week []span
	var errs []error
	for _, row := range shifts.Rows {
		if row.Value.Time == (Hours{}) {
			continue // it was not read, which has been said
		}
		other, at := "", 0
		for day := time.Sunday; day <= time.Saturday; day++ {
			if !row.Value.Days.Has(day) {
				continue
			}
			s := span{name: row.Name, from: int(day)*minutesOfDay + row.Value.Time.From, to: int(day)*minutesOfDay + row.Value.Time.To}
			for _, o := range week {
				for _, by := range []int{-7 * minutesOfDay, 0, 7 * minutesOfDay} {
					if s.from < o.to+by && o.from+by < s.to && other == "" {
						other, at = o.name, max(s.from, o.from+by)
					}
				}
			}
			week = append(week, s)
		}
		if other != "" {
			problem := "it overlaps " + other
			if other == row.Name {
				problem = "it overlaps itself"
			}
			at = (at + 7*minutesOfDay) % (7 * minutesOfDay)
			errs = append(errs, Field(join(path, row.Name), fmt.Sprintf("%s on %s at %02d:%02d", problem, dayNames[at/minutesOfDay], at%minutesOfDay/60, at%60),
				"let each begin when the other ends: a piece is of one shift"))
		}
	}
	return errors.Join(errs...)
}
