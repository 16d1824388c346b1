package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// flap is how long a device or a receiver that once worked must be away before
// the page calls it a problem; a shorter one would come and go unread.
const flap = 5 * time.Second

// Severity orders problems: the smaller, the more is at stake.
type Severity uint8

// The severities.
const (
	// Losing: facts of production are not recorded.
	Losing Severity = iota
	// Stuck: something that should work does not, and nothing is lost by it yet.
	Stuck
	// Doubtful: somebody should have a look.
	Doubtful
)

// String returns the severity as the API writes it.
func (s Severity) String() string {
	switch s {
	case Losing:
		return "losing"
	case Stuck:
		return "stuck"
	default:
		return "doubtful"
	}
}

// Problem is one root cause, with what follows from it.
type Problem struct {
	Severity Severity
	// What is wrong, Cause in the words of who noticed, Do what a person can do.
	What, Cause, Do string
	// Since is when it began; zero if that is not known.
	Since time.Time
	// Follows names what is only a consequence of it.
	Follows []string
}

// Problems returns what is wrong at snap.At: the worst first, older before
// newer, and each consequence only under its cause.
func Problems(snap Snapshot) []Problem {
	var ps []Problem
	ps = append(ps, bufferProblems(snap)...)
	ps = append(ps, snap.Notices...)
	for i := range snap.Devices {
		ps = append(ps, deviceProblems(snap, &snap.Devices[i])...)
	}
	ps = append(ps, lineProblems(snap)...)
	for i := range snap.Uplinks {
		ps = append(ps, uplinkProblems(snap, &snap.Uplinks[i])...)
	}
	for i := range snap.Machines {
		ps = append(ps, machineProblems(snap, &snap.Machines[i])...)
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), compareSince(a.Since, b.Since))
	})
	return ps
}

// compareSince puts what began first first, and an unknown beginning last.
func compareSince(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	default:
		return a.Compare(b)
	}
}

// goesOn is what everybody asks who reads that recording has stopped.
const goesOn = "Recording goes on by itself; totals of the PLCs bring back the count."

func bufferProblems(snap Snapshot) []Problem {
	b := &snap.Buffer
	var ps []Problem
	if b.Fault != "" {
		ps = append(ps, Problem{
			Severity: Losing, What: "Nothing is recorded: the disk failed a write", Cause: b.Fault,
			Do: "The gateway restarts by itself. If this comes back, replace the disk; what was recorded before is safe.",
		})
	}
	if b.Full {
		p := Problem{
			Severity: Losing, What: "Recording has stopped: there is no space", Since: b.FullSince,
			Cause: strings.TrimPrefix(fmt.Sprintf("%s; %s free on the disk, %s are kept in reserve, the buffer takes %s",
				b.FullReason, bytesText(b.FreeBytes), bytesText(b.Reserve), bytesText(b.DiskBytes)), "; "),
			Do: "Bring the uplinks back or raise the quota. " + goesOn,
		}
		if !strings.Contains(b.FullReason, "quota") {
			p.Do = "Free disk space on this PC. " + goesOn
		}
		for i := range snap.Machines {
			if m := &snap.Machines[i]; m.Waiting {
				p.Follows = append(p.Follows, string(m.Machine)+" waits to record")
			}
		}
		ps = append(ps, p)
	}
	for _, w := range b.Warnings {
		// The buffer writes "what (file system, mount): remedy".
		cause, do, _ := strings.Cut(w, "): ")
		ps = append(ps, Problem{Severity: Doubtful, What: "The disk of the buffer may lose events in a power cut", Cause: cause + ")", Do: sentence(do)})
	}
	if b.Lost > 0 {
		p := Problem{
			Severity: Doubtful, What: count(b.Lost, "stored record") + " found damaged or missing",
			Do: "They were passed over, delivery goes on. Check the disk of this PC; the log names them.",
		}
		if n := len(b.Damage); n > 0 {
			newest := b.Damage[n-1]
			p.Cause, p.Since = newest.Reason, newest.Found
		}
		ps = append(ps, p)
	}
	ps = append(ps, deadProblem(b)...)
	ps = append(ps, missing(b)...)
	for _, q := range b.Queues {
		if q.Problem != "" {
			ps = append(ps, Problem{Severity: Doubtful, What: "Events for uplink " + q.Uplink, Cause: q.Problem,
				Do: "They stay on the disk until this is settled."})
		}
	}
	return ps
}

