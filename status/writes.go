package status

import (
	"fmt"
	"regexp"

	"github.com/sluice-edge/sluice/derive"
)

// writeRemedies are for what drivers say of a write, of a device that can be read.
var writeRemedies = []remedy{
	{[]string{"the driver panicked"}, "That is a fault of this program. Please report it with the log."},
	{[]string{"raise timeout"}, "The device takes the write, but answers too late: raise timeout of this device above what the cause says."},
	{[]string{"it confirms "}, "The device confirms something else than was written: restart it and update its firmware."},
	{[]string{"exception 1 ", "exception 2 ", "exception 3 "}, "The address of this tag in the config is wrong, or the PLC does not let it be written: compare it with the PLC's own list, and allow writing there."},
	{[]string{"exception 5 ", "exception 6 "}, "The address is right, and the PLC is too busy to take the write: a longer interval or pause: 20ms helps; else look at the PLC."},
	{[]string{"exception 4 ", "exception 7 ", "exception 8 ", "(not in the specification)"}, "The PLC itself cannot do the write: look at the PLC, whether its program runs and what it reports, and for the code in its manual."},
	{[]string{"exception 10 ", "exception 11 "}, "The gateway box answers, but the device behind it does not take the write: check its power, its wiring and unit."},
	{[]string{"no answer", "closed the connection", "hung up"}, lostWrite},
	{[]string{"may not be written", "does not take such a write", "the login does not allow"}, "Let the server allow writing this node, for the login that the config names."},
	{[]string{"another type", "out of the node", "does not fit", "is no truth value", "is no whole number", "is no number"}, "Compare the tag's type with that of the PLC: it does not take such a value."},
}

// writePath is what a cause says before its tag: the names of program parts.
var writePath = regexp.MustCompile(`^(?:drivers: write [^ ]+: )?(?:[a-z]+: (?:write )?)?`)

// writeProblems names the tags of a machine that cannot be written, by what the
// PLC waits for there.
func writeProblems(snap Snapshot, m *derive.Stats) (ps []Problem) {
	for _, f := range m.FailedWrites {
		if awaySteadily(snap, f) {
			continue // the device is what is wrong
		}
		do := look(writeRemedies, f.Cause)
		if do == "" {
			do = deviceAdvice(f.Cause)
		}
		p := Problem{Severity: Stuck, Since: f.Since, Cause: inWords(writePath.ReplaceAllString(f.Cause, ""))}
		tag := fmt.Sprintf("tag %s of %s", f.Ref.Tag, f.Ref.Device)
		switch {
		case f.Heartbeat && f.NowAndThen:
			p.Severity, p.What = Doubtful, "the heartbeat fails now and then: "+tag
			p.Do = do + " It is written again by itself; recording goes on."
		case f.Heartbeat:
			p.Severity, p.What = Doubtful, "the heartbeat cannot be written: "+tag
			p.Do = do + " Until then the PLC may take the gateway for dead; recording goes on."
		case f.NowAndThen:
			p.Severity, p.What = Doubtful, "the acknowledgement fails now and then: "+tag
			p.Do = do + " It is written again by itself, and the machine may wait for it. What was recorded is safe."
		default:
			p.What = "its PLC gets no acknowledgement: " + tag + " cannot be written"
			p.Do = do + " Until then the machine may stand, since its PLC waits for the acknowledgement. What was recorded is safe, and the write is tried again by itself."
		}
		p.What = "Machine " + string(m.Machine) + ": " + p.What
		ps = append(ps, p)
	}
	return ps
}

// awaySteadily reports whether the device of a write is away, and not one that
// comes and goes, which a write without an answer makes it.
func awaySteadily(snap Snapshot, f derive.FailedWrite) bool {
	for i := range snap.Devices {
		if d := &snap.Devices[i]; d.Device == f.Ref.Device {
			return !d.Connected && d.Unsteady.Since.IsZero()
		}
	}
	return false
}
