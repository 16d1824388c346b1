package calendar

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/config"
)

func calendar(t *testing.T, zone, text string) *Calendar {
	t.Helper()
	section, faults := config.ParseSection("site", "-", "timezone: "+zone+"\nshifts: "+text)
	var o struct {
		Timezone string        `yaml:"timezone"`
		Shifts   config.Shifts `yaml:"shifts"`
	}
	if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
		t.Fatal(faults)
	}
	if err := config.CheckShifts("shifts", o.Shifts); err != nil {
		t.Fatal(err)
	}
	loc, err := time.LoadLocation(o.Timezone)
	if err != nil {
		t.Fatal(err)
	}
	return New(loc, o.Shifts)
}

const threeShifts = `{early: "06:00-14:00", late: "14:00-22:00", night: "22:00-06:00"}`

func TestAt(t *testing.T) {
	const sundays = `{morning: "00:30-02:30", rest: "02:30-00:30"}`
	for _, c := range []struct{ name, zone, shifts, at, want string }{
		{"first moment", "Europe/Lisbon", threeShifts, "2026-03-02T06:00:00Z", "early 06:00 +0000 to 14:00 +0000, 8h0m0s"},
		{"last moment", "Europe/Lisbon", threeShifts, "2026-03-02T05:59:59Z", "night 22:00 +0000 to 06:00 +0000, 8h0m0s"},
		{"over midnight", "Europe/Lisbon", threeShifts, "2026-03-02T00:00:00Z", "night 22:00 +0000 to 06:00 +0000, 8h0m0s"},
		{"summer", "Europe/Berlin", threeShifts, "2026-07-01T12:00:00Z", "late 14:00 +0200 to 22:00 +0200, 8h0m0s"},
		{"clocks go forward in the night", "Europe/Berlin", threeShifts, "2026-03-29T00:30:00Z", "night 22:00 +0100 to 06:00 +0200, 7h0m0s"},
		{"clocks go back in the night", "Europe/Berlin", threeShifts, "2026-10-25T00:30:00Z", "night 22:00 +0200 to 06:00 +0100, 9h0m0s"},
		{"a day of 23 hours", "Europe/Berlin", `{day: "06:00-06:00"}`, "2026-03-29T00:30:00Z", "day 06:00 +0100 to 06:00 +0200, 23h0m0s"},
		{"a day of 25 hours", "Europe/Berlin", `{day: "06:00-06:00"}`, "2026-10-25T00:30:00Z", "day 06:00 +0200 to 06:00 +0100, 25h0m0s"},
		{"ends in the hour that is skipped", "Europe/Berlin", sundays, "2026-03-29T00:30:00Z", "morning 00:30 +0100 to 03:00 +0200, 1h30m0s"},
		{"begins in it", "Europe/Berlin", sundays, "2026-03-29T01:00:00Z", "rest 03:00 +0200 to 00:30 +0200, 21h30m0s"},
		{"ends in the hour that comes twice", "Europe/Berlin", sundays, "2026-10-25T00:00:00Z", "morning 00:30 +0200 to 02:30 +0200, 2h0m0s"},
		{"begins in it", "Europe/Berlin", sundays, "2026-10-25T00:30:00Z", "rest 02:30 +0200 to 00:30 +0100, 23h0m0s"},
		{"wholly in the hour that is skipped", "Europe/Berlin", `{short: "02:10-02:50"}`, "2026-03-29T01:00:00Z", "- 02:50 +0100 to 02:10 +0200, 46h20m0s"},
		{"clocks change at midnight", "America/Santiago", `{day: "00:00-24:00"}`, "2026-09-06T12:00:00Z", "day 01:00 -0300 to 00:00 -0300, 23h0m0s"},
		{"half an hour", "Australia/Lord_Howe", threeShifts, "2026-10-03T16:00:00Z", "night 22:00 +1030 to 06:00 +1100, 7h30m0s"},
		{"a day that was left out", "Pacific/Apia", `{day: "00:00-24:00"}`, "2011-12-30T09:00:00Z", "day 00:00 -1000 to 00:00 +1400, 24h0m0s"},
		{"between two shifts", "UTC", `{early: "06:00-14:00"}`, "2026-03-02T20:00:00Z", "- 14:00 +0000 to 06:00 +0000, 16h0m0s"},
		{"over a weekend", "UTC", `{early: {time: "06:00-14:00", days: mon-fri}}`, "2026-03-07T12:00:00Z", "- 14:00 +0000 to 06:00 +0000, 64h0m0s"},
		{"once a week", "UTC", `{sunday: {time: "06:00-14:00", days: sun}}`, "2026-03-02T12:00:00Z", "- 14:00 +0000 to 06:00 +0000, 160h0m0s"},
		{"the day is that on which it begins", "UTC", `{night: {time: "22:00-06:00", days: fri}}`, "2026-03-07T05:00:00Z", "night 22:00 +0000 to 06:00 +0000, 8h0m0s"},
	} {
		t.Run(c.name+" "+c.zone, func(t *testing.T) {
			cal := calendar(t, c.zone, c.shifts)
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			s := cal.At(at.UnixNano())
			name := s.Name
			if name == "" {
				name = "-"
			}
			begin, end := time.Unix(0, s.Begin).In(cal.zone), time.Unix(0, s.End).In(cal.zone)
			got := fmt.Sprintf("%s %s to %s, %s", name, begin.Format("15:04 -0700"), end.Format("15:04 -0700"), end.Sub(begin))
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestSpansFollowEachOther walks over two years in many zones: each span begins
// where the one before ended, holds each of its moments, and no day has a shift
// that is not 7 to 9 hours long.
func TestSpansFollowEachOther(t *testing.T) {
	for _, zone := range []string{"UTC", "Europe/Lisbon", "Europe/Berlin", "America/Sao_Paulo", "America/St_Johns", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Chatham", "America/Santiago"} {
		for _, shifts := range []string{threeShifts, `{a: "01:30-02:30", b: {time: "02:30-10:30", days: mon-sat}, c: {time: "23:15-00:45", days: sat sun}}`, `{once: {time: "04:00-05:00", days: wed}}`} {
			cal := calendar(t, zone, shifts)
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
			end := time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC).UnixNano()
			last := cal.At(at)
			for n := 0; last.End < end; n++ {
				s := cal.At(last.End)
				if s.Begin != last.End || s.End <= s.Begin || s == last {
					t.Fatalf("%s: %+v follows %+v", zone, s, last)
				}
				for _, inside := range []int64{s.Begin, s.Begin + (s.End-s.Begin)/2, s.End - 1} {
					if got := cal.At(inside); got != s {
						t.Fatalf("%s: %s is of %+v, not of %+v", zone, time.Unix(0, inside).UTC(), got, s)
					}
				}
				if long := time.Duration(s.End - s.Begin); shifts == threeShifts && (long < 7*time.Hour || long > 9*time.Hour) {
					t.Fatalf("%s: a shift of %s: %+v", zone, long, s)
				}
				if n > 10000 {
					t.Fatal("it does not end")
				}
				last = s
			}
		}
	}
}

func TestNoCalendar(t *testing.T) {
	if c := New(time.UTC, config.Shifts{}); c != nil || c.Binding() != "" {
		t.Error(c)
	}
	a, b := calendar(t, "UTC", threeShifts), calendar(t, "Europe/Lisbon", threeShifts)
	if a.Binding() == b.Binding() || a.Binding() != calendar(t, "UTC", threeShifts).Binding() {
		t.Error(a.Binding(), b.Binding())
	}
}

func BenchmarkAt(b *testing.B) {
	var shifts config.Shifts
	for i, name := range []string{"early", "late", "night"} {
		shifts.Rows = append(shifts.Rows, config.Row[config.Shift]{Name: name, Value: config.Shift{Time: config.Hours{From: (6 + 8*i) * 60, To: (14 + 8*i) * 60}}})
	}
	cal := New(time.UTC, shifts)
	for b.Loop() {
		cal.At(1772431200e9)
	}
}