// deadAlarm is the share of their bound, in per cent, from which refused events
// are a problem of their own.
const deadAlarm = 80

// deadProblem warns before the oldest refused events are given up.
func deadProblem(b *buffer.Stats) []Problem {
	if b.DeadMost == 0 || b.DeadLetters*100 < b.DeadMost*deadAlarm && b.DeadBytes < b.DeadMostBytes/100*deadAlarm {
		return nil
	}
	return []Problem{{
		Severity: Doubtful, What: "There is soon no room for refused events",
		Cause: fmt.Sprintf("%s of at most %d are kept, %s of at most %s", count(b.DeadLetters, "refused event"), b.DeadMost, bytesText(b.DeadBytes), bytesText(b.DeadMostBytes)),
		Do:    "Find out why the receiver refuses them, then sluice events dead retry or drop. At the bound the oldest are given up, and gap events say so.",
	}}
}

// remedies is what a person does about a loss, by its cause.
var remedies = map[plant.GapCause]string{
	plant.GapDamaged:      "Check the disk of this PC; what is left of the records is in the folder quarantine beside the store.",
	plant.GapMissing:      "Check the disk of this PC.",
	plant.GapLostTail:     "Check the disk of this PC, and that nobody has deleted or replaced files of the store.",
	plant.GapRestoredCopy: "If a backup was restored on purpose, nothing is to be done; else find out who replaced the store.",
	plant.GapEvicted:      "Bring the uplink back, or give the buffer more room.",
	plant.GapRefused:      "They were refused, so the receiver does not have them. Find out why it refuses, then retry or drop what is left: sluice events dead list.",
	plant.GapMarkLost:     "Leave the files beside the store alone; compare the counts with the machine's own display once.",
}

// missing names the losses that gap events have told, one problem a cause.
func missing(b *buffer.Stats) (ps []Problem) {
	for _, cause := range plant.GapCauses() {
		var newest *buffer.Gap
		var machines []string
		for i := range b.Gaps {
			if g := &b.Gaps[i]; g.Cause == cause {
				newest = g
				if !slices.Contains(machines, string(g.Machine)) {
					machines = append(machines, string(g.Machine))
				}
			}
		}
		if newest == nil {
			continue
		}
		p := Problem{
			Severity: Doubtful, What: count(b.Missing[cause], "recorded event") + " missing (" + strings.ReplaceAll(string(cause), "_", " ") + "): " + strings.Join(machines, ", "),
			Cause: newest.Reason, Since: newest.Told, Do: "Every uplink was told by a gap event. " + remedies[cause],
		}
		ps = append(ps, p)
	}
	return ps
}

func deviceProblems(snap Snapshot, d *drivers.Stats) []Problem {
	return append(deviceState(snap, d), deviceNotices(d)...)
}

// deviceNotices are what the driver itself has to say, whether the device is
// there or not.
func deviceNotices(d *drivers.Stats) (ps []Problem) {
	for _, n := range d.Notices {
		p := Problem{Severity: Doubtful, What: "Device " + string(d.Device) + ": " + n.Text, Since: n.Since, Do: n.Do}
		if n.Urgent {
			p.Severity = Stuck
		}
		ps = append(ps, p)
	}
	return ps
}

func deviceState(snap Snapshot, d *drivers.Stats) []Problem {
	var ps []Problem
	if p, ok := deviceGone(snap, d); ok {
		ps = append(ps, p)
	}
	if !d.Connected {
		return ps // its tags have no other trouble than this
	}
	if d.Panics > 0 {
		ps = append(ps, Problem{
			Severity: Doubtful, What: fmt.Sprintf("Device %s: its driver failed %s", d.Device, count(d.Panics, "time")),
			Do: "That is a fault of this program; each time it connected again. Please report it with the log.",
		})
	}
	if d.ClockWrong {
		ps = append(ps, clockProblem(snap, d))
	}
	for _, bad := range badTags(d) {
		ps = append(ps, Problem{
			Severity: Doubtful, What: fmt.Sprintf("Device %s: %s without a good value", d.Device, count(uint64(len(bad.tags)), "tag")),
			Cause: bad.String(), Do: tagAdvice(d, bad.cause), Since: bad.since,
		})
	}
	return ps
}

// longAway is how long a device that comes and goes must be away before that is
// what is wrong with it.
const longAway = time.Minute

