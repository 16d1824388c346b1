package status

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

//go:embed ui
var ui embed.FS

// pageTemplate escapes whatever a PLC, a receiver or a config says. The page has
// no script; it loads itself again by a meta tag.
var pageTemplate = template.Must(template.ParseFS(ui, "ui/page.html", "ui/head.html"))

// page is what the template shows: words, ready to read.
type page struct {
	Gateway, Version, Now, Up string
	// Sum is the page in one line; SumClass is "good", "unknown" if somebody should
	// have a look, or "bad".
	Sum, SumClass string
	Ready         bool
	// Desk is set if there are further pages.
	Desk              bool
	ClockUncertain    bool
	Waiting           []string
	Problems          []problemCard
	Devices, Machines []card
	Uplinks           []card
	Buffer            card
}

type problemCard struct {
	Class, What, Cause, Do, Since string
	Follows                       []string
}

// card is one device, machine, uplink or the buffer.
type card struct {
	// Class is "good", "bad" or "unknown", for the colour; Word says it too,
	// since not everybody sees colours.
	Class, Name, Word, Since string
	Lines                    []line
}

type line struct{ Label, Text string }

func (c *card) add(label, text string) {
	if text != "" {
		c.Lines = append(c.Lines, line{label, text})
	}
}

func (s *Server) servePage(w http.ResponseWriter, _ *http.Request) {
	// Rendered into memory first, so that a failure is a 500 and not half a page.
	var b bytes.Buffer
	shown := newPage(s.source.Snapshot(), s.options.Location)
	shown.Desk = s.options.Desk != nil
	if err := pageTemplate.ExecuteTemplate(&b, "page.html", shown); err != nil {
		s.log.Error("status: render the page", zap.Error(err))
		http.Error(w, "internal error; the log has the cause", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// The client may have gone; there is nobody left to tell.
	_, _ = w.Write(b.Bytes())
}

func serveStyle(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, ui, "ui/style.css")
}

// clock writes moments for people: the time of day, the date only where it is
// another day, and how long ago.
type clock struct {
	now time.Time
	loc *time.Location
}

func (c clock) at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	t, now := t.In(c.loc), c.now.In(c.loc)
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}

func (c clock) ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (%s\u00a0ago)", c.at(t), c.lasting(t))
}

func (c clock) since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("since %s (%s)", c.at(t), c.lasting(t))
}

// lasting is lasting without a line break between number and unit.
func (c clock) lasting(t time.Time) string {
	return strings.ReplaceAll(lasting(age(c.now, t)), " ", "\u00a0")
}

// from is since in the shortest form, to the minute.
func (c clock) from(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return "since " + strings.TrimSuffix(c.at(t), c.at(t)[len(c.at(t))-3:])
}

func newPage(snap Snapshot, loc *time.Location) page {
	c := clock{snap.At, loc}
	p := page{
		Gateway: snap.Gateway, Version: snap.Version,
		Now: snap.At.In(loc).Format("2006-01-02 15:04:05 MST"), Up: lasting(age(snap.At, snap.Started)),
		Ready: snap.Ready, Waiting: snap.Waiting, ClockUncertain: snap.ClockUncertain,
		Buffer: bufferCard(snap, c),
	}
	p.Sum, p.SumClass = summary(snap, c), "good"
	for _, problem := range Problems(snap) {
		if p.SumClass != "bad" {
			p.SumClass = "unknown"
		}
		if problem.Severity != Doubtful {
			p.SumClass = "bad"
		}
		p.Problems = append(p.Problems, problemCard{
			Class: problem.Severity.String(), What: problem.What, Cause: problem.Cause, Do: problem.Do,
			Since: c.since(problem.Since), Follows: problem.Follows,
		})
	}
	for i := range snap.Devices {
		p.Devices = append(p.Devices, deviceCard(snap, &snap.Devices[i], c))
	}
	for i := range snap.Machines {
		p.Machines = append(p.Machines, machineCard(snap, &snap.Machines[i], c))
	}
	for i := range snap.Uplinks {
		p.Uplinks = append(p.Uplinks, uplinkCard(snap, &snap.Uplinks[i], c))
	}
	return p
}

