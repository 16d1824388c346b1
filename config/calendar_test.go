package config

import (
	"strings"
	"testing"
	"time"
)

func TestEachZoneIsThere(t *testing.T) {
	for _, zone := range strings.Fields(zones) {
		if _, err := time.LoadLocation(zone); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]string{
		"europe/lisbon": "Europe/Lisbon", "Lisbon": "Europe/Lisbon", "new york": "America/New_York",
		"Europe/Lisboa": "Europe/Lisbon", "Europe/Berlim": "Europe/Berlin",
	} {
		err := checkZone(name)
		if err == nil || !strings.Contains(err.Error(), "did you mean "+want+"?") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"CEST", "Local", "Mars/Olympus"} {
		if err := checkZone(name); err == nil || !strings.Contains(err.Error(), "IANA") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "UTC", "Europe/Lisbon"} {
		if err := checkZone(name); err != nil {
			t.Error(err)
		}
	}
}

func TestHoursAndDays(t *testing.T) {
	for text, want := range map[string]string{
		"06:00-14:00": "06:00-14:00", "6:00 - 14:00": "06:00-14:00", "22:00-06:00": "22:00-06:00", "06:00-06:00": "06:00-06:00",
		"00:00-24:00": "00:00-24:00", "14:00-00:00": "14:00-24:00",
		"06:00": "", "6-14": "", "24:00-06:00": "", "06:00-25:00": "", "06:60-14:00": "", "06:00-14:00-22:00": "", "": "", "06:0-14:00": "", "06:00-24:01": "",
	} {
		var h Hours
		switch err := h.UnmarshalText([]byte(text)); {
		case want == "" && err == nil:
			t.Errorf("%q is %s", text, h)
		case want != "" && (err != nil || h.String() != want || h.To <= h.From):
			t.Errorf("%q is %s, %v; want %s", text, h, err, want)
		}
	}
	for text, want := range map[string]string{
		"mon-fri": "mon tue wed thu fri", "sat sun": "sat sun", "Sat, Sun": "sat sun", "fri-mon": "mon fri sat sun", "mon-thu, sat": "mon tue wed thu sat", "wed": "wed", "sun-sat": "mon tue wed thu fri sat sun",
		"": "", " ": "", "monday": "", "mon-": "", "1-5": "",
	} {
		var d Days
		switch err := d.UnmarshalText([]byte(text)); {
		case want == "" && err == nil:
			t.Errorf("%q is %s", text, d)
		case want != "" && (err != nil || d.String() != want):
			t.Errorf("%q is %s, %v; want %s", text, d, err, want)
		}
	}
}

func TestShiftsMustNotOverlap(t *testing.T) {
	for text, want := range map[string]string{
		`{early: "06:00-14:00", late: "14:00-22:00", night: "22:00-06:00"}`:                       "",
		`{early: "06:00-14:15", late: "14:00-22:00"}`:                                             "late: it overlaps early on sun at 14:00",
		`{night: "22:00-06:00", early: "05:30-14:00"}`:                                            "early: it overlaps night on sun at 05:30",
		`{all: "06:00-06:00"}`:                                                                    "",
		`{all: "06:00-06:00", a: "12:00-13:00"}`:                                                  "a: it overlaps all",
		`{week: {time: "06:00-14:00", days: mon-fri}, end: {time: "06:00-18:00", days: sat sun}}`: "",
		`{night: {time: "22:00-10:00", days: sat}, sunday: {time: "06:00-18:00", days: sun}}`:     "sunday: it overlaps night on sun at 06:00",
		`{night: {time: "22:00-10:00", days: fri}, sunday: {time: "06:00-18:00", days: sun}}`:     "",
		`{sunday: {time: "06:00-18:00", days: sun}, night: {time: "22:00-10:00", days: sat}}`:     "night: it overlaps sunday on sun at 06:00",
	} {
		section, faults := ParseSection("site", "-", "shifts: "+text)
		var o struct {
			Shifts Shifts `yaml:"shifts"`
		}
		if faults = append(faults, section.Decode(&o)...); len(faults) > 0 {
			t.Errorf("%s: %v", text, faults)
			continue
		}
		err := CheckShifts("shifts", o.Shifts)
		if got := section.Faults(err); want == "" && err != nil || want != "" && (len(got) != 1 || !strings.Contains(got[0].String(), want)) {
			t.Errorf("%s: %v, want %q", text, got, want)
		}
	}
}
