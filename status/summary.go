package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// summary is the page in one line, for somebody who looks at it for three
// seconds: "2 of 3 machines running, 1 cannot be seen; 1 device away since
// 10:41; everything delivered".
func summary(snap Snapshot, c clock) string {
	var parts []string
	for _, part := range []string{machinesLine(snap), devicesLine(snap, c), uplinksLine(snap, c)} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	switch b := &snap.Buffer; {
	case b.Fault != "":
		parts = append([]string{"nothing is recorded, the disk failed a write"}, parts...)
	case b.Full:
		parts = append([]string{"nothing is recorded " + c.from(b.FullSince) + ", there is no space"}, parts...)
	}
	text := strings.Join(parts, "; ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// state says what is known of a machine's state.
type state uint8

const (
	stateless state = iota // it has no rule for its state
	unseen                 // not observed: its device is away
	unknown                // observed, and no state has come yet
	running
	stopped
)

// stateOf returns a machine's state, and the device that is away if it is
// unseen.
func stateOf(snap Snapshot, m *derive.Stats) (state, *drivers.Stats) {
	for _, feed := range snap.Feeds[m.Machine] {
		for i := range snap.Devices {
			if d := &snap.Devices[i]; d.Device == feed && !d.Connected {
				return unseen, d
			}
		}
	}
	switch {
	case m.Running != nil && *m.Running:
		return running, nil
	case m.Running != nil:
		return stopped, nil
	case makes(snap, m.Machine, plant.KindStartStop):
		return unknown, nil
	default:
		return stateless, nil
	}
}

// makes reports whether a machine's rules make events of that kind. A machine
// whose rules are not named may make all.
func makes(snap Snapshot, m plant.MachineID, kind plant.EventKind) bool {
	kinds, known := snap.Kinds[m]
	return !known || slices.Contains(kinds, kind)
}

// machinesLine leaves those out that have no running state, unless there is no
// other.
func machinesLine(snap Snapshot) string {
	var seen [stopped + 1]uint64
	for i := range snap.Machines {
		s, _ := stateOf(snap, &snap.Machines[i])
		seen[s]++
	}
	all := seen[unseen] + seen[unknown] + seen[running] + seen[stopped]
	if all == 0 {
		if seen[stateless] == 0 {
			return ""
		}
		return count(seen[stateless], "machine") + " connected"
	}
	text := fmt.Sprintf("%d of %s running", seen[running], count(all, "machine"))
	for _, other := range []struct {
		n     uint64
		words string
	}{{seen[stopped], "stopped"}, {seen[unknown], "not known yet"}, {seen[unseen], "cannot be seen"}} {
		if other.n > 0 {
			text += fmt.Sprintf(", %d %s", other.n, other.words)
		}
	}
	return text
}

// away reports whether a device has been away for longer than a flap, or did not
// answer when it was asked first.
func away(snap Snapshot, d *drivers.Stats) bool {
	return !d.Connected && (d.Session == 0 && d.LastError != "" || age(snap.At, d.Since) >= flap)
}

// lost returns since when an uplink delivers nothing, zero if it does or if that
// may be a flap.
func lost(snap Snapshot, u *uplink.Stats) time.Time {
	if since := downSince(u); age(snap.At, since) >= flap {
		return since
	}
	return time.Time{}
}

func devicesLine(snap Snapshot, c clock) string {
	n, first := 0, time.Time{}
	for i := range snap.Devices {
		if d := &snap.Devices[i]; away(snap, d) {
			n, first = n+1, earlier(first, d.Since)
		}
	}
	switch {
	case n > 0:
		return strings.TrimSpace(count(uint64(n), "device") + " away " + c.from(first))
	case len(snap.Devices) > 0:
		return "all devices connected"
	default:
		return ""
	}
}

func uplinksLine(snap Snapshot, c clock) string {
	var parts []string
	for i := range snap.Uplinks {
		if text := uplinkLine(snap, &snap.Uplinks[i], c); text != "" {
			parts = append(parts, snap.Uplinks[i].Uplink+": "+text)
		}
	}
	if len(parts) == 0 && len(snap.Uplinks) > 0 {
		return "everything is delivered"
	}
	return strings.Join(parts, "; ")
}

// uplinkLine says what one system has not got, empty for nothing.
func uplinkLine(snap Snapshot, u *uplink.Stats, c clock) string {
	queue, since := snap.queue(u.Uplink), lost(snap, u)
	for _, p := range u.Problems {
		since = earlier(since, p.Since)
	}
	switch {
	case !since.IsZero():
		return count(queue.Backlog, "event") + " not delivered " + c.from(since)
	case queue.Backlog > 0 && age(snap.At, queue.Oldest) >= flap:
		return count(queue.Backlog, "event") + " wait, the oldest for " + lasting(age(snap.At, queue.Oldest))
	case refused(queue, u) > 0:
		return count(refused(queue, u), "event") + " refused"
	default:
		return ""
	}
}

// earlier returns the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