// deviceGone names a device that is away, or that comes and goes.
func deviceGone(snap Snapshot, d *drivers.Stats) (Problem, bool) {
	p := Problem{Severity: Stuck, Since: d.Since, Cause: inWords(d.LastError), Do: deviceAdvice(d.LastError)}
	if d.LastError == "" {
		p.Cause = "it is asked for the first time and has not answered yet"
	}
	switch unsteady := !d.Unsteady.Since.IsZero(); {
	case unsteady && (d.Connected || age(snap.At, d.Since) < longAway):
		p.What, p.Since = "Device "+string(d.Device)+": "+d.Unsteady.String(), d.Unsteady.Since
		p.Cause = "the last time: " + p.Cause
		if deviceAdvice(d.LastError) != lostWrite {
			p.Do += " " + unsteadyAdvice
		}
	case away(snap, d):
		p.What = "Device " + string(d.Device) + " is away"
	default:
		return Problem{}, false
	}
	if d.Connected {
		return p, true
	}
	for i := range snap.Machines {
		if m := snap.Machines[i].Machine; slices.Contains(snap.Feeds[m], d.Device) {
			p.Follows = append(p.Follows, string(m)+" cannot be seen; its counters are read when the device is back")
		}
	}
	return p, true
}

// unsteadyAdvice is what helps a device that answers in between, whatever it was
// lost by.
const unsteadyAdvice = "Since it answers in between, look for a loose plug or cable, a supply that breaks down, an address that two devices have, and a second program that takes its only connection."

// clockProblem names a device whose clock is too far off.
func clockProblem(snap Snapshot, d *drivers.Stats) Problem {
	way := "behind"
	if d.ClockOffset > 0 {
		way = "ahead of"
	}
	p := Problem{
		Severity: Doubtful, Since: d.ClockSince,
		What:  fmt.Sprintf("Device %s: its clock is %s %s this PC's", d.Device, lasting(d.ClockOffset.Abs()), way),
		Cause: fmt.Sprintf("more than max_skew (%s) apart, so events carry this PC's time, when the value came, and not the device's, when it happened", lasting(d.MaxSkew)),
		Do:    "Set the device's clock: date, time and time zone (its protocol wants UTC), best from the same NTP server as this PC.",
	}
	if snap.ClockUncertain {
		p.Do = "Nothing keeps this PC's clock right, so mend that first. If it is right by another clock: s" + strings.TrimPrefix(p.Do, "S")
	}
	return p
}

// sameCause is the tags of a device that are bad for one cause.
type sameCause struct {
	// cause is that of the first tag; alike is set if others differ in their
	// address alone.
	cause, kind string
	alike       bool
	tags        []plant.TagID
	// since is when the first of them became bad.
	since time.Time
}

// String names a few of the tags, and the cause.
func (s sameCause) String() string {
	text := tagList(s.tags) + ": " + inWords(s.cause)
	if s.alike {
		text += " (the others alike)"
	}
	return text
}

// badTags groups the bad tags of a device: tags with one cause are one thing for
// a person, however many there are. The cause of most comes first.
func badTags(d *drivers.Stats) []sameCause {
	var all []sameCause
	for _, tag := range sortedTags(d.BadTags) {
		cause := d.BadTags[tag]
		kind := kindOf(cause)
		at := slices.IndexFunc(all, func(s sameCause) bool { return s.kind == kind })
		if at < 0 {
			at = len(all)
			all = append(all, sameCause{cause: cause, kind: kind})
		}
		all[at].alike = all[at].alike || all[at].cause != cause
		all[at].tags = append(all[at].tags, tag)
		if since := d.BadSince[tag]; all[at].since.IsZero() || since.Before(all[at].since) {
			all[at].since = since
		}
	}
	slices.SortStableFunc(all, func(a, b sameCause) int { return len(b.tags) - len(a.tags) })
	return all
}