func deviceCard(snap Snapshot, d *drivers.Stats, c clock) card {
	k := card{Class: "good", Name: string(d.Device), Word: "connected", Since: c.since(d.Since)}
	if !d.Connected {
		k.Class, k.Word = "bad", "not connected"
		k.add("Why", inWords(d.LastError))
		k.add("What to do", deviceAdvice(d.LastError))
		k.add("Last answer", c.ago(d.LastRead))
	} else {
		if d.Subscribed {
			k.add("Last answer", c.ago(d.LastRead))
			k.add("Last change", c.ago(d.LastValues)+"; it reports changes by itself")
		} else {
			k.add("Last answer", fmt.Sprintf("%s, took %s", c.ago(d.LastRead), d.ReadTime.Round(time.Millisecond/10)))
		}
		if d.LastError != "" {
			k.add("Last trouble", c.at(d.LastErrorAt)+" "+inWords(d.LastError))
		}
	}
	if text := d.Unsteady.String(); text != "" {
		k.Class = "bad"
		k.add("Unsteady", text)
	}
	k.add("Address", d.Endpoint)
	k.add("Line", lineWords(snap, d))
	k.add("Values", number(d.Readings)+" read, "+number(d.BadReadings)+" not good; lost and back "+count(d.Reconnects, "time"))
	if !d.Connected {
		return k // its tags have no other trouble than this
	}
	if d.ClockKnown {
		k.add("Its clock", clockWords(d.ClockOffset))
	}
	for _, text := range d.Advice {
		k.add("Could be better", text)
	}
	for _, bad := range badTags(d) {
		text := bad.String()
		if n := len(bad.tags); n > 1 {
			text = fmt.Sprintf("%d tags, %s", n, text)
		}
		k.add("Bad tags", text)
	}
	return k
}

// clockWords says how far a device's clock is from this PC's.
func clockWords(offset time.Duration) string {
	switch offset = offset.Round(time.Millisecond); {
	case offset > 0:
		return offset.String() + " ahead of this PC's"
	case offset < 0:
		return (-offset).String() + " behind this PC's"
	}
	return "as this PC's"
}

func machineCard(snap Snapshot, m *derive.Stats, c clock) card {
	k := card{Class: "unknown", Name: string(m.Machine), Since: c.since(m.StateSince)}
	switch s, device := stateOf(snap, m); s {
	case running:
		k.Class, k.Word = "good", "running"
	case stopped:
		k.Word = "stopped"
		k.add("Reason", m.Reason)
	case stateless:
		k.Class, k.Word = "good", "connected"
	case unseen:
		// A state that nobody looks at any more must not be shown as the state.
		k.Word, k.Since = "cannot be seen: "+string(device.Device)+" is away", c.since(device.Since)
		k.add("Seen last", lastState(m, c))
	default:
		k.Word = "state not known yet"
	}
	if makes(snap, m.Machine, plant.KindCounter) {
		k.add("Good", number(m.Good))
		k.add("Scrap", number(m.Scrap))
	}
	for _, records := range []struct {
		kind  plant.EventKind
		label string
	}{{plant.KindDosing, "Doses"}, {plant.KindSerial, "Serials"}, {plant.KindItemAttach, "Attached"}} {
		if snap.Kinds != nil && makes(snap, m.Machine, records.kind) {
			k.add(records.label, number(m.Events[records.kind])+" since the start")
		}
	}
	k.add("Order", orderWords(m))
	k.add("Mode", modeWords(m, c))
	if m.Shift != "" {
		k.add("Shift", m.Shift+" until "+c.at(m.ShiftUntil))
	}
	if m.LastEvent != "" {
		k.add("Last event", fmt.Sprintf("%s no. %d at %s", m.LastEvent, m.LastSequence, c.ago(m.LastEventTime)))
	}
	if m.Waiting {
		k.add("Recording", "waits for space "+c.since(m.WaitingSince))
	}
	return k
}

// orderWords is the order with what a person at the machine knows it by.
func orderWords(m *derive.Stats) string {
	words := m.Order
	if words == "" {
		return ""
	}
	if m.OrderContext.SKU != "" {
		words += ", " + m.OrderContext.SKU
	}
	if m.OrderContext.Operation != "" {
		words += ", operation " + m.OrderContext.Operation
	}
	return words
}

