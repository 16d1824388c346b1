package status

import (
	"fmt"
	"slices"

	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// lineFull is the share of its time from which a line is said to be too slow for
// what is asked of it.
const lineFull = 0.95

// lineDoc is a wire that several devices share.
type lineDoc struct {
	Line string `json:"line"`
	// Share is which part of the last minute it was busy, at most 1.
	Share float64 `json:"share"`
	// Most is the device that took most of that, MostShare which part of the minute.
	Most      plant.DeviceID `json:"most,omitempty"`
	MostShare float64        `json:"most_share"`
	// Skipped counts the polls of its devices that were left out.
	Skipped uint64           `json:"skipped"`
	Devices []plant.DeviceID `json:"devices"`
}

// linesOf returns the lines of the devices, by name.
func linesOf(devices []drivers.Stats) []lineDoc {
	lines := []lineDoc{}
	for i := range devices {
		d := &devices[i]
		if d.Line == "" {
			continue
		}
		at := slices.IndexFunc(lines, func(l lineDoc) bool { return l.Line == d.Line })
		if at < 0 {
			at = len(lines)
			lines = append(lines, lineDoc{Line: d.Line})
		}
		l := &lines[at]
		l.Devices = append(l.Devices, d.Device)
		l.Share = min(l.Share+d.LineShare, 1)
		l.Skipped += d.Skipped
		if d.LineShare > l.MostShare {
			l.Most, l.MostShare = d.Device, d.LineShare
		}
	}
	slices.SortFunc(lines, func(a, b lineDoc) int {
		if a.Line < b.Line {
			return -1
		}
		return 1
	})
	return lines
}

// percent says a share as people do.
func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// lineProblems name the lines that have no time left.
func lineProblems(snap Snapshot) (ps []Problem) {
	for _, l := range linesOf(snap.Devices) {
		if l.Share < lineFull || blamed(snap, l) {
			continue
		}
		ps = append(ps, Problem{
			Severity: Doubtful, What: "Line " + l.Line + " is too slow for what is asked of it",
			Cause: fmt.Sprintf("it was busy for %s of the last minute; %s took most, %s", percent(l.Share), l.Most, percent(l.MostShare)),
			Do:    "Write a longer interval, spread the devices over two lines, or raise baud where all of them allow it. A device that answers late costs most: look at " + string(l.Most) + " first.",
		})
	}
	return ps
}

// blamed reports whether it is said already why a line has no time left: the device
// that took half of it or more is lost, or its driver says what is wrong with it.
func blamed(snap Snapshot, l lineDoc) bool {
	if l.MostShare < l.Share/2 {
		return false
	}
	for i := range snap.Devices {
		if d := &snap.Devices[i]; d.Device == l.Most {
			return !d.Connected || len(d.Notices) > 0
		}
	}
	return false
}

// lineWords says on a device's card how its line is.
func lineWords(snap Snapshot, d *drivers.Stats) string {
	for _, l := range linesOf(snap.Devices) {
		if l.Line == d.Line {
			return fmt.Sprintf("%s, busy for %s of the last minute; %s of it for this device, most for %s", l.Line, percent(l.Share), percent(d.LineShare), l.Most)
		}
	}
	return ""
}