func uplinkProblems(snap Snapshot, u *uplink.Stats) []Problem {
	var ps []Problem
	queue := snap.queue(u.Uplink)
	if since := lost(snap, u); !since.IsZero() {
		p := Problem{
			Severity: Stuck, What: "Uplink " + u.Uplink + " does not deliver", Since: since,
			Cause: inWords(u.LastError), Do: advice(u.LastError),
		}
		if wait := u.Next.Sub(snap.At); wait > 15*time.Second {
			p.Do += " It is tried again in " + lasting(wait) + "."
		}
		if queue.Backlog > 0 {
			p.Follows = append(p.Follows, fmt.Sprintf("%s wait on the disk, the oldest for %s; they are sent when it is back",
				count(queue.Backlog, "event"), lasting(age(snap.At, queue.Oldest))))
		}
		ps = append(ps, p)
	} else {
		// While nothing is delivered at all, a stream that stands is no news.
		for _, stuck := range u.Problems {
			ps = append(ps, streamProblem(u.Uplink, stuck))
		}
	}
	for _, n := range u.Notices {
		ps = append(ps, Problem{Severity: Doubtful, What: "Uplink " + u.Uplink + ": " + n.Text, Since: n.Since, Do: n.Do})
	}
	if n := refused(queue, u); n > 0 {
		ps = append(ps, Problem{
			Severity: Doubtful, What: fmt.Sprintf("Uplink %s: %s refused", u.Uplink, count(n, "event")),
			Do: "They are kept as dead letters, each with the reason: sluice events dead list.",
		})
	}
	ps = append(ps, expiryProblems(snap, u)...)
	return append(ps, codeProblem(u)...)
}

// refused returns how many dead letters were refused; the others wait for another
// event's answer.
func refused(queue buffer.QueueStats, u *uplink.Stats) uint64 {
	return queue.DeadLetters - min(queue.DeadLetters, uint64(u.Shelved))
}

// downSince returns since when nothing is delivered; zero while it is.
func downSince(u *uplink.Stats) time.Time {
	switch {
	case u.Down:
		return u.DownSince
	case u.Breaker == breakerOpen || u.Breaker == breakerHalfOpen:
		return u.Since
	default:
		return time.Time{}
	}
}

// streamProblem is one machine's events that one receiver does not take.
func streamProblem(name string, s uplink.Problem) Problem {
	p := Problem{
		Severity: Stuck, What: fmt.Sprintf("Uplink %s: the events of %s do not go out", name, s.Machine), Since: s.Since,
		Cause: inWords(s.Text), Do: advice(s.Text),
	}
	switch {
	case s.Remedy != "":
		p.What = fmt.Sprintf("Uplink %s: the events of %s are held, no request can be made of %s", name, s.Machine, cmp.Or(string(s.Kind), "them"))
		p.Do = "The receiver was not asked. Mend the config of uplink " + name + ": " + s.Remedy + ". Then start the gateway again, and they go on by themselves."
	case s.Held:
		p.What = fmt.Sprintf("Uplink %s: the events of %s are held, it refuses %s", name, s.Machine, cmp.Or(string(s.Kind), "them"))
		p.Do = "The same refusal came again and again, so it looks like a setting: compare names and codes with the receiver. They go on when it accepts."
	}
	return p
}

func machineProblems(snap Snapshot, m *derive.Stats) []Problem {
	var ps []Problem
	for _, p := range m.Problems {
		if !explained(snap, p) {
			ps = append(ps, Problem{Severity: Doubtful, What: "Machine " + string(m.Machine) + ": " + p.Text, Do: p.Remedy})
		}
	}
	ps = append(ps, writeProblems(snap, m)...)
	if m.Overflows > 0 {
		ps = append(ps, Problem{
			Severity: Doubtful, What: fmt.Sprintf("Machine %s: %s not taken in time", m.Machine, count(m.Overflows, "reading")),
			Cause: "the disk was slower than the device",
			Do:    "The receivers are told by a gap event. Look at the disk of this PC if it happens again.",
		})
	}
	return ps
}

// explained reports whether a device that is away, or a tag that is bad, is the
// cause of p and shown as such.
func explained(snap Snapshot, p derive.Problem) bool {
	for i := range snap.Devices {
		if d := &snap.Devices[i]; p.Device != "" && d.Device == p.Device {
			_, bad := d.BadTags[p.Tag]
			return !d.Connected || p.Tag != "" && bad
		}
	}
	return false
}

func sortedTags(bad map[plant.TagID]string) []plant.TagID {
	tags := make([]plant.TagID, 0, len(bad))
	for t := range bad {
		tags = append(tags, t)
	}
	slices.Sort(tags)
	return tags
}

// tagList names a few tags and counts the others.
func tagList(tags []plant.TagID) string {
	const few = 5
	var b strings.Builder
	for i, t := range tags[:min(few, len(tags))] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(t))
	}
	if more := len(tags) - few; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}