// modeWords is what a machine is used for, until when, and who said so.
func modeWords(m *derive.Stats, c clock) string {
	words := string(m.Mode)
	if !m.ModeUntil.IsZero() {
		words += " until " + c.at(m.ModeUntil)
	}
	if m.ModeBy != "" {
		words += ", set by " + m.ModeBy
	}
	return words
}

// lastState is what was seen of a machine before its device went away.
func lastState(m *derive.Stats, c clock) string {
	if m.Running == nil {
		return ""
	}
	word := "stopped "
	if *m.Running {
		word = "running "
	}
	return word + c.since(m.StateSince)
}

func uplinkCard(snap Snapshot, u *uplink.Stats, c clock) card {
	q := snap.queue(u.Uplink)
	k := card{Class: "good", Name: u.Uplink, Word: "delivers", Since: c.since(u.Since)}
	if u.Down {
		// The breaker opens anew at each try; people ask since when nothing goes out.
		k.Since = c.since(u.DownSince)
	}
	switch {
	case u.Breaker == breakerOpen:
		k.Class, k.Word = "bad", "does not deliver, waits before it tries again"
	case u.Breaker == breakerHalfOpen:
		k.Class, k.Word = "unknown", "tries again"
	case u.Down:
		k.Class, k.Word = "bad", "not reached, tries again"
	}
	if q.Backlog == 0 {
		k.add("Waiting", "nothing")
	} else {
		k.add("Waiting", fmt.Sprintf("%s, the oldest for %s", count(q.Backlog, "event"), lasting(age(c.now, q.Oldest))))
	}
	k.add("Last answer", c.ago(u.LastDelivery))
	if u.LastError != "" {
		k.add("Last trouble", c.at(u.LastErrorAt)+" "+inWords(u.LastError))
	}
	if k.Class == "bad" {
		k.add("What to do", advice(u.LastError))
	}
	if u.Next.After(c.now) {
		k.add("Next try", "in "+lasting(u.Next.Sub(c.now)))
	}
	k.add("Address", u.Endpoint)
	k.add("Since start", number(u.Delivered)+" delivered, "+number(u.Rejected)+" refused, "+number(u.Retried)+" tried again")
	for _, p := range u.PassedOver {
		k.add("Passed over", count(p.Events, "event")+": "+p.Reason)
	}
	for _, stuck := range u.Problems {
		k.add("Stands", string(stuck.Machine)+" "+c.since(stuck.Since)+": "+inWords(stuck.Text))
	}
	if u.Accepted > 0 || u.Unaccepted > 0 {
		k.add("Accepted by the receiver", number(u.Accepted)+" since start, "+number(uint64(u.Unaccepted))+" at the broker only")
	}
	if u.Shelved > 0 {
		k.add("Set aside", count(uint64(u.Shelved), "event")+" until another event is answered")
	}
	for _, e := range u.Expires {
		if e.At.Sub(c.now) <= soon {
			k.add("Ends", expiryText(e, c.now))
		}
	}
	if n := len(u.Unmapped); n > 0 {
		k.add("Not in its tables", count(uint64(n), "code"))
	}
	if q.DeadLetters > 0 {
		k.add("Dead letters", number(q.DeadLetters))
	}
	return k
}

func bufferCard(snap Snapshot, c clock) card {
	b := &snap.Buffer
	k := card{Class: "good", Name: "Buffer", Word: "records"}
	switch {
	case b.Fault != "":
		k.Class, k.Word = "bad", "stopped after a failed write"
		k.add("Why", b.Fault)
	case b.Full:
		k.Class, k.Word, k.Since = "bad", "full, records nothing", c.since(b.FullSince)
	}
	k.add("Space", bytesText(b.DiskBytes)+" used, "+bytesText(b.FreeBytes)+" free on the disk, "+bytesText(b.Reserve)+" of it in reserve")
	if b.Quota > 0 {
		k.add("Quota", bytesText(b.LiveBytes)+" of "+bytesText(b.Quota))
	}
	k.add("Why", b.FullReason)
	k.add("Recorded", count(b.Events, "event")+" since the start")
	k.add("Folder", b.Path)
	return k
}
